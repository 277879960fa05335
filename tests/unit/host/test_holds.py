"""What a level set by hand holds, and for which kernel: apply and the next boot must say the same."""

from __future__ import annotations

import dataclasses
import errno
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.host import boot, byhand, move, nextboot, status
from livepatch_core.host.approval import (
    Approval,
    Grant,
    accept,
    by_hand,
    by_state,
    hear_state,
    judge,
    parse_approval,
)
from livepatch_core.host.byhand import Order
from livepatch_core.host.record import Record
from livepatch_core.host.settings import Policy
from livepatch_core.words import Kind, OnStall
from tests.unit.host.boundaries import Boundaries, Killed
from tests.unit.host.conftest import levels
from tests.unit.host.fakekernel import BUILD_ID, _note
from tests.unit.host.world import World, build_world

OTHER = "bb" * 20  # the build-id of another kernel
THIRD = "cc" * 20
ORDER = Order("a test")


def both(rev: int, level: int, *builds: str) -> Approval:
    """The same level for each of two kernel builds, or of those named."""
    return Approval("a", rev, dict.fromkeys(builds or (BUILD_ID, OTHER), Grant(level, "0" * 64)))


def bounds(record: Record) -> list[int | None]:
    return [nextboot.bound_of(record, build) for build in (BUILD_ID, OTHER)]


def refusal(act: Callable[[], object]) -> Kind:
    with pytest.raises(LivepatchError) as caught:
        act()
    return caught.value.kind


@pytest.fixture
def approved() -> Record:
    """Level 2 of both kernel builds, by rev 5."""
    return accept(both(5, 2), Record())


@pytest.fixture
def rolled_back(kept: World) -> World:
    """The newest approval, rev 3, is a rollback to 1."""
    assert kept.apply(approval=kept.approval(3, 1)).result is True
    return kept


def next_boot(world: World) -> int:
    level: int = status.status(world.host)["next_boot"]["level"]
    return level


def booted(world: World) -> list[str]:
    """What the boot unit loads."""
    boot.stop(world.host)
    world.kernel.boot("boot-2")
    assert boot.start(world.host).result is True
    return world.patches


# -- a level that was not reached --------------------------------------------------------------------------


def refuses(world: World) -> None:
    world.kernel.refuses = errno.EBUSY


def stalls(world: World) -> None:
    world.kernel.stalls.add(("lp_2", True))


def stalls_both_ways(world: World) -> None:
    world.kernel.stalls |= {("lp_2", True), ("lp_2", False)}


def taken_back(world: World) -> None:
    world.kernel.takes_back.add("lp_2")


FAILURES = (refuses, stalls, stalls_both_ways, taken_back)


def well_again(world: World) -> None:
    world.kernel.refuses = 0
    world.kernel.stalls.clear()
    world.kernel.takes_back.clear()
    world.kernel.settle()


@pytest.mark.parametrize("fails", FAILURES, ids=lambda one: one.__name__)
def test_a_level_by_hand_that_was_not_reached_is_not_held(
    rolled_back: World, fails: Callable[[World], None]
) -> None:
    fails(rolled_back)
    assert rolled_back.apply(2).result is False
    well_again(rolled_back)
    assert (rolled_back.record.by_hand, rolled_back.record.bounds) == (None, {BUILD_ID: 1})
    assert rolled_back.apply(approval=rolled_back.approval(3, 1)).result is True
    assert next_boot(rolled_back) == 1
    assert booted(rolled_back) == ["lp_1"]


@pytest.mark.parametrize("fails", FAILURES, ids=lambda one: one.__name__)
def test_the_newest_level_that_was_not_reached_lifts_no_bound(
    rolled_back: World, fails: Callable[[World], None]
) -> None:
    rolled_back.options["policy"] = Policy.NEWEST
    del rolled_back.levels[3]
    fails(rolled_back)
    assert rolled_back.apply().result is False
    well_again(rolled_back)
    assert rolled_back.record.bounds == {BUILD_ID: 1}
    assert booted(rolled_back) == ["lp_1"]


