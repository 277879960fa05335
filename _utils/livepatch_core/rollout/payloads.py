"""What a stage job carries for a level that the file server withholds: its catalog entry and its module."""

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
from livepatch_core.words import Kind

# Bytes, packed. The job stands whole in the master's job cache, goes to every minion of the master and is
# decrypted by each: a module of the builder has some 10 KiB packed, one with all debug information some 100.
MOST = 4 << 20


def payload(master: Master, build_id: str, level: int) -> Optional[Mapping[str, Any]]:
    """``{"catalog", "module"}`` for a level in testing, None for one that is served (and for 0).

    Raises LivepatchError (catalog).
    """
    standing = find(master, build_id, level) if level else None
    if standing is None or standing.status is not LevelStatus.TESTING:
        return None
    try:
        data = (standing.directory / standing.level.module).read_bytes()
    except OSError as problem:
        raise _refused(standing, f"its module cannot be read ({problem.strerror})") from problem
    packed = zlib.compress(data, 9)
    if len(packed) > MOST:
        raise _refused(standing, f"its module has {len(packed) >> 20} MiB packed, {MOST >> 20} can be sent")
    return {"catalog": entry_alone(standing), "module": base64.b64encode(packed).decode()}


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


def _refused(standing: Standing, why: str) -> LivepatchError:
    return LivepatchError(
        Kind.CATALOG,
        f"Level {standing.level.number} of kernel build {standing.build_id} is in testing, and {why}; "
        "nothing was changed.",
        remedy="Publish it again without debug information, or promote it: then hosts fetch it themselves.",
    )
