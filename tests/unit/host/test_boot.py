"""What the boot unit loads and refuses, and that status says the same beforehand."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.host import (
    armed,
    blocks,
    boot,
    byhand,
    crash,
    move,
    nextboot,
    persist,
    quarantine,
    soak,
    status,
    store,
)
from livepatch_core.host.byhand import Order
from livepatch_core.host.journal import JournalState
from livepatch_core.host.move import Wish
from livepatch_core.host.quarantine import Ward
from livepatch_core.host.settings import Policy
from livepatch_core.host.statefile import read_document
from livepatch_core.words import Kind
from tests.unit.host.boundaries import Boundaries, Killed
from tests.unit.host.fakekernel import BUILD_ID, _note
from tests.unit.host.world import World

OTHER = "bb" * 20  # the build-id of another kernel


def next_boot(world: World) -> dict[str, object]:
    said: dict[str, object] = status.status(world.host)["next_boot"]
    return said


def restarted(world: World) -> list[str]:
    boot.stop(world.host)
    world.kernel.boot("boot-2")
    return world.patches


def module_of(world: World, level: int) -> Path:
    (one,) = [one for one in store.read_store(world.host, BUILD_ID) if one.level == level]
    return store.directory(world.host, BUILD_ID) / f"{one.sha256}.ko"


def rolled_back(world: World) -> None:
    """To level 1, by rev 3; level 2 is kept as it was."""
    assert world.apply(approval=world.approval(3, 1)).result is True


def another_ledger(world: World) -> None:
    rolled_back(world)
    assert byhand.adopt_ledger(world.host, "ledger-2", 0, Order("a test")).result is True


def silent_approval(world: World) -> None:
    """A newer one, which names no level for this kernel build."""
    rolled_back(world)
    approval = {**world.approval(4, 1), "builds": {OTHER: {"level": 0}}}
    assert world.apply(approval=approval).kind is Kind.UNAPPROVED


def silent_ledger(level: int) -> Callable[[World], None]:
    def what(world: World) -> None:
        """By hand, then another ledger, whose first approval does not name this kernel build."""
        assert world.apply(level).result is True
        assert byhand.adopt_ledger(world.host, "ledger-2", 0, Order("a test")).result is True
        approval = {"ledger_id": "ledger-2", "rev": 1, "builds": {OTHER: {"level": 0}}}
        assert world.apply(approval=approval).kind is Kind.UNAPPROVED

    return what


def no_more_by_hand(world: World) -> None:
    """And nobody ever approved anything."""
    world.host.settings.record_file.write_text("{}")
    assert world.apply(1).result is True
    assert byhand.unhold(world.host, Order("a test")).result is True


def command_line(world: World) -> None:
    (world.kernel.directory / "proc/cmdline").write_text("root=/dev/vda quiet livepatch.boot=off\n")


def off_file(world: World) -> None:
    world.host.settings.off_file.touch()


def blocked(world: World) -> None:
    """Seen in the catalog by whatever looked last."""
    world.entries[2] = {"status": "blocked", "reason": "leaks"}
    assert world.apply(approval=world.approval(2, 2)).kind is Kind.BLOCKED


def blocked_while_frozen(world: World) -> None:
    """An incident: the fleet is frozen and the level blocked. A host that holds looks all the same."""
    world.entries[2] = {"status": "blocked", "reason": "leaks"}
    frozen = {"error": "the fleet is frozen", "kind": "frozen"}
    assert world.apply(approval=frozen).kind is Kind.FROZEN


def quarantined(world: World) -> None:
    persist.put_in_quarantine(world.host, 2, Order("stalls"))


def damaged(world: World) -> None:
    module_of(world, 2).write_bytes(b"other")


def gone(world: World) -> None:
    module_of(world, 2).unlink()


def all_damaged(world: World) -> None:
    for level in (1, 2):
        module_of(world, level).write_bytes(b"")


def approved_lower(world: World) -> None:
    assert world.apply(approval=world.approval(3, 1)).result is True


def by_hand(world: World) -> None:
    assert world.apply(0).result is True


def nothing(world: World) -> None:
    del world


@pytest.mark.parametrize(
    ("what", "level", "why"),
    [
        (nothing, 2, "it is the highest proven level"),
        (command_line, 0, "livepatch.boot=off on the kernel's command line"),
        (off_file, 0, "switched off by the file"),
        (blocked, 1, "level 2 is blocked (leaks)"),
        (blocked_while_frozen, 1, "level 2 is blocked (leaks)"),
        (quarantined, 1, "level 2 is quarantined (stalls)"),
        (damaged, 1, "level 2 is damaged in the store"),
        (gone, 1, "level 2 is damaged in the store"),
        (all_damaged, 0, "level 2 is damaged in the store; level 1 is damaged in the store"),
        (approved_lower, 1, "level 2 is above 1"),
        (by_hand, 0, "level 1 is above 0"),
        (another_ledger, 1, "level 2 is above 1"),
        (silent_approval, 1, "level 2 is above 1"),
        (silent_ledger(1), 1, "level 2 is above 1"),
        (silent_ledger(0), 0, "level 1 is above 0"),
        (no_more_by_hand, 1, "level 2 is above 1"),
    ],
)
def test_status_says_what_the_boot_does(
    kept: World, what: Callable[[World], None], level: int, why: str
) -> None:
    what(kept)
    said = next_boot(kept)
    assert said["level"] == level
    assert why in str(said["why"])
    assert ("differs" in said) is (status.status(kept.host)["level"] != level)
    restarted(kept)
    if what is command_line:
        command_line(kept)
    outcome = boot.start(kept.host)
    assert outcome.result is True, outcome.comment
    assert kept.patches == ([f"lp_{level}"] if level else [])
    assert why in outcome.comment
    report = read_document(kept.host.settings.boot_file)
    assert (report["comment"], report["boot_id"]) == (outcome.comment, "boot-2")
    if level:
        assert kept.journal[-1]["authority"]["source"] == "boot"


def test_what_the_unit_said_of_an_earlier_boot_is_no_result_of_this_one(kept: World) -> None:
    """The library was wiped with Salt's cache, so that the unit could not run."""
    kept.kernel.boot("boot-2")
    boot.start(kept.host)
    boot.stop(kept.host)
    said = status.status(kept.host)["last_boot"]
    assert (said["result"], said["boot_id"]) == (True, "boot-2")
    kept.kernel.boot("boot-3")
    document = status.status(kept.host)
    assert (document["verdict"], document["last_boot"]["boot_id"]) == ("unpatched", "boot-2")
    assert document["last_boot"]["result"] is None
    assert document["last_boot"]["comment"] == (
        f"The boot unit has not reported in this boot. Of an earlier one it said: {said['comment']}"
    )


