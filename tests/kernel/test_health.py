"""A level that turns out to be bad: found by the checks during its soak, and reverted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.machine import Machine
from tests.kernel.conftest import Start

pytestmark = pytest.mark.kernel

SETTINGS: dict[str, Any] = {"soak": 0.1}


def test_an_oops_in_the_soak_reverts(start: Start, modules: dict[str, Path]) -> None:
    host = start(Machine(oops_panics=False))
    host.publish({1: modules["lp_oops"]})
    applied = host.to_level(1, settings=SETTINGS)
    assert applied["result"] is True
    assert applied["health"]["verdict"] == "pass"
    assert host.ask("health")["verdict"] == "pass"

    assert host.guest.exec("cat /proc/version").rc != 0
    assert host.ask("health")["verdict"] == "fail"
    reverted = host.ask("tick", settings=SETTINGS)
    assert (reverted["result"], reverted["kind"]) == (False, "health")
    log = next(one for one in reverted["health"]["findings"] if one["name"] == "kernel-log")
    assert "kernel BUG at" in "".join(log["evidence"])
    assert host.patches() == []
    assert host.guest.exec("cat /proc/version").rc == 0

    status = host.status()
    assert (status["level"], status["armed"]) == (0, None)
    assert status["approved"]["by_hand"]["level"] == 0


def test_a_level_that_stays_well_is_proven(start: Start, modules: dict[str, Path]) -> None:
    host = start()
    host.publish({1: modules["lp_level_1"]})
    host.to_level(1, settings=SETTINGS)
    assert host.status()["armed"]["level"] == 1
    assert host.ask("persist", settings=SETTINGS)["changes"] == {"persisted": {"old": 0, "new": 1}}
    assert "counts as proven" in host.ask("tick", settings=SETTINGS)["comment"]
    assert host.status()["armed"] is None
    again = host.ask("persist", settings=SETTINGS)
    assert (again["result"], again["changes"]) == (True, {})
    # kept, and said to be of no use: nothing here runs at boot
    assert host.status()["next_boot"]["why"] == "level 1 is kept, but the boot unit is not enabled"
