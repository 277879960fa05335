"""What one host is told: its approval, or why it gets none. Asked by the external pillar and by rollouts."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.ledger.acts import ledger_id
from livepatch_core.ledger.model import FLEET, Freeze, HostApproval, decode_grants, digest
from livepatch_core.ledger.store import ledger_file, reading
from livepatch_core.words import Kind

# Whatever a damaged ledger makes of reading it; an error here would stop the host's whole highstate.
PROBLEMS = (LivepatchError, sqlite3.Error, OSError, ValueError, TypeError, LookupError, AttributeError)


def hand_out(state_dir: Path, minion: str) -> dict[str, Any]:
    """``{"ledger_id", "rev", "builds"}``, or ``{"error": why}``: never raises, never guesses.

    A freeze is an error too, with ``kind: frozen`` beside it: hosts that hold on purpose are counted apart.

    Reads the rows of this host only: some 0.5 ms, however many there are.
    """
    try:
        return _hand_out(state_dir, minion)
    except PROBLEMS as problem:
        return error(str(problem) or type(problem).__name__)


def error(why: str) -> dict[str, Any]:
    return {"error": why}


def _hand_out(state_dir: Path, minion: str) -> dict[str, Any]:
    path = ledger_file(state_dir)
    with reading(path) as connection:
        if connection is None:
            return error(f"there is no ledger yet ({path})")
        frozen = connection.execute(
            "SELECT * FROM freeze WHERE minion IN (?, ?) ORDER BY minion", (FLEET, minion)
        ).fetchone()
        if frozen is not None:
            return {**error(Freeze(*frozen).sentence()), "kind": str(Kind.FROZEN)}
        found = find(connection, minion)
        if found is None:
            return error(f"the ledger has no approval for {minion}")
        return found.document(ledger_id(connection))


def find(connection: sqlite3.Connection, minion: str) -> HostApproval | None:
    """None where there is no approval. Raises ValueError where the row is not what was once written: SQLite
    has no checksums, and an approval that a disk or an editor made must not move a host."""
    row = connection.execute(
        "SELECT rev, digest, builds FROM approval JOIN grants USING (digest) WHERE minion = ?", (minion,)
    ).fetchone()
    if row is None:
        return None
    rev, name, builds = row
    written = connection.execute("SELECT 1 FROM entry WHERE rev = ?", (rev,)).fetchone()
    if written is None or digest(builds) != name:
        raise ValueError(f"the ledger's approval of {minion} was damaged or edited")
    return HostApproval(minion, int(rev), decode_grants(builds))
