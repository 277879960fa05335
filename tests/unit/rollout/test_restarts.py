"""Hosts that are started with another kernel: a rollout from start to end, each way of failing at a time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from livepatch_core.rollout import adoption, collect, journal, phases, restarts, returning, status
from livepatch_core.rollout.clock import Now
from livepatch_core.rollout.fleet import Verb
from livepatch_core.rollout.fold import fold
from livepatch_core.rollout.model import Grant, Method, Plan
from livepatch_core.rollout.records import Type
from livepatch_core.rollout.state import Round, State
from livepatch_core.rollout.state import begin as new_state
from livepatch_core.rollout.states import Phase, Place, Standing
from livepatch_core.rollout.steps import Rest, Withdraw, Write
from tests.unit.rollout.fleets import BUILDS, KERNEL, NEW_BUILD, NEW_LEVEL, fleet, host, plan_of, uncovered
from tests.unit.rollout.simulated import (
    BOOT,
    LONG,
    RESTART_WAYS,
    UNKNOWN_BUILD,
    World,
    begin,
    drive,
    new_world,
    places,
)
from tests.unit.rollout.test_commands import Under
from tests.unit.rollout.test_engine import TOLERANT

HOOKS = {"drain": "livepatch_drain.drain", "undrain": {"state": "hv.undrain"}}
OPTIONS: dict[str, Any] = {
    "seed": 7, "waves": ["50%", "100%"], "canary_soak": 600, "soak": 300, "look_every": 60,
    "max_per_domain": 100, "late_for": 1800, "thresholds": TOLERANT, "drain_deadline": 600,
    "restart_deadline": 300, **HOOKS,
}  # fmt: skip
STRICT = {**TOLERANT, "lost": {"wave": 0, "total": 0}}


def restarted(count: int = 6, **changes: Any) -> Plan:
    hosts = [uncovered(f"hv{number}", domain=f"rack{number % 2}") for number in range(count)]
    return plan_of(hosts, {**OPTIONS, "method": "kexec", **changes})


def mixed(**changes: Any) -> Plan:
    hosts = [*fleet(6, domains=2), *(uncovered(f"old{number}", domain="rack0") for number in range(3))]
    return plan_of(hosts, {**OPTIONS, "fallback": "kexec", **changes})


def run(tmp_path: Path, plan: Plan, ways: dict[str, str] | None = None) -> tuple[State, World]:
    world = new_world(tmp_path / "world.json", plan, ways or {})
    state = drive(begin(tmp_path / "rollouts", plan, world), world)
    assert all(len(set(one["booted"])) == len(one["booted"]) for one in world.data["hosts"].values())
    return state, world


def test_all_is_well(tmp_path: Path) -> None:
    state, world = run(tmp_path, restarted())
    assert state.standing is Standing.COMPLETED
    assert set(places(state).values()) == {"healthy"}
    for one in world.data["hosts"].values():
        assert (one["kernel"], one["level"], one["drained"]) == (KERNEL, NEW_LEVEL, False)
        assert len(one["booted"]) == 1
    for name, one in status.document(state, world.now())["hosts"].items():
        assert (one["method"], one["kernel"], one["away"]) == ("kexec", KERNEL, BOOT), name


ENDS = {
    "well": ("healthy", ""), "refuses": ("failed", "lockdown"), "deaf": ("unreachable", ""),
    "late": ("healthy", ""), "fails": ("failed", "health"), "dies": ("lost_after_patch", ""),
    "reboots": ("lost_after_patch", "health"), "quiet": ("healthy", ""), "slow": ("healthy", ""),
    "misses": ("healthy", ""), "misses all": ("failed", "internal"), "garbage": ("healthy", ""),
    "busy": ("healthy", ""), "sickens": ("failed", "health"), "leaves": ("failed", "drift"),
    "falls": ("lost_after_patch", ""), "stays": ("failed", "stalled"), "strays": ("lost_after_patch", ""),
    "another": ("failed", "kernel-mismatch"), "ill": ("failed", "health"), "hangs": ("healthy", ""),
    "bare": ("failed", "internal"), "ahead": ("already_ok", ""), "unknown": ("failed", "uncovered"),
    "lags": ("failed", "stalled"),
}  # fmt: skip


@pytest.mark.parametrize("way", RESTART_WAYS)
@pytest.mark.parametrize("method", ["kexec", "fallback"])
def test_what_becomes_of_a_host(tmp_path: Path, way: str, method: str) -> None:
    plan = restarted() if method == "kexec" else mixed()
    moving = [name for wave in plan.waves for name in wave]
    victim = next(one for one in reversed(moving) if method == "kexec" or one.startswith("old"))
    state, world = run(tmp_path, plan, {victim: way})
    place, kind = ENDS[way]
    assert (places(state)[victim], state.hosts[victim].kind) == (place, kind), state.hosts[victim].text
    done = place in ("healthy", "already_ok")
    assert state.standing is (Standing.COMPLETED if done else Standing.EXCEPTIONS)
    others = {name: one for name, one in places(state).items() if name != victim}
    assert set(others.values()) == {"healthy"}
    found = world.data["hosts"][victim]
    assert found["drained"] is (way in ("dies", "strays")), "who is back, or never left, is undrained"
    assert len(found["booted"]) <= 1


def test_one_that_never_comes_back_stops_the_wave(tmp_path: Path) -> None:
    plan = restarted(thresholds=STRICT, max_per_domain=1)
    victim = plan.waves[1][0]
    world = new_world(tmp_path / "world.json", plan, {victim: "dies"})
    directory = begin(tmp_path / "rollouts", plan, world)
    state = drive(directory, world, adoption.waits)
    assert state.standing is Standing.PAUSED and state.trips[0].counter == "lost"
    assert places(state)[victim] == "lost_after_patch"
    assert state.occupied[state.hosts[victim].placing.domain] == 1, "it holds its place"
    untouched = [name for name, place in places(state).items() if place == "pending"]
    assert untouched and all(not world.data["hosts"][name]["commands"] for name in untouched)


def test_one_that_comes_back_late_is_undrained_all_the_same(tmp_path: Path) -> None:
    """While the rollout waits for a person; it counts as failed, and can be retried."""
    plan = restarted(thresholds=STRICT, late_for=2 * LONG)
    victim = plan.waves[1][0]
    under = Under(tmp_path, plan, {victim: "strays"})
    state = under.until(adoption.waits)
    assert places(state)[victim] == "lost_after_patch" and adoption.wanted(state)
    assert under.world.data["hosts"][victim]["drained"]
    state = under.until(lambda state: not adoption.wanted(state))
    assert places(state)[victim] == "failed" and "later than" in state.hosts[victim].text
    assert not under.world.data["hosts"][victim]["drained"]
    under.world.data["hosts"][victim]["way"] = "well"
    under.say("retry", acknowledge="lost")
    state = under.end()
    assert places(state)[victim] == "healthy"
    assert len(under.world.data["hosts"][victim]["booted"]) == 1


def test_one_that_comes_back_while_others_are_rolled_back_is_none_of_them() -> None:
    """Taken for one of them it counted as rolled back, and what was drained there stayed away."""
    state = new_state("r", mixed())
    live = next(name for name, one in state.hosts.items() if not one.restarts)
    state.round = Round(2, {live: None}, back=True)
    assert collect.order_for(state, state.hosts[live]).back
    assert not collect.order_for(state, state.hosts["old0"]).back


def test_nobody_waits_for_ever_for_one_that_is_gone(tmp_path: Path) -> None:
    plan = restarted(thresholds=STRICT, late_for=3600)
    under = Under(tmp_path, plan, {plan.waves[1][0]: "dies"})
    state = under.until(lambda state: not adoption.wanted(state))
    assert state.standing is Standing.PAUSED and under.world.monotonic() < 8000


def test_each_is_told_what_it_needs_and_approved_for_no_more(tmp_path: Path) -> None:
    plan = mixed(max_per_domain=100, waves=["100%"])
    world = new_world(tmp_path / "world.json", plan, {})
    published: list[tuple[Verb, list[str], Any]] = []
    approved: list[tuple[list[str], Any]] = []

    def watch(act: str, what: Any) -> None:
        if act == "publish":
            published.append(what)
        elif act == "approve":
            approved.append(what[1:])

    world.watch = watch
    state = drive(begin(tmp_path / "rollouts", plan, world), world)
    assert state.standing is Standing.COMPLETED
    for verb, names, arguments in published:
        old = {name.startswith("old") for name in names}
        if verb in (Verb.STAGE, Verb.MOVE):
            assert old == {False}
        elif verb in (Verb.CHECK, Verb.LEAVE, Verb.FINISH):
            assert old == {True}
        if verb is Verb.LEAVE:
            assert (arguments["method"], arguments["kernel"]) == ("kexec", KERNEL)
            assert arguments["drain"] == {"fun": "livepatch_drain.drain", "args": [], "kwargs": {}}
            assert arguments["undrain"] == {"fun": "state.apply", "args": ["hv.undrain"], "kwargs": {}}
    for names, grants in approved:
        if any(name.startswith("old") for name in names):
            assert set(grants) == {KERNEL, NEW_BUILD} and all(name.startswith("old") for name in names)
        else:
            assert KERNEL not in grants and NEW_BUILD not in grants


def test_a_rollback_keeps_kernels_and_says_so(tmp_path: Path) -> None:
    plan = mixed(thresholds={**TOLERANT, "failed": 0}, on_fail="rollback_all", on_fail_canary="rollback_all")
    live = next(one for one in plan.waves[1] if not one.startswith("old"))
    state, world = run(tmp_path, plan, {live: "fails"})
    assert state.standing is Standing.ROLLBACK_FAILED
    for name, place in places(state).items():
        if name.startswith("old") and world.data["hosts"][name]["booted"]:
            assert place == "needs_reboot" and KERNEL in state.hosts[name].text
            assert not world.data["hosts"][name]["drained"]
        else:
            assert place in ("rolled_back", "pending"), name
    assert any(world.data["hosts"][name]["booted"] for name in places(state))


def test_a_rollback_in_the_middle_of_a_restart(tmp_path: Path) -> None:
    """Who is on its way is heard first and undrained; who never left takes the older level's new approval."""
    plan = restarted(waves=["100%"])
    first, second = plan.waves[0][0], plan.waves[1][0]
    under = Under(tmp_path, plan, {second: "fails"})
    under.until(lambda state: state.lap == 1 and state.counts["moving"] > 0)
    under.say("rollback")
    state = under.end()
    assert state.standing is Standing.ROLLBACK_FAILED
    found = places(state)
    assert found[first] == "needs_reboot" and found[second] == "rolled_back"
    assert not any(one["drained"] for one in under.world.data["hosts"].values())
    assert under.world.data["hosts"][second]["rev"] == under.world.data["rev"], "the newest approval won"


