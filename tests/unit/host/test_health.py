"""Samples compared: only what got worse fails, and what could not be read is never a pass."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.host.check_answer import matches
from livepatch_core.host.health import judge
from livepatch_core.host.probes import FAULT, Sample, parse_sample
from livepatch_core.words import CheckVerdict

WELL = Sample("boot", 0, 100, (), {"sshd": "active"}, {"site.well": (True, "True")})
OOPS = "BUG: unable to handle page fault for address: ffffc90000000000"
FAIL, PASS, UNCLEAR = CheckVerdict.FAIL, CheckVerdict.PASS, CheckVerdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, PASS),
        ({"boot_id": "other"}, FAIL),
        ({"boot_id": None}, UNCLEAR),
        ({"faults": ((101, OOPS),)}, FAIL),
        ({"faults": ((99, OOPS),)}, PASS),
        ({"last": None}, UNCLEAR),
        ({"taint": 1 << 7}, FAIL),
        ({"taint": (1 << 15) | (1 << 12) | (1 << 13)}, PASS),  # what loading an unsigned livepatch sets
        ({"taint": None}, UNCLEAR),
        ({"services": {"sshd": "failed"}}, FAIL),
        ({"services": {"sshd": None}}, UNCLEAR),
        ({"functions": {"site.well": (False, "no")}}, FAIL),
        ({"functions": {"site.well": (None, "no minion")}}, UNCLEAR),
    ],
)
def test_verdicts(change: dict[str, Any], verdict: CheckVerdict) -> None:
    assert judge(WELL, replace(WELL, **change)).verdict is verdict


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_fault_fails_exactly_when_it_is_new(last: int, number: int) -> None:
    seen = judge(replace(WELL, last=last), replace(WELL, faults=((number, OOPS),)))
    assert (seen.verdict is FAIL) == (number > last)


def test_what_was_ill_before_is_not_the_moves_doing() -> None:
    ill = replace(WELL, services={"sshd": "failed"}, functions={"site.well": (False, "no")})
    assert judge(ill, ill).verdict is UNCLEAR


def test_a_sample_survives_being_written_down() -> None:
    assert parse_sample(WELL.document()) == WELL


@pytest.mark.parametrize(
    "line",
    [
        OOPS,
        "WARNING: CPU: 0 PID: 169 at kernel/x.c:1 f+0x1/0x2 [lp_2]",
        "Oops: 0002 [#1] PREEMPT SMP NOPTI",
        "kernel BUG at mm/slub.c:435!",
        "INFO: task kworker/0:1:12 blocked for more than 120 seconds.",
        "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [x:1]",
    ],
)
def test_lines_that_report_a_fault(line: str) -> None:
    assert re.match(FAULT, line)


@pytest.mark.parametrize("line", ["livepatch: 'lp_2': patching complete", "lp: loading out-of-tree module"])
def test_lines_that_do_not(line: str) -> None:
    assert not re.match(FAULT, line)


@pytest.mark.parametrize(
    ("probe", "answer", "good"),
    [
        ({}, {"any": 1}, True),
        ({}, "", False),
        ({"equals": 3}, 3, True),
        ({"contains": "0% loss"}, "5 sent, 0% loss", True),
        ({"contains": "x"}, 3, False),
        ({"below": 5, "above": 1}, 3, True),
        ({"below": 5}, 5, False),
        ({"below": 5}, "3", False),
        ({"above": 0}, True, False),
    ],
)
def test_predicates(probe: dict[str, Any], answer: Any, good: bool) -> None:
    assert matches(probe, answer) is good
