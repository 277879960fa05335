"""A rollout that goes on for days, and other people who approve, freeze and block meanwhile: the newest word
wins, whoever said it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from livepatch_core.rollout import adoption
from livepatch_core.rollout.fleet import FleetError, Verb
from livepatch_core.rollout.model import Plan
from livepatch_core.rollout.states import Phase, Place, Standing
from tests.unit.rollout.fleets import fleet, plan_of, uncovered
from tests.unit.rollout.simulated import places
from tests.unit.rollout.test_commands import Under, at, failing, once_approved
from tests.unit.rollout.test_engine import OPTIONS, TOLERANT, a_plan
from tests.unit.rollout.test_restarts import OPTIONS as RESTARTS

REV = 10  # of the simulated ledger when the plan was made


def known(**changes: Any) -> Plan:
    return plan_of(fleet(6, domains=2), {**OPTIONS, "waves": ["50%", "100%"], **changes}, rev=REV)


def levels(under: Under) -> dict[str, int]:
    return {name: one["level"] for name, one in under.world.data["hosts"].items()}


def commands(under: Under, name: str) -> list[Any]:
    told: list[Any] = under.world.data["hosts"][name]["commands"]
    return told


def kexec() -> Plan:
    hosts = [uncovered(f"old{number}", domain=f"rack{number % 2}") for number in range(6)]
    return plan_of(hosts, {**RESTARTS, "method": "kexec", "waves": ["100%"]}, rev=REV)


# -- approved, and not told yet --------------------------------------------------------------------------


def untold(under: Under) -> list[str]:
    """Hosts that are approved, in a rollout that was paused before they were told."""
    once_approved(under, "pause")
    under.until(adoption.waits)
    return under.until(adoption.waits).at({Place.APPROVED})


@pytest.mark.parametrize("plan", [a_plan(), kexec()], ids=["livepatch", "kexec"])
def test_who_was_approved_for_something_else_since_is_not_told(tmp_path: Path, plan: Plan) -> None:
    under = Under(tmp_path, plan)
    name = untold(under)[0]
    under.world.by_hand(name, 0)
    under.say("resume")
    state = under.until(lambda state: not state.counts[Place.APPROVED])
    assert (places(state)[name], state.hosts[name].kind) == ("skipped", "superseded")
    assert "level 0 since" in state.hosts[name].text
    assert commands(under, name) == []
    state = under.until(adoption.waits)
    assert commands(under, name) == [], "nor is it tried again"


@pytest.mark.parametrize("plan", [a_plan(), kexec()], ids=["livepatch", "kexec"])
def test_who_was_frozen_since_is_not_told_and_can_be_tried_again(tmp_path: Path, plan: Plan) -> None:
    under = Under(tmp_path, plan)
    name = untold(under)[0]
    under.world.frozen_hosts = {name: "this host is frozen: rack swap"}
    under.say("resume")
    state = under.until(lambda state: not state.counts[Place.APPROVED])
    assert (places(state)[name], state.hosts[name].kind) == ("skipped", "frozen")
    assert "rack swap; it was not told to move" in state.hosts[name].text and commands(under, name) == []
    under.world.frozen_hosts = {}
    under.say("retry")
    state = under.end()
    assert places(state)[name] == "healthy"


def test_an_abort_takes_back_the_approval_of_who_was_frozen_before_it_was_told(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan())
    name = untold(under)[0]
    under.world.frozen_hosts = {name: "this host is frozen: rack swap"}
    under.say("resume")
    under.until(lambda state: not state.counts[Place.APPROVED])
    under.say("abort")
    state = under.end()
    assert state.standing is Standing.ABORTED and "1 hosts were approved and not told" in state.reason
    (grant,) = under.world.data["approvals"][name]["builds"].values()
    assert grant["level"] == 1 and commands(under, name) == []


def test_a_command_that_was_missed_is_not_sent_again_over_a_newer_word(tmp_path: Path) -> None:
    plan = a_plan()
    victim = plan.waves[0][0]
    under = Under(tmp_path, plan, {victim: "misses"})
    under.until(lambda state: state.hosts[victim].place is Place.MOVING)
    under.world.by_hand(victim, 0)
    state = under.until(lambda state: state.hosts[victim].place not in (Place.MOVING, Place.APPROVED))
    assert places(state)[victim] == "skipped" and commands(under, victim) == []


def test_a_ledger_that_cannot_be_read_moves_nobody_and_leaves_no_doubt(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan())
    names = untold(under)
    under.world.ledger = failing(3, under.world.ledger)  # type: ignore[method-assign]
    under.say("resume")
    state = under.until(lambda state: bool(state.trouble))
    assert all(commands(under, name) == [] for name in names)
    assert not any(job.doubtful for job in state.jobs.values())
    assert under.end().standing is Standing.COMPLETED


# -- not approved yet ------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 1, 3])
def test_who_was_approved_for_something_else_before_its_turn_is_left_to_that(
    tmp_path: Path, level: int
) -> None:
    plan = known()
    victim = plan.waves[-1][0]
    under = Under(tmp_path, plan)
    under.until(at(Phase.SOAK, 0))
    under.world.by_hand(victim, level)
    state = under.end()
    assert (places(state)[victim], state.hosts[victim].kind) == ("skipped", "superseded")
    assert f"level {level} since" in state.hosts[victim].text and commands(under, victim) == []
    assert not state.hosts[victim].rev


def test_who_was_approved_for_the_same_or_for_other_kernels_goes_with_the_others(tmp_path: Path) -> None:
    plan = known()
    same, other = plan.waves[-1][:2]
    under = Under(tmp_path, plan)
    under.until(at(Phase.SOAK, 0))
    under.world.by_hand(same, 2)
    under.world.by_hand(other, 7, "9" * 40)
    state = under.end()
    assert {places(state)[name] for name in (same, other)} == {"healthy"}


def test_an_approval_that_was_begun_before_a_crash_is_not_written_over_a_newer_word(tmp_path: Path) -> None:
    under = Under(tmp_path, known())
    state = under.until(lambda state: bool(state.acts))
    (name, *_) = next(iter(state.acts.values())).hosts
    under.world.by_hand(name, 0)
    state = under.until(lambda state: state.phase is Phase.SOAK)
    assert places(state)[name] == "skipped" and under.world.data["approvals"][name]["builds"]
    assert [one["level"] for one in under.world.data["approvals"][name]["builds"].values()] == [0]


def test_a_plan_of_before_the_ledger_was_looked_at_goes_as_it_went(tmp_path: Path) -> None:
    plan = a_plan()
    assert plan.rev is None
    under = Under(tmp_path, plan)
    under.world.by_hand(plan.waves[-1][0], 0)
    assert under.end().standing is Standing.COMPLETED


@pytest.mark.parametrize("level", [3, 0])
def test_a_level_that_the_plan_cannot_bring_back_is_a_drift(tmp_path: Path, level: int) -> None:
    """Given by hand on the host itself, or before this plan, which was kept, was started."""
    plan = a_plan()
    victim = plan.waves[0][0]
    under = Under(tmp_path, plan)
    under.world.data["hosts"][victim]["level"] = level
    state = under.until(lambda state: state.counts[Place.HEALTHY] > 0)
    if level:
        assert (places(state)[victim], state.hosts[victim].kind) == ("failed", "drift")
        assert "at level 3, planned was 1" in state.hosts[victim].text and levels(under)[victim] == 3
    else:
        assert state.hosts[victim].before == 0, "that can be brought back"


# -- rollback --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 3])
def test_a_rollback_leaves_who_was_approved_for_something_else_since(tmp_path: Path, level: int) -> None:
    under = Under(tmp_path, known())
    state = under.until(at(Phase.SOAK, 1))
    victim = next(name for name, host in state.hosts.items() if host.place is Place.HEALTHY)
    under.world.by_hand(victim, level)
    under.say("rollback")
    state = under.end()
    assert state.standing is Standing.ROLLED_BACK and places(state)[victim] == "healthy"
    assert f"1 hosts stay where they were approved to be since ({victim}: level {level})" in state.reason
    assert len(commands(under, victim)) == 1, "to move there, and nothing since"
    assert {one for name, one in levels(under).items() if name != victim} == {1}


def test_a_freeze_between_the_intent_and_the_approval_is_obeyed(tmp_path: Path) -> None:
    """Its write to the ledger is what makes the approval be tried again."""
    under = Under(tmp_path, known())
    state = under.until(lambda state: bool(state.acts))
    name = next(iter(state.acts.values())).hosts[-1]
    under.world.frozen_hosts = {name: "frozen: incident 7"}
    under.world.data["rev"] += 1
    state = under.until(lambda state: not state.acts)
    assert (places(state)[name], state.hosts[name].kind) == ("skipped", "frozen")
    assert name not in under.world.data["approvals"]


def test_who_is_frozen_when_the_ledger_has_its_approval_already_is_approved(tmp_path: Path) -> None:
    """The answer was lost: to leave it out as if it had no approval would leave it that, and an abort too."""
    under = Under(tmp_path, known(thresholds=TOLERANT))
    state = under.until(lambda state: bool(state.acts))
    name, approve = next(iter(state.acts.values())).hosts[-1], under.world.approve

    def lost(*given: Any) -> Any:
        approve(*given)
        under.world.frozen_hosts = {name: "frozen: incident 7"}
        under.world.approve = approve  # type: ignore[method-assign]
        raise FleetError("the answer was lost")

    under.world.approve = lost  # type: ignore[method-assign]
    under.until(lambda state: state.hosts[name].place is Place.SKIPPED)
    under.say("abort")
    assert under.end().standing is Standing.ABORTED
    builds = under.world.data["approvals"][name]["builds"]
    assert [one["level"] for one in builds.values()] == [1]
    assert commands(under, name) == []


def test_an_abort_takes_back_the_approval_of_who_was_away_before_it_was_told(tmp_path: Path) -> None:
    under = Under(tmp_path, known(thresholds=TOLERANT))
    once_approved(under, "pause")
    name = under.until(adoption.waits).at({Place.APPROVED})[0]
    under.world.data["hosts"][name]["gone"] = True
    under.say("resume")
    under.until(lambda state: state.hosts[name].place is Place.LOST)
    under.say("abort")
    assert under.end().standing is Standing.ABORTED
    builds = under.world.data["approvals"][name]["builds"]
    assert [one["level"] for one in builds.values()] == [1]


STRICT = {counter: {"wave": 0, "total": 0} for counter in ("failed", "stalled", "lost", "unreachable")}


@pytest.mark.parametrize("wave", [0, 1])
def test_who_was_taken_away_by_hand_in_a_soak_is_no_failure(tmp_path: Path, wave: int) -> None:
    """In its own, or in that of a later wave."""
    plan = known(thresholds=STRICT, on_fail="rollback_all")
    under, name = Under(tmp_path, plan), plan.waves[wave][0]
    under.until(at(Phase.SOAK, 1))
    taken_by_hand(under, name, 0)
    state = under.end()
    assert (state.standing, state.hosts[name].place) == (Standing.EXCEPTIONS, Place.SKIPPED)
    assert levels(under)[name] == 0


@pytest.mark.parametrize("word", ["same level", "another kernel build"])
def test_who_falls_off_its_level_has_failed_whatever_was_said_of_other_things(
    tmp_path: Path, word: str
) -> None:
    """Its rev is newer than that of its move, and says nothing of why it is not at its level."""
    plan = known(thresholds=STRICT, on_fail="rollback_all")
    under, name = Under(tmp_path, plan), plan.waves[1][0]
    under.until(at(Phase.SOAK, 1))
    under.world.by_hand(name, *((2,) if word == "same level" else (7, "9" * 40)))
    under.world.data["hosts"][name].update(level=0, rev=under.world.data["rev"])
    assert [str(trip.counter) for trip in under.end().trips] == ["failed"]


def taken_by_hand(under: Under, name: str, level: int) -> None:
    """Its highstate has obeyed."""
    under.world.by_hand(name, level)
    under.world.data["hosts"][name].update(level=level, rev=under.world.data["rev"])


def test_a_rollback_of_itself_leaves_who_was_taken_away_by_hand(tmp_path: Path) -> None:
    """That it was is no failure; another host's is."""
    thresholds = {**TOLERANT, "lost": {"wave": 0, "total": 0}}
    under = Under(tmp_path, known(on_fail="rollback_all", thresholds=thresholds))
    state = under.until(at(Phase.SOAK, 1))
    victim, gone = (next(n for n in state.at({Place.HEALTHY}) if state.hosts[n].lap == lap) for lap in (1, 0))
    taken_by_hand(under, victim, 0)
    under.world.data["hosts"][gone]["gone"] = True
    state = under.end()
    assert [str(trip.counter) for trip in state.trips] == ["lost"]
    assert (places(state)[victim], levels(under)[victim]) == ("skipped", 0)
    assert len(commands(under, victim)) == 1


