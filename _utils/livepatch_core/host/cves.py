"""Which CVEs are fixed in the running kernel, which the catalog could fix, and which nothing covers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from livepatch_core.catalog.model import Catalog, Level, LevelStatus
from livepatch_core.errors import LivepatchError
from livepatch_core.host.context import Host
from livepatch_core.host.offer import read_catalog
from livepatch_core.words import Kind


def cves(host: Host, document: Mapping[str, Any]) -> dict[str, Any]:
    """``catalog`` is why it could not be read, or None; then ``fixable`` and ``uncovered`` are None.
    document: of livepatch.status."""
    fixed, kernel = document["fixes"], document["kernel"]
    try:
        catalog = read_catalog(host, kernel["release"])
    except LivepatchError as problem:
        if problem.kind is not Kind.UNCOVERED:
            return {"fixed": fixed, "fixable": None, "uncovered": None, "catalog": problem.message}
        return {"fixed": fixed, "fixable": [], "uncovered": [], "catalog": problem.message}
    return {"fixed": fixed, **sort(catalog, kernel["build_id"] or "", fixed), "catalog": None}


def sort(catalog: Catalog, build_id: str, fixed: Iterable[str]) -> dict[str, list[str]]:
    """Pure. uncovered: what some level of this release names, but no released one of this build."""
    build = catalog.builds.get(build_id)
    mine: Mapping[int, Level] = build.levels if build else {}
    named = _named(level for one in catalog.builds.values() for level in one.levels.values())
    released = _named(level for level in mine.values() if level.status is LevelStatus.RELEASED)
    done = set(fixed)
    return {"fixable": sorted(released - done), "uncovered": sorted(named - released - done)}


def _named(levels: Iterable[Level]) -> set[str]:
    """A fix may have no CVE, only a summary."""
    return {fix.cve for level in levels for fix in level.fixes if fix.cve}
