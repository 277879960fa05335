"""Verbs that go around levels, and reversing: refused without opt-in and reason, predicted truly."""

from __future__ import annotations

import errno
import shutil
from typing import Any

import pytest

from livepatch_core.host import byhand, change, inquiry
from livepatch_core.host.byhand import Order
from livepatch_core.kernel import control
from livepatch_core.words import Kind, OnStall
from tests.unit.host.boundaries import Killed
from tests.unit.host.fakekernel import module
from tests.unit.host.world import World


@pytest.fixture
def open_world(world: World) -> World:
    world.options.update(allow_load=True, allow_force=True)
    return world


def stalled(world: World, level: int = 1) -> None:
    world.kernel.stalls.add((f"lp_{level}", True))
    world.apply(level, on_stall=OnStall.KEEP)


def test_each_needs_the_opt_in(world: World) -> None:
    stalled(world)
    changed = list(world.kernel.changed)
    for outcome in (world.load(module("raw")), world.unload("lp_1"), world.force("lp_1")):
        assert outcome.kind is Kind.FORBIDDEN
    assert world.kernel.changed == changed


@pytest.mark.parametrize("reason", [None, "", "  ", 3])
def test_each_needs_a_reason(open_world: World, reason: Any) -> None:
    host, order = open_world.host, Order(reason)
    for act in (
        lambda: byhand.load(host, b"", order),
        lambda: byhand.unload(host, "x", order),
        lambda: byhand.force(host, "x", order),
        lambda: byhand.adopt_ledger(host, "x", 0, order),
    ):
        assert World.outcome(act).kind is Kind.ARGUMENT
    assert open_world.journal == []


def test_raw_load_and_unload(open_world: World) -> None:
    world = open_world
    for act in (lambda test: world.load(module("raw"), test), lambda test: world.unload("raw", test)):
        predicted = act(True)
        done = act(False)
        assert (predicted.result, done.result) == (None, True), done.comment
        assert predicted.changes == done.changes
    assert (world.patches, dict(world.kernel.modules)) == ([], {})
    assert [line["reason"] for line in world.journal] == ["a test", "a test"]


def test_unload_of_the_upper_one_comes_back_to_the_level(open_world: World) -> None:
    world = open_world
    world.apply(1)
    # Beside level 1, not in its place: put there past preflight, which refuses what is not cumulative.
    upper = module("upper", replace=False, objects=())
    world.kernel.init_module(world.kernel.make(upper))
    world.kernel.settle()
    predicted, done = world.unload("upper", test=True), world.unload("upper")
    assert predicted.changes == done.changes
    assert world.patches == ["lp_1"]


def test_unload_takes_no_driver(open_world: World) -> None:
    world = open_world
    world.kernel.modules["loop"] = module("loop")
    (world.kernel.directory / "proc/modules").write_text("loop 16384 0 - Live 0x0\n")
    assert world.unload("loop").kind is Kind.NOT_LIVEPATCH
    assert "loop" in world.kernel.modules


def test_force_needs_the_running_transition(open_world: World) -> None:
    open_world.apply(1)
    outcome = open_world.force("lp_1")
    assert outcome.kind is Kind.ARGUMENT
    assert open_world.record.forced == ()


def test_force_that_the_kernel_refuses_owes_no_reboot(
    open_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled(open_world)

    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "it has just ended")

    monkeypatch.setattr("livepatch_core.kernel.control.write_force", refuse)
    assert open_world.force("lp_1").result is False
    assert open_world.record.forced == ()


def test_force_predicts_marks_and_refuses_more(open_world: World) -> None:
    world = open_world
    stalled(world)
    predicted = world.force("lp_1", test=True)
    assert world.record.forced == ()
    done = world.force("lp_1")
    assert (done.result, done.changes["forced"]) == (True, predicted.changes["forced"])
    assert world.journal[-1]["act"] == "force"
    assert world.journal[-1]["evidence"] == []  # the stand-in has no tasks
    assert world.apply(2).kind is Kind.REBOOT_OWED
    assert world.apply(0).result is True  # the way out stays open