@pytest.mark.parametrize("when", ["approved", "told"])
def test_a_word_that_comes_while_it_is_rolled_back_wins(tmp_path: Path, when: str) -> None:
    under = Under(tmp_path, known(parallel=1))
    under.until(at(Phase.SOAK, 1))
    under.say("rollback")
    began = {"approved": lambda state: state.recalled, "told": lambda state: state.counts[Place.ROLLED_BACK]}
    state = under.until(lambda state: bool(began[when](state)))
    victim = state.at({Place.HEALTHY, Place.RECALLED})[-1]
    under.world.by_hand(victim, 3)
    state = under.end()
    assert state.standing is Standing.ROLLED_BACK and len(commands(under, victim)) == 1
    assert f"{victim}: level 3" in state.reason or "level 3 since" in state.hosts[victim].text
    assert {one for name, one in levels(under).items() if name != victim} == {1}


@pytest.mark.parametrize("when", ["before", "while"])
@pytest.mark.parametrize("plan", [a_plan(parallel=3), kexec()], ids=["livepatch", "kexec"])
def test_a_rollback_ends_without_who_was_approved_and_not_told(tmp_path: Path, plan: Plan, when: str) -> None:
    under = Under(tmp_path, plan)
    names = untold(under)
    if when == "before":
        under.world.by_hand(names[0], 7)
    under.say("rollback")
    if when == "while":
        under.until(lambda state: state.standing is Standing.ROLLING_BACK)
        under.world.by_hand(names[0], 7)
    state = under.end()
    assert (places(state)[names[0]], state.hosts[names[0]].kind) == ("skipped", "superseded")
    assert f"{names[0]}: level 7" in state.reason and commands(under, names[0]) == []
    assert [one["level"] for one in under.world.data["approvals"][names[0]]["builds"].values()] == [7]


