"""What a stage job carries for levels that the file server withholds: catalog entry and module."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from livepatch_core.catalog import rewrite
from livepatch_core.catalog.model import SCHEMA, LevelStatus
from livepatch_core.catalog.settings import Master
from livepatch_core.catalog.shelf import Standing, read_shelves, releases
from livepatch_core.errors import LivepatchError
from livepatch_core.rollout.model import Plan
from livepatch_core.words import Kind

# Bytes, packed, of all modules of a job. It stands whole in the master's job cache, goes to every minion of
# the master and is decrypted by each: a module of the builder has some 10 KiB packed, one with all debug
# information some 100. What is larger is refused when it is planned: in pieces it would weigh as much, and
# the file server would show it to everybody.
MOST = 4 << 20
NOT_RELEASED = {
    LevelStatus.TESTING: "is still in testing",
    LevelStatus.BLOCKED: "is blocked (livepatch_catalog.list says why)",
}


def carried(master: Master, levels: Mapping[str, int]) -> dict[str, Mapping[str, Any]]:
    """``{"catalog", "module"}`` by kernel build, for those of these levels that are in testing.

    Raises LivepatchError (catalog), also where they are more than a job can carry.
    """
    found: dict[str, Mapping[str, Any]] = {}
    total = 0
    for standing in standings(master) if levels else ():
        if standing.status is LevelStatus.TESTING and levels.get(standing.build_id) == standing.level.number:
            packed = zlib.compress(_module(standing), 9)
            total += len(packed)
            if total > MOST:
                raise _too_large(standing, total)
            module = base64.b64encode(packed).decode()
            found[standing.build_id] = {"catalog": entry_alone(standing), "module": module}
    return found


def refuse_unsendable(master: Master, plan: Plan) -> None:
    """Before anything moves: whether what the canaries need can be sent to them. Raises as ``carried``."""
    builds = {one.build_id for one in plan.hosts if one.wave == 0} & set(plan.testing)
    carried(master, dict.fromkeys(builds, plan.options.level))


def unreleased(master: Master, build_id: str, level: int) -> str:
    """Why hosts that need the level from the file server cannot have it, as half a sentence; empty where it
    is released. Raises LivepatchError (catalog)."""
    found = find(master, build_id, level)
    if found is None:
        return "is no longer in the catalog"
    return NOT_RELEASED.get(found.status, "")


def find(master: Master, build_id: str, level: int) -> Optional[Standing]:
    return next(
        (one for one in standings(master) if (one.build_id, one.level.number) == (build_id, level)), None
    )


def standings(master: Master) -> Iterator[Standing]:
    """Every level of every release, wherever it stands. Raises LivepatchError (catalog)."""
    for release in releases(master):
        yield from read_shelves(master, release).standings()


def is_blocked(master: Master, build_id: str, level: int) -> bool:
    found = find(master, build_id, level)
    return found is not None and found.status is LevelStatus.BLOCKED


def entry_alone(standing: Standing) -> str:
    """A catalog of this one entry, with all its fields: a signature on it stays good."""
    root = rewrite.mapping_of({"schema": SCHEMA, "release": standing.release, "builds": {}})
    levels = rewrite.inner(rewrite.inner(rewrite.inner(root, "builds"), standing.build_id), "levels")
    rewrite.put(levels, standing.level.number, standing.entry)
    return rewrite.render(root).decode()


def _module(standing: Standing) -> bytes:
    path = standing.directory / standing.level.module
    try:
        return path.read_bytes()
    except OSError as problem:
        raise LivepatchError(
            Kind.CATALOG,
            f"{_named(standing)} is in testing, and its module {path} cannot be read ({problem.strerror}); "
            "nothing was changed.",
            remedy="See that it is there and belongs to the master's user; else publish the level again.",
        ) from problem


def _too_large(standing: Standing, size: int) -> LivepatchError:
    return LivepatchError(
        Kind.CATALOG,
        f"{_named(standing)} is in testing, so that its module has to go to the canaries with a job; with "
        f"those of the other kernel builds that is {size / (1 << 20):.1f} MiB packed, and a job carries at "
        f"most {MOST >> 20} MiB. Nothing was changed.",
        remedy="Publish it again without debug information, or promote it: then hosts fetch it themselves.",
    )


def _named(standing: Standing) -> str:
    return f"Level {standing.level.number} of kernel build {standing.build_id}"
