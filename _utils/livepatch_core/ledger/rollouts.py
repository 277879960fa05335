"""What a rollout asks of the ledger: to approve once per act, what is approved, and who is frozen."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Optional

from livepatch_core.catalog.author import Author
from livepatch_core.catalog.settings import Master
from livepatch_core.ledger.acts import approve_within, ledger_id
from livepatch_core.ledger.model import FLEET, Freeze, Grants, decode_grants
from livepatch_core.ledger.store import ledger_file, reading, writing

REQUEST = "request"  # the key of an entry's detail that names the rollout's act


def approve_once(
    master: Master, request: str, minions: Iterable[str], grants: Grants, by: Author
) -> dict[str, Any]:
    """Approve, or find what the same request has approved before: ``ledger_id``, ``rev``, and ``documents``,
    the grants as these hosts are handed them now, hosts with equal ones together.

    Hosts that are frozen are approved too; they are handed it when they are thawed. Durable when it returns.
    Raises LivepatchError.
    """
    names = sorted(set(minions))
    with writing(master) as connection:
        rev = _found(connection, request)
        if rev is None:
            rev = approve_within(connection, names, grants, by, {REQUEST: request})["rev"]
        return {
            "ledger_id": ledger_id(connection),
            "rev": rev,
            "documents": _documents(connection, names),
        }


def frozen(state_dir: Path, minions: Collection[str]) -> dict[str, str]:
    """Which of them are frozen, and the sentence that says so. Raises LivepatchError (journal)."""
    with reading(ledger_file(state_dir)) as connection:
        if connection is None:
            return {}
        found = {row[0]: Freeze(*row) for row in connection.execute("SELECT * FROM freeze")}
    whole = found.get(FLEET)
    sentences = {name: whole or found.get(name) for name in minions}
    return {name: one.sentence() for name, one in sentences.items() if one is not None}


def approved(state_dir: Path, minions: Collection[str]) -> dict[str, dict[str, int]]:
    """What each of them is approved for, by kernel build; those that have no approval are not in it. Raises
    LivepatchError (journal)."""
    with reading(ledger_file(state_dir)) as connection:
        documents = _documents(connection, minions) if connection is not None else []
    return {
        name: {build: one["level"] for build, one in document["builds"].items()}
        for document in documents
        for name in document["hosts"]
    }


def _found(connection: sqlite3.Connection, request: str) -> Optional[int]:
    """The rev of the entry that carries this request; looked for as text, told apart as data."""
    rows = connection.execute(
        "SELECT rev, detail FROM entry WHERE instr(detail, ?) ORDER BY rev DESC", (json.dumps(request),)
    )
    return next((int(rev) for rev, detail in rows if json.loads(detail).get(REQUEST) == request), None)


def _documents(connection: sqlite3.Connection, names: Collection[str]) -> list[dict[str, Any]]:
    wanted, texts = set(names), dict[str, str]()
    grouped: dict[str, list[str]] = {}
    for minion, name, text in connection.execute(
        "SELECT minion, digest, builds FROM approval JOIN grants USING (digest) ORDER BY minion"
    ):
        if minion in wanted:
            grouped.setdefault(name, []).append(minion)
            texts[name] = text
    return [
        {
            "hosts": hosts,
            "builds": {
                build: {"level": one.level, "sha256": one.sha256}
                for build, one in decode_grants(texts[name]).items()
            },
        }
        for name, hosts in sorted(grouped.items())
    ]