@pytest.mark.parametrize("place", [Place.MOVING, Place.GATING])
def test_a_rollback_ends_without_who_had_his_gates_before_him(tmp_path: Path, place: Place) -> None:
    ping = {"name": "ping", "type": "function", "when": "host", "arguments": {"fun": "test.ping"}}
    under = Under(tmp_path, known(gates=[{**ping, "predicate": {"op": "==", "value": True}}]))
    name = under.until(lambda state: state.counts[place] > 0).at({place})[0]
    under.world.by_hand(name, 7)
    under.say("rollback")
    state = under.end()
    assert (places(state)[name], state.hosts[name].kind) == ("skipped", "superseded")
    assert f"{name}: level 7" in state.reason and len(commands(under, name)) == 1


@pytest.mark.parametrize("way", ["well", "misses"])
def test_who_may_have_left_is_heard_whatever_was_said_since(tmp_path: Path, way: str) -> None:
    """Its driver died while hosts were told to leave; one of them was approved for another level since."""
    plan = kexec()
    under = Under(tmp_path, plan, dict.fromkeys(plan.waves[0], way))
    publish = under.world.publish

    def dying(jid: str, verb: Verb, hosts: Any, arguments: Any) -> None:
        publish(jid, verb, hosts, arguments)
        if verb is Verb.LEAVE:
            raise SystemExit

    under.world.publish = dying  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        under.end()
    under.world.publish = publish  # type: ignore[method-assign]
    name = under.until(lambda state: True).at({Place.APPROVED})[0]
    under.world.by_hand(name, 7)
    under.say("rollback")
    state = under.end()
    one = under.world.data["hosts"][name]
    assert state.ended and not one["drained"]
    assert f"{name}: level 7" in state.reason
    assert places(state)[name] == ("skipped" if way == "misses" else "healthy")
    assert bool(one["booted"]) is (way == "well")


