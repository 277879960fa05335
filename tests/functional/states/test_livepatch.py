"""The states in Salt's loaders, over an execution module that answers as told: nothing touches a kernel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from saltfactories.utils.functional import Loaders


@pytest.fixture(scope="module")
def minion_overrides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place: Path = tmp_path_factory.mktemp("host")
    return {"livepatch": {"state_dir": str(place / "state"), "run_dir": str(place / "run")}}


@pytest.mark.parametrize("level", ["2", -0.5, True, "latest"])
def test_a_level_that_is_none(loaders: Loaders, level: Any) -> None:
    state = loaders.states.livepatch.applied("x", level=level)
    assert state.result is False
    assert "not approved, newest or an integer" in state.comment


def test_newest_is_the_sites_to_allow(loaders: Loaders) -> None:
    state = loaders.states.livepatch.applied("x", level="newest")
    assert state.result is False
    assert "policy newest" in state.comment


def test_without_an_approval_the_host_holds(loaders: Loaders) -> None:
    for test in (False, True):
        state = loaders.states.livepatch.applied("x", test=test)
        assert (state.result, state.changes) == (False, {})
        assert "holds its level" in state.comment


def test_by_hand_needs_a_reason(loaders: Loaders) -> None:
    state = loaders.states.livepatch.absent("x")
    assert state.result is False
    assert "without a reason" in state.comment


@pytest.mark.parametrize(("choice", "result"), [("fail", False), ("warn", True), ("ok", True)])
def test_uncovered_is_the_users_choice(loaders: Loaders, choice: str, result: bool) -> None:
    state = loaders.states.livepatch.applied("x", level=1, reason="a test", uncovered=choice)
    assert state.result is result
    (raw,) = state.raw.values()
    assert ("warnings" in raw) is (choice == "warn")


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize(("choice", "result"), [("fail", False), ("warn", True), ("ok", True)])
def test_uncovered_under_an_approval(
    loaders: Loaders, file_root: Path, choice: str, result: bool, test: bool
) -> None:
    """A ledger names only kernel builds that the catalog has levels for; this host runs another."""
    builds = {"bb" * 20: {"level": 1, "sha256": "0" * 64}}
    pillar = {"livepatch": {"approval": {"ledger_id": "a", "rev": 1, "builds": builds}}}
    name = "uncovered" if os.path.isdir("/sys/kernel/livepatch") else "unsupported"
    (file_root / "approved.sls").write_text(f"x:\n  livepatch.applied:\n    - {name}: {choice}\n")
    run = loaders.modules.state.sls("approved", test=test, pillar=pillar)
    (state,) = run.raw.values()
    assert (state["result"], state["changes"]) == (result, {})
    assert "names no level for this kernel build" in state["comment"]
    assert ("warnings" in state) is (choice == "warn")


def test_nothing_to_persist(loaders: Loaders) -> None:
    """At level 0, where the next boot loads nothing: both are as asked."""
    for wanted in (loaders.states.livepatch.persisted, loaders.states.livepatch.not_persisted):
        for test in (True, False):
            state = wanted("x", test=test)
            assert (state.result, state.changes) == (True, {})


SLS = """
first:
  livepatch.not_persisted: []
refused:
  livepatch.applied: []
needs the refused one:
  livepatch.persisted:
    - require:
      - livepatch: refused
runs when it failed:
  test.nop:
    - onfail:
      - livepatch: refused
not when nothing changed:
  test.succeed_with_changes:
    - onchanges:
      - livepatch: first
watches:
  livepatch.not_persisted:
    - watch:
      - test: changes
changes:
  test.succeed_with_changes: []
"""


@pytest.mark.parametrize("test", [True, False])
def test_requisites(loaders: Loaders, file_root: Path, test: bool) -> None:
    """In a run of the state system: require, onfail, onchanges and watch see what these states return."""
    (file_root / "requisites.sls").write_text(SLS)
    run = loaders.modules.state.sls("requisites", test=test)
    states = {one["__id__"]: one for one in run.raw.values()}
    assert (states["first"]["result"], states["first"]["changes"]) == (True, {})
    assert states["refused"]["result"] is False
    assert "requisite failed" in states["needs the refused one"]["comment"].lower()
    assert states["runs when it failed"]["result"] is True
    assert states["not when nothing changed"]["changes"] == {}
    assert (states["watches"]["result"], states["watches"]["changes"]) == (True, {})
    assert states["watches"]["comment"] == "Nothing is kept over a boot; nothing was changed."


def test_a_watch_asks_the_state_again(loaders: Loaders) -> None:
    again = loaders.states.livepatch.mod_watch("x", sfun="not_persisted", watch=[])
    assert (again.result, again.changes) == (True, {})
    assert loaders.states.livepatch.mod_watch("x", sfun="other").result is False
