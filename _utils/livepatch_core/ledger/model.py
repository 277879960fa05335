"""What the ledger says of a host. Values only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind

FLEET = ""  # the name of everybody, where a minion's id stands for one host; no minion has it


@dataclass(frozen=True)
class Grant:
    """The level one kernel build may have; ``sha256`` is None exactly for level 0. since: the rev of the
    write that said so, None where it is the host's newest."""

    level: int
    sha256: str | None
    since: int | None = None

    def document(self) -> dict[str, Any]:
        return {"level": self.level, "sha256": self.sha256, **({"since": self.since} if self.since else {})}


Grants = Mapping[str, Grant]  # by kernel build


@dataclass(frozen=True)
class Freeze:
    """Who is frozen (FLEET: all), since which write, by whom and why."""

    minion: str
    rev: int
    at: str
    who: str
    why: str

    def sentence(self) -> str:
        what = "the fleet" if self.minion == FLEET else "this host"
        return f"{what} is frozen since {self.at} by {self.who} (rev {self.rev}): {self.why}"


@dataclass(frozen=True)
class HostApproval:
    """rev: of the write that last approved something for this host."""

    minion: str
    rev: int
    grants: Grants

    def document(self, ledger_id: str) -> dict[str, Any]:
        """What a host obeys (host/approval.py parses exactly this)."""
        builds = {build: one.document() for build, one in self.grants.items()}
        return {"ledger_id": ledger_id, "rev": self.rev, "builds": builds}


def encode_grants(grants: Grants) -> str:
    """The one spelling of ``grants``; equal ones are stored once, under their digest."""
    written = {
        build: [one.level, one.sha256, *([one.since] if one.since else [])] for build, one in grants.items()
    }
    return json.dumps(written, sort_keys=True)


def decode_grants(text: str) -> Grants:
    """Raises LivepatchError (journal) for what ``encode_grants`` did not write."""
    try:
        return {build: Grant(*written) for build, written in decode(text).items()}
    except (ValueError, TypeError, AttributeError) as problem:
        raise _damaged(text) from problem


def decode(text: str) -> Any:
    """What stands in a column as JSON. Raises LivepatchError (journal) where it is none."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as problem:
        raise _damaged(text) from problem


def _damaged(text: object) -> LivepatchError:
    return LivepatchError(
        Kind.JOURNAL,
        f"The ledger was damaged or edited: {str(text)[:60]!r} is nothing that was ever written into it; "
        "nothing was changed.",
        remedy="Move it away with its -wal and -shm files and run livepatch_ledger.restore or rebuild.",
    )


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
