"""Who drives a rollout: one process at a time, for as long as it lives.

The lock is an flock on ``owner.lock``, held by the open file: the kernel frees it with its holder,
however that dies, and never while it lives: a process that was stopped may wake up and go on dispatching,
so nobody may take the lock from it. ``heartbeat.json`` beside it says who it is, for people; it decides
nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional

from livepatch_core.durable import PRIVATE_FILE
from livepatch_core.errors import LivepatchError
from livepatch_core.rollout.clock import Clock, iso
from livepatch_core.words import Kind, Word

LOCK, DOOR, HEARTBEAT = "owner.lock", "owner.door", "heartbeat.json"
BEAT_SECONDS = 10.0


class OwnerKind(Word):
    FOREGROUND = "foreground"  # a runner that somebody watches
    ENGINE = "engine"  # the master's engine
    COMMAND = "command"  # a verb that journals itself where nobody drives, for a moment


@dataclass(frozen=True)
class Holder:
    """As its heartbeat says. at: of the last one, ISO 8601."""

    host: str
    pid: int
    user: str
    kind: str
    at: str

    def sentence(self) -> str:
        return (
            f"the {self.kind} process {self.pid} of {self.user} on {self.host} (last heard of at {self.at})"
        )


UNKNOWN = Holder("an unknown host", 0, "an unknown user", "", "an unknown time")


class Owner:
    """The lock, held. ``hold`` makes them."""

    def __init__(self, directory: Path, kind: OwnerKind, user: str, clock: Clock) -> None:
        self.directory, self.kind, self.user, self.clock = directory, kind, user, clock
        self._last: Optional[float] = None

    def beat(self) -> None:
        """Say that this process lives; at most every BEAT_SECONDS. Raises OSError."""
        now = self.clock.monotonic()
        if self._last is None or now - self._last >= BEAT_SECONDS:
            self._last = now
            self._write()

    def document(self) -> dict[str, object]:
        return asdict(
            Holder(socket.gethostname(), os.getpid(), self.user, str(self.kind), iso(self.clock.now()))
        )

    def _write(self) -> None:
        """Not synced: after a power cut nobody holds anything."""
        temporary = self.directory / f".{HEARTBEAT}.new"
        temporary.write_text(json.dumps(self.document()))
        os.replace(temporary, self.directory / HEARTBEAT)


@contextlib.contextmanager
def hold(directory: Path, kind: OwnerKind, user: str, clock: Clock) -> Iterator[Owner]:
    """Raises LivepatchError (busy) that names the holder; waits for nobody."""
    with if_free(directory, kind, user, clock) as owner:
        if owner is None:
            raise _held(directory)
        yield owner


@contextlib.contextmanager
def if_free(directory: Path, kind: OwnerKind, user: str, clock: Clock) -> Iterator[Optional[Owner]]:
    """The same; None where somebody holds it."""
    descriptor = _open(directory / LOCK)
    try:
        with _door(directory):
            free = _try(descriptor)
        owner = Owner(directory, kind, user, clock) if free else None
        if owner is not None:
            owner.beat()
        yield owner
    finally:
        os.close(descriptor)


def holder(directory: Path) -> Optional[Holder]:
    """Who drives it now; None where nobody does."""
    with _door(directory):
        descriptor = _open(directory / LOCK)
        try:
            free = _try(descriptor)
        finally:
            os.close(descriptor)
    return None if free else _read(directory / HEARTBEAT)


def explain(directory: Path) -> str:
    """What ``unlock`` says: a sentence."""
    found = holder(directory)
    if found is None:
        return "Nobody holds this rollout: its last owner has ended, and the lock with it; it can be taken."
    return (
        f"It is held by {found.sentence()}. The lock ends with that process and cannot be broken: one that "
        f"is only stopped could wake up and dispatch. See what it does; end it (kill {found.pid} on "
        f"{found.host}) if it hangs, then resume the rollout."
    )


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _door(directory: Path) -> Iterator[None]:
    """One at a time tries the lock: who only asks for the holder must not be in the way of who wants to
    be it."""
    descriptor = _open(directory / DOOR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> Holder:
    """A heartbeat that is missing or damaged says nothing; the lock does."""
    try:
        said = json.loads(path.read_bytes())
        return Holder(**{key: said[key] for key in ("host", "pid", "user", "kind", "at")})
    except (OSError, ValueError, KeyError, TypeError):
        return UNKNOWN


def _held(directory: Path) -> LivepatchError:
    found = _read(directory / HEARTBEAT)
    return LivepatchError(
        Kind.BUSY,
        f"Rollout {directory.name} is driven by {found.sentence()}; nothing was changed.",
        remedy="Give that process your command (pause, abort ...): every verb but rollout reaches it.",
    )
