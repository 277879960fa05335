"""What a rollout asks of the ledger: to approve once per act, what is approved, and who is frozen."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, Optional

from livepatch_core.catalog.author import Author
from livepatch_core.catalog.settings import Master
from livepatch_core.ledger.acts import approve_within, ledger_id
from livepatch_core.ledger.model import FLEET, Freeze, Grant, Grants, decode_grants, encode_grants
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
    return {
        name: {build: one.level for build, one in grants.items()}
        for name, grants in approvals(state_dir, minions).items()
    }


def approvals(state_dir: Path, minions: Collection[str]) -> dict[str, Grants]:
    """The same with the rev at which each was said. Raises LivepatchError (journal)."""
    wanted = set(minions)
    with reading(ledger_file(state_dir)) as connection:
        if connection is None:
            return {}
        rows = connection.execute("SELECT minion, builds FROM approval JOIN grants USING (digest)")
        return {minion: decode_grants(text) for minion, text in rows if minion in wanted}


def _found(connection: sqlite3.Connection, request: str) -> Optional[int]:
    """The rev of the entry that carries this request; looked for as text, told apart as data."""
    rows = connection.execute(
        "SELECT rev, detail FROM entry WHERE instr(detail, ?) ORDER BY rev DESC", (json.dumps(request),)
    )
    return next((int(rev) for rev, detail in rows if json.loads(detail).get(REQUEST) == request), None)


def _documents(connection: sqlite3.Connection, names: Collection[str]) -> list[dict[str, Any]]:
    """Hosts with the same levels together, which makes few jobs: of what one of them was told earlier than
    another, the earlier rev is said. A hold by hand then ends at the host's next look into its pillar."""
    wanted, texts = set(names), dict[str, list[str]]()
    for minion, text in connection.execute(
        "SELECT minion, builds FROM approval JOIN grants USING (digest) ORDER BY minion"
    ):
        if minion in wanted:
            texts.setdefault(text, []).append(minion)
    grouped: dict[str, tuple[list[str], dict[str, Grant]]] = {}
    for text, minions in sorted(texts.items()):
        grants = decode_grants(text)
        key = encode_grants({build: replace(one, since=None) for build, one in grants.items()})
        hosts, said = grouped.setdefault(key, ([], dict(grants)))
        hosts += minions
        said.update({build: min(one, said[build], key=_earlier) for build, one in grants.items()})
    return [
        {"hosts": sorted(hosts), "builds": {build: one.document() for build, one in said.items()}}
        for _, (hosts, said) in sorted(grouped.items())
    ]


def _earlier(grant: Grant) -> float:
    return inf if grant.since is None else grant.since
