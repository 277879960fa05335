"""From a level to what is approved: for each kernel build the level and the digest of its module. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from livepatch_core.catalog.model import LevelStatus
from livepatch_core.catalog.shelf import Standing
from livepatch_core.errors import LivepatchError
from livepatch_core.ledger.model import Grant, Grants
from livepatch_core.words import Kind

RELEASED = frozenset({LevelStatus.RELEASED})


def grants_for(
    standings: Iterable[Standing],
    level: object,
    kernel_build: str | None = None,
    release: str | None = None,
    statuses: frozenset[LevelStatus] = RELEASED,
) -> tuple[Grants, list[str]]:
    """What ``level`` means for each kernel build of the catalog that it is meant for, and the builds that
    have no such level.

    level: an integer from 0, or ``newest`` (released). A level in testing or blocked refuses the whole, so
    does a build that was named and has none, or a level that no build has. statuses: a rollout that names
    its canaries may allow testing. Raises LivepatchError (argument, catalog, uncovered, blocked).
    """
    check_level(level)
    meant = [
        one for one in standings if kernel_build in (None, one.build_id) and release in (None, one.release)
    ]
    builds = sorted({one.build_id for one in meant})
    if not builds:
        what = kernel_build or release or "any kernel build"
        raise LivepatchError(
            Kind.UNCOVERED,
            f"The catalog has no level for {what}; nothing was changed.",
            remedy="Publish and promote one first (livepatch_catalog.publish).",
        )
    found = {
        build: _grant([one for one in meant if one.build_id == build], level, statuses) for build in builds
    }
    grants = {build: grant for build, grant in found.items() if grant is not None}
    without = [build for build in builds if found[build] is None]
    if not grants or (without and kernel_build is not None):
        name = "released level" if level == "newest" else f"level {level}"
        raise LivepatchError(
            Kind.CATALOG,
            f"No {name} is in the catalog for kernel build {', '.join(without)}; nothing was changed.",
            remedy="See livepatch_catalog.list.",
        )
    return grants, without


def check_level(level: object) -> None:
    """Raises LivepatchError (argument) for what is no level that hosts can be told."""
    if level != "newest" and (type(level) is not int or level < 0):
        raise LivepatchError(
            Kind.ARGUMENT,
            f"The level is {level!r}, neither an integer from 0 nor 'newest'; nothing was changed.",
            remedy="Give level=2, for example, or level=newest.",
        )


def released(standings: Iterable[Standing]) -> dict[str, dict[int, Grant]]:
    """For each kernel build every level that may be approved, 0 among them."""
    found: dict[str, dict[int, Grant]] = {}
    for one in standings:
        levels = found.setdefault(one.build_id, {0: Grant(0, None)})
        if one.status in RELEASED:
            levels[one.level.number] = Grant(one.level.number, one.level.sha256)
    return found


def _grant(levels: list[Standing], level: object, statuses: frozenset[LevelStatus]) -> Grant | None:
    """None where this build has no such level."""
    if level == 0:
        return Grant(0, None)
    if level == "newest":
        allowed = [one for one in levels if one.status in statuses]
        found = max(allowed, key=lambda one: one.level.number, default=None)
    else:
        found = next((one for one in levels if one.level.number == level), None)
    if found is None:
        return None
    if found.status not in statuses:
        raise LivepatchError(
            Kind.BLOCKED if found.status is LevelStatus.BLOCKED else Kind.CATALOG,
            f"Level {found.level.number} of kernel build {found.build_id} ({found.release}) is "
            f"{found.status}, and only released levels are approved; nothing was changed.",
            remedy="Promote it, approve another level, or name the kernel build that is meant.",
        )
    return Grant(found.level.number, found.level.sha256)