def test_an_abort_waits_for_who_is_on_its_way(tmp_path: Path) -> None:
    under = Under(tmp_path, restarted(waves=["100%"]))
    under.until(lambda state: state.lap == 1 and state.counts["moving"] > 0)
    under.say("abort")
    state = under.end()
    assert state.standing is Standing.ABORTED
    assert set(places(state).values()) == {"healthy"}
    assert not any(one["drained"] for one in under.world.data["hosts"].values())


def test_a_host_that_runs_that_kernel_by_now_is_left_alone(tmp_path: Path) -> None:
    plan = restarted()
    victim = plan.waves[1][0]
    world = new_world(tmp_path / "world.json", plan, {})
    world.data["hosts"][victim].update(kernel=KERNEL, build=NEW_BUILD, level=NEW_LEVEL)
    state = drive(begin(tmp_path / "rollouts", plan, world), world)
    assert places(state)[victim] == "already_ok" and not world.data["hosts"][victim]["commands"]


@pytest.mark.parametrize(
    ("unasked", "place"), [(None, "healthy"), (["kernelcare"], "healthy"), ([], "failed")]
)
def test_no_level_for_the_new_kernel(tmp_path: Path, unasked: list[str] | None, place: str) -> None:
    """That it runs is enough only where somebody said so; then an agent that is back is no failure, in the
    soak neither. unasked: as livepatch.brief says, None where its verdict is not unknown."""
    hosts = [host(f"hv{number}", kernel=KERNEL) for number in range(3)]
    given = {**OPTIONS, "method": "kexec", "canaries_per_stratum": 3}
    plan = plan_of(hosts, given, arrivals={})
    assert not plan.waves and all("see without_level" in one.reason for one in plan.hosts)
    plan = plan_of(hosts, {**given, "without_level": "accept"}, arrivals={})
    world = new_world(tmp_path / "world.json", plan, {})
    finish = world._finish

    def bare(one: dict[str, Any]) -> Any:
        answer = finish(one)
        one.update(level=0, moved=False, until=0.0, unasked=unasked)
        return {**answer, "return": {**answer["return"], "look": world._seen(one)}}

    world._finish = bare  # type: ignore[method-assign]
    state = drive(begin(tmp_path / "rollouts", plan, world), world)
    assert set(places(state).values()) == {place}