def test_each_kernel_build_is_bounded_by_what_was_approved_for_it(kept: World) -> None:
    """Approved: level 1 here, level 2 for another kernel, which is booted; level numbers of two kernels have
    nothing to do with each other."""
    rolled_back(kept)
    approval = kept.approval(4, 0)
    approval["builds"][OTHER] = {"level": 2, "sha256": kept.levels[2].sha256}
    assert kept.apply(approval=approval).result is True
    for build, level in ((OTHER, 2), (BUILD_ID, 0)):
        bound = nextboot.bound_of(kept.record, build)
        assert nextboot.choose(store.read_store(kept.host, BUILD_ID), bound, {}).level == level
    assert kept.apply(1).result is True  # by hand: for this kernel
    assert [nextboot.bound_of(kept.record, build) for build in (BUILD_ID, OTHER)] == [1, 2]
    assert kept.apply(0).result is True  # by hand: nothing, whichever kernel
    assert [nextboot.bound_of(kept.record, build) for build in (BUILD_ID, OTHER)] == [0, 0]


def test_a_site_without_approvals_boots_the_newest(kept: World) -> None:
    """Once it has gone there: until then what was approved, or set by hand and lifted, binds."""
    no_more_by_hand(kept)
    kept.options["policy"] = Policy.NEWEST
    assert next_boot(kept)["level"] == 1
    assert kept.apply().result is True
    assert next_boot(kept)["level"] == 2  # level 3 is not proven
    assert kept.apply(1).result is True
    assert next_boot(kept)["level"] == 1


def test_a_rollback_binds_a_site_that_takes_the_newest(kept: World) -> None:
    """Its external pillar hands out an approval all the same, and the newest approval wins at boot too."""
    kept.options["policy"] = Policy.NEWEST
    assert kept.apply().result is True
    rolled_back(kept)
    assert next_boot(kept)["level"] == 1
    restarted(kept)
    assert boot.start(kept.host).result is True
    assert kept.patches == ["lp_1"]


