"""What a rollout asks of the ledger: to approve once per act, and what it says of hosts."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any, Optional

from livepatch_core.catalog.author import Author
from livepatch_core.catalog.settings import Master
from livepatch_core.errors import LivepatchError
from livepatch_core.ledger.acts import approve_within, current_rev, ledger_id
from livepatch_core.ledger.model import FLEET, Freeze, Grant, Grants, decode_grants, encode_grants
from livepatch_core.ledger.store import ledger_file, reading, writing
from livepatch_core.words import Kind

REQUEST = "request"  # the key of an entry's detail that names the rollout's act


@dataclass(frozen=True)
class Words:
    """What the ledger says at one moment. rev: of its newest write. frozen: of hosts that are, the sentence
    that says so. approved: of each host that is, by kernel build the level and the rev at which that was
    said."""

    rev: int
    frozen: Mapping[str, str]
    approved: Mapping[str, Mapping[str, tuple[int, int]]]


def approve_once(
    master: Master,
    request: str,
    minions: Iterable[str],
    grants: Grants,
    by: Author,
    seen: Optional[int] = None,
) -> dict[str, Any]:
    """Approve, or find what the same request has approved before: ``ledger_id``, ``rev``, and ``documents``,
    the grants as these hosts are handed them now, hosts with equal ones together.

    Hosts that are frozen are approved too; they are handed it when they are thawed. seen: the ledger's rev
    when it was looked whether these hosts may be approved; a later write may say that they may not. Durable
    when it returns. Raises LivepatchError, busy where there was a later write.
    """
    names = sorted(set(minions))
    with writing(master) as connection:
        rev = _found(connection, request)
        if rev is None:
            if seen is not None and current_rev(connection) != seen:
                raise _written_to(seen, current_rev(connection))
            rev = approve_within(connection, names, grants, by, {REQUEST: request})["rev"]
        return {
            "ledger_id": ledger_id(connection),
            "rev": rev,
            "documents": _documents(connection, names),
        }


def words(state_dir: Path, minions: Collection[str]) -> Words:
    """What it says of these hosts, read at once. Raises LivepatchError (journal)."""
    with reading(ledger_file(state_dir)) as connection:
        if connection is None:
            return Words(0, {}, {})
        rows = connection.execute("SELECT minion, rev, builds FROM approval JOIN grants USING (digest)")
        wanted, grants = set(minions), dict[str, Grants]()
        approved = dict[str, dict[str, tuple[int, int]]]()
        for minion, rev, text in rows:
            if minion in wanted:
                had = grants.get(text) or grants.setdefault(text, decode_grants(text))  # many have the same
                approved[minion] = {build: (one.level, one.since or rev) for build, one in had.items()}
        return Words(current_rev(connection), _frozen(connection, minions), approved)


def _frozen(connection: sqlite3.Connection, minions: Collection[str]) -> dict[str, str]:
    found = {row[0]: Freeze(*row) for row in connection.execute("SELECT * FROM freeze")}
    whole = found.get(FLEET)
    sentences = {name: whole or found.get(name) for name in minions}
    return {name: one.sentence() for name, one in sentences.items() if one is not None}


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


def _written_to(seen: int, rev: int) -> LivepatchError:
    return LivepatchError(
        Kind.BUSY,
        f"The ledger was written to meanwhile (rev {seen} was the newest, now it is {rev}); nothing was "
        "changed.",
        remedy="It is looked at again, and tried again.",
    )