# -- the kernel is the plan's ----------------------------------------------------------------------------

NEWER = "6.1.0-58-amd64"


def test_a_kernel_that_is_installed_later_is_not_started(tmp_path: Path) -> None:
    """The canaries have proven the plan's: what is newest on a host at its turn nobody has run."""
    under = Under(tmp_path, restarted(without_level="accept"))
    started: list[str] = []

    def watch(act: str, what: Any) -> None:
        if act == "publish" and what[0] in (Verb.CHECK, Verb.LEAVE):
            started.append(what[2]["kernel"])

    under.world.watch = watch
    under.until(lambda state: state.lap == 1)
    under.world.newest = NEWER
    state = under.end()
    assert state.standing is Standing.COMPLETED
    assert set(started) == {KERNEL} and all(one.kernel == KERNEL for one in state.hosts.values())


def test_another_answer_than_the_plans_is_drift(tmp_path: Path) -> None:
    """Also one that has been started with a third kernel since: to that of the plan it would go back."""
    plan = restarted(without_level="accept")
    other, moved = plan.waves[1][:2]
    world = new_world(tmp_path / "world.json", plan, {})
    check = world._check

    def checked(one: dict[str, Any], arguments: Any) -> Any:
        return check(one, {"kernel": NEWER} if one is world.data["hosts"][other] else arguments)

    world._check = checked  # type: ignore[method-assign]
    world.data["hosts"][moved].update(kernel=NEWER, build=UNKNOWN_BUILD)
    state = drive(begin(tmp_path / "rollouts", plan, world), world)
    for name in (other, moved):
        one = state.hosts[name]
        assert (str(one.place), one.kind) == ("failed", "drift") and NEWER in one.text and KERNEL in one.text
        assert not world.data["hosts"][name]["commands"]


