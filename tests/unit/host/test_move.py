"""Whole moves on a stand-in kernel: what becomes of the kernel, the record and the journal."""

from __future__ import annotations

import errno

import pytest

from livepatch_core.host import change
from livepatch_core.host.journal import JournalState
from livepatch_core.kernel import control
from livepatch_core.kernel.roots import Roots
from livepatch_core.kernel.stragglers import Scan
from livepatch_core.words import Kind, OnStall
from tests.unit.host.fakekernel import FakeKernel, module
from tests.unit.host.world import World


def test_up_and_down(world: World) -> None:
    for level in (1, 2, 1, 0, 3, 2):
        patches = [f"lp_{level}"] if level else []
        outcome = world.apply(level)
        assert outcome.result is True, outcome.comment
        assert world.patches == patches
        assert sorted(world.kernel.modules) == patches  # what was replaced or disabled is removed
    assert [(line["act"], line["patch"], line["ending"]) for line in world.journal] == [
        ("load", "lp_1", "complete"),
        ("load", "lp_2", "complete"),
        ("load", "lp_1", "complete"),
        ("disable", "lp_1", "complete"),
        ("load", "lp_3", "complete"),
        ("disable", "lp_3", "complete"),  # by way of 0: it has callbacks
        ("load", "lp_2", "complete"),
    ]
    assert world.verified is JournalState.WHOLE


def test_a_second_apply_changes_nothing(world: World) -> None:
    world.apply(1)
    changed, lines = list(world.kernel.changed), world.journal
    outcome = world.apply(1)
    assert outcome.result is True
    assert outcome.changes == {}
    assert world.kernel.changed == changed
    assert world.journal == lines


START = (0, 1, 2, 3)


@pytest.mark.parametrize("start", START)
@pytest.mark.parametrize("goal", START)
def test_the_prediction_is_what_happens(world: World, start: int, goal: int) -> None:
    world.apply(start)
    before = world.record, list(world.kernel.changed)
    predicted = world.apply(goal, test=True)
    assert (world.record, world.kernel.changed) == before
    done = world.apply(goal)
    assert predicted.changes == done.changes
    assert predicted.result is (True if start == goal else None)
    assert done.result is True


@pytest.mark.parametrize("on_stall", list(OnStall))
def test_a_stalled_load(world: World, on_stall: OnStall) -> None:
    world.apply(1)
    world.kernel.stalls.add(("lp_2", True))
    outcome = world.apply(2, on_stall=on_stall)
    assert outcome.result is False
    if on_stall is OnStall.REVERSE:
        assert outcome.kind is Kind.REVERSED
        assert outcome.changes == {}
        assert world.patches == ["lp_1"]
        assert sorted(world.kernel.modules) == ["lp_1"]
    else:
        assert outcome.kind is Kind.STALLED
        assert world.patches == ["lp_1", "lp_2"]
        assert world.apply(1).kind is Kind.BUSY


def test_a_reversal_that_stalls_too(world: World) -> None:
    world.kernel.stalls |= {("lp_1", True), ("lp_1", False)}
    outcome = world.apply(1)
    assert outcome.kind is Kind.REVERSE_STALLED
    assert world.journal[-1]["ending"] == "reverse-stalled"
    assert world.patches == ["lp_1"]


def test_a_stalled_disable_is_reversed(world: World) -> None:
    world.apply(1)
    world.kernel.stalls.add(("lp_1", False))
    outcome = world.apply(0)
    assert outcome.kind is Kind.REVERSED
    assert outcome.changes == {}
    assert world.patches == ["lp_1"]


@pytest.mark.parametrize("already", ["reversed", "completed"])
def test_it_ends_between_the_deadline_and_the_reversal(
    world: World, monkeypatch: pytest.MonkeyPatch, already: str
) -> None:
    """The write is refused then: what is said must be what the kernel is."""
    kernel = world.kernel
    kernel.stalls.add(("lp_1", True))

    def meanwhile(roots: object, patch: str, value: bool) -> None:
        if already == "completed":
            kernel.stalls.clear()
            kernel.settle()
            raise OSError(errno.EINVAL, "not in transition")
        kernel.write_enabled(kernel.roots, patch, value)
        raise OSError(errno.EINVAL, "same value")

    monkeypatch.setattr("livepatch_core.kernel.control.write_enabled", meanwhile)
    outcome = world.apply(1)
    assert outcome.result is (already == "completed")
    assert world.patches == (["lp_1"] if already == "completed" else [])


def test_a_disable_that_ends_before_its_reversal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.apply(1)
    kernel = world.kernel
    kernel.stalls.add(("lp_1", False))

    def meanwhile(roots: object, patch: str, value: bool) -> None:
        if not value:
            kernel.write_enabled(kernel.roots, patch, value)
            return
        kernel.stalls.clear()
        kernel.settle()
        raise OSError(errno.ENOENT, "gone")

    monkeypatch.setattr("livepatch_core.kernel.control.write_enabled", meanwhile)
    outcome = world.apply(0)
    assert outcome.result is True
    assert world.patches == []
    assert world.journal[-1]["ending"] == "complete"


