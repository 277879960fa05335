"""The states in Salt's loaders, over an execution module that answers as told: nothing touches a kernel."""

from __future__ import annotations

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


def test_nothing_to_persist(loaders: Loaders) -> None:
    assert loaders.states.livepatch.persisted("x").result is False
    state = loaders.states.livepatch.not_persisted("x")
    assert (state.result, state.changes) == (True, {})


def test_a_watch_asks_the_state_again(loaders: Loaders) -> None:
    again = loaders.states.livepatch.mod_watch("x", sfun="not_persisted", watch=[])
    assert (again.result, again.changes) == (True, {})
    assert loaders.states.livepatch.mod_watch("x", sfun="other").result is False