def test_what_was_held_before_is_held_after_it(rolled_back: World) -> None:
    assert rolled_back.apply(0).result is True
    before = rolled_back.record.by_hand
    stalls(rolled_back)
    assert rolled_back.apply(2).kind is Kind.REVERSED
    assert rolled_back.record.by_hand == before
    assert next_boot(rolled_back) == 0


def test_a_second_step_that_fails_leaves_no_hold_either(rolled_back: World) -> None:
    """Up by way of 0: it came to 0 and not to 2, so the approval decides where it goes now."""
    assert rolled_back.apply(0).result is True
    assert rolled_back.apply(approval=rolled_back.approval(4, 3)).kind is None
    assert rolled_back.apply(approval=rolled_back.approval(5, 1)).result is True
    refuses(rolled_back)
    assert rolled_back.apply(3).result is False
    well_again(rolled_back)
    assert rolled_back.record.by_hand is None
    assert rolled_back.apply(approval=rolled_back.approval(5, 1)).result is True


def test_a_level_left_in_transition_is_held(rolled_back: World) -> None:
    """As it was asked for: it may be reached at any time."""
    stalls(rolled_back)
    assert rolled_back.apply(2, on_stall=OnStall.KEEP).kind is Kind.STALLED
    held = rolled_back.record.by_hand
    assert held is not None
    assert held.level == 2


