"""A rollout from start to end over simulated hosts, each way of failing at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from livepatch_core.rollout import status
from livepatch_core.rollout.model import Plan
from livepatch_core.rollout.states import Standing
from tests.unit.rollout.fleets import fleet, plan_of
from tests.unit.rollout.simulated import World, begin, drive, new_world, places

TOLERANT = {name: {"wave": 100, "total": 100} for name in ("failed", "stalled", "unreachable", "lost")}
OPTIONS: dict[str, Any] = {
    "seed": 7,
    "waves": ["50%", "100%"],
    "canary_soak": 600,
    "soak": 300,
    "look_every": 60,
    "max_per_domain": 100,
    "late_for": 1800,
    "thresholds": TOLERANT,
}


def a_plan(count: int = 8, **changes: Any) -> Plan:
    return plan_of(fleet(count, domains=2), {**OPTIONS, **changes})


def run(tmp_path: Path, plan: Plan, ways: dict[str, str] | None = None) -> tuple[Any, World]:
    world = new_world(tmp_path / "world.json", plan, ways or {})
    directory = begin(tmp_path / "rollouts", plan, world)
    state = drive(directory, world)
    assert sum(status.document(state, world.now())["counts"].values()) == len(plan.hosts)
    assert status.document(status.read(directory), 0.0)["counts"] == status.document(state, 0.0)["counts"]
    return state, world


def test_all_is_well(tmp_path: Path) -> None:
    state, world = run(tmp_path, a_plan())
    assert state.standing is Standing.COMPLETED
    assert set(places(state).values()) == {"healthy"}
    assert all(host["level"] == 2 and len(host["commands"]) == 1 for host in world.data["hosts"].values())
    assert world.monotonic() >= 600 + 2 * 300


ENDS = {
    "refuses": ("failed", "quarantined"),
    "deaf": ("unreachable", ""),
    "late": ("healthy", ""),
    "fails": ("failed", "conflict"),
    "stalls": ("stalled", "reversed"),
    "jams": ("stalled", "stalled"),
    "dies": ("lost_after_patch", ""),
    "reboots": ("lost_after_patch", "health"),
    "quiet": ("healthy", ""),
    "slow": ("healthy", ""),
    "misses": ("healthy", ""),
    "misses all": ("failed", "internal"),
    "garbage": ("healthy", ""),
    "busy": ("healthy", ""),
    "sickens": ("failed", "health"),
    "leaves": ("failed", "drift"),
    "falls": ("lost_after_patch", ""),
    "stuck": ("healthy", ""),
}


@pytest.mark.parametrize("way", ENDS)
def test_what_becomes_of_a_host(tmp_path: Path, way: str) -> None:
    plan = a_plan()
    victim = plan.waves[1][0]
    state, world = run(tmp_path, plan, {victim: way})
    place, kind = ENDS[way]
    assert (places(state)[victim], state.hosts[victim].kind) == (place, kind)
    wanted = Standing.COMPLETED if place == "healthy" else Standing.EXCEPTIONS
    assert state.standing is wanted
    others = {name: one for name, one in places(state).items() if name != victim}
    assert set(others.values()) == {"healthy"}


def test_a_host_is_told_again_only_what_it_did_not_get(tmp_path: Path) -> None:
    plan = a_plan()
    missing, quiet = plan.waves[1][:2]
    _, world = run(tmp_path, plan, {missing: "misses", quiet: "quiet"})
    commands = {name: host["commands"] for name, host in world.data["hosts"].items()}
    assert world.data["hosts"][missing]["sent"] == 2 and len(commands[missing]) == 1
    assert len(commands[quiet]) == 1


def test_a_bad_level_stops_at_the_canary_and_is_undone(tmp_path: Path) -> None:
    strict = {**TOLERANT, "lost": {"wave": 0, "total": 0}}
    plan = a_plan(thresholds=strict, on_fail_canary="rollback_wave", block_on_rollback=True)
    canaries = plan.waves[0]
    state, world = run(tmp_path, plan, {canaries[0]: "falls"})
    assert state.standing is Standing.ROLLED_BACK
    assert places(state)[canaries[0]] == "lost_after_patch"
    assert all(places(state)[name] == "rolled_back" for name in canaries[1:])
    assert all(one == "pending" for name, one in places(state).items() if name not in canaries)
    assert all(host["level"] == 1 for name, host in world.data["hosts"].items() if name != canaries[0])
    builds = sorted(state.plan.grants)
    assert world.data["blocked"] == [[f"{state.id}/block", 2, build] for build in builds]


def test_hosts_that_cannot_go_back_are_said(tmp_path: Path) -> None:
    strict = {**TOLERANT, "failed": {"wave": 0, "total": 0}}
    plan = a_plan(thresholds=strict, on_fail_canary="rollback_all", on_fail="rollback_all")
    bad, stuck = plan.waves[1][0], plan.waves[0][0]
    state, world = run(tmp_path, plan, {bad: "fails", stuck: "stuck"})
    assert state.standing is Standing.ROLLBACK_FAILED
    assert places(state)[stuck] == "needs_reboot"
    moved = [name for name in (*plan.waves[0], *plan.waves[1]) if name != stuck]
    assert {places(state)[name] for name in moved} == {"rolled_back"}


@pytest.mark.parametrize(("failing", "standing"), [(1, Standing.EXCEPTIONS), (2, Standing.PAUSED)])
@pytest.mark.parametrize("scope", ["wave", "total"])
def test_a_limit_is_exceeded_not_reached(
    tmp_path: Path, scope: str, failing: int, standing: Standing
) -> None:
    limit = {"wave": 100, "total": 100, scope: 1}
    plan = a_plan(thresholds={**TOLERANT, "failed": limit})
    world = new_world(tmp_path / "world.json", plan, dict.fromkeys(plan.waves[1][:failing], "fails"))
    directory = begin(tmp_path / "rollouts", plan, world)
    state = drive(directory, world, lambda state: state.standing is Standing.PAUSED)
    assert state.standing is standing
    assert [(trip.counter, trip.scope, trip.number, trip.limit) for trip in state.trips] == (
        [("failed", scope, 2, 1)] if failing == 2 else []
    )