@pytest.mark.parametrize("who", ["some", "all"])
def test_a_rollback_tells_nobody_who_is_frozen_and_names_them(tmp_path: Path, who: str) -> None:
    """The freeze is the newer word. They are approved for where they came from, and go back once thawed."""
    under = Under(tmp_path, known())
    state = under.until(at(Phase.SOAK, 1))
    names = state.at({Place.HEALTHY})
    names = names if who == "all" else names[:2]
    under.world.frozen_hosts = dict.fromkeys(names, "frozen: incident 7")
    under.say("rollback")
    state = under.end()
    assert state.standing is Standing.ROLLBACK_FAILED
    assert f"{', '.join(names[:5])}" in state.reason and "are frozen and were not told" in state.reason
    for name in names:
        assert (places(state)[name], state.hosts[name].kind) == ("rollback_failed", "frozen")
        assert levels(under)[name] == 2
        assert [one["level"] for one in under.world.data["approvals"][name]["builds"].values()] == [1]
    under.world.frozen_hosts = {}
    under.say("rollback")
    assert under.end().standing is Standing.ROLLED_BACK and set(levels(under).values()) == {1}


def test_a_level_that_was_blocked_since_is_passed_over_on_the_way_back(tmp_path: Path) -> None:
    under = Under(tmp_path, known())
    under.until(at(Phase.SOAK, 1))
    under.world.gone = {1: "is blocked"}
    under.say("rollback")
    state = under.end()
    moved = {name for name, host in state.hosts.items() if host.forward_rev}
    assert state.standing is Standing.ROLLED_BACK and {levels(under)[name] for name in moved} == {0}
    assert "level 1 of kernel build" in state.reason and "is blocked: its hosts go to level 0" in state.reason


