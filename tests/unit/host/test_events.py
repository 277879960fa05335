"""What the master is told: of each act that changed something, of each crash once, and of nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.host import events, persist, quarantine, told
from livepatch_core.host.byhand import Order
from livepatch_core.host.outcome import Outcome
from livepatch_core.host.quarantine import Ward, Warded
from livepatch_core.words import OnStall
from tests.unit.host.boundaries import Boundaries
from tests.unit.host.world import World

WHO = {"user": "sudo_alice", "jid": "20261124", "id": "hv1"}
CRASH = Warded(
    "ab" * 32, 2, "aa" * 20, Ward.QUARANTINED, "the kernel crashed", "2026-11-24T10:00:00Z", ("x",) * 12
)


def event(world: World, act: str, outcome: Outcome) -> events.Event | None:
    told_of = events.of_act(act, outcome, WHO)
    if told_of is not None:
        assert told_of.tag == f"salt/livepatch/host/hv1/{act}"
        assert len(json.dumps(dict(told_of.data))) < 1500  # plain data, and small
    return told_of


def test_each_change_is_told_once(world: World) -> None:
    first = event(world, "apply", world.apply(1))
    assert first is not None
    assert first.data["changes"] == {"level": {"old": 0, "new": 1}}
    assert first.data["journal"]["seq"] == 1
    assert (first.data["result"], first.data["user"], first.data["jid"]) == (True, "sudo_alice", "20261124")
    assert event(world, "apply", world.apply(1)) is None
    assert event(world, "apply", world.apply(2, test=True)) is None
    assert event(world, "revert", world.revert()) is not None


def test_a_refusal_is_not_told(world: World) -> None:
    assert event(world, "apply", world.apply(9)) is None
    assert event(world, "apply", world.apply(approval={"error": "x"})) is None


def test_a_load_that_was_reversed_is_told(world: World) -> None:
    """The kernel is as it was, and yet something happened: it stands in the journal."""
    world.kernel.stalls.add(("lp_1", True))
    outcome = world.apply(1)
    assert outcome.changes == {}
    reversed_ = event(world, "apply", outcome)
    assert reversed_ is not None
    assert (reversed_.data["result"], reversed_.data["kind"]) == (False, "reversed")


def test_force_and_quarantine_are_told(world: World) -> None:
    world.options["allow_force"] = True
    world.kernel.stalls.add(("lp_1", True))
    world.apply(1, on_stall=OnStall.KEEP)
    forced = event(world, "force", world.force("lp_1"))
    assert forced is not None
    assert forced.data["changes"]["forced"] == {"old": None, "new": "lp_1"}
    put = event(world, "quarantine", persist.put_in_quarantine(world.host, 2, Order("stalls")))
    gone = event(world, "release", persist.release(world.host, 2, Order("innocent")))
    assert put is not None
    assert gone is not None
    assert (put.data["changes"], gone.data["changes"]) == (
        {"quarantine": {"old": None, "new": 2}},
        {"quarantine": {"old": 2, "new": None}},
    )


def test_a_crash_is_told_once(world: World) -> None:
    sent: list[Warded] = []
    quarantine.add(world.host, CRASH)
    persist.put_in_quarantine(world.host, 1, Order("stalls"))  # told by the act itself
    assert told.tell(world.host, lambda one: not sent.append(one)) == (CRASH,)
    assert told.tell(world.host, lambda one: not sent.append(one)) == ()
    assert sent == [CRASH]
    again = replace(CRASH, at="2026-11-25T10:00:00Z")  # released, and down once more
    quarantine.add(world.host, again)
    assert told.tell(world.host, lambda one: not sent.append(one)) == (again,)
    data = events.of_crash(again, WHO).data
    assert (data["level"], data["ward"], len(data["evidence"])) == (2, "quarantined", events.EVIDENCE)


def test_what_could_not_be_sent_waits(world: World) -> None:
    quarantine.add(world.host, CRASH)
    assert told.tell(world.host, lambda one: False) == ()
    assert told.tell(world.host, lambda one: True) == (CRASH,)


def test_a_full_disk_sends_nothing_again_and_again(world: World) -> None:
    quarantine.add(world.host, CRASH)
    sent: list[Warded] = []
    with Boundaries(at=0, full=True).around(), pytest.raises(LivepatchError):
        told.tell(world.host, lambda one: not sent.append(one))
    assert sent == []