def test_one_that_was_away_when_it_was_planned_is_asked_by_the_option(tmp_path: Path) -> None:
    hosts = [uncovered("hv0"), uncovered("off", online=False, kernel=None)]
    plan = plan_of(hosts, {**OPTIONS, "method": "kexec"})
    state, world = run(tmp_path, plan)
    assert places(state) == {"hv0": "healthy", "off": "healthy"} and state.hosts["off"].kernel == KERNEL


# -- rollbacks -------------------------------------------------------------------------------------------


def test_a_rollback_past_a_kernel_build_of_which_nobody_knew(tmp_path: Path) -> None:
    """It runs that kernel already; it was away when it was planned and its drain fails; it was retried."""
    away = {"online": False, "build_id": None, "level": None, "kernel": None}
    hosts = [*(uncovered(f"hv{number}") for number in range(4)), host("off", **away)]
    plan = plan_of(hosts, {**OPTIONS, "method": "kexec", "waves": ["100%"], "without_level": "accept"})
    ahead, unknown = plan.waves[1][:2]
    under = Under(tmp_path, plan, {ahead: "ahead", unknown: "unknown", "off": "fails"})
    under.world.data["hosts"]["off"]["build"] = "8" * 40
    under.until(lambda state: state.hosts["off"].place == "failed")
    under.say("rollback")
    state = under.end()
    found = places(state)
    assert (found[ahead], found[unknown], found["off"]) == ("rolled_back", "needs_reboot", "rolled_back")
    assert state.standing is Standing.ROLLBACK_FAILED


def lost_canary(**changes: Any) -> tuple[Plan, str]:
    plan = mixed(thresholds=STRICT, on_fail_canary="rollback_wave", **changes)
    return plan, next(one for one in plan.waves[0] if one.startswith("old"))


def test_a_canary_that_comes_back_after_the_rollback_began_is_undrained(tmp_path: Path) -> None:
    plan, victim = lost_canary(late_for=2 * LONG)
    under = Under(tmp_path, plan, {victim: "strays"})
    others = [name for name in plan.waves[0] if name != victim]
    state = under.until(
        lambda state: bool(state.recalled) and all(state.hosts[one].place == "rolled_back" for one in others)
    )
    assert state.standing is Standing.ROLLING_BACK and places(state)[victim] == "lost_after_patch"
    assert under.world.data["hosts"][victim]["drained"] and under.world.monotonic() < LONG / 2
    state = under.end()
    found = under.world.data["hosts"][victim]
    assert places(state)[victim] == "needs_reboot" and state.standing is Standing.ROLLBACK_FAILED
    assert not found["drained"] and len(found["commands"]) == 1, "it is told to finish, and nothing else"


class Dies(Exception):
    """The process that drives, in the middle of an act."""


def dies_at_leave(tmp_path: Path, **ways: str) -> tuple[Under, str]:
    """Its order to leave has gone out, and nobody has recorded that. The victim."""
    plan = restarted(waves=["100%"])
    victim = plan.waves[1][0]
    under = Under(tmp_path, plan, {victim: ways.get("victim", "well")})
    publish = under.world.publish

    def dying(jid: str, verb: Verb, hosts: Any, arguments: Any) -> None:
        publish(jid, verb, hosts, arguments)
        if verb is Verb.LEAVE and victim in hosts:
            raise Dies

    under.world.publish = dying  # type: ignore[method-assign]
    with pytest.raises(Dies):
        under.end()
    under.world.publish = publish  # type: ignore[method-assign]
    return under, victim


@pytest.mark.parametrize("seconds", [0, 10, 25, 60, 200])
@pytest.mark.parametrize("way", ["well", "quiet", "slow"])
def test_a_rollback_hears_first_who_may_have_left(tmp_path: Path, way: str, seconds: float) -> None:
    """It was called rolled back, and came up with another kernel and its guests away."""
    under, victim = dies_at_leave(tmp_path, victim=way)
    under.world.data["now"] += seconds
    under.say("rollback")
    state = under.end()
    found = under.world.data["hosts"][victim]
    assert not found["drained"] and found["kernel"] == KERNEL, "an order to boot is not taken back"
    assert places(state)[victim] == "needs_reboot" and KERNEL in state.hosts[victim].text
    assert found["rev"] == found["booted"][0], "it was told nothing while it was away"
    assert state.standing is Standing.ROLLBACK_FAILED


