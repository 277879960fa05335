"""The last list of blocked levels that this host has seen: at boot there is no catalog to ask."""

from __future__ import annotations

from livepatch_core.catalog.model import Catalog, LevelStatus
from livepatch_core.errors import LivepatchError
from livepatch_core.host.context import Host
from livepatch_core.host.offer import read_catalog
from livepatch_core.host.statefile import MISFITS, read_document, unreadable, write_document
from livepatch_core.kernel.identity import Identity


def look(host: Host, kernel: Identity) -> None:
    """``note`` for a host that loads nothing now (it holds, or is at level 0): a block reaches it all the
    same, if the catalog can be had.

    That a catalog is missing or damaged is for who is going to load from it.
    """
    try:
        note(host, read_catalog(host, kernel.release))
    except LivepatchError:
        pass


def note(host: Host, catalog: Catalog) -> None:
    """Remember what the catalog blocks, for each kernel build it has: which of them boots next nobody knows.
    Writes only when something has changed."""
    blocked = {
        build.build_id: {
            level.sha256: f"blocked ({level.reason or 'no reason given'})"
            for level in build.levels.values()
            if level.status is LevelStatus.BLOCKED
        }
        for build in catalog.builds.values()
    }
    known = read_document(host.settings.blocks_file)
    if any(known.get(build, {}) != those for build, those in blocked.items()):
        write_document(host.settings.blocks_file, {**known, **blocked})


def read_blocks(host: Host, kernel: str) -> dict[str, str]:
    """Why, by the digest of the module. Raises LivepatchError (journal)."""
    path = host.settings.blocks_file
    try:
        found = read_document(path).get(kernel, {})
        return {str(sha256): str(why) for sha256, why in found.items()}
    except MISFITS as problem:
        raise unreadable(path, problem) from problem
