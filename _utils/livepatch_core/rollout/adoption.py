"""The master's engine: whether one lives, and which rollouts it would take over.

The engine holds an flock for its whole life, as an owner does (owner.py): nobody has to trust a heartbeat.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from livepatch_core.durable import PRIVATE_FILE
from livepatch_core.errors import LivepatchError
from livepatch_core.rollout import commands, journal, owner, status
from livepatch_core.rollout.decide import may_send
from livepatch_core.rollout.state import State
from livepatch_core.rollout.states import Place, Standing
from livepatch_core.words import Kind

LOCK = "engine.lock"


@contextlib.contextmanager
def engine(folder: Path) -> Iterator[int]:
    """Be the engine of this master. The lock's descriptor: a child has to close its own, or the lock lives as
    long as that. Raises LivepatchError (busy) where there is one already."""
    descriptor = _open(folder)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LivepatchError(
                Kind.BUSY, "Another livepatch engine runs on this master; this one does nothing."
            ) from None
        yield descriptor
    finally:
        os.close(descriptor)


def alive(folder: Path) -> bool:
    """Whether an engine runs that takes over what nobody drives."""
    if not (folder / LOCK).exists():
        return False
    descriptor = _open(folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class Orphans:
    """Finds them again and again; a rollout that has not changed since it was left alone is not read
    again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left: dict[str, tuple[int, int]] = {}
        self.problems: dict[str, str] = {}  # rollouts that cannot be read, and why

    def found(self) -> list[Path]:
        """The directories of rollouts that have something to do, and nobody who does it."""
        return [one for one in status.rollouts(self._folder) if self._orphaned(one)]

    def _orphaned(self, directory: Path) -> bool:
        seen = (directory / journal.FILE_NAME).stat()
        mark = (seen.st_mtime_ns, seen.st_size)
        waiting = bool(commands.waiting(directory))
        if self._left.get(directory.name) == mark and not waiting:
            return False
        try:
            if owner.holder(directory) is not None:
                return False
            if waiting or wanted(status.read(directory)):
                return True
        except LivepatchError as problem:
            self.problems[directory.name] = str(problem)
        self._left[directory.name] = mark
        return False


def waits(state: State) -> bool:
    """Whether it waits for a person, with nothing under way and nothing that has to be done first. A job that
    was announced and may not be sent before it goes on is neither, nor is a host whose gate nobody asks
    meanwhile. Pure."""
    asked = any(job.t is not None or may_send(state, job) for job in state.jobs.values())
    moving = state.in_flight() > state.counts[Place.GATING]
    busy = state.back_wanted is not None or state.acts or asked or moving
    return state.standing is Standing.PAUSED and not busy


def wanted(state: State) -> bool:
    """Whether there is something to do without a person: also while it waits for one, for hosts that did not
    come back from a restart. Pure."""
    strays = any(until > state.t for until in state.strays.values())
    return not state.ended and state.standing is not Standing.PLANNED and (strays or not waits(state))


def _open(folder: Path) -> int:
    return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