def let_end(kernel: FakeKernel) -> None:
    kernel.stalls.clear()
    kernel.settle()


@pytest.mark.parametrize("on_stall", list(OnStall))
@pytest.mark.parametrize("level", [2, 0])
def test_it_ends_while_the_stragglers_are_looked_for(
    world: World, monkeypatch: pytest.MonkeyPatch, on_stall: OnStall, level: int
) -> None:
    """That takes seconds; what has ended by then is in force, and is not reversed."""
    world.apply(1)
    world.kernel.stalls |= {("lp_2", True), ("lp_1", False)}

    def scan(*_: object, **__: object) -> Scan:
        let_end(world.kernel)
        return Scan((), 0, True)

    monkeypatch.setattr(change, "scan", scan)
    outcome = world.apply(level, on_stall=on_stall)
    assert (outcome.result, outcome.changes["level"]) == (True, {"old": 1, "new": level}), outcome.comment
    assert world.patches == ([f"lp_{level}"] if level else [])
    assert world.journal[-1]["ending"] == "complete"


@pytest.mark.parametrize("stalls_too", [False, True])
def test_a_reversal_that_disables_what_is_in_force_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch, stalls_too: bool
) -> None:
    """In the instant that nobody can close: it ends between the last look and the write."""
    kernel = world.kernel
    world.apply(approval=world.approval(1, 1))
    kernel.stalls.add(("lp_2", True))

    def late(roots: Roots, patch: str, value: bool) -> None:
        let_end(kernel)
        kernel.stalls |= {("lp_2", False)} if stalls_too else set()
        kernel.write_enabled(roots, patch, value)

    monkeypatch.setattr(control, "write_enabled", late)
    outcome = world.apply(2)
    assert outcome.result is False
    assert "lp_1" in outcome.comment
    assert world.record.by_hand is None
    if stalls_too:
        assert outcome.kind is Kind.REVERSE_STALLED
        return
    assert (outcome.kind, outcome.changes["level"]) == (Kind.STALLED, {"old": 1, "new": 0})
    assert "level 0" in outcome.comment
    assert (world.patches, dict(kernel.modules)) == ([], {})
    assert world.journal[-1]["ending"] == "overshot"
    assert world.apply(approval=world.approval(1, 1)).result is True