@pytest.mark.parametrize("way", ["well", "quiet"])
def test_a_rollback_waits_for_the_look_at_who_may_have_left(tmp_path: Path, way: str) -> None:
    under, victim = dies_at_leave(tmp_path, victim=way)
    under.world.data["returns"] = {}  # what it answered is lost
    under.until(lambda state: any(job.purpose == "doubt" for job in state.jobs.values()))
    under.say("rollback")
    state = under.end()
    assert places(state)[victim] == "needs_reboot"
    assert not under.world.data["hosts"][victim]["drained"]


@pytest.mark.parametrize("way", ["misses", "fails"])
def test_a_rollback_takes_back_who_has_not_left(tmp_path: Path, way: str) -> None:
    under, victim = dies_at_leave(tmp_path, victim=way)
    under.say("rollback")
    state = under.end()
    found = under.world.data["hosts"][victim]
    assert places(state)[victim] == "rolled_back" and not found["booted"] and not found["drained"]
    assert found["rev"] == state.hosts[victim].rev


@pytest.mark.parametrize("way", ["well", "quiet", "slow", "misses", "lags"])
def test_a_rollback_after_a_death_at_any_publication(tmp_path: Path, way: str) -> None:
    """Before it is recorded that a job went out: who is called rolled back runs its old kernel and the old
    level, and nobody who came back is left drained."""
    plan = mixed(waves=["100%"], max_per_domain=3)
    old = [name for wave in plan.waves for name in wave if name.startswith("old")]
    for number in range(1, 100):
        under = Under(tmp_path / str(number), plan, dict.fromkeys(old, way))
        publish, left = under.world.publish, [number]

        def dying(*given: Any, publish: Any = publish, left: list[int] = left) -> None:
            publish(*given)
            left[0] -= 1
            if not left[0]:
                raise Dies

        under.world.publish = dying  # type: ignore[method-assign]
        try:
            under.until(lambda state: state.ended or (state.standing is Standing.PAUSED and not state.jobs))
            break
        except Dies:
            under.world.data["now"] += 20
        if not any(one.forward_rev for one in status.read(under.directory).hosts.values()):
            continue  # nobody is approved yet
        under.world.publish = publish  # type: ignore[method-assign]
        under.say("rollback")
        state = under.end()
        for name, one in state.hosts.items():
            found = under.world.data["hosts"][name]
            under.world.passed(found)
            assert not found["drained"], (number, name, str(one.place), one.text)
            if one.place == "rolled_back":
                assert (found["kernel"] == KERNEL, found["level"]) == (False, one.before), (number, name)
    assert number > 10


def test_a_rollback_that_was_journaled_without_doubts_means_what_it_meant(tmp_path: Path) -> None:
    under, victim = dies_at_leave(tmp_path)
    under.say("rollback")
    under.until(lambda state: state.standing is Standing.ROLLING_BACK)
    state = new_state("r", status.read_plan(under.directory))
    for record in journal.read(under.directory / journal.FILE_NAME):
        if record.type == Type.BACK:
            assert victim in record.body.pop("doubt")
        fold(state, record)
    assert not [job for job in state.jobs.values() if job.verb is Verb.LEAVE and victim in job.pending]


def test_a_rollback_names_who_never_came_back(tmp_path: Path) -> None:
    plan, victim = lost_canary(late_for=3600)
    under = Under(tmp_path, plan, {victim: "dies"})
    state = under.end()
    assert places(state)[victim] == "lost_after_patch" and under.world.monotonic() < 8000
    assert victim in state.reason and "livepatch_restart.finish" in state.reason


@pytest.mark.parametrize("before", [0, 1])
def test_one_that_was_given_up_and_tried_again_is_no_stray_any_more(tmp_path: Path, before: int) -> None:
    """Lost once more in its soak it runs its new kernel: nobody has to wait for it, or to finish it."""
    verdict = "patched" if before else "unpatched"
    facts = {"build_id": BUILDS[0], "level": before, "verdict": verdict}
    hosts = [uncovered(f"hv{number}", domain=f"rack{number % 2}", **facts) for number in range(4)]
    given = {"method": "kexec", "waves": ["100%"], "thresholds": STRICT, "late_for": 600, "soak": 3000}
    plan = plan_of(hosts, {**OPTIONS, **given})
    victim = plan.waves[1][0]
    under = Under(tmp_path, plan, {victim: "dies"})
    under.until(lambda state: bool(state.trips) and not adoption.wanted(state))
    found = under.world.data["hosts"][victim]
    back = {"down": False, "leaves_at": None, "last": {}, "restart": None, "drained": False}
    found.update(way="well", boots=found["boots"] + 1, **back)  # somebody has power cycled it
    under.say("retry", acknowledge="lost")
    state = under.until(lambda state: state.hosts[victim].place == "healthy")
    assert victim not in state.strays
    found["way"] = "deaf"
    state = under.until(lambda state: state.hosts[victim].place == "lost_after_patch")
    began = state.t
    under.say("rollback")
    state = under.end()
    assert state.t - began < 600 and "livepatch_restart.finish" not in state.reason
    assert places(state)[victim] == "needs_reboot"