def test_evidence_is_durable_before_the_kernel_is_told(
    open_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = open_world
    stalled(world)
    task = world.kernel.directory / "proc/77/task/77"
    task.mkdir(parents=True)
    (task / "patch_state").write_text("0\n")
    (task / "stat").write_text("77 (sleeper) D 1 1 1 0 -1 0 0\n")
    (task / "stack").write_text("[<0>] meminfo_proc_show+0x1/0x2\n[<0>] seq_read+0x1/0x2\n")
    (task / "cgroup").write_text("0::/system.slice/cron.service\n")
    (task / "comm").write_text("sleeper\n")
    known: list[tuple[str, ...]] = []

    def force(roots: object, patch: str) -> None:
        assert world.record.intent is not None
        known.append(world.record.intent.evidence)
        FakeForce(world.kernel.roots, patch)

    FakeForce = world.kernel.write_force
    monkeypatch.setattr("livepatch_core.kernel.control.write_force", force)
    assert world.force("lp_1").result is True
    assert "meminfo_proc_show" in known[0][0]
    assert "seq_read" in world.journal[-1]["evidence"][0]


@pytest.mark.parametrize(
    ("ledger", "rev"), [("", 0), (None, 0), (3, 0), ("b", -1), ("b", True), ("b", "1"), ("b", None)]
)
def test_adopt_takes_no_nonsense(world: World, ledger: object, rev: object) -> None:
    outcome = World.outcome(lambda: byhand.adopt_ledger(world.host, ledger, rev, Order("r")))
    assert outcome.kind is Kind.ARGUMENT


# -- reverting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [None, 0, 1, 2])
@pytest.mark.parametrize("up", [True, False])
def test_reversing_a_transition_is_predicted_truly(world: World, up: bool, level: int | None) -> None:
    world.apply(1)
    direction = ("lp_2", True) if up else ("lp_1", False)
    world.kernel.stalls.add(direction)
    world.apply(2 if up else 0, on_stall=OnStall.KEEP)
    before = world.record, list(world.kernel.changed)
    predicted = world.revert(level, test=True)
    assert (world.record, world.kernel.changed) == before
    world.kernel.stalls.add(("lp_2", False))  # must not matter: the reversal goes the other way
    world.kernel.stalls.clear()
    done = world.revert(level)
    assert (predicted.result, done.result) == (None, True), done.comment
    assert predicted.changes == done.changes
    assert world.patches == ([] if level == 0 else [f"lp_{1 if level is None else level}"])


def test_reversed_by_hand_is_held_even_if_the_process_dies_at_once(world: World) -> None:
    """The hold is durable before the kernel is told, or the next highstate would go on to level 2."""
    world.apply(approval=world.approval(1, 1))
    world.kernel.stalls.add(("lp_2", True))
    world.apply(approval=world.approval(2, 2), on_stall=OnStall.KEEP)
    world.kernel.stalls.clear()
    real = world.kernel.write_enabled

    def die(*arguments: Any) -> None:
        real(*arguments)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("livepatch_core.kernel.control.write_enabled", die)
        with pytest.raises(Killed):
            world.revert(reason="customers see stalls")
    world.kernel.settle()
    held = world.record.by_hand
    assert held is not None
    assert (held.level, held.above_rev) == (1, 2)
    assert world.apply(approval=world.approval(2, 2)).kind is Kind.SUPERSEDED
    assert world.apply(approval=world.approval(3, 2)).result is True


def ends_before_it_is_reversed(world: World, monkeypatch: pytest.MonkeyPatch, looked: bool) -> None:
    """Level 2 is in transition over level 1; it ends before the last look, or in the instant after it."""
    kernel = world.kernel
    world.apply(approval=world.approval(1, 1))
    kernel.stalls.add(("lp_2", True))
    world.apply(approval=world.approval(2, 2), on_stall=OnStall.KEEP)
    owner: Any = control if looked else change
    name = "write_enabled" if looked else "write_record"
    real = getattr(owner, name)

    def late(*arguments: Any) -> None:
        kernel.stalls.clear()
        kernel.settle()
        real(*arguments)

    monkeypatch.setattr(owner, name, late)


def test_a_level_that_the_lost_record_knew_is_one_beside_a_module_by_hand(
    open_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told by the catalog, as for apply and status: no override of takeover is needed."""
    world, raw = open_world, module("raw")
    monkeypatch.setattr(inquiry, "read_module", lambda data: world.kernel.images[data])
    data = world.kernel.make(raw)
    assert world.apply(1).result is True
    shutil.rmtree(world.host.settings.state_dir)
    checked = inquiry.preflight_file(world.host, data, ())
    assert checked["result"] is True, checked["comment"]
    assert world.load(raw).result is True
    assert world.patches == ["raw"]


def test_what_ended_before_it_was_reversed_stays_in_force(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_before_it_is_reversed(world, monkeypatch, looked=False)
    outcome = world.revert()
    assert (outcome.result, outcome.kind, outcome.changes) == (False, Kind.ARGUMENT, {})
    assert "ended before it could be reversed" in outcome.comment
    assert world.patches == ["lp_2"]
    assert (world.record.by_hand, world.record.intent) == (None, None)
    assert world.journal[-1]["act"] == "load"


@pytest.mark.parametrize("level", [0, 1, None])
def test_what_ended_before_it_was_reversed_is_reverted_where_a_level_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch, level: int | None
) -> None:
    ends_before_it_is_reversed(world, monkeypatch, looked=False)
    outcome = world.revert(level, approval=None if level is not None else world.approval(3, 1))
    assert outcome.result is True, outcome.comment
    assert outcome.changes["level"]["old"] == 2
    assert world.patches == ([] if level == 0 else ["lp_1"])


def test_a_load_that_was_disabled_instead_of_reversed_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its operator wants to be at is held all the same: not the level that he wanted to be rid of."""
    ends_before_it_is_reversed(world, monkeypatch, looked=True)
    outcome = world.revert()
    assert (outcome.result, outcome.kind) == (False, Kind.STALLED)
    assert outcome.changes["level"] == {"old": None, "new": 0}
    assert "lp_1, which it had replaced, did not come back" in outcome.comment
    assert world.journal[-1]["ending"] == "overshot"
    assert (world.patches, dict(world.kernel.modules)) == ([], {})
    assert world.apply(approval=world.approval(2, 2)).kind is Kind.SUPERSEDED
    assert world.apply(1).result is True


@pytest.mark.parametrize("level", [0, 1, None])
def test_a_load_that_was_disabled_instead_of_reversed_goes_on_where_a_level_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch, level: int | None
) -> None:
    ends_before_it_is_reversed(world, monkeypatch, looked=True)
    outcome = world.revert(level, approval=None if level is not None else world.approval(3, 1))
    assert (outcome.result, outcome.kind) == (True, None), outcome.comment
    assert "lp_1, which it had replaced, did not come back" in outcome.comment
    assert "Apply the level that you want" not in outcome.comment
    assert outcome.changes["level"] == {"old": None, "new": level if level is not None else 1}
    assert world.patches == ([] if level == 0 else ["lp_1"])
    held = world.record.by_hand
    assert (held and held.level) == level


def test_reversing_needs_a_reason_or_an_approval(world: World) -> None:
    stalled(world)
    changed = list(world.kernel.changed)
    assert world.revert(reason=None).kind is Kind.UNAPPROVED
    assert world.revert(reason=None, approval={"error": "no ledger"}).kind is Kind.UNAPPROVED
    assert world.kernel.changed == changed


def test_reversed_and_then_refused_says_both(world: World) -> None:
    world.apply(1)
    world.kernel.stalls.add(("lp_1", False))
    world.apply(0, on_stall=OnStall.KEEP)
    world.kernel.stalls.clear()
    outcome = world.revert(level=9)
    assert outcome.kind is Kind.CATALOG
    assert "was reversed" in outcome.comment
    assert outcome.changes == {"level": {"old": None, "new": 1}}


def test_a_foreign_transition_is_told_apart_from_ours(world: World) -> None:
    """The intent of a dead process must not be journaled as what somebody else has in transition."""
    other = module("other")
    world.kernel.init_module(world.kernel.make(other))
    world.kernel.stalls.add(("other", True))
    assert world.apply(1).kind is Kind.BUSY
    assert world.journal == []
    world.kernel.stalls.clear()
    world.kernel.settle()
    outcome = world.apply(0)
    assert outcome.result is True
    assert "other was not loaded by this project and was left alone" in outcome.comment
    assert world.patches == ["other"]