def test_killed_while_it_is_reversed(rolled_back: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stalls(rolled_back)
    real = rolled_back.kernel.write_enabled

    def die(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("livepatch_core.kernel.control.write_enabled", die)
        with pytest.raises(Killed):
            rolled_back.apply(2)
    well_again(rolled_back)
    assert next_boot(rolled_back) == 1
    assert booted(rolled_back) == ["lp_1"]
    assert rolled_back.record.by_hand is None


def killed(world: World, at: int, level: int) -> bool:
    """On the way to ``level``, by hand; False where the act has fewer boundaries."""
    try:
        with Boundaries(at).around():
            world.apply(level)
    except Killed:
        return True
    return False


def to_the_latest_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int) -> Iterator[World]:
    """A host at level 1, approved by rev 1, whose process was killed on its way to ``level``: each moment."""
    for at in itertools.count():
        world = levels(build_world(tmp_path / str(at), monkeypatch))
        world.options.update(off_file=tmp_path / "off")
        with Boundaries(at=1_000_000).around():
            assert world.apply(approval=world.approval(1, 1)).result is True
        if not killed(world, at, level):
            assert at > 8  # the boundaries are met at all
            return
        yield world


@pytest.mark.parametrize("level", [2, 3])
def test_a_higher_level_whose_host_went_down_with_it_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    """Also where the way there leads through 0, and where its patch was in force: nobody can say that now."""
    for world in to_the_latest_moment(tmp_path, monkeypatch, level):
        ended = world.journal and world.journal[-1]["patch"] == f"lp_{level}"
        world.kernel.boot("boot-2")
        outcome = world.apply(approval=world.approval(1, 1))
        if ended:  # it was reached, and then the host went down: what was told by hand holds
            assert outcome.kind is Kind.SUPERSEDED
            continue
        assert outcome.result is True, outcome.comment
        assert (world.patches, world.record.by_hand) == (["lp_1"], None)


@pytest.mark.parametrize("level", [2, 3])
def test_a_higher_level_that_was_not_begun_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    """Killed before the kernel was told; the host is where the approval wants it, or can go there."""
    for world in to_the_latest_moment(tmp_path, monkeypatch, level):
        if ("load", f"lp_{level}") in world.kernel.changed:
            return
        assert world.apply(approval=world.approval(1, 1)).result is True
        assert (world.patches, world.record.by_hand) == (["lp_1"], None)


def test_a_higher_level_that_came_into_force_unwatched_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for world in to_the_latest_moment(tmp_path, monkeypatch, 2):
        if ("load", "lp_2") not in world.kernel.changed:
            continue
        well_again(world)
        assert world.apply(approval=world.approval(1, 1)).kind is Kind.SUPERSEDED
        assert world.patches == ["lp_2"]
        return


def in_the_act(world: World) -> None:
    """A host held at level 1 by hand, at rev 3; killed before the kernel was told of level 2."""
    assert world.apply(1).result is True

    def die(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("livepatch_core.kernel.loading.init_module", die)
        with pytest.raises(Killed):
            world.apply(2)


def test_what_is_said_after_a_death_is_not_forgotten_when_the_act_is_undone(rolled_back: World) -> None:
    in_the_act(rolled_back)
    assert byhand.unhold(rolled_back.host, ORDER).result is True
    assert rolled_back.apply(approval=rolled_back.approval(3, 1)).result is True
    in_the_act(rolled_back)
    assert byhand.adopt_ledger(rolled_back.host, "ledger-2", 5, ORDER).result is True
    move.recover(rolled_back.host, rolled_back.record)
    held = rolled_back.record.by_hand
    assert held is not None
    assert (held.level, held.above_rev) == (1, 4)
    in_the_act(rolled_back)
    record = accept(both(6, 2), dataclasses.replace(rolled_back.record, ledger_id="a"))
    assert (record.undo().by_hand, record.undo().bounds) == (None, record.bounds)


@pytest.mark.parametrize("level", [0, 1])
def test_the_way_down_is_held_though_it_stalled(rolled_back: World, level: int) -> None:
    """Somebody found the level bad: the next boot must not load it again."""
    assert rolled_back.apply(approval=rolled_back.approval(4, 2)).result is True
    rolled_back.kernel.stalls |= {("lp_2", False), ("lp_1", True)}
    assert rolled_back.revert(level).kind is Kind.REVERSED
    held = rolled_back.record.by_hand
    assert held is not None
    assert held.level == level
    assert rolled_back.apply(approval=rolled_back.approval(4, 2)).kind is Kind.SUPERSEDED
    well_again(rolled_back)
    assert booted(rolled_back) == ([f"lp_{level}"] if level else [])


# -- another ledger ----------------------------------------------------------------------------------------


def test_the_first_approval_of_an_adopted_ledger_ends_the_hold(rolled_back: World) -> None:
    """Also at the very rev that was given with it."""
    assert rolled_back.apply(0).result is True
    assert byhand.adopt_ledger(rolled_back.host, "ledger-2", 5, ORDER).result is True
    assert next_boot(rolled_back) == 0
    assert rolled_back.apply(approval=rolled_back.approval(5, 2, "ledger-2")).result is True
    assert rolled_back.record.by_hand is None
    assert next_boot(rolled_back) == 2
    assert booted(rolled_back) == ["lp_2"]


def test_a_lost_record_boots_nothing_until_the_host_is_told_again(rolled_back: World) -> None:
    """What was approved is not known any more: it may have been a rollback."""
    rolled_back.host.settings.record_file.unlink()
    assert byhand.adopt_ledger(rolled_back.host, "ledger-1", 3, ORDER).result is True
    assert next_boot(rolled_back) == 0
    assert booted(rolled_back) == []
    assert rolled_back.apply(approval=rolled_back.approval(3, 1)).result is True
    assert next_boot(rolled_back) == 1


@pytest.mark.parametrize("journal_too", [False, True])
def test_a_lost_record_stops_the_boot(rolled_back: World, journal_too: bool) -> None:
    """The levels that are kept say that there was one, also where its journal went with it."""
    assert rolled_back.apply(0).result is True
    settings = rolled_back.host.settings
    settings.record_file.unlink()
    if journal_too:
        settings.journal_file.unlink()
    document = status.status(rolled_back.host)
    assert (document["next_boot"]["level"], bool(document["record_error"])) == (0, True)
    boot.stop(rolled_back.host)
    rolled_back.kernel.boot("boot-2")
    outcome = boot.start(rolled_back.host)
    assert (outcome.result, outcome.kind, rolled_back.patches) == (False, Kind.JOURNAL, [])
    assert byhand.adopt_ledger(rolled_back.host, "ledger-1", 3, ORDER).result is True
    assert booted(rolled_back) == []
    assert rolled_back.apply(approval=rolled_back.approval(3, 1)).result is True


@pytest.mark.parametrize("how", ["by hand", "newest"])
def test_after_a_lost_record_every_word_counts(rolled_back: World, how: str) -> None:
    rolled_back.host.settings.record_file.unlink()
    assert byhand.adopt_ledger(rolled_back.host, "ledger-1", 3, ORDER).result is True
    booted(rolled_back)
    if how == "newest":
        rolled_back.options["policy"] = Policy.NEWEST
        del rolled_back.levels[3]
    assert rolled_back.apply(1 if how == "by hand" else None).result is True
    assert next_boot(rolled_back) == (1 if how == "by hand" else 2)


# -- a level that a state says at each run -------------------------------------------------------------------


def sls(record: Record, level: int, build: str = BUILD_ID, reason: str = "as it booted") -> Record:
    return by_state(level, reason, record, build)[1]


@pytest.mark.parametrize("level", [0, 1])
def test_a_state_holds_against_what_was_approved_before_it(approved: Record, level: int) -> None:
    record = sls(approved, level)
    assert refusal(lambda: judge(both(5, 2), record, BUILD_ID)) is Kind.SUPERSEDED
    assert sls(record, level) == record, "and says nothing new at its next run"
    record = accept(both(6, 2, OTHER), record)
    assert bounds(sls(record, level)) == bounds(record) == [level, 2], "one of another kernel is none of this"


@pytest.mark.parametrize("level", [0, 1])
def test_a_state_says_nothing_anew_when_it_is_run_again(approved: Record, level: int) -> None:
    """The newest approval wins, whatever else was said by hand in between."""
    record = accept(both(6, 2), sls(approved, level))
    assert (record.by_hand, bounds(record)) == (None, [2, 2])
    assert refusal(lambda: sls(record, level)) is Kind.SUPERSEDED
    _, record = by_hand(3 if level else 1, "a trial", record, BUILD_ID)
    assert refusal(lambda: sls(record, level)) is Kind.SUPERSEDED
    record = accept(both(7, 2), record)
    assert refusal(lambda: sls(record, level)) is Kind.SUPERSEDED
    assert bounds(sls(record, level, reason="approved too early"))[0] == level, "other words are a new hold"


def test_a_state_agrees_with_what_the_host_was_told_since(approved: Record) -> None:
    record = accept(both(6, 1), sls(approved, 1))
    assert sls(record, 1) == record, "the approval rules, no hold is made"
    record = accept(both(7, 2), record)
    _, record = by_hand(1, "a trial", record, BUILD_ID)
    assert sls(record, 1) == record, "nor beside that of an operator"


def test_a_word_by_hand_since_outranks_a_state(approved: Record) -> None:
    """A revert because of the host's health is such a word: no highstate loads that level again."""
    record = sls(approved, 1)
    _, record = by_hand(0, "a service has failed", record, BUILD_ID)
    assert refusal(lambda: sls(record, 1)) is Kind.SUPERSEDED
    assert bounds(sls(record.unhold(), 1))[0] == 1
    assert bounds(sls(record, 1, reason="the service is mended"))[0] == 1


def test_a_state_is_outranked_kernel_by_kernel(approved: Record) -> None:
    record = accept(carried(6, 2, 5, 3), sls(approved, 0))
    assert refusal(lambda: sls(record, 0, OTHER)) is Kind.SUPERSEDED
    record = sls(record, 0)
    assert bounds(record) == [0, 3], "nor does what is held here come back there"
    record = accept(carried(7, 2, 5, 3), sls(accept(both(5, 2), Record()), 1))
    assert refusal(lambda: sls(record, 1, OTHER)) is Kind.SUPERSEDED
    assert bounds(sls(record, 1)) == [1, 3]


def test_a_state_holds_until_an_adopted_ledger_speaks(approved: Record) -> None:
    record = sls(approved, 1).adopt("b", 3)
    assert sls(record, 1) == record
    record = accept(Approval("b", 3, {BUILD_ID: Grant(2, "0" * 64)}), record)
    assert refusal(lambda: sls(record, 1)) is Kind.SUPERSEDED


def test_a_state_whose_level_was_not_reached_is_as_old_as_its_word(rolled_back: World) -> None:
    stalls(rolled_back)
    assert rolled_back.apply(2, by_state=True).kind is Kind.REVERSED
    well_again(rolled_back)
    assert rolled_back.record.by_hand is None
    assert rolled_back.apply(approval=rolled_back.approval(4, 1)).result is True
    assert rolled_back.apply(2, by_state=True).kind is Kind.SUPERSEDED
    assert rolled_back.patches == ["lp_1"]
    assert rolled_back.apply(2).result is True


@pytest.mark.parametrize("reason", ["as it booted", "a ticket"])
@pytest.mark.parametrize("level", [0, 2])
def test_the_reason_of_a_word_by_hand_makes_it_no_older(approved: Record, level: int, reason: str) -> None:
    """The number of one ticket is the reason of the state and of who takes its level back."""
    record = sls(approved, 1)
    _, record = by_hand(level, reason, record, BUILD_ID)
    assert refusal(lambda: sls(record, 1)) is Kind.SUPERSEDED


def test_a_state_is_newer_than_a_word_by_hand_before_it_until_the_next_one(approved: Record) -> None:
    _, record = by_hand(0, "a trial", approved, BUILD_ID)
    record = hear_state(1, "as it booted", record)
    assert bounds(record)[0] == 0, "heard, and not carried out"
    assert bounds(sls(record, 1))[0] == 1
    _, record = by_hand(0, "a trial", record, BUILD_ID)
    assert refusal(lambda: sls(record, 1)) is Kind.SUPERSEDED


def test_a_state_that_was_refused_is_as_old_as_its_first_word(rolled_back: World) -> None:
    """Its level was blocked; another one was approved meanwhile."""
    rolled_back.entries[2] = {"status": "blocked", "reason": "crashes"}
    assert rolled_back.apply(2, by_state=True).kind is Kind.BLOCKED
    assert (rolled_back.record.by_hand, rolled_back.record.bounds) == (None, {BUILD_ID: 1})
    assert rolled_back.apply(approval=rolled_back.approval(4, 1)).result is True
    rolled_back.entries.clear()
    assert rolled_back.apply(2, by_state=True).kind is Kind.SUPERSEDED
    assert rolled_back.patches == ["lp_1"]


def test_a_dry_run_of_a_state_is_no_word(rolled_back: World) -> None:
    before = rolled_back.record
    assert rolled_back.apply(2, by_state=True, test=True).result is None
    assert rolled_back.record == before


# -- another kernel ----------------------------------------------------------------------------------------


def test_a_level_by_hand_binds_its_own_kernel(approved: Record) -> None:
    _, record = by_hand(1, "a trial", approved, BUILD_ID)
    assert refusal(lambda: judge(both(5, 2), record, BUILD_ID)) is Kind.SUPERSEDED
    target, after = judge(both(5, 2), record, OTHER)
    assert (target.level, after.by_hand) == (2, record.by_hand)
    assert bounds(after) == [1, 2], "back in the first kernel it holds"


def test_level_0_by_hand_binds_every_kernel(approved: Record) -> None:
    _, record = by_hand(0, "unhealthy", approved, BUILD_ID)
    assert refusal(lambda: judge(both(5, 2), record, OTHER)) is Kind.SUPERSEDED


def test_a_level_of_a_kernel_that_is_not_known_binds_every_kernel(approved: Record) -> None:
    _, record = by_hand(1, "a trial", approved, "")
    assert refusal(lambda: judge(both(5, 2), record, OTHER)) is Kind.SUPERSEDED


def carried(rev: int, here: int, since: int, other: int) -> Approval:
    """A write of ``rev`` for the other kernel, with which ``here``, said at ``since``, is handed out."""
    return Approval("a", rev, {BUILD_ID: Grant(here, "0" * 64, since), OTHER: Grant(other, "0" * 64)})


def test_a_newer_approval_of_the_other_kernel_keeps_what_was_taken_back_here(approved: Record) -> None:
    _, record = by_hand(1, "stalls", approved, BUILD_ID)
    _, after = judge(both(6, 2, OTHER), record, OTHER)
    assert (after.by_hand, bounds(after)) == (record.by_hand, [1, 2])
    assert refusal(lambda: judge(carried(7, 2, 5, 2), after, BUILD_ID)) is Kind.SUPERSEDED


@pytest.mark.parametrize("level", [0, 1])
def test_an_approval_for_another_kernel_build_does_not_end_a_hold_here(approved: Record, level: int) -> None:
    """What is handed out once more with it was said before the hold."""
    _, record = by_hand(level, "unhealthy", approved, BUILD_ID)
    assert refusal(lambda: judge(carried(6, 2, 5, 3), record, BUILD_ID)) is Kind.SUPERSEDED
    target, after = judge(carried(7, 2, 7, 3), record, BUILD_ID)
    assert (target.level, after.by_hand) == (2, None)


@pytest.mark.parametrize("said_in", [BUILD_ID, OTHER, THIRD])
def test_level_0_by_hand_ends_build_by_build(said_in: str) -> None:
    """It is for all of them, wherever it was said, and one approval of one build is no word about another."""
    record = accept(both(5, 2, BUILD_ID, OTHER, THIRD), Record())
    _, record = by_hand(0, "unhealthy", record, said_in)
    old = Grant(2, "0" * 64, 5)
    newer = Approval("a", 6, {BUILD_ID: old, OTHER: Grant(3, "0" * 64), THIRD: old})
    assert refusal(lambda: judge(newer, record, BUILD_ID)) is Kind.SUPERSEDED
    target, record = judge(newer, record, OTHER)
    assert target.level == 3
    assert [nextboot.bound_of(record, build) for build in (BUILD_ID, OTHER, THIRD)] == [0, 3, 0]
    for build in (BUILD_ID, THIRD):
        assert refusal(lambda build=build: judge(newer, record, build)) is Kind.SUPERSEDED  # type: ignore[misc]


def test_what_is_held_up_by_hand_outranks_older_ones_all_the_same(approved: Record) -> None:
    _, record = by_hand(1, "a trial", approved, BUILD_ID)
    bad = carried(6, 2, 5, 1)
    assert refusal(lambda: judge(bad, record, BUILD_ID)) is Kind.SUPERSEDED
    record = accept(bad, record)
    assert (record.rev, bounds(record)) == (6, [1, 1]), "the other kernel does not boot what was superseded"
    assert refusal(lambda: judge(both(5, 2), record, OTHER)) is Kind.SUPERSEDED
    _, record = by_hand(0, "it is no better", record, BUILD_ID)
    assert refusal(lambda: judge(bad, record, OTHER)) is Kind.SUPERSEDED, "it was said after rev 6 was seen"


def test_a_hold_of_a_kernel_that_is_not_known_binds_the_boot_too(approved: Record) -> None:
    _, record = by_hand(1, "a trial", approved, "")
    assert bounds(record) == [1, 1]


def test_level_0_by_hand_goes_on_in_its_own_kernel_when_the_other_is_approved_a_level(
    approved: Record,
) -> None:
    _, record = by_hand(0, "unhealthy", approved, BUILD_ID)
    target, record = judge(carried(6, 2, 5, 3), record, OTHER)
    assert (target.level, bounds(record)) == (3, [0, 3])
    target, record = judge(carried(7, 2, 5, 2), record, OTHER)
    assert (target.level, bounds(record)) == (2, [0, 2])
    assert refusal(lambda: judge(carried(7, 2, 5, 2), record, BUILD_ID)) is Kind.SUPERSEDED
    _, record = judge(carried(8, 2, 8, 2), record, BUILD_ID)
    assert (record.by_hand, bounds(record)) == (None, [2, 2])


@pytest.mark.parametrize("since", [0, -1, "5", True, 1.0])
def test_a_rev_that_is_none_is_refused(since: object) -> None:
    builds = {BUILD_ID: {"level": 0, "since": since}}
    assert refusal(lambda: parse_approval({"ledger_id": "a", "rev": 5, "builds": builds})) is Kind.UNAPPROVED


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ((1, BUILD_ID), (1, OTHER), [1, 1]),
        ((1, BUILD_ID), (0, OTHER), [0, 0]),
        ((0, BUILD_ID), (1, OTHER), [0, 1]),
        ((0, BUILD_ID), (1, BUILD_ID), [1, 0]),
        ((1, BUILD_ID), (3, BUILD_ID), [3, 2]),
    ],
)
def test_a_hold_forgets_no_other(
    approved: Record, before: tuple[int, str], now: tuple[int, str], expected: list[int]
) -> None:
    _, record = by_hand(before[0], "stalls", approved, before[1])
    _, record = by_hand(now[0], "a trial", record, now[1])
    assert bounds(record) == expected


