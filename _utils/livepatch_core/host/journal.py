"""The host's journal: one line for each act that changed the kernel, chained by hashes.

A line is a JSON object ``{"seq", "prev", "body", "hash"}``; ``hash`` covers the three others, ``prev`` is
the hash of the line before. So an edited line breaks the chain (*tampered*), a crash while writing leaves
an incomplete last line (*torn*), and lines cut off the end show against the head that is kept beside the
journal and sent to the master with every return (*truncated*).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from livepatch_core.durable import append_durably
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind, Word

GENESIS = "0" * 64
CUT = "cut_before"  # in a line's body: the number of the last line there had been before the journal was cut
FILE_NAME = "journal.jsonl"
TAIL = 256 * 1024  # bytes read at first to find the last line: log, stragglers and reason can make it longer


class JournalState(Word):
    WHOLE = "whole"
    TORN = "torn"
    TAMPERED = "tampered"
    TRUNCATED = "truncated"


@dataclass(frozen=True)
class Head:
    """How far a journal has come: the number and hash of its last line."""

    seq: int = 0
    hash: str = GENESIS


NO_HEAD = Head()


@dataclass(frozen=True)
class Entry:
    seq: int
    prev: str
    body: Mapping[str, Any]
    hash: str

    @property
    def head(self) -> Head:
        return Head(self.seq, self.hash)


@dataclass(frozen=True)
class Verification:
    state: JournalState
    head: Head
    entries: int
    detail: str


def entry_hash(seq: int, prev: str, body: Mapping[str, Any]) -> str:
    text = json.dumps([seq, prev, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def encode(head: Head, body: Mapping[str, Any]) -> tuple[bytes, Head]:
    """The line that follows ``head``, and the head after it."""
    seq = head.seq + 1
    digest = entry_hash(seq, head.hash, body)
    return _spell({"seq": seq, "prev": head.hash, "body": body, "hash": digest}) + b"\n", Head(seq, digest)


def decode(line: bytes) -> Entry | None:
    """The entry in one complete line; None when it is none or does not carry its own hash.

    Only ``encode``'s own spelling counts: JSON has several for one value (2.0 and 2e0), and an edit that
    only respells is an edit too.
    """
    try:
        document = json.loads(line)
        entry = Entry(document["seq"], document["prev"], document["body"], document["hash"])
        sound = type(entry.seq) is int and isinstance(entry.body, dict) and _spell(document) == line
        sound = sound and entry.hash == entry_hash(entry.seq, entry.prev, entry.body)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return entry if sound else None


def _spell(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def verify(data: bytes, recorded: Head | None) -> Verification:
    """Check the whole chain, and against the head that was recorded elsewhere when one is given."""
    *lines, fragment = data.split(b"\n")
    seen = _verify_lines(lines, recorded)
    if seen.state is JournalState.TAMPERED:
        return seen
    if decode(fragment[:-1]):  # a crash leaves a beginning of a line, never a whole one and something else
        detail = "the end of the last line was replaced by something else"
        return replace(seen, state=JournalState.TAMPERED, detail=detail)
    if fragment and seen.state is JournalState.WHOLE:
        detail = (
            f"{len(fragment)} bytes of an unfinished last line: a crash while writing; the next act cuts them"
        )
        return replace(seen, state=JournalState.TORN, detail=detail)
    return seen


def _verify_lines(lines: list[bytes], recorded: Head | None) -> Verification:
    head, met, cuts = Head(), recorded is None or recorded.seq == 0, ""
    for number, line in enumerate(lines, start=1):
        entry = decode(line)
        if entry is None or entry.seq != number or entry.prev != head.hash:
            return Verification(
                JournalState.TAMPERED,
                head,
                head.seq,
                f"line {number} does not continue the chain: it or a line before it was edited",
            )
        head = entry.head
        if CUT in entry.body:
            cuts += f"; line {number} notes that lines up to {entry.body[CUT]} had been there and were lost"
        if recorded is not None and recorded.seq == number:
            met = recorded.hash == head.hash
            if not met and not cuts:
                return Verification(
                    JournalState.TAMPERED,
                    head,
                    number,
                    f"line {number} is not the one that was recorded as head",
                )
    if not met and recorded is not None:
        return Verification(
            JournalState.TRUNCATED,
            head,
            head.seq,
            f"line {recorded.seq}, recorded as head, is missing; the journal has {head.seq} lines{cuts}",
        )
    return Verification(JournalState.WHOLE, head, head.seq, f"every line continues the chain{cuts}")


def read_bytes(path: Path) -> bytes:
    """All of it, b"" if there is none yet. Raises LivepatchError (journal) when it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as problem:
        raise _unreadable(path, problem) from problem


def entries(data: bytes) -> Iterator[Entry]:
    """The sound entries, oldest first; what is not sound is left to ``verify``."""
    for line in data.split(b"\n"):
        entry = decode(line) if line else None
        if entry is not None:
            yield entry


def last_entry(path: Path) -> Entry | None:
    """The last complete line; raises LivepatchError (journal) when it is not sound."""
    complete, _, _ = _tail(path).rpartition(b"\n")
    if not complete:
        return None
    entry = decode(complete.rpartition(b"\n")[2])
    if entry is None:
        raise LivepatchError(
            Kind.JOURNAL,
            f"The last line of the host's journal {path} was edited or damaged; nothing was changed.",
            remedy=(
                "Run livepatch.verify, keep the file as evidence, and move it away to begin a new journal."
            ),
        )
    return entry


def append(path: Path, body: Mapping[str, Any], recorded: Head = NO_HEAD) -> Head:
    """Add one line durably; removes an unfinished one that a crash left. Raises LivepatchError, OSError.

    recorded: the head as the host remembers it. Where the journal does not reach it, lines were cut off: the
    new line says so, or it would hide that from the host, whose record has the new head from now on.
    """
    last = last_entry(path)
    _cut_fragment(path)
    head = last.head if last else NO_HEAD
    line, head = encode(head, {**body, CUT: recorded.seq} if head.seq < recorded.seq else body)
    append_durably(path, line)
    return head


def _tail(path: Path) -> bytes:
    """The end of the file: its last complete line and what follows it, or all of it."""
    try:
        with path.open("rb") as stream:
            size, length = stream.seek(0, os.SEEK_END), TAIL
            while True:
                stream.seek(max(0, size - length))
                data = stream.read()
                if length >= size or data.count(b"\n") > 1:
                    return data
                length *= 4
    except FileNotFoundError:
        return b""
    except OSError as problem:
        raise _unreadable(path, problem) from problem


def _cut_fragment(path: Path) -> None:
    fragment = _tail(path).rpartition(b"\n")[2]
    if fragment:
        os.truncate(path, path.stat().st_size - len(fragment))


def _unreadable(path: Path, problem: OSError) -> LivepatchError:
    return LivepatchError(
        Kind.JOURNAL,
        f"The host's journal {path} could not be read ({problem.strerror}); nothing was changed.",
        remedy="Run the minion or salt-call as root; see whether the file system is sound.",
    )