def test_a_level_that_nobody_knows_for_a_kernel_build_is_the_next_lower_one() -> None:
    """At last 0: what takes a level away cannot be refused for want of one."""
    state = new_state("r", mixed())
    name = next(name for name, one in state.hosts.items() if not one.restarts)
    state.hosts[name].forward_rev = 5
    for build, level, found in ((NEW_BUILD, 3, 0), (BUILDS[0], 7, 1), (BUILDS[0], 1, 1), (BUILDS[0], 0, 0)):
        state.hosts[name].before, state.hosts[name].build, state.hosts[name].document = level, build, -1
        state.recalled, state.standing = {name}, Standing.ROLLING_BACK
        wanted = returning.advance(state)
        assert isinstance(wanted, Withdraw)
        assert returning.ways_back(state, wanted.build, wanted.level)[0].level == found


def test_one_that_is_lost_in_the_middle_of_a_rollback_is_waited_for(tmp_path: Path) -> None:
    plan = restarted(waves=["100%"], late_for=2 * LONG)
    victim = plan.waves[1][0]
    under = Under(tmp_path, plan, {victim: "strays"})
    under.until(lambda state: state.lap == 1 and state.counts["moving"] > 0)
    under.say("rollback")
    state = under.end()
    assert places(state)[victim] == "needs_reboot"
    assert not under.world.data["hosts"][victim]["drained"]


def test_a_rollback_says_the_kernel_only_where_it_was_seen(tmp_path: Path) -> None:
    """And keeps what was said before."""
    plan = restarted(waves=["100%"])
    back, well = plan.waves[1][:2]
    under = Under(tmp_path, plan, {back: "another"})
    under.until(lambda state: state.lap == 1 and state.round is None and state.counts["failed"] == 1)
    under.say("rollback")
    state = under.end()
    assert f"started with kernel {KERNEL}" in state.hosts[well].text
    one = state.hosts[back]
    assert one.text.startswith("another kernel runs; ") and f"started with kernel {KERNEL}" not in one.text
    assert "6.1.0-56-amd64" in one.text and one.kind == "kernel-mismatch"


@pytest.mark.parametrize("again", ["ill", "refuses", "deaf"])
def test_one_that_was_retried_on_its_new_kernel_is_not_called_rolled_back(tmp_path: Path, again: str) -> None:
    plan = restarted(waves=["100%"], thresholds={**TOLERANT, "failed": 0})
    victim = plan.waves[1][0]
    under = Under(tmp_path, plan, {victim: "ill"})
    under.paused()
    under.world.data["hosts"][victim]["way"] = again
    under.say("retry", acknowledge="failed")
    under.until(lambda state: state.hosts[victim].place in ("already_ok", "failed", "unreachable"))
    under.say("rollback")
    state = under.end()
    assert under.world.data["hosts"][victim]["kernel"] == KERNEL
    assert places(state)[victim] == "needs_reboot" and KERNEL in state.hosts[victim].text


def test_one_that_runs_its_new_kernel_is_well_when_it_is(tmp_path: Path) -> None:
    """Tried again it is not restarted once more: then it has to have its level and its health by now, and has
    its gates like any."""
    gate = {"name": "ping", "type": "function", "when": "host", "arguments": {"fun": "test.ping"}}
    gate["predicate"] = {"op": "==", "value": True}
    plan = restarted(waves=["100%"], thresholds={**TOLERANT, "failed": 0}, gates=[gate])
    victim = plan.waves[1][0]
    under = Under(tmp_path, plan, {victim: "bare"})
    one = under.world.data["hosts"][victim]

    def tried() -> str:
        state = under.until(lambda state: state.standing is Standing.PAUSED)
        assert places(state)[victim] == "failed"
        under.say("retry", acknowledge="failed")
        return state.hosts[victim].text

    assert tried() == "it is at level 0, not 3: seen"
    said = tried()
    assert "at level 0, not 3: seen: mend that there (livepatch.apply, or livepatch.unhold" in said
    one.update(way="sickens", level=NEW_LEVEL, up=NEW_LEVEL, moved=True, until=0.0)
    assert "not as well as before it left: mend that" in tried()
    one["way"] = "well"
    under.world.values = lambda name, fun: name != victim
    assert "ping" in tried(), "its gate"
    under.world.values = lambda name, fun: True
    assert places(under.end())[victim] == "healthy"
    assert len(one["booted"]) == 1


