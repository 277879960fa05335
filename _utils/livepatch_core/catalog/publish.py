"""A module becomes a level in testing. The module's file is written first, the catalog's entry last: a reader
never meets an entry without its module, and who dies in between leaves a file that nobody names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from livepatch_core.catalog import files, rewrite
from livepatch_core.catalog.entry import (
    Publication,
    check_publishable,
    functions_of,
    kernel_build_of,
    missing,
    new_entry,
)
from livepatch_core.catalog.model import Fix, Level, LevelStatus
from livepatch_core.catalog.read import BUILD_ID
from livepatch_core.catalog.settings import Master
from livepatch_core.catalog.shelf import Shelf, Shelves, Standing, check_release, read_shelves
from livepatch_core.durable import make_directory, write_atomically
from livepatch_core.errors import LivepatchError
from livepatch_core.modulefile.model import ModuleFile
from livepatch_core.modulefile.read import read_module
from livepatch_core.words import Kind

UNCHANGED = "nothing was published"
UNSURE = "the catalog is whole, and livepatch_catalog.list shows whether this was published"


def publish(master: Master, data: bytes, wanted: Publication) -> dict[str, Any]:
    """Publish the module in ``data`` as a level in testing; what was published, as plain data.

    Raises LivepatchError: module-format, not-livepatch, kernel-mismatch, catalog, argument, privilege. The
    catalog is then as it was.
    """
    module = read_module(data)
    check_publishable(module)
    build_id = kernel_build_of(module, wanted.kernel_build)
    if not BUILD_ID.fullmatch(build_id):
        raise _refused(Kind.ARGUMENT, f"{build_id!r} is not a build-id in hex")
    release = check_release(module.release)
    with files.exclusive(master, master.catalog_lock), files.writable(master, UNSURE):
        shelves = read_shelves(master, release)
        number, wanted = _place(shelves, build_id, module, wanted)
        entry = new_entry(module, wanted)
        shelf = shelves.withheld
        shelf.put(build_id, wanted.version, number, rewrite.mapping_of(entry))
        shelf.sign(build_id, number, master, "publishing")
        shelf.render()  # refuses before anything is written
        path = shelf.directory / entry["module"]
        make_directory(path.parent, owner=master.owner)
        write_atomically(path, data, files.FILE, master.owner)
        try:
            shelf.save(master)
        except OSError:
            _make_room(shelf, path)
            raise
    return {"release": release, "kernel_build": build_id, "level": number, **entry}


def _make_room(shelf: Shelf, module: Path) -> None:
    """Remove a module that no entry names. Writing can fail after the new catalog took its place, when its
    directory cannot be synced: then the level is published.
    """
    entries = shelf.path.read_bytes() if shelf.path.exists() else b""
    if module.name.encode() not in entries:
        module.unlink(missing_ok=True)


def _place(
    shelves: Shelves, build_id: str, module: ModuleFile, wanted: Publication
) -> tuple[int, Publication]:
    """The level's number and the publication with the fixes of the level below; raises LivepatchError."""
    there = [one for one in shelves.standings() if one.build_id == build_id]
    number = _highest(there) + 1 if wanted.level is None else wanted.level
    if type(number) is not int or number < 1:
        raise _refused(Kind.ARGUMENT, f"The level is {number!r}, not an integer from 1")
    lower = _kept(there)
    if lower is not None and not wanted.loss:
        named = {fix.cve for fix in wanted.fixes if fix.cve}
        inherited = tuple(fix for fix in lower.fixes if fix not in wanted.fixes and fix.cve not in named)
        wanted = replace(wanted, fixes=(*inherited, *wanted.fixes))
    found = fault(there, number, module.name, functions_of(module), wanted.fixes, bool(wanted.loss))
    if found is not None:
        raise _refused(Kind.CATALOG, f"Level {number} {found.what}", found.remedy)
    return number, wanted


@dataclass(frozen=True)
class Fault:
    """what: the rest of a sentence that begins with the level."""

    what: str
    remedy: str


def fault(
    there: Sequence[Standing],
    number: int,
    name: str,
    functions: Mapping[str, Iterable[str]],
    fixes: Iterable[Fix],
    loss: bool,
) -> Fault | None:
    """Why a level may not come to those of its kernel build, which are in order; None where it may. Pure.

    name: of its module. loss: it says why it lacks what the one below it has.
    """
    free = f"Publish it as level {_highest(there) + 1}."
    if any(one.level.number == number for one in there):
        return Fault("exists for this kernel build, and what was published is never replaced", free)
    if number < _highest(there):
        return Fault(f"would come below level {_highest(there)}, which is here already", free)
    same = next((one.level.number for one in there if one.level.name == name), None)
    if same is not None:
        return Fault(
            f"has a module named {name} too, as level {same} has, and a kernel cannot hold two modules of "
            "one name while one replaces the other",
            "Build it under another name.",
        )
    lower = _kept(there)
    lost = missing(lower, functions, fixes) if lower is not None and not loss else []
    if lower is not None and lost:
        return Fault(
            f"lacks what level {lower.number} has, and does not say why: {', '.join(lost)}",
            "Build the module from all patches; or say why in loss='...'.",
        )
    return None


def _highest(there: Sequence[Standing]) -> int:
    return max((one.level.number for one in there), default=0)


def _kept(there: Sequence[Standing]) -> Level | None:
    """The level that the next one has to contain: what is blocked need not be kept."""
    return next((one.level for one in reversed(there) if one.status is not LevelStatus.BLOCKED), None)


def _refused(kind: Kind, text: str, remedy: str = "") -> LivepatchError:
    return LivepatchError(kind, f"{text}; {UNCHANGED}.", remedy=remedy)