@pytest.mark.parametrize(
    "name", ["blocks_file", "quarantine_file", "record_file", "armed_file", "journal_file", "index"]
)
def test_what_cannot_be_understood_loads_nothing(kept: World, name: str) -> None:
    """It may have forbidden the load; the file is named, and left as it is."""
    path = (
        store.directory(kept.host, BUILD_ID) / store.INDEX
        if name == "index"
        else getattr(kept.host.settings, name)
    )
    restarted(kept)
    path.write_text("{torn\n")
    said = next_boot(kept)
    assert said["level"] == 0
    assert str(path) in str(said["why"])
    outcome = boot.start(kept.host)
    assert (outcome.result, outcome.kind, kept.patches) == (False, Kind.JOURNAL, [])
    assert str(path) in outcome.comment
    assert path.read_text() == "{torn\n"


@pytest.mark.parametrize("name", ["proven_file", "health_file", "boot_file", "told_file"])
def test_what_forbids_nothing_hinders_no_boot(kept: World, name: str) -> None:
    restarted(kept)
    path: Path = getattr(kept.host.settings, name)
    path.write_text("{torn")
    assert next_boot(kept)["level"] == 2
    assert (boot.start(kept.host).result, kept.patches) == (True, ["lp_2"])


def test_the_unit_is_disabled(kept: World) -> None:
    kept.host.settings.boot_unit.unlink()
    assert next_boot(kept) == {
        "level": 0,
        "why": "level 2 is kept, but the boot unit is not enabled",
        "differs": "now level 2 is in force",
    }
    unchanged = persist.persist(kept.host)
    assert (unchanged.result, unchanged.changes) == (True, {})
    assert "the boot unit is not enabled" in unchanged.comment
    kept.apply(1)
    for _ in range(2):  # it waits for its soak, the second time it waits already
        assert "the boot unit is not enabled" in persist.persist(kept.host).comment


@pytest.mark.parametrize("what", [damaged, gone])
def test_to_persist_a_damaged_level_mends_it(kept: World, what: Callable[[World], None]) -> None:
    what(kept)
    predicted = persist.persist(kept.host, test=True)
    assert (predicted.result, next_boot(kept)["level"]) == (None, 1)
    outcome = persist.persist(kept.host)
    assert (outcome.result, outcome.changes) == (True, {"persisted": {"old": 1, "new": 2}})
    assert (predicted.changes, next_boot(kept)["level"]) == (outcome.changes, 2)
    assert persist.persist(kept.host).changes == {}


@pytest.mark.parametrize(
    ("what", "kind", "why"),
    [
        (quarantined, Kind.QUARANTINED, "is quarantined on this host"),
        (blocked, Kind.ARGUMENT, "level 2 is blocked (leaks)"),
        (command_line, Kind.ARGUMENT, "livepatch.boot=off"),
        (off_file, Kind.ARGUMENT, "switched off by the file"),
    ],
)
@pytest.mark.parametrize("test", [True, False])
def test_to_persist_what_the_next_boot_does_not_load(
    kept: World, what: Callable[[World], None], kind: Kind, why: str, test: bool
) -> None:
    """It is kept already, and all the same it is not there after a boot."""
    what(kept)
    outcome = kept.outcome(lambda: persist.persist(kept.host, test))
    assert (outcome.result, outcome.kind, outcome.changes) == (False, kind, {})
    assert why in outcome.comment
    assert kept.patches == ["lp_2"]


def test_a_level_kept_now_that_the_next_boot_does_not_load(kept: World) -> None:
    assert kept.apply(approval=kept.approval(3, 3)).result is True
    found = armed.read_armed(kept.host)
    assert found is not None
    soak._prove(kept.host, found)
    off_file(kept)
    outcome = persist.persist(kept.host)
    assert outcome.changes == {"persisted": {"old": 2, "new": 3}}
    assert "But the next boot does not load it: loading at boot is switched off" in outcome.comment


def two_builds(world: World) -> None:
    """The catalog of the release has a level for another build, which the host runs, and blocks level 2 of
    the first one."""
    file = world.levels[1]
    level = {"status": "released", "module": "lp_1.ko", "name": "lp_1", "sha256": file.sha256}
    world.builds[OTHER] = {"version": "#2", "levels": {1: level}}
    world.entries[2] = {"status": "blocked", "reason": "leaks"}
    world.kernel._write("sys/kernel/notes", _note(OTHER))