def test_one_that_was_booted_by_hand_goes_back_in_the_kernel_that_it_runs(tmp_path: Path) -> None:
    """It never left by this rollout, so what it says when it is tried again is all that is known of it."""
    plan = restarted(waves=["100%"], thresholds={**TOLERANT, "failed": 0})
    victim = plan.waves[1][0]
    under = Under(tmp_path, plan, {victim: "fails"})
    under.until(lambda state: state.standing is Standing.PAUSED and not state.in_flight())
    one = under.world.data["hosts"][victim]
    one.update(way="well", kernel=KERNEL, build=NEW_BUILD, level=0, boots=2, restart=None)
    under.say("retry", acknowledge="failed")
    state = under.paused()
    assert (state.hosts[victim].build, state.hosts[victim].before) == (NEW_BUILD, 0)
    under.say("rollback")
    under.end()
    assert set(under.world.data["approvals"][victim]["builds"]) == {NEW_BUILD}


def test_one_that_runs_a_newer_kernel_by_now_is_judged_by_that(tmp_path: Path) -> None:
    """Late hosts have no kernel planned: what it was to be started with when it failed counts no more."""
    plan, build = restarted(), "7" * 40
    arrivals = {**plan.arrivals, "6.1.0-58-amd64": {build: Grant(4, "4" * 64)}}
    placings = [dataclasses.replace(one, wave=None, kernel="", build_id="") for one in plan.hosts]
    state = new_state("r", dataclasses.replace(plan, arrivals=arrivals, hosts=tuple(placings)))
    one = next(iter(state.hosts.values()))
    one.forward_rev, one.kernel = 3, KERNEL
    look = {
        "verdict": "patched",
        "level": 4,
        "boot_id": "b",
        "rev": 3,
        "build_id": build,
        "release": "6.1.0-58-amd64",
    }
    entry = {"return": {"result": True, "kernel": "6.1.0-58-amd64", "look": look}}
    assert restarts.checked(entry, state, one).again
    look["level"] = 3
    found = restarts.checked(entry, state, one)
    assert (found.place, found.build) == ("failed", build) and "at level 3, not 4" in found.text


@pytest.mark.parametrize("way", ["rollback", "abort", "go on"])
def test_a_gate_that_is_passed_over_leaves_nobody_behind(tmp_path: Path, way: str) -> None:
    gate = {"name": "ping", "type": "function", "when": "host", "arguments": {"fun": "test.ping"}}
    gate["predicate"] = {"op": "<=", "value": 3}
    plan = restarted(waves=["100%"], thresholds={**TOLERANT, "failed": 0}, gates=[gate])
    victim = plan.waves[1][0]
    under = Under(tmp_path, plan, {victim: "bare"})
    under.world.values = lambda name, fun: 1
    under.until(lambda state: state.standing is Standing.PAUSED)
    under.world.data["hosts"][victim].update(way="well", level=NEW_LEVEL)
    under.world.values = lambda name, fun: "no number" if name == victim else 1
    under.say("retry", acknowledge="failed")
    state = under.until(lambda state: "could not be judged" in state.reason)
    assert places(state)[victim] == "gating"
    under.say("promote")
    if way != "go on":
        under.say(way)
    state = under.end()
    assert places(state)[victim] == {"rollback": "needs_reboot"}.get(way, "healthy")


def test_a_journal_of_before_means_what_it_meant(tmp_path: Path) -> None:
    """A host that was tried again on its new kernel was counted as there, without gates: nothing in its
    journal says otherwise."""
    gate = {"name": "ping", "type": "function", "when": "host", "arguments": {"fun": "test.ping"}}
    gate["predicate"] = {"op": "==", "value": True}
    plan = restarted(waves=["100%"], thresholds={**TOLERANT, "failed": 0}, gates=[gate])
    victim = plan.waves[1][0]
    under = Under(tmp_path, plan, {victim: "bare"})
    under.until(lambda state: state.standing is Standing.PAUSED)
    under.world.data["hosts"][victim].update(way="well", level=NEW_LEVEL)
    under.say("retry", acknowledge="failed")
    under.end()
    state, seen = new_state("r", plan), set()
    for record in journal.read(under.directory / journal.FILE_NAME):
        for said in record.body["hosts"].values() if record.type == Type.ANSWERS else ():
            said.pop("again", None)
        fold(state, record)
        seen.add(places(state)[victim])
        if "already_ok" in seen:
            break
    assert "already_ok" in seen and "gating" not in seen


def test_one_that_was_retried_on_its_old_kernel_goes_back(tmp_path: Path) -> None:
    plan = restarted(waves=["100%"], thresholds={**TOLERANT, "failed": 0})
    victim = plan.waves[1][0]
    under = Under(tmp_path, plan, {victim: "another"})
    under.paused()
    under.world.data["hosts"][victim]["way"] = "fails"
    under.say("retry", acknowledge="failed")
    under.until(lambda state: state.hosts[victim].place == "failed")
    under.say("rollback")
    assert places(under.end())[victim] == "rolled_back"


# -- what was drained ------------------------------------------------------------------------------------


