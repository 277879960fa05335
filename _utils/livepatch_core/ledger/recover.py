"""Backup, restore, and rebuilding a ledger that was lost from what the hosts say.

An old state must not move a host: its approvals may have been superseded since, which the old state cannot
know. So after restore and rebuild the rev is above everything a host can have seen, every approval carries
it, and the fleet is frozen until somebody who has looked unfreezes it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from livepatch_core.catalog import files
from livepatch_core.catalog.author import Author
from livepatch_core.catalog.settings import Master
from livepatch_core.durable import sync_directory
from livepatch_core.errors import LivepatchError
from livepatch_core.ledger.acts import (
    add_entry_at,
    count,
    current_rev,
    ledger_id,
    put_approvals,
)
from livepatch_core.ledger.model import FLEET, Freeze, Grant, decode_grants, digest, encode_grants
from livepatch_core.ledger.store import ledger_file, reading, sync, touch, writing
from livepatch_core.words import Kind

# Writes that no host at hand has seen: where the ledger itself is lost, the rev goes up by so much.
JUMP = 1000
# A host may say anything. SQLite's integers end at 2**63, and every later write needs a rev above this one.
MOST_REV = 2**62
ANOTHER_BACKUP = "Give another file that livepatch_ledger.backup wrote."


@dataclass(frozen=True)
class State:
    """What one ledger file holds, as far as a restore takes it over. approvals: minion -> encoded grants."""

    ledger_id: str
    rev: int
    approvals: Mapping[str, str]
    freezes: tuple[Freeze, ...]


@dataclass(frozen=True)
class Report:
    """What a host says of the approval it obeys (livepatch.status)."""

    minion: str
    ledger_id: str
    rev: int
    level: int | None
    build_id: str | None


def backup(master: Master, destination: Path) -> dict[str, Any]:
    """A copy of one consistent state, durable when it returns; nothing is overwritten."""
    if not destination.is_absolute() or destination.exists():
        raise _refused(
            f"{destination} is not an absolute path of a file that does not exist yet",
            "Give the absolute path of a new file.",
        )
    temporary = destination.with_name(f".{destination.name}.new")
    with reading(ledger_file(master.state_dir)) as connection:
        if connection is None:
            raise _refused("There is no ledger yet", "Approve something first (livepatch_ledger.approve).")
        connection.execute("COMMIT")  # the backup takes a state of its own
        with files.writable(master, "no backup was made"):
            temporary.unlink(missing_ok=True)
            touch(temporary, master.owner)
            try:
                with closing(sqlite3.connect(temporary)) as copy:
                    connection.backup(copy)
                    copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
                    rev, name = current_rev(copy), ledger_id(copy)
                sync(temporary)
                os.replace(temporary, destination)
            finally:
                temporary.unlink(missing_ok=True)
            sync_directory(destination.parent)
    return {"ledger_id": name, "rev": rev, "path": str(destination)}


def restore(master: Master, source: Path, by: Author, seen_rev: int | None = None) -> dict[str, Any]:
    """Take over the approvals of a backup, and freeze the fleet.

    seen_rev: the highest rev that hosts report, needed to keep the ledger's id where the ledger itself is
    gone; without it a new id is taken, and each host has to be told to adopt it. Raises LivepatchError
    (argument, journal).
    """
    if seen_rev is not None and _rev(seen_rev) is None:
        raise _refused(
            f"seen_rev is {seen_rev!r}, not a rev that a ledger ever had",
            "Give the highest approved:rev that livepatch.status of the hosts shows.",
        )
    state = read_state(source)
    with writing(master) as connection:
        lost = count(connection, "entry") == 0
        if not lost and ledger_id(connection) != state.ledger_id:
            raise _refused(
                f"{source} is of ledger {state.ledger_id}, the one in force is {ledger_id(connection)}",
                _move_away(master),
            )
        if lost and seen_rev is not None:
            connection.execute("UPDATE meta SET ledger_id = ?", (state.ledger_id,))
        known = max(current_rev(connection), state.rev, seen_rev or 0)
        rev = known + (JUMP if lost else 1)
        detail = {"from": str(source), "of_rev": state.rev, "count": len(state.approvals)}
        adopt = ledger_id(connection) != state.ledger_id
        if adopt:  # its revs mean nothing to whoever obeys another
            undated = {minion: _dated(text, None) for minion, text in state.approvals.items()}
            state = replace(state, approvals=undated)
        _replace(connection, state, rev, by, "restore", detail)
        return {
            "ledger_id": ledger_id(connection),
            "rev": rev,
            "minions": len(state.approvals),
            "adopt": adopt,
        }


def rebuild(
    master: Master,
    reports: list[Report],
    released: Mapping[str, Mapping[int, Grant]],
    by: Author,
    name: str | None = None,
) -> dict[str, Any]:
    """A new ledger from what hosts say they obey, and freeze the fleet. Only where there is none.

    released: for each kernel build that the catalog covers, its released levels. name: which ledger to go on
    with, where hosts obey several. A host that obeys none, or a level that is not released any more, is left
    out: it holds. Raises LivepatchError (argument).
    """
    ids = sorted({one.ledger_id for one in reports if one.ledger_id})
    if name is None and len(ids) != 1:
        if not ids:
            raise _refused(
                "No host that answered obeys a ledger",
                "Restore a backup (livepatch_ledger.restore), or approve anew (livepatch_ledger.approve).",
            )
        raise _refused(
            f"The hosts that answered obey several ledgers: {', '.join(ids)}",
            "Name the one to go on with (ledger_id=).",
        )
    chosen = name or ids[0]
    heard = [one for one in reports if one.ledger_id == chosen]
    approvals = {one.minion: text for one in heard if (text := _granted(one, released)) is not None}
    with writing(master) as connection:
        if count(connection, "entry"):
            raise _refused(
                f"There is a ledger, {ledger_id(connection)} at rev {current_rev(connection)}, and it is not "
                "replaced",
                _move_away(master),
            )
        connection.execute("UPDATE meta SET ledger_id = ?", (chosen,))
        rev = max((one.rev for one in heard), default=0) + JUMP
        state = State(chosen, rev, approvals, ())
        _replace(connection, state, rev, by, "rebuild", {"count": len(approvals)})
    left_out = sorted(one.minion for one in reports if one.minion not in approvals)
    return {"ledger_id": chosen, "rev": rev, "minions": len(approvals), "left_out": left_out}


def parse_report(minion: str, document: object) -> Report:
    """From the document that livepatch.status returns; a host that could not say is one that obeys none."""
    approved = document.get("approved") if isinstance(document, Mapping) else None
    kernel = document.get("kernel") if isinstance(document, Mapping) else None
    if not isinstance(approved, Mapping) or not isinstance(kernel, Mapping):
        return Report(minion, "", 0, None, None)
    name, rev, level = approved.get("ledger_id"), _rev(approved.get("rev")), approved.get("level")
    if rev is None:
        return Report(minion, "", 0, None, None)
    build_id = kernel.get("build_id")
    return Report(
        minion,
        name if isinstance(name, str) else "",
        rev,
        level if type(level) is int and level >= 0 else None,
        build_id if isinstance(build_id, str) else None,
    )


def _rev(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= MOST_REV else None


def read_state(source: Path) -> State:
    """What a backup holds; raises LivepatchError (argument, journal) when it is damaged or none."""
    if not source.is_absolute() or not source.is_file():
        raise _refused(f"{source} is not the absolute path of a backup", ANOTHER_BACKUP)
    with reading(source) as connection:
        if connection is None:
            raise _refused(f"{source} holds no ledger", ANOTHER_BACKUP)
        (sound,) = connection.execute("PRAGMA integrity_check").fetchone()
        if sound != "ok":
            raise _refused(f"{source} is damaged ({sound})", ANOTHER_BACKUP)
        rows = connection.execute(
            "SELECT minion, rev, digest, builds FROM approval JOIN grants USING (digest)"
        )
        approvals = {}
        for minion, rev, name, builds in rows:
            if digest(builds) != name:
                raise _refused(
                    f"{source} is damaged or was edited (the approval of {minion})", ANOTHER_BACKUP
                )
            approvals[minion] = _dated(builds, rev)
        freezes = connection.execute("SELECT * FROM freeze")
        return State(
            ledger_id(connection),
            current_rev(connection),
            approvals,
            tuple(Freeze(*row) for row in freezes.fetchall()),
        )


def _replace(
    connection: sqlite3.Connection,
    state: State,
    rev: int,
    by: Author,
    act: str,
    detail: Mapping[str, Any],
) -> None:
    add_entry_at(connection, rev, by, act, detail)
    connection.execute("DELETE FROM approval")
    put_approvals(connection, state.approvals, rev)
    old = [(one.minion, one.rev, one.at, one.who, one.why) for one in state.freezes if one.minion != FLEET]
    connection.executemany("INSERT OR IGNORE INTO freeze VALUES (?, ?, ?, ?, ?)", old)
    why = f"the ledger was {'restored from a backup' if act == 'restore' else 'rebuilt'}: {by.why}"
    connection.execute(
        "INSERT OR REPLACE INTO freeze VALUES (?, ?, ?, ?, ?)", (FLEET, rev, by.at, by.who, why)
    )


def _dated(text: str, rev: int | None) -> str:
    """Grants that say since when they stand, ``rev`` where they did not; None: none of them says so. What was
    told by hand since then stays the newest, whatever the rev under which they are written again."""
    grants = decode_grants(text)
    return encode_grants(
        {build: replace(one, since=rev and (one.since or rev)) for build, one in grants.items()}
    )


def _granted(report: Report, released: Mapping[str, Mapping[int, Grant]]) -> str | None:
    if report.level is None or report.build_id is None:
        return None
    grant = released.get(report.build_id, {}).get(report.level)
    return None if grant is None else encode_grants({report.build_id: replace(grant, since=report.rev)})


def _move_away(master: Master) -> str:
    return (
        "livepatch_ledger.show says what it holds. To go on without it, move "
        f"{ledger_file(master.state_dir)} with its -wal and -shm files away first."
    )


def _refused(text: str, remedy: str) -> LivepatchError:
    return LivepatchError(Kind.ARGUMENT, f"{text}; nothing was changed.", remedy=remedy)
