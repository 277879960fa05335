"""The last list of blocked levels that this host has seen: at boot there is no catalog to ask."""

from __future__ import annotations

from livepatch_core.catalog.model import Catalog, LevelStatus
from livepatch_core.errors import LivepatchError
from livepatch_core.host.context import Host
from livepatch_core.host.offer import read_catalog
from livepatch_core.host.statefile import MISFITS, read_document, unreadable, write_document
from livepatch_core.kernel.identity import Identity


def look(host: Host, kernel: Identity) -> None:
    """``note`` for a host that is told to hold: a block reaches it all the same, if the catalog can be had.

    Why it holds is what it says; that a catalog is missing or damaged is for who is going to load from it.
    """
    try:
        note(host, read_catalog(host, kernel.release), kernel.build_id)
    except LivepatchError:
        pass


def note(host: Host, catalog: Catalog, kernel: str | None) -> None:
    """Remember what the catalog blocks for this kernel build; writes only when that has changed."""
    build = catalog.builds.get(kernel or "")
    if build is None:
        return
    blocked = {
        level.sha256: f"blocked ({level.reason or 'no reason given'})"
        for level in build.levels.values()
        if level.status is LevelStatus.BLOCKED
    }
    known = read_document(host.settings.blocks_file)
    if known.get(build.build_id, {}) != blocked:
        write_document(host.settings.blocks_file, {**known, build.build_id: blocked})


def read_blocks(host: Host, kernel: str) -> dict[str, str]:
    """Why, by the digest of the module. Raises LivepatchError (journal)."""
    path = host.settings.blocks_file
    try:
        found = read_document(path).get(kernel, {})
        return {str(sha256): str(why) for sha256, why in found.items()}
    except MISFITS as problem:
        raise unreadable(path, problem) from problem
