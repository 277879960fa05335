"""What operators do and hosts answer on any day: several kernel builds with levels of their own, a level in
testing, hosts that the plan could not judge, a second try."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from livepatch_core.rollout import obeyed, status
from livepatch_core.rollout.commands import may
from livepatch_core.rollout.limits import exceeded
from livepatch_core.rollout.model import Grant, Group
from livepatch_core.rollout.options import parse_options
from livepatch_core.rollout.state import State, begin
from livepatch_core.rollout.states import Phase, Place, Standing
from tests.unit.rollout.fleets import BUILDS, fleet, host, plan_of
from tests.unit.rollout.simulated import places
from tests.unit.rollout.test_commands import Under, at
from tests.unit.rollout.test_engine import OPTIONS, TOLERANT, a_plan

A, B = BUILDS[:2]
STRICT = {name: {"wave": 0, "total": 0} for name in TOLERANT}
NEWEST = {A: Grant(3, "3" * 64), B: Grant(2, "2" * 64)}  # a level of its own for each kernel build
LOWER = {A: {1: Grant(1, "1" * 64)}, B: {1: Grant(1, "1" * 64)}}


def test_a_level_in_testing_for_a_kernel_that_no_host_runs_stops_nobody(tmp_path: Path) -> None:
    plan = plan_of([host(f"hv{number}") for number in range(6)], OPTIONS, testing=[B])
    assert (plan.testing, sorted(plan.grants)) == ((), [A])
    under = Under(tmp_path, plan)
    under.world.withheld = True
    assert under.end().standing is Standing.COMPLETED


@pytest.mark.parametrize("allowed", [True, False])
def test_who_was_away_never_gets_a_level_in_testing_with_the_canaries(tmp_path: Path, allowed: bool) -> None:
    away = [host(f"away{number}", online=False, build_id=B) for number in range(3)]
    there = [host(f"hv{number}") for number in range(6)] + [host("b", build_id=B)] * allowed
    options = {**OPTIONS, "waves": [4, "100%"], "allow_testing": allowed, "on_fail_canary": "pause"}
    plan = plan_of([*there, *away], {**options, "thresholds": STRICT}, testing=[B])
    bad = plan.waves[0][0]
    under = Under(tmp_path, plan, {bad: "fails"})
    under.world.withheld = {B}
    for name in ("away0", "away1", "away2"):
        under.world.data["hosts"][name]["build"] = B
    under.paused()
    under.world.data["hosts"][bad]["way"] = "well"
    under.say("retry", acknowledge="failed")
    state = under.until(lambda state: state.ended or state.standing is Standing.PAUSED)
    assert all(under.world.data["hosts"][f"away{number}"]["level"] == 1 for number in range(3)), state.reason


@pytest.mark.parametrize(
    "answer",
    [
        {"build": BUILDS[2]},
        {"way": "refuses"},
        {"level": None},
    ],
    ids=["uncovered", "quarantined", "of unknown level"],
)
def test_late_hosts_that_no_plan_would_have_moved_are_left_out(
    tmp_path: Path, answer: dict[str, Any]
) -> None:
    options = {**OPTIONS, "thresholds": STRICT, "on_fail": "rollback_all"}
    plan = plan_of([*fleet(4, domains=2), host("away", online=False)], options)
    under = Under(tmp_path, plan, {"away": "late"})
    under.world.data["hosts"]["away"].update({"build": A, **answer})
    state = under.end()
    assert state.standing is Standing.EXCEPTIONS, state.reason
    assert state.hosts["away"].place in (Place.SKIPPED, Place.ABSENT)
    assert under.world.data["hosts"]["away"]["commands"] == [] and "away" not in under.world.data["approvals"]


def test_who_is_tried_again_has_its_gates_and_its_soak_again(tmp_path: Path) -> None:
    gate = {"name": "ping", "type": "function", "when": "host", "arguments": {"fun": "test.ping"}}
    gate["predicate"] = {"op": "==", "value": True}
    plan = a_plan(gates=[gate], thresholds=STRICT, on_fail_canary="pause")
    bad = plan.waves[0][0]
    under = Under(tmp_path, plan)
    under.world.values = lambda name, fun: name != bad
    state = under.paused()
    assert (state.hosts[bad].place, under.world.data["hosts"][bad]["level"]) == (Place.FAILED, 2)
    under.say("retry", acknowledge="failed")
    assert under.paused().hosts[bad].place is Place.FAILED, "the gate says the same"
    under.world.values = lambda name, fun: True
    began = under.world.monotonic()
    under.say("retry", acknowledge="failed")
    state = under.until(at(Phase.DISPATCH, 1))
    assert state.hosts[bad].place is Place.HEALTHY
    assert under.world.monotonic() >= began + plan.options.canary_soak


def newest(**changes: Any) -> Any:
    hosts = [host("a"), host("b", build_id=B, level=3)]
    options = parse_options({**OPTIONS, "canaries": ["a", "b"], **changes}, level=3)
    return plan_of(hosts, options=options, grants=NEWEST, back=LOWER)


@pytest.mark.parametrize("verb", ["", "rollback"])
def test_nobody_is_approved_for_a_kernel_that_it_does_not_run(tmp_path: Path, verb: str) -> None:
    """What it was told of that one, by hand too, goes on."""
    plan = plan_of([host("a"), host("b", build_id=B)], {**OPTIONS, "canaries": ["a", "b"]})
    under = Under(tmp_path, plan)
    under.end()
    if verb:
        under.say(verb)
        under.end()
    approved = {name: set(one["builds"]) for name, one in under.world.data["approvals"].items()}
    assert approved == {"a": {A}, "b": {B}}


def test_each_kernel_build_has_its_own_newest_level(tmp_path: Path) -> None:
    """B's level 3 is blocked: a host that is there goes down to 2."""
    under = Under(tmp_path, newest())
    under.world.data["hosts"]["a"].update(up=3)
    under.world.data["hosts"]["b"].update(level=3, build=B)
    state = under.end()
    assert places(state) == {"a": "healthy", "b": "healthy"}
    assert [under.world.data["hosts"][name]["level"] for name in ("a", "b")] == [3, 2]


