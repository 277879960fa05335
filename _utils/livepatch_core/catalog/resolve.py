"""Which level of a catalog is meant. Pure."""

from __future__ import annotations

from livepatch_core.catalog.model import Build, Catalog, Level, LevelStatus
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind


def find_level(catalog: Catalog, build_id: str, number: int) -> Level:
    """Level ``number`` for this kernel build; raises LivepatchError (uncovered, catalog, blocked)."""
    level = _build(catalog, build_id).levels.get(number)
    if level is None:
        raise LivepatchError(
            Kind.CATALOG,
            f"The catalog of {catalog.release} has no level {number} for kernel build {build_id}; "
            "nothing was changed.",
            remedy="See livepatch.available for the levels there are.",
        )
    if level.status is LevelStatus.BLOCKED:
        raise LivepatchError(
            Kind.BLOCKED,
            f"Level {number} is blocked for kernel build {build_id}: "
            f"{level.reason or 'no reason was given'}; nothing was changed.",
            remedy="Approve another level.",
        )
    return level


def newest(catalog: Catalog, build_id: str) -> Level | None:
    """The highest level that is released for this kernel build; None when there is none."""
    build = catalog.builds.get(build_id)
    released = [one for one in build.levels.values() if one.status is LevelStatus.RELEASED] if build else []
    return max(released, key=lambda level: level.number, default=None)


def _build(catalog: Catalog, build_id: str) -> Build:
    build = catalog.builds.get(build_id)
    if build is None:
        raise LivepatchError(
            Kind.UNCOVERED,
            f"The catalog of {catalog.release} covers {len(catalog.builds)} kernel builds, but not "
            f"{build_id}, which is running; nothing was changed.",
            remedy="Publish a level for this kernel build.",
        )
    return build
