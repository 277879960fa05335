"""What the ledger says, for people."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from pathlib import Path
from typing import Any

from livepatch_core.ledger.acts import current_rev, ledger_id
from livepatch_core.ledger.model import FLEET, decode, decode_grants
from livepatch_core.ledger.store import ledger_file, reading


def show(state_dir: Path, minions: Collection[str] | None = None, history: int = 10) -> dict[str, Any]:
    """Ledger, rev, freezes, each host's levels, and the last ``history`` writes, newest first.

    minions: None shows every host. Raises LivepatchError (journal).
    """
    with reading(ledger_file(state_dir)) as connection:
        if connection is None:
            return {"ledger_id": None, "rev": 0, "frozen": {}, "hosts": {}, "history": []}
        return {
            "ledger_id": ledger_id(connection),
            "rev": current_rev(connection),
            "frozen": _frozen(connection),
            "hosts": _hosts(connection, minions),
            "history": _history(connection, history),
        }


def _frozen(connection: sqlite3.Connection) -> dict[str, Any]:
    rows = connection.execute("SELECT minion, rev, at, who, why FROM freeze ORDER BY minion").fetchall()
    return {
        "the fleet" if minion == FLEET else minion: {"rev": rev, "at": at, "who": who, "why": why}
        for minion, rev, at, who, why in rows
    }


def _hosts(connection: sqlite3.Connection, minions: Collection[str] | None) -> dict[str, Any]:
    rows = connection.execute(
        "SELECT minion, rev, builds FROM approval JOIN grants USING (digest) ORDER BY minion"
    ).fetchall()
    return {
        minion: {"rev": rev, "levels": {build: one.level for build, one in decode_grants(builds).items()}}
        for minion, rev, builds in rows
        if minions is None or minion in minions
    }


def _history(connection: sqlite3.Connection, limit: int) -> list[dict[str, Any]]:
    rows = connection.execute(
        "SELECT rev, at, who, act, why, detail FROM entry ORDER BY rev DESC LIMIT ?", (limit,)
    ).fetchall()
    names = ("rev", "at", "who", "act", "why")
    return [{**dict(zip(names, row)), **decode(row[5])} for row in rows]
