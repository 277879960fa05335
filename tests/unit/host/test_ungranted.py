"""An approval that holds on this host and names no level of its kernel build: the refusal says why."""

from __future__ import annotations

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.host import blocks
from livepatch_core.host.settings import Policy
from livepatch_core.words import Kind
from tests.unit.host.fakekernel import BUILD_ID, _note
from tests.unit.host.world import World

OTHER = "bb" * 20  # the build-id of a kernel that came with an update


def updated(world: World) -> None:
    world.kernel._write("sys/kernel/notes", _note(OTHER))


def without_livepatch(world: World) -> None:
    (world.kernel.directory / "sys/kernel/livepatch").rmdir()


@pytest.mark.parametrize("test", [True, False])
def test_the_catalog_has_no_level_for_the_kernel(world: World, test: bool) -> None:
    updated(world)
    outcome = world.apply(approval=world.approval(1, 2), test=test)
    assert (outcome.result, outcome.kind) == (False, Kind.UNCOVERED)
    assert f"rev 1 names no level for this kernel build ({OTHER})" in outcome.comment
    assert outcome.comment.count("nothing was changed") == 1
    assert world.record.rev == (0 if test else 1)


@pytest.mark.parametrize("test", [True, False])
def test_the_kernel_cannot_be_live_patched(world: World, test: bool) -> None:
    """Whatever the catalog says of it, or if it cannot be had."""
    updated(world)
    without_livepatch(world)
    outcome = world.apply(approval=world.approval(1, 2), test=test)
    assert (outcome.result, outcome.kind) == (False, Kind.UNSUPPORTED)
    assert world.record.rev == (0 if test else 1)


def test_the_ledger_names_no_level_that_there_is(world: World) -> None:
    """Then nothing is wrong with the kernel: somebody has to approve it."""
    approval = {**world.approval(1, 2), "builds": {OTHER: {"level": 0}}}
    assert world.apply(approval=approval).kind is Kind.UNAPPROVED


def test_without_a_catalog_nothing_else_is_known(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(self: World, path: str) -> bytes | None:
        raise LivepatchError(Kind.CATALOG, f"{path} could not be fetched; nothing was changed.")

    updated(world)
    monkeypatch.setattr(World, "fetch", fetch)
    assert world.apply(approval=world.approval(1, 2)).kind is Kind.UNAPPROVED


def test_no_approval_at_all(world: World) -> None:
    """Nobody said anything: that is no matter of the kernel."""
    updated(world)
    without_livepatch(world)
    assert world.apply().kind is Kind.UNAPPROVED
    assert world.outcome(lambda: world.apply(2, reason="")).kind is Kind.UNAPPROVED
    frozen = {"error": "the fleet is frozen", "kind": "frozen"}
    assert world.apply(approval=frozen).kind is Kind.FROZEN


@pytest.mark.parametrize("test", [True, False])
def test_the_newest_level_of_a_kernel_that_cannot_be_live_patched(world: World, test: bool) -> None:
    world.options["policy"] = Policy.NEWEST
    updated(world)
    assert world.apply(test=test).kind is Kind.UNCOVERED
    without_livepatch(world)
    assert world.apply(test=test).kind is Kind.UNSUPPORTED


def test_blocks_are_seen_all_the_same(world: World) -> None:
    world.entries[2] = {"status": "blocked", "reason": "leaks"}
    approval = {**world.approval(1, 2), "builds": {OTHER: {"level": 0}}}
    assert world.apply(approval=approval).kind is Kind.UNAPPROVED
    assert list(blocks.read_blocks(world.host, BUILD_ID)) == [world.levels[2].sha256]