def frozen_there(world: World) -> None:
    frozen = {"error": "the fleet is frozen", "kind": "frozen"}
    assert world.apply(approval=frozen).kind is Kind.FROZEN


def taken_there(world: World) -> None:
    approval = world.approval(3, 2)
    approval["builds"][OTHER] = {"level": 1, "sha256": world.levels[1].sha256}
    world.kernel.boot("boot-2")
    world.kernel._write("sys/kernel/notes", _note(OTHER))
    assert world.apply(approval=approval).kind is Kind.KERNEL_MISMATCH  # it was built for the other one


@pytest.mark.parametrize("look", [frozen_there, taken_there])
def test_a_block_reaches_every_build_of_the_release(kept: World, look: Callable[[World], None]) -> None:
    """Which kernel comes at the next boot nobody knows."""
    boot.stop(kept.host)
    two_builds(kept)
    look(kept)
    assert list(blocks.read_blocks(kept.host, BUILD_ID)) == [kept.levels[2].sha256]
    assert blocks.read_blocks(kept.host, OTHER) == {}
    written = kept.host.settings.blocks_file.stat().st_ino
    look(kept)
    assert kept.host.settings.blocks_file.stat().st_ino == written  # once, and only when something is new
    kept.kernel.boot("boot-3")
    assert boot.start(kept.host).result is True
    assert kept.patches == ["lp_1"]


@pytest.mark.parametrize("again", [False, True])
def test_a_host_at_level_0_sees_blocks_too(kept: World, again: bool) -> None:
    """To be at level 0 takes no catalog, but the hold ends one day, and then the boot goes by the list."""
    down: dict[str, Any] = {"level": 0} if again else {"approval": kept.approval(3, 0)}
    if again:
        assert kept.apply(**down).result is True
    kept.entries[2] = {"status": "blocked", "reason": "leaks"}
    assert kept.apply(**down, test=True).result is (True if again else None)
    assert blocks.read_blocks(kept.host, BUILD_ID) == {}
    assert kept.apply(**down).result is True
    assert list(blocks.read_blocks(kept.host, BUILD_ID)) == [kept.levels[2].sha256]


def test_level_0_takes_no_catalog(kept: World) -> None:
    def fetch(path: str) -> bytes | None:
        raise LivepatchError(Kind.CATALOG, f"{path} could not be fetched; nothing was changed.")

    host = replace(kept.host, fetch=fetch)
    assert move.move(host, Wish(level=0, reason="a test")).result is True
    kept.host.settings.blocks_file.write_text("{torn")
    assert kept.apply(0).result is True