def test_a_stray_has_its_time_to_be_undrained(tmp_path: Path) -> None:
    """One answer to finish that is lost is not the end of it."""
    plan = restarted(thresholds=STRICT, late_for=2 * LONG)
    victim = plan.waves[1][0]
    under = Under(tmp_path, plan, {victim: "strays"})
    finish, lost = under.world._finish, [1]

    def hangs(one: dict[str, Any]) -> Any:
        if one is under.world.data["hosts"][victim] and lost[0]:
            lost[0] -= 1
            return None
        return finish(one)

    under.world._finish = hangs  # type: ignore[method-assign]
    state = under.until(lambda state: bool(state.trips) and not adoption.wanted(state))
    assert places(state)[victim] == "failed" and not lost[0]
    assert not under.world.data["hosts"][victim]["drained"]


def test_one_that_falls_silent_after_its_return_is_finished_when_it_is_back(tmp_path: Path) -> None:
    plan = restarted(thresholds=STRICT, late_for=2 * LONG)
    victim = plan.waves[1][0]
    under = Under(tmp_path, plan)
    finish, fell = under.world._finish, [0.0]

    def falls(one: dict[str, Any]) -> Any:
        if one is under.world.data["hosts"][victim] and not fell[0]:
            one["gone"], fell[0] = True, under.world.monotonic()
            return None
        return finish(one)

    def recovers(_now: float) -> None:
        if fell[0] and under.world.monotonic() > fell[0] + 3000:
            under.world.data["hosts"][victim]["gone"] = False

    under.world._finish, under.world.waited = falls, recovers  # type: ignore[method-assign]
    state = under.until(lambda state: bool(state.trips) and not adoption.wanted(state))
    assert state.trips[0].counter == "lost" and places(state)[victim] == "failed"
    assert not under.world.data["hosts"][victim]["drained"]


@pytest.mark.parametrize("drain", [True, False])
def test_who_did_not_come_back_is_said_with_what_is_still_away(tmp_path: Path, drain: bool) -> None:
    plan = restarted(**({} if drain else {"drain": None, "undrain": None}))
    lost, open_ = plan.waves[1][:2]
    world = new_world(tmp_path / "world.json", plan, {lost: "dies"})
    finish = world._finish
    world._finish = (  # type: ignore[method-assign]
        lambda one: None if one is world.data["hosts"][open_] else finish(one)
    )
    state = drive(begin(tmp_path / "rollouts", plan, world), world)
    texts = {name: state.hosts[name].text for name in (lost, open_)}
    assert "did not come back in time" in texts[lost] and "was not finished in time" in texts[open_]
    for text in texts.values():
        assert ("livepatch_restart.finish" in text and "still away" in text) is drain, text


def test_a_round_has_one_method_live_first(tmp_path: Path) -> None:
    """A bad live patch is not to wait for somebody's drain before it can be rolled back."""
    plan = mixed()
    methods = {one.minion: one.method for one in plan.hosts}
    world = new_world(tmp_path / "world.json", plan, {})
    directory = begin(tmp_path / "rollouts", plan, world)
    drive(directory, world)
    rounds = [
        [methods[name] for _, names in one.body["jobs"] for name in names]
        for one in journal.read(directory / journal.FILE_NAME)
        if one.type == Type.ROUND
    ]
    assert all(len(set(one)) == 1 for one in rounds)
    assert [one[0] for one in rounds[:2]] == [Method.LIVEPATCH, Method.KEXEC]


@pytest.mark.parametrize("arrive", [True, False])
def test_a_level_is_blocked_on_the_kernel_where_hosts_keep_it_too(tmp_path: Path, arrive: bool) -> None:
    """Else the next rollout would bring others there. Where nobody had it, nobody has seen it do harm."""
    plan = mixed()
    old = [name for name in (one.minion for one in plan.hosts) if name.startswith("old")]
    under = Under(tmp_path, plan, {} if arrive else dict.fromkeys(old, "fails"))
    if not arrive:
        under.paused()
        under.say("resume")  # without a canary by kexec
    under.end()
    under.say("rollback", block=True)
    state = under.end()
    assert {state.hosts[name].place for name in old} == {Place.NEEDS_REBOOT if arrive else Place.ROLLED_BACK}
    live = [[plan.options.level, build] for build in plan.grants]
    there = [[NEW_LEVEL, NEW_BUILD]] if arrive else []
    assert sorted(one[1:] for one in under.world.data["blocked"]) == sorted([*live, *there])


def test_it_does_not_end_while_one_that_came_back_late_is_finished(tmp_path: Path) -> None:
    """Every eligible host was said to be at its level, and this one may have been drained."""
    under = Under(tmp_path, mixed(late="report"))
    state = under.until(lambda state: state.phase is Phase.GATE and state.lap + 1 == len(state.plan.waves))
    now = Now(under.world.now(), state.t)
    ended = phases.advance(state, now)
    assert isinstance(ended, Write) and ended.body["state"] == Standing.COMPLETED
    state.put("old0", Place.RETURNED)
    assert phases.advance(state, now) == Rest("1 hosts in flight")
