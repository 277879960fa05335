"""The catalog as a list for people, as a tree for a Git repository, and from such a tree."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from livepatch_core.catalog import files, rewrite, signature
from livepatch_core.catalog.author import Author
from livepatch_core.catalog.model import Level, LevelStatus
from livepatch_core.catalog.publish import fault
from livepatch_core.catalog.read import parse_catalog
from livepatch_core.catalog.settings import SERVED, Master
from livepatch_core.catalog.shelf import (
    CATALOG_FILE,
    Shelf,
    Shelves,
    Standing,
    check_release,
    is_notice,
    read_shelves,
    releases,
)
from livepatch_core.catalog.verify import module_problems
from livepatch_core.durable import PRIVATE_DIRECTORY, make_directory, write_atomically
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind


def listing(master: Master, release: str | None = None) -> dict[str, Any]:
    """Release -> kernel build -> level -> what people ask of it."""
    shown: dict[str, Any] = {}
    for name in [release] if release is not None else releases(master):
        for one in read_shelves(master, name).standings():
            build = shown.setdefault(name, {}).setdefault(one.build_id, {})
            build[one.level.number] = _shown(one)
    return shown


def _shown(one: Standing) -> dict[str, Any]:
    level = one.level
    document: dict[str, Any] = {
        "status": str(one.status),
        "module": level.name,
        "sha256": level.sha256,
        "fixes": [fix.cve or fix.summary for fix in level.fixes],
        "functions": {name: list(those) for name, those in level.functions.items()},
        "history": rewrite.texts(rewrite.get(one.entry, "history") or rewrite.node_of([])),
    }
    if level.reason:
        document["reason"] = level.reason
    return document


def export(master: Master, destination: Path) -> list[str]:
    """Lay out what the fleet sees as a tree to be committed: ``livepatch/<release>/``. The files written.

    The modules first; what stands there of an earlier export is replaced, nothing is removed. Raises
    LivepatchError (catalog) before it writes anything if the catalog itself is not sound.
    """
    found = [read_shelves(master, name) for name in releases(master)]
    public = {
        shelves.release: [one for one in shelves.standings() if _exposed(shelves, one)] for shelves in found
    }
    for one in (one for those in public.values() for one in those):
        problems = module_problems(one)
        if problems:
            raise LivepatchError(
                Kind.CATALOG,
                f"Level {one.level.number} of kernel build {one.build_id} is not sound: {problems[0]}; "
                "nothing was written.",
                remedy="Run livepatch_catalog.verify.",
            )
    written = []
    with files.writable(master, "the export is incomplete"):
        for shelves in found:
            if not shelves.served.read.builds:
                continue
            directory = destination / SERVED / shelves.release
            make_directory(directory, files.DIRECTORY, master.owner)
            for one in public[shelves.release]:
                data = (one.directory / one.level.module).read_bytes()
                write_atomically(directory / one.level.module, data, files.FILE, master.owner)
                written.append(f"{SERVED}/{shelves.release}/{one.level.module}")
            write_atomically(directory / CATALOG_FILE, shelves.served.render(), files.FILE, master.owner)
            written.append(f"{SERVED}/{shelves.release}/{CATALOG_FILE}")
    return written


def _exposed(shelves: Shelves, one: Standing) -> bool:
    return one.directory == shelves.served.directory and not is_notice(one.entry)


def import_dir(master: Master, source: Path, by: Author, as_is: bool = False) -> list[dict[str, Any]]:
    """Take over the levels of another catalog: ``<source>/<release>/catalog.yaml`` with its modules, or a
    tree that ``export`` wrote. A level that is here already, with the same module, is left alone.

    as_is: keep status and signature, so that a level that was released there is released here; else it
    starts in testing. Blocked levels stay blocked. Everything is checked before anything is written. What
    was imported. Raises LivepatchError.
    """
    catalogs = _found(source)
    unfinished = "some modules may have been copied, levels that are not listed were not imported"
    with files.exclusive(master, master.catalog_lock), files.writable(master, unfinished):
        planned = []
        for path in catalogs:
            foreign = _foreign(path)
            shelves = read_shelves(master, foreign.release)
            new = [one for one in _standings(foreign) if _is_new(shelves, one)]
            _check_order(list(shelves.standings()), new)
            planned.append((shelves, new))
        imported = []
        for shelves, new in planned:
            for one in new:
                status = one.status if as_is or one.status is LevelStatus.BLOCKED else LevelStatus.TESTING
                imported.append(_take(master, shelves, one, status, by, as_is))
            if new:
                shelves.withheld.save(master)
                shelves.served.save(master)
    return imported


def _found(source: Path) -> list[Path]:
    catalogs = sorted([*source.glob(f"*/{CATALOG_FILE}"), *source.glob(f"{SERVED}/*/{CATALOG_FILE}")])
    if not catalogs:
        raise LivepatchError(
            Kind.ARGUMENT,
            f"There is no <release>/{CATALOG_FILE} in {source}; nothing was imported.",
            remedy="Give the directory that export wrote, an absolute path on the master.",
        )
    releases_found = [path.parent.name for path in catalogs]
    twice = next((name for name in releases_found if releases_found.count(name) > 1), None)
    if twice is not None:
        raise LivepatchError(
            Kind.ARGUMENT,
            f"{source} has a catalog for {twice} twice, in itself and in {SERVED}; nothing was imported.",
            remedy="Give the one directory that is meant.",
        )
    return catalogs


def _foreign(path: Path) -> Shelf:
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise LivepatchError(
            Kind.ARGUMENT,
            f"{path} cannot be read ({problem.strerror}); nothing was imported.",
            remedy="See that the master's user may read it.",
        ) from problem
    catalog = parse_catalog(data, str(path))
    return Shelf(path.parent, check_release(catalog.release), rewrite.compose(data, str(path)), catalog)


def _standings(shelf: Shelf) -> list[Standing]:
    empty = Shelf(shelf.directory / ".none", shelf.release, rewrite.mapping_of({}), _nothing(shelf))
    return [one for one in Shelves(shelf, empty).standings() if not is_notice(one.entry)]


def _nothing(shelf: Shelf) -> Any:
    return type(shelf.read)(shelf.read.schema, shelf.release, {})


def _is_new(shelves: Shelves, one: Standing) -> bool:
    """False for what is here already; raises LivepatchError where the two differ, or it is not sound."""
    here = shelves.find(one.build_id, one.level.number)
    if here is not None:
        if here.level.sha256 == one.level.sha256:
            return False
        raise _refused(one, f"is here with another module (SHA-256 {here.level.sha256})")
    problems = module_problems(one)
    if problems:
        raise _refused(one, f"is not sound: {problems[0]}")
    return True


def _check_order(here: list[Standing], new: list[Standing]) -> None:
    """Levels come in as if they were published one after the other."""
    for one in new:
        there = [other for other in here if other.build_id == one.build_id]
        level, explained = one.level, rewrite.get(one.entry, "loss") is not None
        found = fault(there, level.number, level.name, level.functions, level.fixes, explained)
        if found is not None:
            raise _refused(one, found.what)
        here.append(one)


def _take(
    master: Master, shelves: Shelves, one: Standing, status: LevelStatus, by: Author, as_is: bool
) -> dict[str, Any]:
    """Module now, entry into the shelf that is saved afterwards."""
    shelf = shelves.withheld if status is LevelStatus.TESTING else shelves.served
    unchanged = as_is and status is one.status
    if not unchanged:
        rewrite.put(one.entry, "status", rewrite.node_of(str(status)))
        rewrite.add(one.entry, "history", by.record("import"))
        rewrite.drop(one.entry, signature.FIELD)
    data = (one.directory / one.level.module).read_bytes()
    if hashlib.sha256(data).hexdigest() != one.level.sha256:
        raise _refused(one, "changed while it was read")
    private = shelf is shelves.withheld
    make_directory(shelf.directory, PRIVATE_DIRECTORY if private else files.DIRECTORY, master.owner)
    write_atomically(shelf.directory / one.level.module, data, files.FILE, master.owner)
    shelf.put(one.build_id, one.version, one.level.number, one.entry)
    if not unchanged:
        shelf.sign(one.build_id, one.level.number, master, "importing it")
    return _imported(one.release, one.build_id, one.level, status)


def _imported(release: str, build_id: str, level: Level, status: LevelStatus) -> dict[str, Any]:
    return {"release": release, "kernel_build": build_id, "level": level.number, "status": str(status)}


def _refused(one: Standing, what: str) -> LivepatchError:
    return LivepatchError(
        Kind.CATALOG,
        f"Level {one.level.number} of kernel build {one.build_id} ({one.release}) {what}; nothing was "
        "imported.",
        remedy="Mend the source, or publish the module as a level of its own.",
    )
