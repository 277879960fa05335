"""Proven levels over a boot, with the stand-in kernel: store, soak, crash breaker, choice."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.host import armed, boot, crash, nextboot, persist, quarantine, soak, status, store
from livepatch_core.host.apply import apply
from livepatch_core.host.byhand import Order
from livepatch_core.host.move import Wish
from livepatch_core.host.quarantine import Ward, Warded
from livepatch_core.host.statefile import read_document, write_document
from livepatch_core.host.store import Kept
from livepatch_core.kernel import loading
from livepatch_core.words import Flag, Kind, OnStall
from tests.unit.host.boundaries import Killed
from tests.unit.host.fakekernel import BUILD_ID, module
from tests.unit.host.world import World

OTHER = "bb" * 20  # the build-id of another kernel
PANIC = b"Panic#1 Part1\n<4>[  1.0] something\n<0>[  2.0] Kernel panic - not syncing: as ordered\n"


@pytest.fixture
def placed(world: World) -> World:
    """The boot unit is enabled."""
    world.enable_units()
    return world


def proven(world: World, level: int) -> None:
    assert world.apply(level).result is True
    assert persist.persist(world.host).result is True
    found = armed.read_armed(world.host)
    assert found is not None
    soak._prove(world.host, found)


def kept_levels(world: World) -> list[int]:
    return [one.level for one in store.read_store(world.host, BUILD_ID)]


def test_only_what_has_proved_healthy_is_kept(placed: World) -> None:
    assert placed.apply(1).result is True
    assert persist.persist(placed.host).result is True
    assert kept_levels(placed) == []
    found = armed.read_armed(placed.host)
    assert found is not None and found.persist
    soak._prove(placed.host, found)
    assert kept_levels(placed) == [1]
    assert armed.read_armed(placed.host) is None
    again = persist.persist(placed.host)
    assert (again.result, again.changes) == (True, {})


def test_lower_levels_stay_as_what_to_fall_back_to(placed: World) -> None:
    proven(placed, 1)
    proven(placed, 2)
    assert kept_levels(placed) == [2, 1]
    assert persist.not_persisted(placed.host, test=True).changes == {"persisted": {"old": 2, "new": 0}}
    assert kept_levels(placed) == [2, 1]
    assert persist.not_persisted(placed.host).changes == {"persisted": {"old": 2, "new": 0}}
    assert kept_levels(placed) == []
    assert not list(store.directory(placed.host, BUILD_ID).glob("*.ko"))


def test_a_level_that_was_reverted_is_not_armed(placed: World) -> None:
    placed.apply(1)
    assert placed.revert().result is True
    assert armed.read_armed(placed.host) is None


def test_a_refused_load_is_not_armed(placed: World) -> None:
    placed.kernel.refuses = errno.EINVAL
    assert placed.apply(1).result is False
    assert armed.read_armed(placed.host) is None


def in_its_soak(world: World) -> armed.Armed:
    """Level 1, half through its soak, to be kept after it."""
    assert world.apply(approval=world.approval(1, 1)).result is True
    assert persist.persist(world.host).result is True
    found = armed.read_armed(world.host)
    assert found is not None
    return armed.mark(world.host, found, 60.0)


def refused(world: World) -> None:
    world.kernel.refuses = errno.EBUSY


def reversed_(world: World) -> None:
    world.kernel.stalls.add(("lp_2", True))


@pytest.mark.parametrize("how", [refused, reversed_])
def test_a_level_that_did_not_come_leaves_the_soak_of_the_one_in_force(
    placed: World, how: Callable[[World], None]
) -> None:
    before = in_its_soak(placed)
    how(placed)
    assert placed.apply(approval=placed.approval(2, 2)).result is False
    assert placed.patches == ["lp_1"]
    assert armed.read_armed(placed.host) == before
    again = persist.persist(placed.host)
    assert (again.result, again.changes) == (True, {})
    assert placed.apply(2).result is False, "and once more, by hand"
    assert armed.read_armed(placed.host) == before


@pytest.mark.parametrize("who", ["the timer", "the next act"])
def test_a_level_whose_load_was_cut_short_leaves_the_soak_of_the_one_in_force(
    placed: World, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    before = in_its_soak(placed)

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(loading, "init_module", die)
        with pytest.raises(Killed):
            placed.apply(2)
    found = armed.read_armed(placed.host)
    assert found is not None
    assert (found.name, found.replaced) == ("lp_2", before)
    if who == "the timer":
        assert "lp_1, which it was to replace, goes on with its soak" in soak.tick(placed.host).comment
    else:
        assert placed.apply(approval=placed.approval(1, 1)).result is True
    assert armed.read_armed(placed.host) == before


def test_what_was_replaced_is_armed_no_more(placed: World) -> None:
    in_its_soak(placed)
    assert placed.apply(approval=placed.approval(2, 2)).result is True
    assert placed.apply(0).result is True
    assert armed.read_armed(placed.host) is None


def test_what_was_armed_in_another_boot_does_not_come_back(placed: World) -> None:
    before = in_its_soak(placed)
    armed.write_armed(placed.host, replace(before, boot_id="another"))
    armed.arm(placed.host, placed.record.loaded[0])
    found = armed.read_armed(placed.host)
    assert found is not None
    assert found.replaced is None


@pytest.mark.parametrize("test", [True, False])
def test_what_would_be_armed_again_is_not_kept_either(placed: World, test: bool) -> None:
    """Level 2 is in a transition that may be reversed; level 1, which it replaces, was to be kept."""
    before = in_its_soak(placed)
    placed.kernel.stalls.add(("lp_2", True))
    assert placed.apply(2, on_stall=OnStall.KEEP).kind is Kind.STALLED
    assert persist.not_persisted(placed.host, test=test).changes == {"persisted": {"old": None, "new": 0}}
    placed.kernel.stalls.clear()
    assert placed.revert().result is True
    assert armed.read_armed(placed.host) == replace(before, persist=test)
    again = persist.not_persisted(placed.host)
    assert (bool(again.changes), kept_levels(placed)) == (test, [])


def test_an_older_armed_record_is_read(placed: World) -> None:
    before = in_its_soak(placed)
    document = read_document(placed.host.settings.armed_file)
    assert not {"replaced", "on_their_way"} & document.keys(), "nor is an older version given what it lacks"
    assert armed.read_armed(placed.host) == before


def test_what_a_newer_version_says_more_locks_no_host(placed: World) -> None:
    proven(placed, 1)
    found_after_crash(placed, evidence=True)
    assert placed.apply(3).result is True
    settings, index = placed.host.settings, store.directory(placed.host, BUILD_ID) / store.INDEX
    for path, where in ((settings.armed_file, ""), (settings.quarantine_file, "modules"), (index, "levels")):
        document = read_document(path)
        for one in document[where] if where else (document,):
            one["new_key"] = ["new"]
        write_document(path, document)
    found = armed.read_armed(placed.host)
    assert found is not None and found.name == "lp_3"
    assert [one.level for one in quarantine.read_warded(placed.host)] == [2]
    assert kept_levels(placed) == [1]


def kept(level: int) -> Kept:
    return Kept(level, f"{level:064}", f"lp_{level}", (), "")


LEVELS = st.integers(1, 9)


@given(st.sets(LEVELS), st.none() | st.integers(0, 9), st.sets(LEVELS))
def test_boot_never_goes_above_its_bound_nor_to_what_is_refused(
    levels: set[int], bound: int | None, refused: set[int]
) -> None:
    offered = tuple(kept(level) for level in sorted(levels, reverse=True))
    choice = nextboot.choose(offered, bound, {kept(level).sha256: "refused" for level in refused})
    allowed = {level for level in levels - refused if bound is None or level <= bound}
    assert choice.level == max(allowed, default=0)
    assert choice.why
    assert nextboot.choose(offered, bound, {}, "a file").kept is None


@given(st.lists(st.sampled_from((60.0, 300.0, 900.0)), unique=True), st.floats(0, 5000))
def test_a_check_is_due_once(marks: list[float], age: float) -> None:
    at = soak.due(tuple(marks), age, 900.0)
    if at is not None:
        assert at <= age and at not in marks
        assert soak.due((*marks, at), age, 900.0) is None
    elif age >= 900:
        assert 900.0 in marks


def found_after_crash(placed: World, evidence: bool) -> Any:
    digest, since = placed.levels[2].sha256, placed.host.now() - 5
    found = armed.Armed(2, "lp_2", digest, BUILD_ID, "the boot before", since, 0.0)
    armed.write_armed(placed.host, found)
    if evidence:
        directory = placed.host.roots.sys / "fs/pstore"
        directory.mkdir(parents=True)
        (directory / "dmesg-ramoops-0").write_bytes(PANIC)
        os.utime(directory / "dmesg-ramoops-0", (placed.host.now(), placed.host.now()))
    return crash.breaker(placed.host, "this boot")


@pytest.mark.parametrize(("evidence", "ward"), [(True, Ward.QUARANTINED), (False, Ward.INCONCLUSIVE)])
def test_what_was_armed_in_another_boot(placed: World, evidence: bool, ward: Ward) -> None:
    warded = found_after_crash(placed, evidence)
    assert warded.ward is ward
    assert any("Kernel panic" in line for line in warded.evidence) is evidence
    assert armed.read_armed(placed.host) is None
    refused = placed.apply(2)
    assert (refused.result, refused.kind) == (False, Kind.QUARANTINED)
    assert placed.apply(1).result is True
    assert persist.release(placed.host, 2, Order("rack power")).result is True
    assert placed.apply(2).result is True


def test_without_the_boot_unit_only_a_crash_counts(placed: World) -> None:
    placed.host.settings.boot_unit.unlink()
    assert found_after_crash(placed, evidence=False) is None
    assert quarantine.read_warded(placed.host) == ()


def test_without_the_unit_that_disarms_only_a_crash_counts(placed: World) -> None:
    """An orderly shutdown would look like a cut of the power."""
    placed.host.settings.disarm_unit.unlink()
    assert placed.apply(1).result is True
    assert "livepatch-disarm.service is not enabled" in persist.persist(placed.host).comment
    assert found_after_crash(placed, evidence=False) is None
    assert quarantine.read_warded(placed.host) == ()
    assert found_after_crash(placed, evidence=True).ward is Ward.QUARANTINED


def test_a_boot_unit_of_before_that_one_disarms_by_itself(placed: World) -> None:
    placed.host.settings.disarm_unit.unlink()
    placed.host.settings.boot_unit.write_text("[Service]\nExecStart=x start\nExecStop=x stop\n")
    assert placed.apply(1).result is True
    assert "enabled" not in persist.persist(placed.host).comment
    assert found_after_crash(placed, evidence=False).ward is Ward.INCONCLUSIVE


def test_an_orderly_shutdown_disarms(placed: World) -> None:
    placed.apply(1)
    assert armed.read_armed(placed.host) is not None
    boot.stop(placed.host)
    assert crash.breaker(placed.host, "the next boot") is None


@pytest.mark.parametrize("where", ["armed_file", "quarantine_file"])
def test_what_cannot_be_understood_loads_nothing(placed: World, where: str) -> None:
    proven(placed, 1)
    path: Path = getattr(placed.host.settings, where)
    path.write_text("{torn")
    outcome = boot.start(replace(placed.host))
    assert (outcome.result, outcome.kind) == (False, Kind.JOURNAL)
    assert placed.patches == ["lp_1"]


def test_a_damaged_store_is_said(placed: World) -> None:
    proven(placed, 1)
    (module,) = store.directory(placed.host, BUILD_ID).glob("*.ko")
    module.write_bytes(b"other")
    (one,) = store.read_store(placed.host, BUILD_ID)
    with pytest.raises(Exception, match="SHA-256"):
        store.read_module(placed.host, BUILD_ID, one)


def test_quarantine_by_hand(placed: World) -> None:
    outcome = persist.put_in_quarantine(placed.host, 2, Order("stalls"))
    assert outcome.changes == {"quarantine": {"old": None, "new": 2}}
    assert placed.apply(2).kind is Kind.QUARANTINED
    assert persist.put_in_quarantine(placed.host, 2, Order("stalls")).changes == {}


def test_failing_health_reverts(placed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    placed.options.update(probes=({"fun": "site.well"},))
    answers = iter([True, False])
    host = replace(placed.host, ask=lambda fun, args: next(answers))
    outcome = apply(host, Wish(level=1, reason="a test"))
    assert (outcome.result, outcome.kind) == (False, Kind.HEALTH)
    assert placed.patches == []
    assert armed.read_armed(placed.host) is None
    assert outcome.details["health"]["verdict"] == "fail"


def test_the_flag(placed: World) -> None:
    persist.put_in_quarantine(placed.host, 2, Order("stalls"))
    assert Flag.QUARANTINED in status.flags(status.look(placed.host))


def held(world: World, level: int | None, build: str, digest: str = "") -> Warded:
    """What the host went down with, without a trace."""
    digest = digest or world.levels[level or 0].sha256
    one = Warded(digest, level, build, Ward.INCONCLUSIVE, "went down", "2026-11-24T10:00:00Z")
    quarantine.add(world.host, one)
    return one


def test_a_release_is_of_the_running_kernel(world: World) -> None:
    """Level numbers of two kernels have nothing to do with each other."""
    other = held(world, 2, OTHER, "b" * 64)
    held(world, 2, BUILD_ID)
    done = persist.release(world.host, 2, Order("rack power"))
    assert (done.result, done.changes) == (True, {"quarantine": {"old": 2, "new": None}})
    assert quarantine.read_warded(world.host) == (other,)
    assert persist.release(world.host, 2, Order("rack power")).changes == {}
    done = persist.release(world.host, other.sha256, Order("rack power"))
    assert (done.result, done.changes) == (True, {"quarantine": {"old": other.sha256, "new": None}})
    assert quarantine.read_warded(world.host) == ()
    assert persist.release(world.host, other.sha256, Order("rack power")).changes == {}


@pytest.mark.parametrize("by", ["level", "digest"])
def test_what_was_loaded_by_hand_is_released(placed: World, by: str) -> None:
    """As the level that it is in the catalog, or by the digest that the refusal names."""
    placed.options["allow_load"] = True
    file = placed.levels[2]
    assert placed.load(file).result is True
    placed.kernel.boot("boot-2")  # the power was cut
    boot.start(placed.host)
    (one,) = quarantine.read_warded(placed.host)
    assert (one.level, one.sha256) == (None, file.sha256)
    refused = placed.apply(2)
    assert refused.kind is Kind.QUARANTINED
    assert file.sha256 in refused.comment
    wanted = 2 if by == "level" else file.sha256
    assert persist.release(placed.host, wanted, Order("rack power")).result is True
    assert placed.apply(2).result is True


@pytest.mark.parametrize("test", [True, False])
def test_a_load_by_hand_judges_the_last_boot_first(placed: World, test: bool) -> None:
    """Where no boot unit did: arming its module would forget what the host went down with."""
    placed.options["allow_load"] = True
    assert placed.apply(2).result is True
    before = armed.read_armed(placed.host)
    placed.kernel.boot("boot-2")
    assert placed.load(placed.levels[2], test=test).kind is (None if test else Kind.QUARANTINED)
    assert placed.load(module("raw"), test=test).result is (None if test else True)
    found = armed.read_armed(placed.host)
    assert found is not None
    if test:
        assert (found, quarantine.read_warded(placed.host)) == (before, ())
    else:
        assert (found.name, [one.level for one in quarantine.read_warded(placed.host)]) == ("raw", [2])


def test_a_release_without_a_catalog(world: World) -> None:
    """By the number alone, then."""
    held(world, 2, BUILD_ID)
    by_hand = held(world, None, BUILD_ID, world.levels[3].sha256)
    host = replace(world.host, fetch=lambda path: None)
    assert persist.release(host, 2, Order("rack power")).result is True
    assert persist.release(host, 3, Order("rack power")).changes == {}
    assert quarantine.read_warded(world.host) == (by_hand,)


@pytest.mark.parametrize("level", [0, -1, True, None, "2", "a" * 63, "g" * 64])
def test_what_cannot_be_released(world: World, level: object) -> None:
    outcome = world.outcome(lambda: persist.release(world.host, level, Order("a test")))
    assert (outcome.result, outcome.kind) == (False, Kind.ARGUMENT)
