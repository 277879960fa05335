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
    """The level one kernel build may have; ``sha256`` is None exactly for level 0."""

    level: int
    sha256: str | None


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
        builds = {build: {"level": one.level, "sha256": one.sha256} for build, one in self.grants.items()}
        return {"ledger_id": ledger_id, "rev": self.rev, "builds": builds}


def encode_grants(grants: Grants) -> str:
    """The one spelling of ``grants``; equal ones are stored once, under their digest."""
    return json.dumps({build: [one.level, one.sha256] for build, one in grants.items()}, sort_keys=True)


def decode_grants(text: str) -> Grants:
    """Raises LivepatchError (journal) for what ``encode_grants`` did not write."""
    try:
        return {build: Grant(level, sha256) for build, (level, sha256) in decode(text).items()}
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