def test_a_reversal_that_is_not_let(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.kernel.stalls.add(("lp_1", True))

    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr("livepatch_core.kernel.control.write_enabled", refused)
    outcome = world.apply(1)
    assert outcome.kind is Kind.STALLED
    assert world.journal[-1]["ending"] == "in-transition"


def test_the_kernel_refuses(world: World) -> None:
    world.apply(1)
    before = world.record
    world.kernel.refuses = errno.EINVAL
    outcome = world.apply(2)
    assert outcome.result is False
    assert outcome.changes == {}
    assert world.patches == ["lp_1"]
    assert world.record.loaded == before.loaded
    assert world.record.intent is None
    assert len(world.journal) == 1


def test_the_second_step_is_refused(world: World) -> None:
    """Down by way of 0: the host is at 0 then, and must not be told that all is as it was."""
    world.apply(3)
    world.kernel.refuses = errno.EINVAL
    outcome = world.apply(2)
    assert outcome.result is False
    assert outcome.changes["level"] == {"old": 3, "new": 0}
    assert outcome.changes["patches"] == {"old": ["lp_3"], "new": []}
    assert "level 0 now" in outcome.comment
    assert world.patches == []


def test_a_driver_of_the_same_name_is_left_alone(world: World) -> None:
    """Only what the kernel marks as a livepatch is a leftover."""
    world.kernel.modules["lp_1"] = world.levels[2]
    listing = world.kernel.directory / "proc/modules"
    listing.write_text("lp_1 16384 0 - Live 0x0\n")
    outcome = world.apply(1)
    assert outcome.kind is Kind.CONFLICT
    assert "lp_1" in world.kernel.modules


def test_a_driver_that_took_the_name_of_a_level_is_left_alone(world: World) -> None:
    """The record remembers lp_1 from before; what is loaded under that name now is no live patch."""
    world.apply(1)
    world.apply(0)
    world.kernel.modules["lp_1"] = world.levels[1]
    (world.kernel.directory / "proc/modules").write_text("lp_1 16384 0 - Live 0x0\n")
    (world.kernel.directory / "sys/module/lp_1").mkdir()
    for file, text in (("initstate", "live"), ("refcnt", "0")):
        (world.kernel.directory / "sys/module/lp_1" / file).write_text(text)
    world.apply(0)
    assert "lp_1" in world.kernel.modules


@pytest.mark.parametrize("changed", [{"build_id": "ff" * 20}, {"objects": ()}], ids=["identity", "functions"])
def test_what_the_kernel_does_not_show_is_not_said(
    world: World, monkeypatch: pytest.MonkeyPatch, changed: dict[str, object]
) -> None:
    """The transition ends, but what is loaded is not what was promised: no success."""
    other = module("lp_1", **changed)

    def load(image: bytes, params: str = "") -> None:
        world.kernel.images[b"other"] = other
        world.kernel.init_module(b"other")

    monkeypatch.setattr("livepatch_core.kernel.loading.init_module", load)
    outcome = world.apply(1)
    assert (outcome.result, outcome.kind) == (False, Kind.DRIFT)


def test_a_leftover_is_removed(world: World) -> None:
    world.kernel.stalls.add(("lp_1", True))
    world.apply(1, on_stall=OnStall.KEEP)
    world.kernel.write_enabled(world.kernel.roots, "lp_1", False)  # by somebody else
    world.kernel.settle()
    world.kernel.stalls.clear()
    assert (world.patches, list(world.kernel.modules)) == ([], ["lp_1"])
    assert world.apply(1).result is True


def test_somebody_else_took_it_back(world: World) -> None:
    kernel = world.kernel
    kernel.stalls.add(("lp_1", True))
    polls = []

    def pause(seconds: float) -> None:
        polls.append(seconds)
        if len(polls) == 2:
            kernel.write_enabled(kernel.roots, "lp_1", False)
        FakePause(seconds)

    FakePause = kernel.pause
    kernel.pause = pause  # type: ignore[method-assign]
    outcome = world.apply(1)
    assert outcome.kind is Kind.DRIFT
    assert "Somebody else" in outcome.comment
    assert world.journal[-1]["ending"] == "taken-back"


def test_missing_functions_are_brought_back_and_said(world: World) -> None:
    """The patch is there but not what it promised: it is loaded anew, and ``changes`` says so."""
    world.apply(1)
    lost = world.kernel.directory / "sys/kernel/livepatch/lp_1/vmlinux/meminfo_proc_show,1"
    lost.rmdir()
    predicted = world.apply(1, test=True)
    done = world.apply(1)
    assert done.result is True
    assert predicted.changes == done.changes
    assert done.changes == {"missing": {"old": ["vmlinux:meminfo_proc_show,1"], "new": []}}


def test_a_damaged_journal_refuses_before_the_kernel_is_touched(world: World) -> None:
    world.apply(1)
    path = world.host.settings.journal_file
    path.write_bytes(path.read_bytes().replace(b"lp_1", b"lp_9"))
    changed = list(world.kernel.changed)
    outcome = world.apply(2)
    assert outcome.kind is Kind.JOURNAL
    assert world.kernel.changed == changed


def test_a_module_without_identity_is_refused(world: World) -> None:
    file = world.levels[1]
    world.publish(1, type(file)(**{**file.__dict__, "build_id": None}))
    assert world.apply(1).kind is Kind.MODULE_FORMAT
    assert world.patches == []


@pytest.mark.parametrize("by", ["disable", "replace", "reverse"])
def test_the_module_of_a_patch_that_is_just_being_freed_is_taken_out(world: World, by: str) -> None:
    """Its directory outlives its transition by an instant: disabled and at rest."""
    world.apply(1)
    world.kernel.fades = 2
    if by == "reverse":
        world.kernel.stalls.add(("lp_2", True))
    outcome = world.apply(0 if by == "disable" else 2)
    left = {"disable": [], "replace": ["lp_2"], "reverse": ["lp_1"]}[by]
    assert "left_modules" not in outcome.details
    assert (world.patches, sorted(world.kernel.modules)) == (left, left)
    line = world.journal[-1]
    gone = "lp_2" if by == "reverse" else "lp_1"
    assert (line["after"], line["removed"], line["left"]) == (left, [gone], [])


def test_a_level_of_the_same_name_is_loaded_though_the_old_one_is_just_being_freed(world: World) -> None:
    world.apply(3)
    world.publish(2, module("lp_3", build_id="99" * 20))
    world.kernel.fades = 2
    assert world.apply(2).result is True
    assert world.patches == ["lp_3"]


def test_a_module_in_which_a_thread_sleeps_stays(world: World) -> None:
    """It would wake up in freed memory; the next load takes the module out."""
    world.apply(1)
    task = world.host.roots.proc / "7/task/7"
    task.mkdir(parents=True)
    (task / "stack").write_text("[<0>] do_wait+0x1/0x2\n[<0>] helper+0x3/0x4 [lp_1]\n")
    outcome = world.apply(2)
    assert outcome.result is True and outcome.details["left_modules"] == ["lp_1"]
    assert sorted(world.kernel.modules) == ["lp_1", "lp_2"]
    (task / "stack").write_text("")
    assert world.apply(3).result is True
    assert sorted(world.kernel.modules) == ["lp_3"]
