"""The lines of a rollout's journal: what each type says, and how one is spelt.

A line is a JSON object whose first key is the CRC-32 of everything after it: a torn line is told from a
whole one without reading on. A reader ignores types that it does not know, and refuses a schema that it
does not know.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from livepatch_core.rollout.clock import iso
from livepatch_core.words import Word

SCHEMA = 1
CRC = b'{"crc":"'
HEAD = len(CRC) + 8 + 2  # up to and including the comma after the checksum


class Type(Word):
    """intents (durable before the act): round, approve, move, finish, look, ask, block. Their ends: sent,
    unsent, answers, silent, approved, measured, blocked. The rest are changes of state."""

    PLANNED = "planned"  # plan, by
    STARTED = "started"  # by
    ADOPTED = "adopted"  # a process took the rollout over: owner, edition
    COMMAND = "command"  # an operator's verb, obeyed: id, verb, who, why, arguments, edition
    REFUSED = "refused"  # one that was not: id, verb, who, why, reason
    PHASE = "phase"  # phase, wave, lap
    ROUND = "round"  # hosts dispatched together: round; jobs that stage them, or back and hosts; strays
    HOSTS = "hosts"  # hosts that were decided without asking them: to; act, jid: what they had a part in
    APPROVE = "approve"  # act, hosts, grants; level: back to which; lower: why not where they came from
    KEPT = "kept"  # act; hosts that do not go back: level that somebody has approved since
    APPROVED = "approved"  # act, ledger_id, rev, documents
    MOVE = "move"  # jobs: [jid, hosts, document]
    FINISH = "finish"  # jobs: [jid, hosts] that are back from a restart
    LOOK = "look"  # purpose; jobs: [jid, hosts], or none for all that are well in this lap; all: in every lap
    ASK = "ask"  # gate, attempt; jobs; twins
    SENT = "sent"  # jid
    UNSENT = "unsent"  # jid, why: it could not be published, or nobody knows; tried: False if it was not
    ANSWERS = "answers"  # jid, hosts: what each came to
    SILENT = "silent"  # jid: its deadline has passed
    MEASURED = "measured"  # gate, attempt, value or no_data, evidence
    INQUIRY = "inquiry"  # when: the gates of that kind are asked from here
    VERDICT = "verdict"  # gate, hosts, attempt, evidence
    TRIPPED = "tripped"  # counter, scope, number, limit, action, laps: what rollback_wave is about
    BACK = "back"  # the rollback begins: scope, why, block, hosts; stay, doubt: of them
    BLOCK = "block"  # act, levels: [level, kernel builds]
    BLOCKED = "blocked"  # act
    RELEASED = "released"  # what was in testing is released by now
    PAUSED = "paused"  # reason; unproven: strata, where canaries have shown nothing; wait: hosts, once more
    TROUBLE = "trouble"  # why: the world could not be asked; asked again
    ENDED = "ended"  # state, reason


RESERVED = frozenset({"crc", "schema", "seq", "at", "epoch", "t", "type"})


@dataclass(frozen=True)
class Record:
    """seq counts from 1. epoch: wall clock. t: observed seconds (clock.py)."""

    seq: int
    epoch: float
    t: float
    type: str
    body: Mapping[str, Any]


def encode(record: Record) -> bytes:
    """One line with its newline. Raises ValueError for a body that would hide what every record says."""
    if RESERVED & record.body.keys():
        raise ValueError(f"a record's body may not have {sorted(RESERVED & record.body.keys())}")
    document = {
        "schema": SCHEMA,
        "seq": record.seq,
        "at": iso(record.epoch),
        "epoch": round(record.epoch, 3),
        "t": round(record.t, 3),
        "type": str(record.type),
        **record.body,
    }
    rest = json.dumps(document, separators=(",", ":"))[1:].encode()
    return CRC + f"{zlib.crc32(rest):08x}".encode() + b'",' + rest + b"\n"


def decode(line: bytes) -> Optional[Record]:
    """None where the line is not whole, or not one of ours. Raises ValueError for another schema."""
    rest = line[HEAD:]
    if not line.startswith(CRC) or line[HEAD - 2 : HEAD] != b'",':
        return None
    if line[len(CRC) : HEAD - 2] != f"{zlib.crc32(rest):08x}".encode():
        return None
    document = json.loads(b"{" + rest)
    if document.pop("schema", None) != SCHEMA:
        raise ValueError("it was written by another version")
    del document["at"]
    return Record(
        document.pop("seq"), document.pop("epoch"), document.pop("t"), document.pop("type"), document
    )
