"""The way from one level to another, as a table."""

from __future__ import annotations

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.host.record import Loaded
from livepatch_core.host.route import choose
from livepatch_core.modulefile.model import Function, ModuleFile, PatchedObject, State
from livepatch_core.words import Kind
from tests.unit.host.fakekernel import FUNCTION, module

CALLBACKS = {"objects": (PatchedObject("vmlinux", (Function(FUNCTION, 0),), ("pre_patch",)),)}


def loaded(name: str, level: int | None = 2, **changes: object) -> Loaded:
    values = {"name": name, "level": level, "sha256": "", "build_id": "aa", "boot_id": "b", "at": ""}
    return Loaded(**{**values, "functions": (), "replace": True, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ours", "level", "file", "steps"),
    [
        ((), 0, None, []),
        ((), 2, module("n"), ["load n"]),
        ((loaded("a", 1),), 2, module("n"), ["load n"]),
        ((loaded("a", 1, callbacks=True),), 2, module("n"), ["load n"]),  # up: it knows the old one
        ((loaded("a", 3),), 2, module("n"), ["load n"]),
        ((loaded("a", 3, callbacks=True),), 2, module("n"), ["disable a", "load n"]),
        ((loaded("a", 3, shadow=True),), 2, module("n"), ["disable a", "load n"]),
        ((loaded("a", 3, states=((1, 1),)),), 2, module("n"), ["disable a", "load n"]),
        ((loaded("a", 3),), 2, module("n", **CALLBACKS), ["disable a", "load n"]),
        ((loaded("a", 3),), 2, module("n", shadow=True), ["disable a", "load n"]),
        ((loaded("a", 3),), 2, module("n", states=(State(1, 1),)), ["disable a", "load n"]),
        ((loaded("a", None),), 2, module("n"), ["load n"]),  # a raw load, at no level
        ((loaded("a", None, callbacks=True),), 2, module("n"), ["disable a", "load n"]),
        ((loaded("n", 2),), 3, module("n"), ["disable n", "load n"]),  # the kernel takes a name once
        ((loaded("n", 1), loaded("b", 2)), 3, module("n"), ["disable b", "disable n", "load n"]),
        ((loaded("a", 1), loaded("b", 2)), 0, None, ["disable b", "disable a"]),
        ((), 2, module("n", replace=None), ["load n"]),
    ],
)
def test_the_way(ours: tuple[Loaded, ...], level: int, file: ModuleFile | None, steps: list[str]) -> None:
    route = choose(ours, level, file)
    assert [f"{step.kind} {step.patch}" for step in route.steps] == steps
    assert route.why


def test_what_others_have_in_force_is_named() -> None:
    assert "replaces vendor_1, not loaded by us" in choose((), 2, module("n"), ("vendor_1",)).why
    assert "vendor_1" in choose((loaded("a", 1),), 2, module("n"), ("vendor_1",)).why
    assert "vendor_1" not in choose((loaded("a", 1),), 0, None, ("vendor_1",)).why  # left alone


@pytest.mark.parametrize("replace", [False, None])
def test_what_is_not_cumulative_takes_over_from_nothing(replace: bool | None) -> None:
    with pytest.raises(LivepatchError) as caught:
        choose((loaded("a", 1),), 2, module("n", replace=replace))
    assert caught.value.kind is Kind.STATE
