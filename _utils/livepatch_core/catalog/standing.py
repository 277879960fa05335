"""Promote, block and unblock a level: what the fleet may see and load of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import yaml

from livepatch_core.catalog import files, rewrite, signature
from livepatch_core.catalog.author import Author
from livepatch_core.catalog.model import LevelStatus
from livepatch_core.catalog.settings import Master
from livepatch_core.catalog.shelf import NOTICE, Shelves, Standing, is_notice, read_shelves, releases
from livepatch_core.catalog.verify import module_problems, order
from livepatch_core.durable import make_directory, remove_durably, write_atomically
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind

UNCHANGED = "nothing was changed"
UNSURE = "the catalog is whole, and livepatch_catalog.list shows how far this came"


def promote(
    master: Master, level: int, kernel_build: str | None, release: str | None, by: Author
) -> dict[str, Any]:
    """testing -> released: module first, then the entry the fleet sees, then what was withheld goes."""
    with files.exclusive(master, master.catalog_lock), files.writable(master, UNSURE):
        shelves, one = _find(master, level, kernel_build, release)
        if one.status is not LevelStatus.TESTING:
            raise _refused(f"{_named(one)} is {one.status}, not in testing", "See livepatch_catalog.list.")
        problems = module_problems(one)
        if problems:
            raise _refused(f"{_named(one)} cannot be promoted: {problems[0]}", "Publish it again.")
        source = one.directory / one.level.module
        entry = one.entry
        _note(entry, LevelStatus.RELEASED, "", by.record("promote"))
        shelves.served.put(one.build_id, one.version, level, entry)
        shelves.served.sign(one.build_id, level, master, "promoting it")
        shelves.served.render()  # refuses before anything is written
        make_directory(shelves.served.directory, files.DIRECTORY, master.owner)
        served = shelves.served.directory / one.level.module
        write_atomically(served, source.read_bytes(), files.FILE, master.owner)
        shelves.served.save(master)
        shelves.withheld.drop(one.build_id, level)
        shelves.withheld.save(master)
        remove_durably(source)
    return _outcome(one, LevelStatus.RELEASED)


def block(
    master: Master, level: int, kernel_build: str | None, release: str | None, by: Author
) -> dict[str, Any]:
    """No host may go to this level; those that look see why.

    Without the publisher's key an entry loses its signature: hosts obey a block that nobody signed, because
    whoever serves the catalog could as well serve none.
    """
    with files.exclusive(master, master.catalog_lock), files.writable(master, UNSURE):
        shelves, one = _find(master, level, kernel_build, release)
        if one.status is LevelStatus.BLOCKED:
            raise _refused(f"{_named(one)} is blocked already: {_reason(shelves, one)}")
        if one.status is LevelStatus.TESTING:
            _block_withheld(master, shelves, one, by)
        else:
            _note(one.entry, LevelStatus.BLOCKED, by.why, by.record("block"))
            _sign_if_possible(shelves, one, master)
            shelves.served.save(master)
    return _outcome(one, LevelStatus.BLOCKED)


def unblock(
    master: Master, level: int, kernel_build: str | None, release: str | None, by: Author
) -> dict[str, Any]:
    """Back to what it was before the block."""
    with files.exclusive(master, master.catalog_lock), files.writable(master, UNSURE):
        shelves, one = _find(master, level, kernel_build, release)
        if one.status is not LevelStatus.BLOCKED:
            raise _refused(f"{_named(one)} is {one.status}, not blocked")
        _check_order(shelves, one)
        public = shelves.served.entry(one.build_id, level)
        if public is not None and is_notice(public):
            _record(shelves, one, master, by.record("unblock"))
            shelves.served.drop(one.build_id, level)
            status = LevelStatus.TESTING
        else:
            status = LevelStatus.RELEASED
            _note(one.entry, status, "", by.record("unblock"))
            shelves.served.sign(one.build_id, level, master, "unblocking it")
        shelves.served.save(master)
    return _outcome(one, status)


def _check_order(shelves: Shelves, one: Standing) -> None:
    """Raises LivepatchError where a level that was made without this one would take away what this one has,
    or this one what one below it has."""
    there = [each for each in shelves.standings() if each.build_id == one.build_id]
    back = [replace(each, status=LevelStatus.RELEASED) if each.level == one.level else each for each in there]
    known = list(order(there))
    found = next((new for new in order(back) if new not in known and not new.warning), None)
    if found is not None:
        raise _refused(
            f"{_named(one)} cannot be unblocked: level {found.level} is in the way, {found.text}",
            "Leave it blocked; or block the level that lacks that, and publish one that has all.",
        )


def _block_withheld(master: Master, shelves: Shelves, one: Standing, by: Author) -> None:
    """The notice first: it is what is in force."""
    fields = {
        "status": str(LevelStatus.BLOCKED),
        "module": one.level.module,
        "name": one.level.name,
        "sha256": one.level.sha256,
        "reason": by.why,
        NOTICE: True,
    }
    shelves.served.put(one.build_id, one.version, one.level.number, rewrite.mapping_of(fields))
    _sign_if_possible(shelves, one, master)
    shelves.served.save(master)
    _record(shelves, one, master, by.record("block"))


def _record(shelves: Shelves, one: Standing, master: Master, act: dict[str, str]) -> None:
    rewrite.add(one.entry, "history", act)
    if master.sign_key is None:
        rewrite.drop(one.entry, signature.FIELD)  # nobody checks it before it is promoted, and signed then
    shelves.withheld.sign(one.build_id, one.level.number, master, "noting it")
    shelves.withheld.save(master)


def _sign_if_possible(shelves: Shelves, one: Standing, master: Master) -> None:
    entry = shelves.served.entry(one.build_id, one.level.number)
    assert entry is not None
    if master.sign_key is None:
        rewrite.drop(entry, signature.FIELD)
    shelves.served.sign(one.build_id, one.level.number, master, "blocking it")


def _note(entry: yaml.MappingNode, status: LevelStatus, reason: str, act: dict[str, str]) -> None:
    rewrite.put(entry, "status", rewrite.node_of(str(status)))
    if reason:
        rewrite.put(entry, "reason", rewrite.node_of(reason))
    else:
        rewrite.drop(entry, "reason")
    rewrite.add(entry, "history", act)


def _find(
    master: Master, level: int, kernel_build: str | None, release: str | None
) -> tuple[Shelves, Standing]:
    """The one level that is meant; raises LivepatchError when it is none or several."""
    if type(level) is not int or level < 1:
        raise LivepatchError(
            Kind.ARGUMENT,
            f"The level is {level!r}, not an integer from 1; {UNCHANGED}.",
            remedy="livepatch_catalog.list shows the levels.",
        )
    found = []
    for name in [release] if release is not None else releases(master):
        shelves = read_shelves(master, name)
        found += [
            (shelves, one)
            for one in shelves.standings()
            if one.level.number == level and kernel_build in (None, one.build_id)
        ]
    if not found:
        where = f" for kernel build {kernel_build}" if kernel_build else ""
        raise _refused(f"The catalog has no level {level}{where}", "See livepatch_catalog.list.")
    if len(found) > 1:
        builds = ", ".join(f"{one.build_id} ({one.release})" for _, one in found)
        text = f"{len(found)} kernel builds have a level {level}: {builds}"
        raise _refused(text, "Name one: kernel_build=.")
    return found[0]


def _reason(shelves: Shelves, one: Standing) -> str:
    entry = shelves.served.entry(one.build_id, one.level.number)
    field = rewrite.get(entry, "reason")
    return "no reason was given" if field is None else str(field.value)


def _outcome(one: Standing, status: LevelStatus) -> dict[str, Any]:
    return {
        "release": one.release,
        "kernel_build": one.build_id,
        "level": one.level.number,
        "module": one.level.name,
        "old": str(one.status),
        "new": str(status),
    }


def _named(one: Standing) -> str:
    return f"Level {one.level.number} of kernel build {one.build_id} ({one.release})"


def _refused(text: str, remedy: str = "") -> LivepatchError:
    return LivepatchError(Kind.CATALOG, f"{text}; {UNCHANGED}.", remedy=remedy)