@pytest.mark.parametrize("at", range(6))
def test_no_room_in_the_store(kept: World, at: int) -> None:
    """Whichever write finds the disk full: what was kept is kept, and it says so."""
    assert kept.apply(approval=kept.approval(3, 3)).result is True
    disk = Boundaries(at, full=True)
    with disk.around():
        outcome = kept.outcome(lambda: persist.persist(kept.host))
    levels = [one.level for one in store.read_store(kept.host, BUILD_ID)]
    assert levels == [2, 1]  # level 3 has yet to prove itself
    assert all(store.is_sound(kept.host, BUILD_ID, one) for one in store.read_store(kept.host, BUILD_ID))
    if disk.count > at:
        assert (outcome.result, outcome.kind) == (False, Kind.JOURNAL)
        assert "No space left" in outcome.comment
    assert kept.patches == ["lp_3"]
    assert persist.persist(kept.host).result is True


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where kdump writes to."""
    path = tmp_path / "crash"
    path.mkdir()
    monkeypatch.setattr(crash, "ARCHIVES", (path,))
    return path


def test_a_capture_kernel_judges_and_loads_nothing(kept: World, archive: Path) -> None:
    """It boots the same root to save the dump of the kernel that crashed, and is reset when it has it: which
    level the crash is blamed on is for the boot that comes then."""
    assert kept.apply(approval=kept.approval(3, 3)).result is True
    found = armed.read_armed(kept.host)
    kept.kernel.boot("boot-2")
    vmcore = kept.host.roots.proc / "vmcore"
    vmcore.touch()
    for act in (boot.start, boot.stop):
        outcome = act(kept.host)
        assert (outcome.result, kept.patches, armed.read_armed(kept.host)) == (True, [], found)
        assert "started to save the dump of one that crashed (/proc/vmcore is there)" in outcome.comment
    (archive / "dmesg.202611301200").write_text("Kernel panic - not syncing: as ordered\n")
    os.utime(archive / "dmesg.202611301200", (kept.host.now(), kept.host.now()))
    vmcore.unlink()
    kept.kernel.boot("boot-3")
    assert boot.start(kept.host).result is True
    assert kept.patches == ["lp_2"]
    assert [(one.level, one.ward) for one in quarantine.read_warded(kept.host)] == [(3, Ward.QUARANTINED)]


def test_a_full_disk_at_boot(kept: World) -> None:
    """Full from any write on: what the outcome says is what the kernel is."""
    boot.stop(kept.host)
    state, saved = kept.host.settings.state_dir, kept.directory / "saved"
    shutil.copytree(state, saved)
    loaded = set()
    for at in itertools.count():
        shutil.rmtree(state)
        shutil.copytree(saved, state)
        kept.kernel.boot(f"boot-{at + 2}")
        disk = Boundaries(at, full=True)
        with disk.around():
            outcome = kept.outcome(lambda: boot.start(kept.host))
        if disk.count <= at:
            break
        assert "No space left" in outcome.comment
        assert ("nothing was changed" in outcome.comment) is (kept.patches == []), outcome.comment
        assert ("patches" in outcome.changes) is (kept.patches == ["lp_2"]), outcome.comment
        loaded.add(bool(kept.patches))
    assert loaded == {True, False}


def persisted_and_proven(world: World) -> None:
    persist.persist(world.host)
    found = armed.read_armed(world.host)
    if found is not None:
        soak._prove(world.host, found)


KILLED: dict[str, Callable[[World], object]] = {
    "persist and prove": persisted_and_proven,
    "not persisted": lambda world: persist.not_persisted(world.host),
    "quarantine": lambda world: persist.put_in_quarantine(world.host, 3, Order("stalls")),
    "boot": lambda world: boot.start(world.host),
}


@pytest.mark.parametrize("name", KILLED)
def test_killed_at_every_step(kept: World, name: str) -> None:
    """Level 3 is in its soak, or the host boots. Afterwards each file is old or new, whole levels are kept,
    and the same again ends as if nothing had happened."""
    assert kept.apply(approval=kept.approval(3, 3)).result is True
    if name == "boot":
        boot.stop(kept.host)
    state, saved = kept.host.settings.state_dir, kept.directory / "saved"
    shutil.copytree(state, saved)
    for at in itertools.count():
        shutil.rmtree(state)
        shutil.copytree(saved, state)
        if name == "boot":
            kept.kernel.boot(f"boot-{at + 2}")
        died = False
        try:
            with Boundaries(at).around():
                KILLED[name](kept)
        except Killed:
            died = True
        left = store.read_store(kept.host, BUILD_ID)
        assert [one.level for one in left] in ([2, 1], [3, 2, 1], []), at
        assert all(store.is_sound(kept.host, BUILD_ID, one) for one in left), at
        status.status(kept.host)
        if not died:
            break
        kept.kernel.settle()
        KILLED[name](kept)
        again = [one.level for one in store.read_store(kept.host, BUILD_ID)]
        assert again == {"persist and prove": [3, 2, 1], "not persisted": []}.get(name, [2, 1]), at
        if name == "boot":
            assert kept.patches == ["lp_2"], at
            assert kept.verified is JournalState.WHOLE
        if name == "quarantine":
            assert [one.level for one in quarantine.read_warded(kept.host)] == [3]
    assert at > 2


def test_persist_at_level_0(world: World) -> None:
    """Nothing to keep, and nothing that would be loaded: that is as asked."""
    outcome = persist.persist(world.host)
    assert (outcome.result, outcome.changes) == (True, {})


def test_persist_at_level_0_with_a_level_kept(kept: World) -> None:
    restarted(kept)
    outcome = kept.outcome(lambda: persist.persist(kept.host))
    assert (outcome.result, outcome.kind) == (False, Kind.ARGUMENT)
    assert "level 2 is loaded at the next boot" in outcome.comment