def test_what_is_rolled_back_is_blocked_for_each_kernel_build_by_its_own_number(tmp_path: Path) -> None:
    under = Under(
        tmp_path,
        newest(block_on_rollback=True, on_fail_canary="rollback_all", thresholds=STRICT),
        {"a": "fails"},
    )
    under.world.data["hosts"]["a"].update(up=3)
    assert under.end().standing is Standing.ROLLED_BACK
    assert sorted(one[1:] for one in under.world.data["blocked"]) == [[2, B], [3, A]]


def test_level_0_is_rolled_back_and_nothing_blocked(tmp_path: Path) -> None:
    given = {**OPTIONS, "thresholds": STRICT, "on_fail_canary": "rollback_all", "block_on_rollback": True}
    options = parse_options(given, level=0)
    plan = plan_of(fleet(4), options=options, grants={A: Grant(0, None), B: Grant(0, None)})
    under = Under(tmp_path, plan, {plan.waves[0][0]: "fails"})
    for one in under.world.data["hosts"].values():
        one.update(up=0)
    assert under.end().standing is Standing.ROLLED_BACK
    assert under.world.data["blocked"] == []


def test_level_0_is_approved_for_who_is_there_and_approved_for_more(tmp_path: Path) -> None:
    """One that has just booted, above all: its next highstate would load what is being withdrawn."""
    hosts = [host("fresh", level=0, verdict="unpatched", approved=2), *fleet(3)]
    options = parse_options(OPTIONS, level=0)
    plan = plan_of(hosts, options=options, grants={A: Grant(0, None), B: Grant(0, None)})
    assert "fresh" not in plan.waves[0], "it would show nothing"
    under = Under(tmp_path, plan)
    for one in under.world.data["hosts"].values():
        one.update(up=0)
    state = under.end()
    assert (state.standing, places(state)["fresh"]) == (Standing.COMPLETED, "already_ok")
    assert under.world.data["approvals"]["fresh"]["builds"][A]["level"] == 0
    assert under.world.data["hosts"]["fresh"]["commands"] == []
    for level in (0, None):
        again = plan_of([host("fresh", level=0, approved=level)], options=options, grants=plan.grants)
        assert again.hosts[0].group is Group.ALREADY


