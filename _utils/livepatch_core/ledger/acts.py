"""Approve, freeze, unfreeze: each raises the rev by one and says who, when and why."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from livepatch_core.catalog.author import Author
from livepatch_core.catalog.settings import Master
from livepatch_core.errors import LivepatchError
from livepatch_core.ledger.model import FLEET, Freeze, Grants, decode_grants, digest, encode_grants
from livepatch_core.ledger.store import writing
from livepatch_core.words import Kind

NO_DETAIL: Mapping[str, Any] = {}
NEVER = (0, "{}")  # the rev and the grants of a host that was never approved anything
NAMES_IN_ENTRY = 50  # an entry of ten thousand names says how many; the approvals themselves carry its rev


def approve(
    master: Master, minions: Iterable[str], grants: Grants, by: Author, *, while_frozen: bool = False
) -> dict[str, Any]:
    """Let these hosts have these levels; for other kernel builds they keep what they had.

    while_frozen: also for hosts that are frozen, which are handed it when they are thawed; without it, one
    frozen host refuses the whole (forbidden). Durable when it returns. Raises LivepatchError.
    """
    names = _named(minions)
    with writing(master) as connection:
        frozen = _frozen(connection, names)
        if frozen and not while_frozen:
            raise LivepatchError(
                Kind.FORBIDDEN,
                f"{len(frozen)} of {len(names)} hosts are frozen, the first: {frozen[0].sentence()}; nothing "
                "was changed.",
                remedy="Unfreeze them, or approve with while_frozen=True: they are handed it when thawed.",
            )
        return approve_within(connection, names, grants, by)


def approve_within(
    connection: sqlite3.Connection,
    minions: Iterable[str],
    grants: Grants,
    by: Author,
    detail: Mapping[str, Any] = NO_DETAIL,
) -> dict[str, Any]:
    """``approve`` in a transaction that is open, frozen hosts too. detail: goes into the entry."""
    names = _named(minions)
    if not grants:
        raise _refused("No kernel build was named to approve a level for")
    levels = {build: grant.level for build, grant in grants.items()}
    rev = add_entry(connection, by, "approve", {"levels": levels, **_who(names), **detail})
    put_approvals(connection, _merged(connection, names, grants), rev)
    return {"ledger_id": ledger_id(connection), "rev": rev, "minions": len(names), "levels": levels}


def freeze(master: Master, minions: Iterable[str] | None, by: Author) -> dict[str, Any]:
    """No approval is handed to these hosts (None: to any), so they hold what they have."""
    names = [FLEET] if minions is None else _named(minions)
    with writing(master) as connection:
        rev = add_entry(connection, by, "freeze", _who(names))
        rows = [(name, rev, by.at, by.who, by.why) for name in names]
        connection.executemany("INSERT OR REPLACE INTO freeze VALUES (?, ?, ?, ?, ?)", rows)
        return {"ledger_id": ledger_id(connection), "rev": rev, "frozen": _shown(names)}


def unfreeze(master: Master, minions: Iterable[str] | None, by: Author) -> dict[str, Any]:
    """None lifts the freeze of the fleet; those of single hosts are lifted by naming them."""
    names = [FLEET] if minions is None else _named(minions)
    with writing(master) as connection:
        marks = [(name,) for name in names]
        before = count(connection, "freeze")
        connection.executemany("DELETE FROM freeze WHERE minion = ?", marks)
        lifted = before - count(connection, "freeze")
        if not lifted:
            whole = "The fleet is" if minions is None else "None of these hosts is"
            raise _refused(f"{whole} not frozen" if minions is None else f"{whole} frozen by name")
        rev = add_entry(connection, by, "unfreeze", _who(names))
        left = count(connection, "freeze")
        return {"ledger_id": ledger_id(connection), "rev": rev, "lifted": lifted, "still_frozen": left}


def add_entry(connection: sqlite3.Connection, by: Author, act: str, detail: Mapping[str, Any]) -> int:
    """Raise the rev by one and record who did what; the new rev."""
    return add_entry_at(connection, current_rev(connection) + 1, by, act, detail)


def add_entry_at(
    connection: sqlite3.Connection, rev: int, by: Author, act: str, detail: Mapping[str, Any]
) -> int:
    """The same with a rev that jumps; it has to be higher than the present one."""
    if rev <= current_rev(connection):
        raise ValueError(f"rev {rev} is not above {current_rev(connection)}")
    connection.execute("UPDATE meta SET rev = ?", (rev,))
    text = json.dumps(detail, sort_keys=True)
    connection.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)", (rev, by.at, by.who, act, by.why, text))
    return rev


def put_approvals(connection: sqlite3.Connection, approvals: Mapping[str, str], rev: int) -> None:
    """approvals: minion -> encoded grants."""
    texts = {text: digest(text) for text in set(approvals.values())}
    connection.executemany(
        "INSERT OR IGNORE INTO grants VALUES (?, ?)", [(name, text) for text, name in texts.items()]
    )
    rows = [(minion, rev, texts[text]) for minion, text in approvals.items()]
    connection.executemany("INSERT OR REPLACE INTO approval VALUES (?, ?, ?)", rows)


def current_rev(connection: sqlite3.Connection) -> int:
    (rev,) = connection.execute("SELECT rev FROM meta").fetchone()
    return int(rev)


def ledger_id(connection: sqlite3.Connection) -> str:
    (name,) = connection.execute("SELECT ledger_id FROM meta").fetchone()
    return str(name)


def count(connection: sqlite3.Connection, table: str) -> int:
    (number,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(number)


def _merged(connection: sqlite3.Connection, names: list[str], grants: Grants) -> dict[str, str]:
    """Each host's grants with the new ones over them; hosts that had the same are worked out once.

    Those of other kernel builds keep the rev they were said at: what was told by hand since is newer.
    """
    rows = connection.execute("SELECT minion, rev, builds FROM approval JOIN grants USING (digest)")
    had = {minion: (rev, text) for minion, rev, text in rows}
    wanted: dict[tuple[int, str], str] = {}
    for rev, text in {had.get(name, NEVER) for name in names}:
        kept = {build: replace(one, since=one.since or rev) for build, one in decode_grants(text).items()}
        wanted[rev, text] = encode_grants({**kept, **grants})
    return {name: wanted[had.get(name, NEVER)] for name in names}


def _frozen(connection: sqlite3.Connection, names: list[str]) -> list[Freeze]:
    found = {row[0]: Freeze(*row) for row in connection.execute("SELECT * FROM freeze")}
    return [found[FLEET]] * len(names) if FLEET in found else [found[one] for one in names if one in found]


def _named(minions: Iterable[str]) -> list[str]:
    names = sorted(set(minions))
    if not names or not all(isinstance(name, str) and name for name in names):
        raise _refused("The target matches no minion")
    return names


def _who(names: list[str]) -> dict[str, Any]:
    return {"count": len(names), "minions": _shown(names)}


def _shown(names: list[str]) -> list[str]:
    return ["the fleet"] if names == [FLEET] else names[:NAMES_IN_ENTRY]


def _refused(text: str) -> LivepatchError:
    return LivepatchError(Kind.ARGUMENT, f"{text}; nothing was changed.", remedy="See livepatch_ledger.show.")
