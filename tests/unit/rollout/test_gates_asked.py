"""Whom the gates of a running rollout are asked about, and for what an operator's word counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from livepatch_core.rollout import status
from livepatch_core.rollout.states import Place, Standing
from tests.unit.rollout.fleets import host, plan_of
from tests.unit.rollout.simulated import places
from tests.unit.rollout.test_commands import Under
from tests.unit.rollout.test_engine import OPTIONS
from tests.unit.rollout.test_engine_world import PING

LOAD = {**PING, "name": "load", "predicate": {"op": "<=", "value": "10%"}, "twin": True}


def of_one_stratum(**changes: Any) -> Any:
    hosts = [host(f"hv{number}") for number in range(8)]
    return plan_of(hosts, {**OPTIONS, "on_fail_canary": "pause", **changes})


def test_a_host_that_is_patched_is_no_twin(tmp_path: Path) -> None:
    """Tried again it waits as one that was never told, and is as sick as those that are compared with it."""
    plan = of_one_stratum(gates=[LOAD], parallel=1, canaries_per_stratum=3)
    under = Under(tmp_path, plan)
    hosts = under.world.data["hosts"]
    under.world.values = lambda name, fun: 100 if hosts[name]["level"] == 1 else 500
    first = plan.waves[0][0]
    under.until(lambda state: state.hosts[first].place is Place.FAILED)
    under.say("retry")
    state = under.until(lambda state: state.lap > 0 or state.standing is Standing.PAUSED)
    assert {places(state)[name] for name in plan.waves[0][1:]} == {"failed"}
    asked = [one for one in status.history(under.directory) if one["type"] == "ask"]
    twins = {twin for one in asked for twin in one["twins"].values()}
    assert twins and first not in twins
