from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings

from livepatch_core.rollout.model import HostFacts
from livepatch_core.rollout.plandoc import plan_hash, rollout_id
from livepatch_core.rollout.plantext import as_text, duration
from tests.unit.rollout.fleets import LEVEL, fleet, host, plan_of, some_hosts, some_options

COUNT = re.compile(r" *(\d+)  (\S.*)")


def section(text: str, title: str) -> list[str]:
    (found,) = (part for part in text.split("\n\n") if part.startswith(title))
    return found.splitlines()[1:]


@given(some_hosts(), some_options())
def test_groups_sum_up_to_those_targeted(hosts: list[HostFacts], options: dict[str, Any]) -> None:
    counts = [
        found
        for line in section(as_text(plan_of(hosts, options)), "HOSTS")
        if (found := COUNT.fullmatch(line))
    ]
    assert counts[-1][2] == "targeted"
    assert sum(int(found[1]) for found in counts[:-1]) == int(counts[-1][1]) == len(hosts)


@settings(max_examples=30)
@given(some_hosts(), some_options())
def test_text_fits_and_is_the_same_again(hosts: list[HostFacts], options: dict[str, Any]) -> None:
    plan = plan_of(hosts, options)
    text = as_text(plan, 80)
    assert text == as_text(plan, 80)
    assert max(map(len, text.splitlines())) <= 80
    assert plan_hash(plan) in text
    assert rollout_id(plan) in text


def test_limits_stand_there_as_integers_that_are_exceeded() -> None:
    text = as_text(plan_of(fleet(100), {"thresholds": {"failed": "10%"}, "waves": ["50%", "100%"]}))
    assert "as soon as one of these numbers exceeds" in text
    rows = [line.split() for line in section(text, "LIMITS")]
    assert ["canaries", "0", "0", "0", "0"] in rows
    assert ["wave", "2", "5", "2", "5", "0"] in rows
    assert ["in", "all", "10", "5", "5", "0"] in rows
    assert "Then the wave is rolled back where that is the canaries', else it pauses." in text


def test_times_are_of_the_zone_asked_for_or_of_the_window() -> None:
    night = {"zone": "Europe/Berlin", "days": "sat", "start": "22:00", "end": "04:00"}
    plan = plan_of(fleet(40), {"windows": [night]})
    assert "Sat 2026-11-28 22:00 CET" in as_text(plan)
    assert "Sat 2026-11-28 16:00 EST" in as_text(plan, zone="America/New_York")
    assert "waves begin only in the window sat 22:00-04:00 Europe/Berlin" in as_text(plan)
    assert "Tue 2026-11-24 12:00 UTC" in as_text(plan_of(fleet(40)))


def test_exposure_accepted_is_proved() -> None:
    text = " ".join(as_text(plan_of(fleet(40), {"exposure": {"detection": "90m", "hosts": 5}})).split())
    assert "Accepted: 5 hosts for a fault that shows within 1 h 30 min. Kept: every soak" in text
    assert "4 <= 5." in text
    slow = {"exposure": {"detection": "20m", "hosts": 39}, "soak": "15m", "waves": ["50%", "100%"]}
    text = " ".join(as_text(plan_of(fleet(40), slow)).split())
    assert "Kept:" in text


def test_every_reason_is_there_with_who_it_is_about() -> None:
    hosts = [*fleet(3), *(host(f"gone{number:02}", seen=False, online=False) for number in range(20))]
    lines = section(as_text(plan_of(hosts), 200), "HOSTS")
    assert any("gone00, gone01" in line and "and 8 more" in line for line in lines)


def test_what_nobody_tries_first_is_said() -> None:
    text = as_text(plan_of([*fleet(3), host("away", online=False, role="network")]))
    assert "NO CANARY for kernel build" in text
    assert "role network: 1 offline" in text


def test_nothing_to_do_is_said() -> None:
    text = as_text(plan_of([host("a", level=LEVEL)]))
    assert "no host is eligible" in text
    assert "LIMITS" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (45, "45 s"), (900, "15 min"), (5400, "1 h 30 min"), (90_061, "1 d 1 h"), (3605, "1 h 5 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