def test_an_abort_passes_over_a_level_that_was_blocked_since(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan())
    name = untold(under)[0]
    under.world.gone = {1: "is blocked"}
    under.say("abort")
    state = under.end()
    assert "is blocked: its hosts go to level 0 instead" in state.reason
    assert [one["level"] for one in under.world.data["approvals"][name]["builds"].values()] == [0]


def test_a_rollback_blocks_before_it_takes_anybody_back(tmp_path: Path) -> None:
    """Until they are back others may meet the level."""
    under = Under(tmp_path, known())
    under.until(at(Phase.SOAK, 1))
    told: list[str] = []
    under.world.watch = lambda act, what: told.append(str(what[0]) if act == "publish" else act)
    under.say("rollback", block=True)
    under.end()
    assert told.index("block") < told.index("move") and told.index("approve") < told.index("block")


def test_a_catalog_that_takes_no_block_keeps_nobody_from_going_back(tmp_path: Path) -> None:
    under = Under(tmp_path, known(parallel=1))
    under.until(at(Phase.SOAK, 1))
    block = under.world.block
    under.world.block = failing(10_000, block)  # type: ignore[method-assign]
    under.say("rollback", block=True)
    state = under.until(
        lambda state: bool(state.recalled) and state.counts[Place.ROLLED_BACK] == len(state.recalled)
    )
    assert state.standing is Standing.ROLLING_BACK and state.blocking
    under.world.block = block  # type: ignore[method-assign]
    assert under.end().standing is Standing.ROLLED_BACK and under.world.data["blocked"]


# -- freezes ---------------------------------------------------------------------------------------------


def frozen_fleet(under: Under) -> None:
    under.world.frozen_hosts = dict.fromkeys(under.world.data["hosts"], "the fleet is frozen: restored")


@pytest.mark.parametrize("when", ["staged", "approved"])
def test_a_freeze_of_the_fleet_pauses(tmp_path: Path, when: str) -> None:
    """To leave them all out would end the rollout, as good as it stands."""
    under = Under(tmp_path, a_plan())
    if when == "staged":
        under.until(at(Phase.SOAK, 0))
    else:
        untold(under)
        under.say("resume")
    frozen_fleet(under)
    state = under.until(adoption.waits)
    assert state.standing is Standing.PAUSED and not state.counts[Place.SKIPPED]
    assert "the fleet is frozen: restored): livepatch_ledger.unfreeze, then resume" in state.reason
    under.say("resume")
    assert under.until(adoption.waits).reason == state.reason
    under.world.frozen_hosts = {}
    under.say("resume")
    assert under.end().standing is Standing.COMPLETED


def test_the_last_one_that_is_frozen_holds_up_nobody(tmp_path: Path) -> None:
    plan = a_plan()
    under = Under(tmp_path, plan)
    last = plan.waves[-1][-1]
    under.world.frozen_hosts = {last: "this host is frozen"}
    state = under.end()
    assert state.standing is Standing.EXCEPTIONS and places(state)[last] == "skipped"
