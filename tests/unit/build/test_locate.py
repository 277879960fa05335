"""What counts as a function's place in the image: its bytes, its linkage, and where its calls lead."""

from __future__ import annotations

import pytest

from livepatch_core.build.image import MASK, Image
from livepatch_core.build.kallsyms import KernelSymbol
from livepatch_core.build.locate import locate
from tests.unit.build.objects import Source

AT, HELPER, OTHER = 0xFFFFFFFF81000000, 0xFFFFFFFF81000100, 0xFFFFFFFF81000200


def image(letter: str, leads_to: int, imports: dict[str, int] | None = None) -> Image:
    """``f`` at AT, which calls what is at ``leads_to``."""
    code = b"\xe8" + (leads_to - AT - 5 & MASK).to_bytes(8, "little")[:4] + b"\xc3"
    symbols = [
        KernelSymbol("f", letter, AT),
        KernelSymbol("helper", "T", HELPER),
        KernelSymbol("g", "T", OTHER),
    ]
    return Image("vmlinux", "id", [(AT, code)], symbols, imports or {})


def unit(*, weak: bool = False, calls: str = "helper") -> Source:
    source = Source()
    source.function("f", b"\xe8\0\0\0\0\xc3", calls={1: calls}, weak=weak)
    return source


@pytest.mark.parametrize(
    ("weak", "letter", "found"),
    [(True, "W", True), (True, "T", False), (False, "T", True), (False, "t", True)],
)
def test_weak_default_is_not_found_where_its_override_lies(weak: bool, letter: str, found: bool) -> None:
    proof = locate(unit(weak=weak).unit(), image(letter, HELPER))
    assert ("f" in proof.functions, "helper" in proof.evidence) == (found, found)


@pytest.mark.parametrize(
    ("calls", "leads_to", "found"),
    [("helper", HELPER, True), ("helper", OTHER, False), ("unknown", OTHER, True), ("taken", OTHER, False)],
)
def test_equal_code_that_calls_something_else_is_another_function(
    calls: str, leads_to: int, found: bool
) -> None:
    proof = locate(unit(calls=calls).unit(), image("T", leads_to, {"taken": 0xFFFFFFFFE0000000}))
    assert ("f" in proof.functions) == found
