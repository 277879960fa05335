"""The last list of blocked levels that this host has seen: at boot there is no catalog to ask."""

from __future__ import annotations

from livepatch_core.catalog.model import Catalog, LevelStatus
from livepatch_core.host.context import Host
from livepatch_core.host.statefile import read_document, write_document


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
    found = read_document(host.settings.blocks_file).get(kernel, {})
    return {str(sha256): str(why) for sha256, why in found.items()}
