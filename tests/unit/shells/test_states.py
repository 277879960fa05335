"""What a highstate with ``test=True`` predicts is what the highstate then does, state by state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.shells.conftest import Minion

State = dict[str, Any]
Run = Callable[[ModuleType], list[State]]


def applied_and_persisted(states: ModuleType) -> list[State]:
    return [states.applied("level"), states.persisted("at boot")]


def by_hand_and_persisted(states: ModuleType) -> list[State]:
    return [states.applied("level", level=2, reason="a trial"), states.persisted("at boot")]


def absent_and_persisted(states: ModuleType) -> list[State]:
    return [states.absent("nothing", reason="a test"), states.persisted("at boot")]


def absent_and_not_persisted(states: ModuleType) -> list[State]:
    return [states.absent("nothing", reason="a test"), states.not_persisted("at boot")]


def not_persisted(states: ModuleType) -> list[State]:
    return [states.not_persisted("at boot")]


def watching(states: ModuleType) -> list[State]:
    return [states.mod_watch("level", sfun="applied", watch=[{"file": "x"}]), states.persisted("at boot")]


RUNS: dict[str, Run] = {
    run.__name__: run
    for run in (
        applied_and_persisted,
        by_hand_and_persisted,
        absent_and_persisted,
        absent_and_not_persisted,
        not_persisted,
        watching,
    )
}
BEFORE = {"nothing": (), "level 1": (1,), "level 1, kept": (1, "kept"), "level 3, kept": (3, "kept")}
BEFORE["level 2, soaking"] = (2, "soaking")


def files_of(minion: Minion) -> dict[str, bytes]:
    state = minion.world.host.settings.state_dir
    return {str(path.relative_to(state)): path.read_bytes() for path in state.rglob("*") if path.is_file()}


def begin(minion: Minion, before: tuple[Any, ...]) -> None:
    if not before:
        return
    minion.approve(1, before[0])
    assert minion.module.apply()["result"] is True
    if before[1:]:
        assert minion.module.persist()["result"] is True
    if before[1:] == ("kept",):
        minion.prove()


@pytest.mark.parametrize("approved", [0, 1, 2, 3])
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("name", RUNS)
def test_predicted_is_actual(minion: Minion, name: str, before: str, approved: int) -> None:
    begin(minion, BEFORE[before])
    minion.approve(2, approved)
    files, changed, sent = files_of(minion), list(minion.world.kernel.changed), list(minion.sent)
    predicted = RUNS[name](minion.states(test=True))
    assert (files_of(minion), minion.world.kernel.changed, minion.sent) == (files, changed, sent)
    actual = RUNS[name](minion.states(test=False))
    for said, done in zip(predicted, actual):
        assert said["changes"] == done["changes"], (said["comment"], done["comment"])
        expected = done["result"] if done["result"] is False else None if done["changes"] else True
        assert said["result"] is expected, (said["comment"], done["comment"])
    again = RUNS[name](minion.states(test=False))
    assert [state["changes"] for state in again] == [{}] * len(again)
    assert [state["result"] for state in again] == [state["result"] for state in actual]


def test_the_second_highstate_leaves_no_trace(minion: Minion) -> None:
    minion.approve(1, 1)
    applied_and_persisted(minion.states(test=False))
    minion.prove()
    files, changed = files_of(minion), list(minion.world.kernel.changed)
    for test in (True, False):
        for state in applied_and_persisted(minion.states(test=test)):
            assert (state["result"], state["changes"]) == (True, {}), state["comment"]
    assert (files_of(minion), minion.world.kernel.changed) == (files, changed)


@pytest.mark.parametrize("level", [0, 1])
def test_a_level_in_a_state_does_not_undo_a_later_approval(minion: Minion, level: int) -> None:
    """It holds what was approved before; from then on the newest approval wins, as everywhere."""

    def highstate(test: bool = False, reason: str = "sls") -> State:
        states = minion.states(test=test)
        state: State = states.applied("level", 1, reason) if level else states.absent("nothing", reason)
        return state

    minion.approve(1, 2)
    assert minion.module.apply()["result"] is True
    assert [highstate()["result"] for _ in range(2)] == [True, True]
    assert minion.module.apply()["kind"] == "superseded"
    minion.approve(5, 2)
    assert minion.module.apply()["result"] is True
    for test in (True, False):
        state = highstate(test)
        assert (state["result"], state["changes"]) == (False, {}), state["comment"]
        assert "approved a level anew since" in state["comment"]
    assert minion.world.patches == ["lp_2"]
    minion.approve(6, level)
    assert minion.module.apply()["result"] is True
    assert (highstate()["result"], minion.world.record.by_hand) == (True, None)
    minion.approve(7, 2)
    assert minion.module.apply()["result"] is True
    assert highstate(reason="the customer's wish")["changes"]["level"] == {"old": 2, "new": level}


@pytest.mark.parametrize(("choice", "result"), [("fail", False), ("warn", True), ("ok", True)])
def test_a_frozen_host_is_the_users_choice(minion: Minion, choice: str, result: bool) -> None:
    minion.pillar["livepatch"] = {"approval": {"error": "the fleet is frozen", "kind": "frozen"}}
    for test in (True, False):
        state = minion.states(test=test).applied("level", frozen=choice)
        assert (state["result"], state["changes"]) == (result, {})
        assert ("warnings" in state) is (choice == "warn")


def test_a_failed_applied_predicts_nothing_for_persisted(minion: Minion, tmp_path: Path) -> None:
    """Refused in the dry run, refused in earnest: ``persisted`` then speaks of what is in force."""
    minion.approve(1, 1)
    minion.module.apply()
    minion.module.quarantine(2, reason="a test")
    minion.approve(2, 2)
    for test in (True, False):
        applied, persisted = applied_and_persisted(minion.states(test=test))
        assert (applied["result"], applied["changes"]) == (False, {})
        assert persisted["changes"] == {"persisted": {"old": 0, "new": 1}}