@pytest.mark.parametrize("verb", ["retry", "skip"])
def test_a_host_that_was_rebooted_in_its_soak_does_not_hold_its_domain_for_good(
    tmp_path: Path, verb: str
) -> None:
    plan = a_plan(max_per_domain=1, thresholds=STRICT, on_fail_canary="pause")
    bad = plan.waves[0][0]
    under = Under(tmp_path, plan)
    under.until(at(Phase.SOAK, 0))
    under.world.data["hosts"][bad]["boots"] += 1
    state = under.paused()
    assert state.hosts[bad].place is Place.LOST
    if verb == "retry":
        under.say("retry", acknowledge="lost")
    else:
        under.say("skip", host=bad)
        under.say("resume", acknowledge="lost")
        under.paused()
        under.say("resume")  # without a canary of its stratum
    state = under.end()
    wanted = {"retry": (Standing.COMPLETED, "healthy"), "skip": (Standing.EXCEPTIONS, "skipped")}
    assert (state.standing, places(state)[bad]) == wanted[verb], state.reason


def test_one_that_may_be_between_two_kernels_is_waited_for(tmp_path: Path) -> None:
    state = Under(tmp_path, a_plan()).until(at(Phase.SOAK, 0))
    name = state.plan.waves[0][0]
    state.put(name, Place.LOST)
    state.stand(Standing.PAUSED, "a test")
    for verb, given in (("skip", {"host": name}), ("retry", {"acknowledge": "lost"})):
        assert may(verb, state, given) is None
        state.strays[name] = state.t + 60
        assert may(verb, state, given) is not None
        del state.strays[name]


# -- canaries that tell nothing --------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["all", "one stratum's"])
@pytest.mark.parametrize("what", ["frozen", "deaf", "fails"])
@pytest.mark.parametrize("verb", ["resume", "promote"])
def test_no_wave_goes_on_that_no_canary_went_before(tmp_path: Path, verb: str, what: str, who: str) -> None:
    """Whatever the limits admit: nobody would have seen how the level does on hosts like those."""
    plan = a_plan()
    away = plan.waves[0] if who == "all" else plan.waves[0][:1]
    under = Under(tmp_path, plan, dict.fromkeys(away, what) if what != "frozen" else {})
    under.world.frozen_hosts = dict.fromkeys(away, "frozen") if what == "frozen" else {}
    state = under.paused()
    assert (state.lap, state.phase, state.trip) == (0, Phase.GATE, None)
    assert plan.hosts[0].stratum.partition("/")[0] in state.reason and "canar" in state.reason
    assert all(not under.world.data["hosts"][name]["commands"] for name in plan.waves[1])
    under.say(verb)
    state = under.end()
    assert {places(state)[name] for name in (*plan.waves[1], *plan.waves[2])} == {"healthy"}


def test_a_canary_that_is_tried_again_soaks_before_the_others_go(tmp_path: Path) -> None:
    plan = a_plan()
    bad = plan.waves[0][0]
    under = Under(tmp_path, plan, {bad: "fails"})
    under.paused()
    under.world.data["hosts"][bad]["way"] = "well"
    began = under.world.monotonic()
    under.say("retry")
    state = under.until(at(Phase.DISPATCH, 1))
    assert state.hosts[bad].place is Place.HEALTHY
    assert under.world.monotonic() >= began + plan.options.canary_soak


