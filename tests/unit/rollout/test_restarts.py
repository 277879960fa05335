"""Hosts that are started with another kernel: a rollout from start to end, each way of failing at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from livepatch_core.rollout import adoption, collect, status
from livepatch_core.rollout.fleet import Verb
from livepatch_core.rollout.model import Plan
from livepatch_core.rollout.state import Round, State
from livepatch_core.rollout.state import begin as new_state
from livepatch_core.rollout.states import Standing
from tests.unit.rollout.fleets import KERNEL, NEW_BUILD, NEW_LEVEL, fleet, host, plan_of, uncovered
from tests.unit.rollout.simulated import BOOT, LONG, RESTART_WAYS, World, begin, drive, new_world, places
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
    "bare": ("failed", "internal"),
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
    assert state.standing is (Standing.COMPLETED if place == "healthy" else Standing.EXCEPTIONS)
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
    assert places(state)[victim] == "already_ok"
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


def test_no_level_for_the_new_kernel(tmp_path: Path) -> None:
    """That it runs is enough only where somebody said so."""
    hosts = [host(f"hv{number}", kernel=KERNEL) for number in range(3)]
    given = {**OPTIONS, "method": "kexec"}
    plan = plan_of(hosts, given, arrivals={})
    assert not plan.waves and all("see without_level" in one.reason for one in plan.hosts)
    plan = plan_of(hosts, {**given, "without_level": "accept"}, arrivals={})
    world = new_world(tmp_path / "world.json", plan, {})
    finish = world._finish

    def bare(one: dict[str, Any]) -> Any:
        answer = finish(one)
        one.update(level=0, moved=False)
        look = {**world._seen(one), "verdict": "uncovered"}
        return {**answer, "return": {**answer["return"], "look": look}}

    world._finish = bare  # type: ignore[method-assign]
    state = drive(begin(tmp_path / "rollouts", plan, world), world)
    assert set(places(state).values()) == {"healthy"}
