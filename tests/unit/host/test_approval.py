"""The approval rule: the highest rev wins in every interleaving, and nothing moves without an approval."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livepatch_core.errors import LivepatchError
from livepatch_core.host import byhand
from livepatch_core.host.approval import Approval, Grant, accept, by_hand, judge, parse_approval
from livepatch_core.host.journal import JournalState
from livepatch_core.host.lock import exclusive
from livepatch_core.host.record import Record
from livepatch_core.host.settings import Policy
from livepatch_core.words import Kind, OnStall
from tests.unit.host.boundaries import Boundaries, Killed
from tests.unit.host.conftest import levels
from tests.unit.host.fakekernel import BUILD_ID
from tests.unit.host.world import World, build_world

OTHER_BUILD = "bb" * 20


def approval(rev: int, level: int = 1, ledger: str = "a", build: str = BUILD_ID) -> Approval:
    return Approval(ledger, rev, {build: Grant(level, "0" * 64 if level else None)})


def kind(act: Any) -> Kind:
    with pytest.raises(LivepatchError) as caught:
        act()
    return caught.value.kind


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [],
        "3",
        {"error": "the ledger is locked"},
        {"ledger_id": "a", "rev": 0, "builds": {}},
        {"ledger_id": "a", "rev": True, "builds": {}},
        {"ledger_id": "a", "rev": "3", "builds": {}},
        {"ledger_id": "", "rev": 3, "builds": {}},
        {"ledger_id": "a", "rev": 3},
        {"ledger_id": "a", "rev": 3, "builds": {BUILD_ID: 2}},
        {"ledger_id": "a", "rev": 3, "builds": {BUILD_ID: {"level": 2}}},
        {"ledger_id": "a", "rev": 3, "builds": {BUILD_ID: {"level": 2, "sha256": "F" * 64}}},
        {"ledger_id": "a", "rev": 3, "builds": {BUILD_ID: {"level": -1, "sha256": "0" * 64}}},
        {"ledger_id": "a", "rev": 3, "builds": {BUILD_ID: {"level": True, "sha256": "0" * 64}}},
    ],
)
def test_what_is_no_approval_means_hold(value: object) -> None:
    assert kind(lambda: parse_approval(value)) is Kind.UNAPPROVED


def test_an_approval_is_read() -> None:
    document = {"ledger_id": "a", "rev": 3, "builds": {BUILD_ID: {"level": 0}, OTHER_BUILD: {"level": 0}}}
    assert parse_approval(document).builds[BUILD_ID] == Grant(0, None)


def test_what_wins() -> None:
    record = accept(approval(5), Record())
    assert kind(lambda: judge(approval(4), record, BUILD_ID)) is Kind.SUPERSEDED
    assert kind(lambda: judge(approval(5, level=2), record, BUILD_ID)) is Kind.SUPERSEDED
    assert kind(lambda: judge(approval(9, ledger="b"), record, BUILD_ID)) is Kind.FOREIGN_LEDGER
    assert judge(approval(5), record, BUILD_ID)[0].level == 1
    assert judge(approval(6, level=0), record, BUILD_ID)[0].level == 0


def test_one_that_names_no_level_here_outranks_older_ones() -> None:
    silent = approval(6, build=OTHER_BUILD)
    record = accept(silent, accept(approval(5), Record()))
    assert kind(lambda: judge(silent, record, BUILD_ID)) is Kind.UNAPPROVED
    assert kind(lambda: judge(approval(5), record, BUILD_ID)) is Kind.SUPERSEDED


def test_by_hand_holds_until_a_higher_rev() -> None:
    _, record = by_hand(2, "a fault", accept(approval(5), Record()), BUILD_ID)
    assert kind(lambda: judge(approval(5), record, BUILD_ID)) is Kind.SUPERSEDED
    target, after = judge(approval(6), record, BUILD_ID)
    assert (target.level, after.by_hand) == (1, None)


@pytest.mark.parametrize(("level", "reason", "expected"), [
    (-1, "why", Kind.ARGUMENT),
    (True, "why", Kind.ARGUMENT),
    ("2", "why", Kind.ARGUMENT),
    (2, "", Kind.UNAPPROVED),
    (2, None, Kind.UNAPPROVED),
    (2, "  ", Kind.UNAPPROVED),
])  # fmt: skip
def test_by_hand_needs_a_level_and_a_reason(level: object, reason: object, expected: Kind) -> None:
    assert kind(lambda: by_hand(level, reason, Record(), BUILD_ID)) is expected


def test_adopting_lets_the_new_ledger_speak() -> None:
    _, record = by_hand(2, "a fault", accept(approval(57), Record()), BUILD_ID)
    adopted = record.adopt("b", 0)
    assert kind(lambda: judge(approval(58), adopted, BUILD_ID)) is Kind.FOREIGN_LEDGER
    assert judge(approval(1, ledger="b"), adopted, BUILD_ID)[0].level == 1


# -- random interleavings ----------------------------------------------------------------------------------

REVS = st.integers(1, 6)
EVENTS = st.one_of(
    st.tuples(st.just("approve"), REVS, st.integers(0, 2), st.sampled_from("ab")),
    st.tuples(st.just("by hand"), st.integers(0, 2)),
    st.tuples(st.just("adopt"), st.sampled_from("ab"), st.integers(0, 6)),
)


@settings(deadline=None)
@given(st.lists(EVENTS, max_size=30))
def test_no_interleaving_lets_a_lower_rev_win(events: list[tuple[Any, ...]]) -> None:
    """The invariant, kept beside the record: what was acted on, since when, and what holds by hand."""
    record, ledger, highest, floor = Record(), "", 0, 0
    for event in events:
        if event[0] == "adopt":
            _, name, rev = event
            if name != ledger:
                record, ledger, highest, floor = record.adopt(name, rev), name, rev, max(rev - 1, 0)
            continue
        if event[0] == "by hand":
            _, record = by_hand(event[1], "why", record, BUILD_ID)
            floor = highest
            continue
        _, rev, level, name = event
        held = record.by_hand is not None
        try:
            target, record = judge(approval(rev, level, name), record, BUILD_ID)
        except LivepatchError:
            continue
        assert name == ledger or not ledger
        assert rev >= highest
        assert rev > floor or not held
        assert record.by_hand is None
        assert target.level == level
        assert record.rev == rev
        ledger, highest = name, rev


# -- whole acts ----------------------------------------------------------------------------------------------


def test_nothing_moves_without_an_approval(world: World) -> None:
    outcome = world.apply()
    assert outcome.kind is Kind.UNAPPROVED
    assert world.kernel.changed == []


def test_the_policy_newest_wants_none(world: World) -> None:
    world.options["policy"] = Policy.NEWEST
    assert world.apply().result is True
    assert world.patches == ["lp_3"]


def test_what_a_ledger_says_rules_where_the_site_wants_none(world: World) -> None:
    """Its external pillar hands something to every host: a freeze is obeyed, and so is an approval."""
    world.options["policy"] = Policy.NEWEST
    frozen = {"error": "the fleet is frozen", "kind": "frozen"}
    assert world.apply(approval=frozen).kind is Kind.FROZEN
    assert world.apply(approval=world.approval(1, 2)).result is True
    assert world.patches == ["lp_2"]


def test_one_that_cannot_be_carried_out_still_outranks(world: World) -> None:
    """Rev 7 names a module that the catalog does not have: refused, and rev 6 is stale from then on."""
    wrong = world.approval(7, 1)
    wrong["builds"][BUILD_ID]["sha256"] = "0" * 64
    assert world.apply(approval=wrong).kind is Kind.DIGEST
    assert world.apply(approval=world.approval(6, 2)).kind is Kind.SUPERSEDED
    assert world.kernel.changed == []


def test_a_test_accepts_nothing(world: World) -> None:
    world.apply(approval=world.approval(7, 1), test=True)
    assert world.record == Record()


def test_a_reversal_by_approval_is_remembered(world: World) -> None:
    """Also when it stalls: it moved the kernel, so an older one must not."""
    world.apply(approval=world.approval(1, 1))
    world.kernel.stalls |= {("lp_2", True), ("lp_2", False)}
    world.apply(approval=world.approval(2, 2), on_stall=OnStall.KEEP)
    outcome = world.revert(approval=world.approval(3, 1))
    assert outcome.kind is Kind.REVERSE_STALLED
    assert world.record.rev == 3
    assert world.revert(approval=world.approval(2, 2)).kind is Kind.SUPERSEDED


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(REVS, st.integers(0, 2), st.integers(0, 40)), min_size=1, max_size=6))
def test_crashes_let_no_stale_approval_win(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, int]]
) -> None:
    """Approvals in any order, each act killed somewhere (or not): the kernel follows no rev lower than one it
    has followed."""
    with pytest.MonkeyPatch.context() as patch:
        world = levels(build_world(tmp_path_factory.mktemp("host"), patch))
        followed = 0
        for rev, level, at in steps:
            before = len(world.kernel.changed)
            seen = world.record.rev
            try:
                with Boundaries(at).around():
                    world.apply(approval=world.approval(rev, level))
            except Killed:
                pass
            if len(world.kernel.changed) > before and rev < seen:
                # What an earlier act left in transition may be watched to its end, nothing may be begun.
                assert all(act == "reverse" for act, _ in world.kernel.changed[before:])
            if len(world.kernel.changed) > before:
                assert rev >= followed
                followed = rev
                assert world.record.rev >= rev
            world.kernel.settle()


def test_a_lost_record_holds_the_host(world: World) -> None:
    world.apply(approval=world.approval(7, 1))
    os.unlink(world.host.settings.record_file)
    outcome = world.apply(approval=world.approval(6, 2))
    assert outcome.kind is Kind.JOURNAL
    assert world.patches == ["lp_1"]


def test_a_lost_record_is_begun_anew_by_hand(world: World) -> None:
    world.apply(approval=world.approval(7, 1))
    os.unlink(world.host.settings.record_file)
    order = byhand.Order("the disk was lost")
    assert byhand.adopt_ledger(world.host, "ledger-1", 7, order).result is True
    assert world.verified is JournalState.WHOLE
    assert world.apply(approval=world.approval(6, 2)).kind is Kind.SUPERSEDED
    assert world.apply(approval=world.approval(7, 1)).result is True


def test_the_same_ledger_cannot_be_adopted_backwards(world: World) -> None:
    world.apply(approval=world.approval(7, 1))
    outcome = byhand.adopt_ledger(world.host, "ledger-1", 0, byhand.Order("oops"))
    assert (outcome.result, outcome.changes, world.record.rev) == (True, {}, 7)


def test_two_at_once(world: World) -> None:
    with exclusive(world.host.settings.lock_file, "a rollout"):
        outcome = world.apply(1)
    assert outcome.kind is Kind.BUSY
    assert f"process {os.getpid()} (a rollout)" in outcome.comment
    assert world.apply(1).result is True