def test_a_stratum_without_canary_by_plan_was_shown_by_the_plan(tmp_path: Path) -> None:
    hosts = [*(host(f"a{number}") for number in range(3)), *(host(f"b{n}", build_id=B) for n in range(3))]
    plan = plan_of(hosts, {**OPTIONS, "canaries": ["a0"]})
    assert plan.uncovered_strata
    assert Under(tmp_path, plan).end().standing is Standing.COMPLETED
    gone = Under(tmp_path / "gone", plan, {"a0": "deaf"}).paused()
    assert (gone.lap, B in gone.reason) == (0, True), "but here nobody went first"


# -- tried again, and gone on with -----------------------------------------------------------------------

NOON = {"zone": "UTC", "start": "12:00", "end": "12:05"}


def test_who_is_tried_again_goes_in_the_wave_where_it_stands(tmp_path: Path) -> None:
    """However many hosts of that wave still wait."""
    plan = a_plan(40, parallel=2, waves=["10%", "100%"])
    bad = plan.waves[0][0]
    under = Under(tmp_path, plan, {bad: "fails"})
    under.paused()
    under.say("resume")  # without a canary of its stratum
    state = under.until(lambda state: state.lap == 2 and state.counts[Place.HEALTHY] > 6)
    assert len(state.queue) > state.late_round
    under.world.data["hosts"][bad]["way"] = "well"
    old = status.read(under.directory)
    under.say("retry")
    state = under.until(lambda state: state.hosts[bad].place is Place.HEALTHY)
    assert (state.hosts[bad].lap, state.phase) == (2, Phase.DISPATCH)
    obeyed.command(old, {"id": "x", "verb": "retry", "who": "bob", "why": "go", "arguments": {}})
    assert bad in old.ready and bad not in old.queue, "what an older journal says"


@pytest.mark.parametrize("phase", [Phase.SOAK, Phase.DISPATCH])
def test_who_is_tried_again_after_its_wave_waits_for_a_window(tmp_path: Path, phase: Phase) -> None:
    """A wave that has begun may end outside: in its dispatch nobody waits."""
    plan = a_plan(windows=[NOON], canary_soak=7200, parallel=1)
    bad = plan.waves[0][0]
    under = Under(tmp_path, plan, {bad: "fails"})
    under.until(lambda state: state.phase is phase and state.hosts[bad].place is Place.FAILED)
    under.say("pause")
    under.until(lambda state: state.standing is Standing.PAUSED and not state.in_flight())
    under.world.data["now"] += 3600
    under.world.data["hosts"][bad]["way"] = "well"
    old = status.read(under.directory)
    under.say("retry")
    under.until(lambda state: state.hosts[bad].place is Place.HEALTHY)
    day = 86_400 if phase is Phase.SOAK else 0
    assert day <= under.world.monotonic() < day + 7200
    obeyed.command(old, {"id": "x", "verb": "retry", "who": "bob", "why": "go", "arguments": {}})
    assert old.phase is Phase.DISPATCH, "what an older journal says"


def test_a_wave_that_was_paused_before_its_first_round_begins_in_a_window(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan(windows=[NOON], canary_soak=30, look_every=30))
    under.until(at(Phase.DISPATCH, 1))
    under.say("pause")
    under.paused()
    under.world.data["now"] += 7 * 3600
    under.say("resume")
    under.until(lambda state: state.phase is Phase.SOAK and state.lap == 1)
    assert 86_400 <= under.world.monotonic() < 86_400 + 3600


