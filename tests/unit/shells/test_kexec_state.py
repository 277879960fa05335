"""The state kexec.booted, over an execution module that answers as told."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

FILE = Path(__file__).resolve().parents[3] / "_states/kexec.py"
OLD, NEW = "6.1.0-56-amd64", "6.1.0-57-amd64"


class Minion:
    """What kexec.candidates, kexec.status and kexec.boot say; boots: the orders that were given."""

    def __init__(
        self, running: str = OLD, newest: str | None = NEW, last: dict[str, Any] | None = None
    ) -> None:
        self.found: dict[str, Any] = {"running": running, "newest": newest, "incomplete_newer": []}
        self.found["newer"] = newest == NEW and running == OLD
        self.last = last
        self.boots: list[dict[str, Any]] = []
        self.refusal: dict[str, Any] | None = None

    def boot(self, **asked: Any) -> dict[str, Any]:
        self.boots.append(asked)
        if self.refusal is not None:
            return self.refusal
        changes = {"boot": {"old": self.found["running"], "new": asked["kernel"]}}
        return {
            "result": True,
            "comment": "starts",
            "changes": changes,
            **({"test": True} if asked["test"] else {}),
        }


@pytest.fixture
def state() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kexec_state", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def booted(state: ModuleType, minion: Minion, test: bool = False, **options: Any) -> tuple[Any, str, Any]:
    state.__opts__ = {"test": test}  # type: ignore[attr-defined]
    state.__salt__ = {  # type: ignore[attr-defined]
        "kexec.candidates": lambda: minion.found,
        "kexec.status": lambda: {"last": minion.last},
        "kexec.boot": minion.boot,
    }
    answer = state.booted("x", **{"reason": "a test", **options})
    return answer["result"], answer["comment"], answer["changes"]


def test_it_runs_already(state: ModuleType) -> None:
    for minion, kernel in ((Minion(NEW), "newest"), (Minion(NEW), NEW), (Minion(OLD), OLD)):
        for test in (False, True):
            result, _, changes = booted(state, minion, test, kernel=kernel)
            assert (result, changes, minion.boots) == (True, {}, [])


def test_newest_never_goes_back(state: ModuleType) -> None:
    minion = Minion(running=NEW, newest=None)
    result, comment, _ = booted(state, minion)
    assert (result, minion.boots) == (False, []), "a crash would bring an older one back"
    assert f"that is not older than {NEW}" in comment


def test_a_newer_one_that_is_incomplete_is_said(state: ModuleType) -> None:
    incomplete = [{"release": "6.1.0-60-amd64", "missing": ["initrd", "modules"]}]
    for minion, result in ((Minion(NEW), True), (Minion(NEW, None), False)):
        minion.found["incomplete_newer"] = incomplete
        found, comment, changes = booted(state, minion)
        assert (found, changes) == (result, {})
        assert "6.1.0-60-amd64 is newer and lacks its initrd and modules" in comment
    minion = Minion(NEW)
    assert "none that is newer is installed" in booted(state, minion)[1]


def test_it_is_started(state: ModuleType) -> None:
    minion = Minion()
    changes = {"boot": {"old": OLD, "new": NEW}}
    assert booted(state, minion, test=True) == (None, "starts", changes)
    assert booted(state, minion) == (True, "starts", changes)
    assert [(one["kernel"], one["test"]) for one in minion.boots] == [(NEW, True), (NEW, False)]


def test_it_is_not_started_in_a_circle(state: ModuleType) -> None:
    for ended in ("stayed", "otherwise"):
        minion = Minion(last={"to": NEW, "ended": ended, "at": "t"})
        result, comment, _ = booted(state, minion)
        assert (result, minion.boots) == (False, [])
        assert "again: true" in comment
        assert booted(state, minion, again=True)[0] is True
    for last in ({"to": OLD, "ended": "otherwise", "at": "t"}, {"to": NEW, "ended": "ordered", "at": "t"}):
        assert booted(state, Minion(last=last))[0] is True


def test_refusals(state: ModuleType) -> None:
    minion = Minion()
    minion.refusal = {"result": False, "comment": "no", "changes": {}, "kind": "lockdown"}
    for test in (False, True):
        assert booted(state, minion, test) == (False, "no", {})
    assert booted(state, Minion(newest=None))[0] is False

    def broken(**asked: Any) -> None:
        raise CommandExecutionError("broken")

    minion.boot = broken  # type: ignore[assignment,method-assign]
    assert booted(state, minion)[:2] == (False, "broken")


def test_a_watch_asks_the_state_again(state: ModuleType) -> None:
    minion = Minion(NEW)
    booted(state, minion)
    assert state.mod_watch("x", sfun="booted", kernel=NEW, watch=[])["result"] is True
    assert state.mod_watch("x", sfun="other")["result"] is False