@pytest.mark.parametrize("build", [BUILD_ID, OTHER])
def test_level_0_again_is_one_hold(approved: Record, build: str) -> None:
    """As a highstate with livepatch.absent says it each time: lifted, what was approved decides."""
    _, record = by_hand(0, "unhealthy", approved, BUILD_ID)
    _, record = by_hand(0, "unhealthy", record, build)
    assert bounds(record) == [0, 0]
    assert bounds(record.unhold()) == [2, 2]


def test_a_hold_that_is_replaced_leaves_no_bound_on_its_own_kernel(approved: Record) -> None:
    _, record = by_hand(0, "unhealthy", approved, BUILD_ID)
    _, record = by_hand(1, "a trial", record, BUILD_ID)
    assert bounds(record.unhold()) == [2, 0]


def in_another_kernel(world: World) -> None:
    boot.stop(world.host)
    world.kernel.boot("boot-2")
    world.kernel._write("sys/kernel/notes", _note(OTHER))


def test_a_host_in_another_kernel_goes_where_it_is_told(rolled_back: World) -> None:
    """And what it was told by hand in the first one holds when it comes back there."""
    approval = rolled_back.approval(4, 1)
    approval["builds"][OTHER] = {"level": 0}
    assert rolled_back.apply(approval=approval).result is True
    assert rolled_back.apply(2).result is True
    assert "held" in status.status(rolled_back.host)["flags"]
    in_another_kernel(rolled_back)
    assert "held" not in status.status(rolled_back.host)["flags"]
    assert rolled_back.apply(approval=approval).result is True
    assert booted(rolled_back) == ["lp_2"]
    assert rolled_back.apply(approval=approval).kind is Kind.SUPERSEDED
    newer = rolled_back.approval(5, 1)
    newer["builds"] = {BUILD_ID: {**newer["builds"][BUILD_ID], "since": 4}, OTHER: {"level": 0}}
    assert rolled_back.apply(approval=newer).kind is Kind.SUPERSEDED
    assert rolled_back.record.rev == 5, "written down though it is held up"


def test_the_newest_level_of_another_kernel_is_asked_for(rolled_back: World) -> None:
    assert rolled_back.apply(2).result is True
    in_another_kernel(rolled_back)
    rolled_back.options["policy"] = Policy.NEWEST
    assert rolled_back.apply().kind is Kind.UNCOVERED  # and not superseded
