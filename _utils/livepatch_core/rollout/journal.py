"""The file that a rollout is: append-only, checked, durable where it has to be.

What an unfinished last line means: its writer died in the middle of it, so nothing came of it; it is cut
off, and kept beside the journal. Any other damage is refused with the line named: a state made of half
the truth could dispatch.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from livepatch_core.durable import PRIVATE_FILE, sync_directory, write_atomically
from livepatch_core.errors import LivepatchError
from livepatch_core.rollout.clock import Now
from livepatch_core.rollout.records import Record, Type, decode, encode
from livepatch_core.words import Kind

FILE_NAME = "journal.jsonl"
TAIL = 65536  # bytes read at first to find the last line


class Journal:
    """Open for appending; whoever has one holds the rollout's lock (owner.py)."""

    def __init__(self, path: Path, seq: int) -> None:
        self.path = path
        self.seq = seq
        self._dirty = False
        self.broken = ""
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE_FILE)

    def append(self, kind: Type, body: Mapping[str, Any], now: Now) -> Record:
        """Write one line; durable after the next ``sync``. Raises LivepatchError (journal) when it
        cannot, and from then on always: what stands after a torn line would not be read."""
        if self.broken:
            raise _unwritable(self.path, self.broken)
        record = Record(self.seq + 1, round(now.epoch, 3), round(now.t, 3), str(kind), body)
        line = encode(record)
        try:
            if os.write(self._descriptor, line) != len(
                line
            ):  # a full disk cuts a write short without an error
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as problem:
            self.broken = str(problem.strerror)
            raise _unwritable(self.path, self.broken) from problem
        self.seq, self._dirty = record.seq, True
        return record

    def sync(self) -> None:
        """What was appended is durable when this returns: before every act that rests on it."""
        if not self._dirty:
            return
        try:
            os.fsync(self._descriptor)
        except (
            OSError
        ) as problem:  # the kernel may have dropped the pages: asking again would say all is well
            self.broken = str(problem.strerror)
            raise _unwritable(self.path, self.broken) from problem
        self._dirty = False

    def close(self) -> None:
        os.close(self._descriptor)


def create(path: Path) -> Journal:
    journal = Journal(path, 0)
    sync_directory(path.parent)
    return journal


def resume(path: Path) -> tuple[Journal, list[Record]]:
    """For the owner: everything it says, a torn last line cut off. Raises LivepatchError (journal)."""
    data = read_bytes(path)
    records, torn = parse(data, path)
    if torn:
        _keep(path, torn, len(records))
        with open(path, "r+b") as stream:
            stream.truncate(len(data) - len(torn))
            os.fsync(stream.fileno())
    return Journal(path, records[-1].seq if records else 0), records


def read(path: Path) -> list[Record]:
    """For anybody, while the owner may be writing: a line under way is left out."""
    return parse(read_bytes(path), path)[0]


def parse(data: bytes, path: Path) -> tuple[list[Record], bytes]:
    """The records and the torn end. Raises LivepatchError (journal) that names the damaged line."""
    lines = data.split(b"\n")
    torn = lines.pop()
    records: list[Record] = []
    for number, line in enumerate(lines, start=1):
        try:
            record = decode(line)
        except ValueError as problem:
            raise _damaged(path, f"Line {number}", str(problem)) from problem
        if record is None and number == len(lines) and not torn:
            return (
                records,
                line + b"\n",
            )  # a write that the machine lost power in can leave zeros and a newline
        if record is None or record.seq != number:
            why = "it is not what was written" if record is None else "a line is missing"
            raise _damaged(path, f"Line {number}", why)
        records.append(record)
    return records, torn


def last(path: Path) -> Optional[Record]:
    """The last whole line, without reading the others; None where it is none of ours. Raises LivepatchError
    (journal)."""
    try:
        line = _last_line(path)
    except OSError as problem:
        raise _unreadable(path, problem) from problem
    try:
        return decode(line) if line else None
    except ValueError as problem:
        raise _damaged(path, "The last line", str(problem)) from problem


def _last_line(path: Path) -> bytes:
    with path.open("rb") as stream:
        size, length = stream.seek(0, os.SEEK_END), TAIL
        while True:
            stream.seek(max(0, size - length))
            complete = stream.read().rpartition(b"\n")[0]
            line = complete.rpartition(b"\n")[2]
            if length >= size or len(line) < len(complete):
                return line
            length *= 4


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise _unreadable(path, problem) from problem


def _unreadable(path: Path, problem: OSError) -> LivepatchError:
    return LivepatchError(
        Kind.JOURNAL,
        f"The rollout's journal {path} could not be read ({problem.strerror}); nothing was done.",
        remedy="See whether the rollout's id is right, the file system is sound, and you are its user.",
    )


def _keep(path: Path, torn: bytes, after: int) -> None:
    write_atomically(path.with_name(f"torn-after-{after}"), torn)


def _damaged(path: Path, what: str, why: str) -> LivepatchError:
    return LivepatchError(
        Kind.JOURNAL,
        f"{what} of the rollout's journal {path} cannot be relied on ({why}); nothing was done, "
        "and the rollout stands still.",
        remedy="Keep the file. Restore it from a copy, or freeze the hosts and plan anew.",
    )


def _unwritable(path: Path, why: str) -> LivepatchError:
    return LivepatchError(
        Kind.JOURNAL,
        f"The rollout's journal {path} could not be written ({why}); nothing more is dispatched. Hosts in "
        "flight finish by themselves, and whoever takes the rollout over asks them.",
        remedy="Make room or mend the file system; then resume the rollout.",
    )
