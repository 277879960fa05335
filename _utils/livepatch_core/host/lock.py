"""One lock for everything that changes the kernel of this host: minion jobs, salt-call, the boot unit."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind

# The soak's tick takes the lock at most once a minute, to write down what it found; only where it has to
# revert it keeps it for longer. No operator did it, so that it must not fail a highstate that comes by.
SOAK = "soak"
SOAK_SECONDS = 30.0
POLL = 0.1


@contextmanager
def exclusive(path: Path, purpose: str, *, test: bool = False) -> Iterator[None]:
    """Hold the host's lock; raises LivepatchError (busy), naming the holder, when it is taken: at once, but
    the soak is waited for.

    test: only ask whether it could be had; a dry run must not make a real act busy. Also raises
    LivepatchError (privilege, internal) where the file cannot be opened.

    A lock of the kernel (flock), so that it ends with its holder, however that dies. The file is never
    removed: unlinking a locked file would let two holders in.
    """
    descriptor = _open(path)
    try:
        _take(descriptor)
        if test:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            yield
            return
        _sign(descriptor, json.dumps({"pid": os.getpid(), "purpose": purpose}).encode())
        try:
            yield
        finally:
            _sign(descriptor, b"")
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> None:
    """flock has no time-out, so that who has it is asked again."""
    deadline = time.monotonic() + SOAK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            process, purpose = _holder(os.pread(descriptor, 4096, 0))
            if purpose != SOAK or time.monotonic() >= deadline:
                raise _busy(process, purpose) from None
        time.sleep(POLL)


def held(path: Path, locks: Path) -> bool:
    """Whether somebody holds the lock, by the kernel's own list (/proc/locks): taking it only to see would
    make an act that comes at this moment busy."""
    try:
        found, listed = os.stat(path), locks.read_text(encoding="ascii")
    except FileNotFoundError:  # nobody has acted in this boot
        return False
    name = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    return any(line.split()[1:2] == ["FLOCK"] and line.split()[5:6] == [name] for line in listed.splitlines())


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise LivepatchError(
            Kind.PRIVILEGE if isinstance(problem, PermissionError) else Kind.INTERNAL,
            f"The lock {path} could not be opened ({problem.strerror}); nothing was changed.",
            remedy="Run the minion or salt-call as root, and see that its directory can be written.",
        ) from problem


def _sign(descriptor: int, name: bytes) -> None:
    """Who holds the lock, for people: where there is no room for it, the lock holds all the same."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, name, 0)
    except OSError:
        pass


def _holder(content: bytes) -> tuple[int, str]:
    try:
        holder = json.loads(content)
        return int(holder["pid"]), str(holder["purpose"])
    except (ValueError, KeyError, TypeError):
        return 0, ""  # caught between taking the lock and writing its name


def _busy(process: int, purpose: str) -> LivepatchError:
    who = f"process {process} ({purpose})" if process else "another process"
    return LivepatchError(
        Kind.BUSY,
        f"Another livepatch act is under way on this host, by {who}; this one changed nothing.",
        remedy="Wait for it to end (livepatch.wait), then ask again.",
        holder=who,
    )