@pytest.mark.parametrize(("amount", "allowed"), [("10%", 0), ("50%", 2), (1, 1), (9, 9)])
def test_a_group_of_late_hosts_is_measured_by_its_own_size(tmp_path: Path, amount: Any, allowed: int) -> None:
    """A percentage of it, not of the last wave, which may be a hundred times as large."""
    away = [host(f"away{number}", online=False) for number in range(4)]
    limit = {**TOLERANT, "failed": {"wave": amount, "total": 100}}
    plan = plan_of([*fleet(40, domains=2), *away], {**OPTIONS, "thresholds": limit, "waves": ["100%"]})
    under = Under(tmp_path, plan, {one.minion: "deaf" for one in away})
    under.until(lambda state: state.phase is Phase.LATE)
    for number, one in enumerate(away):
        way = "fails" if number <= allowed else "well"
        under.world.data["hosts"][one.minion].update(way=way, build=A)
    state = under.until(lambda state: state.standing is Standing.PAUSED)
    tripped = [(trip.counter, trip.number, trip.limit) for trip in state.trips]
    assert tripped == ([("failed", allowed + 1, allowed)] if allowed < len(away) else [])


@pytest.mark.parametrize(("place", "stops"), [(Place.UNREACHABLE, False), (Place.FAILED, True)])
def test_a_late_host_that_is_away_again_stops_nothing(place: Place, stops: bool) -> None:
    """A share of a group of one is none; and the level has done nothing to it."""
    amount = {"wave": "5%", "total": 4}
    limit = {**TOLERANT, "unreachable": amount, "failed": amount}
    plan = plan_of(
        [*fleet(40, domains=2), host("away", online=False)],
        {**OPTIONS, "thresholds": limit, "waves": ["100%"]},
    )
    state = begin("r", plan)
    state.lap = state.hosts["away"].lap = len(plan.waves)
    state.put("away", place)
    assert (exceeded(state) is not None) is stops


@pytest.mark.parametrize("verb", [True, False], ids=["a pause", "nobody driving"])
def test_who_was_booted_while_it_waited_is_not_lost(tmp_path: Path, verb: bool) -> None:
    """Its boot id is that of when it was told, not of when it was staged."""
    under = Under(tmp_path, a_plan(thresholds=STRICT))
    state = under.until(lambda state: state.counts[Place.APPROVED] > 0)
    name = state.at({Place.APPROVED})[0]
    if verb:
        under.say("pause")
        under.paused()
    under.world.data["hosts"][name]["boots"] += 1
    if verb:
        under.say("resume")
    state = under.end()
    assert (state.standing, state.hosts[name].place) == (Standing.COMPLETED, Place.HEALTHY), state.reason


def test_who_does_not_answer_after_a_pause_is_told_nothing(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan())
    state = under.until(lambda state: state.counts[Place.APPROVED] > 0)
    name = state.at({Place.APPROVED})[0]
    under.say("pause")
    under.paused()
    under.world.data["hosts"][name]["gone"] = True
    under.say("resume")
    state = under.until(lambda state: state.hosts[name].place is Place.LOST)
    assert "before it was told" in state.hosts[name].text
    assert under.world.data["hosts"][name]["commands"] == []


@pytest.mark.parametrize("lap", [1, 2])
def test_who_goes_after_its_soak_counts(tmp_path: Path, lap: int) -> None:
    """Canaries that were well and answer no more, seen with the last look of the next soak."""
    lost = {**TOLERANT, "lost": {"wave": 0, "total": 0}}
    plan = a_plan(thresholds=lost, on_fail="pause", late_for=0)
    under = Under(tmp_path, plan)
    under.until(at(Phase.SOAK, lap))
    for name in plan.waves[0]:
        under.world.data["hosts"][name]["gone"] = True
    state = under.paused()
    assert {str(state.hosts[name].place) for name in plan.waves[0]} == {"lost_after_patch"}
    assert [(str(trip.counter), trip.scope) for trip in state.trips] == [("lost", "total")]
    assert state.lap == lap


