from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from livepatch_core.catalog.entry import Publication, parse_fixes
from livepatch_core.catalog.model import LevelStatus
from livepatch_core.catalog.publish import publish
from livepatch_core.catalog.read import parse_catalog
from livepatch_core.catalog.resolve import find_level
from livepatch_core.catalog.settings import Master
from livepatch_core.catalog.shelf import read_shelves
from livepatch_core.catalog.standing import block, promote, unblock
from livepatch_core.catalog.transfer import listing
from livepatch_core.catalog.verify import verify
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind
from tests.unit.catalog.modules import BUILD, BY, OTHER_BUILD, RELEASE, master_in, module, published


@pytest.fixture
def master(tmp_path: Path) -> Master:
    master = master_in(tmp_path)
    published(master, 1)
    published(master, 2)
    return master


def seen(master: Master) -> dict[int, LevelStatus]:
    """What hosts read."""
    catalog = parse_catalog((master.served / RELEASE / "catalog.yaml").read_bytes())
    return {number: level.status for number, level in catalog.builds[BUILD].levels.items()}


def statuses(master: Master) -> dict[int, LevelStatus]:
    return {one.level.number: one.status for one in read_shelves(master, RELEASE).standings()}


def refused(act: Any, *arguments: Any) -> LivepatchError:
    with pytest.raises(LivepatchError) as caught:
        act(*arguments)
    return caught.value


def test_promotion_shows_the_level_and_its_module(master: Master) -> None:
    done = promote(master, 1, None, None, BY)
    assert (done["old"], done["new"]) == ("testing", "released")
    assert seen(master) == {1: LevelStatus.RELEASED}
    assert [path.name for path in (master.served / RELEASE).glob("*.ko")] == [
        path.name for path in (master.served / RELEASE).glob("livepatch_1-*.ko")
    ]
    assert not list((master.withheld / RELEASE).glob("livepatch_1-*"))
    assert statuses(master) == {1: LevelStatus.RELEASED, 2: LevelStatus.TESTING}
    assert verify(master) == (2, [])


def test_promotion_of_a_damaged_module(master: Master) -> None:
    (path,) = (master.withheld / RELEASE).glob("livepatch_1-*")
    path.write_bytes(path.read_bytes()[:-1])
    assert "has SHA-256" in refused(promote, master, 1, None, None, BY).message
    assert not master.served.exists()


def test_block_and_unblock_a_released_level(master: Master) -> None:
    promote(master, 1, BUILD, RELEASE, BY)
    block(master, 1, None, None, BY)
    catalog = parse_catalog((master.served / RELEASE / "catalog.yaml").read_bytes())
    error = refused(find_level, catalog, BUILD, 1)
    assert error.kind is Kind.BLOCKED
    assert "a test" in error.message
    unblock(master, 1, None, None, BY)
    assert seen(master) == {1: LevelStatus.RELEASED}
    (one, _) = read_shelves(master, RELEASE).standings()
    assert one.level.reason == ""


def test_block_of_a_withheld_level_is_seen_without_it(master: Master) -> None:
    block(master, 2, None, None, BY)
    assert seen(master) == {2: LevelStatus.BLOCKED}
    assert not list((master.served / RELEASE).glob("*.ko"))
    text = (master.served / RELEASE / "catalog.yaml").read_text()
    assert "CVE" not in text
    assert statuses(master)[2] is LevelStatus.BLOCKED
    assert verify(master) == (2, [])
    assert "is blocked, not in testing" in refused(promote, master, 2, None, None, BY).message
    assert "blocked already: a test" in refused(block, master, 2, None, None, BY).message
    unblock(master, 2, None, None, BY)
    assert seen(master) == {}
    assert statuses(master)[2] is LevelStatus.TESTING
    assert promote(master, 2, None, None, BY)["new"] == "released"


def test_wrong_turns(master: Master) -> None:
    assert "no level 9" in refused(promote, master, 9, None, None, BY).message
    assert "not blocked" in refused(unblock, master, 1, None, None, BY).message
    assert refused(block, master, "1", None, None, BY).kind is Kind.ARGUMENT
    assert refused(block, master, True, None, None, BY).kind is Kind.ARGUMENT
    assert refused(block, master, 1, None, "../x", BY).kind is Kind.ARGUMENT
    promote(master, 1, None, None, BY)
    assert "is released" in refused(promote, master, 1, None, None, BY).message


def test_kernel_build_must_be_named_where_it_is_not_clear(master: Master) -> None:
    publish(master, module(built_for=OTHER_BUILD), Publication(author=BY))
    error = refused(block, master, 1, None, None, BY)
    assert BUILD in error.message
    assert OTHER_BUILD in error.message
    assert block(master, 1, OTHER_BUILD, None, BY)["kernel_build"] == OTHER_BUILD
    assert statuses(master)[2] is LevelStatus.TESTING


def test_history_says_who_and_why(master: Master) -> None:
    promote(master, 1, None, None, BY)
    block(master, 1, None, None, BY)
    history = listing(master)[RELEASE][BUILD][1]["history"]
    assert [(one["act"], one["who"]) for one in history] == [
        ("publish", "alice"),
        ("promote", "alice"),
        ("block", "alice"),
    ]


def beside(master: Master, loss: str = "") -> None:
    """Level 3, made while level 2 was blocked: it has what level 1 has, not what level 2 has."""
    block(master, 2, None, None, BY)
    data = module("livepatch_3", ("f1", "f9"))
    publish(master, data, Publication(BY, level=3, fixes=parse_fixes("CVE-2026-1001"), loss=loss))


def test_an_unblocked_level_is_in_what_is_above_it(master: Master) -> None:
    """Or the next step up would take away what hosts at this level have."""
    beside(master)
    assert verify(master) == (3, [])
    error = refused(unblock, master, 2, None, None, BY)
    assert error.kind is Kind.CATALOG
    assert "level 3 is in the way, it lacks what level 2 has, and does not say why:" in error.message
    assert "vmlinux:f2, CVE-2026-1002" in error.message
    assert statuses(master)[2] is LevelStatus.BLOCKED
    assert verify(master) == (3, [])


def test_a_level_above_that_says_its_loss(master: Master) -> None:
    beside(master, loss="level 2 was wrong")
    unblock(master, 2, None, None, BY)
    assert verify(master) == (3, [])


def test_one_of_two_stays_blocked(master: Master) -> None:
    """A level that is blocked takes nothing away; it is asked when it is to be unblocked itself."""
    beside(master)
    block(master, 3, None, None, BY)
    unblock(master, 2, None, None, BY)
    assert verify(master) == (3, [])
    assert "lacks what level 2 has" in refused(unblock, master, 3, None, None, BY).message


def test_what_was_lost_before_the_block_forbids_no_unblock(master: Master) -> None:
    """Of another pair of levels: it is not this act that loses it."""
    publish(master, module("livepatch_3", ("f9",)), Publication(BY, level=3, loss="for now"))
    text = (path := master.withheld / RELEASE / "catalog.yaml").read_text()
    path.write_text(text.replace("loss: for now", "notes: for now"))
    publish(master, module("livepatch_4", ("f9",)), Publication(BY, level=4))
    before = verify(master)
    block(master, 4, None, None, BY)
    unblock(master, 4, None, None, BY)
    assert verify(master) == before