def test_who_goes_while_late_hosts_are_waited_for_counts(tmp_path: Path) -> None:
    lost = {**TOLERANT, "lost": {"wave": 0, "total": 0}}
    plan = plan_of(
        [*fleet(4), host("away", online=False)], {**OPTIONS, "thresholds": lost, "on_fail": "pause"}
    )
    under = Under(tmp_path, plan, {"away": "deaf"})
    under.until(lambda state: state.phase is Phase.LATE)
    under.world.data["hosts"][plan.waves[0][0]]["gone"] = True
    assert "lost_after_patch" in under.paused().reason


@pytest.mark.parametrize(("level", "place"), [(2, Place.HEALTHY), (0, Place.FAILED)])
def test_who_was_booted_after_its_soak_is_judged_by_its_level(
    tmp_path: Path, level: int, place: Place
) -> None:
    """People boot hosts while a rollout takes its days; one that crashed is held below by its breaker."""
    plan = a_plan(thresholds={**TOLERANT, "lost": {"wave": 0, "total": 0}}, on_fail="pause")
    under, name = Under(tmp_path, plan), plan.waves[0][0]
    under.until(at(Phase.SOAK, 1))
    under.world.data["hosts"][name].update(boots=9, level=level)
    assert under.end().hosts[name].place is place


def test_who_was_booted_while_late_hosts_are_waited_for_is_well(tmp_path: Path) -> None:
    """Its wave was the last, and is over all the same."""
    hosts = [*fleet(4), host("away", online=False)]
    under = Under(tmp_path, plan_of(hosts, {**OPTIONS, "thresholds": STRICT}), {"away": "deaf"})
    state = under.until(lambda state: state.phase is Phase.LATE)
    name = state.plan.waves[-1][0]
    under.world.data["hosts"][name]["boots"] += 1
    state = under.end()
    assert (state.trips, state.hosts[name].place) == ([], Place.HEALTHY)


def test_who_loads_its_level_in_the_moment_of_a_late_look_is_well(tmp_path: Path) -> None:
    plan = a_plan(thresholds=STRICT, on_fail="pause")
    under, name = Under(tmp_path, plan), plan.waves[0][0]
    under.until(at(Phase.SOAK, 1))
    one = under.world.data["hosts"][name]
    one.update(boots=2, last={}, until=under.world.time() + 86400)
    assert under.end().hosts[name].place is Place.HEALTHY


def test_a_look_at_all_that_began_in_an_earlier_wave_says_nothing_of_this_one(tmp_path: Path) -> None:
    """Somebody passes over the rest of the soak while it is out, and one host keeps it open."""
    changes = {"soak": 90, "canary_soak": 60, "look_every": 60, "stage_deadline": 120, "stage_spread": 1}
    plan = plan_of(fleet(12, domains=2), {**OPTIONS, "waves": ["30%", "60%", "100%"], **changes})
    under = Under(tmp_path, plan)
    hosts, gone, said = under.world.data["hosts"], plan.waves[3][0], list[bool]()

    def meddle(state: State) -> bool:
        """Without an end to the driver: who takes over asks anew."""
        out = [job for job in state.jobs.values() if job.purpose == "soak" and job.t is not None]
        if at(Phase.SOAK, 2)(state) and not state.seeing_all:
            hosts[plan.waves[0][0]]["way"] = "deaf"
        elif at(Phase.SOAK, 2)(state) and out and not said:
            said.append(True)
            under.say("promote", full=True)
        elif out and state.hosts[gone].place is Place.HEALTHY:
            hosts[gone]["gone"] = True
        return False

    state = under.until(meddle)
    assert hosts[gone]["gone"] and state.hosts[gone].place is Place.LOST


def test_a_host_of_an_earlier_wave_is_looked_at_once_a_wave(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan())
    under.end()
    looks = [one for one in status.history(under.directory) if one["type"] == "look"]
    assert sum(bool(one.get("all")) for one in looks) == len(under.until(lambda state: True).plan.waves)
