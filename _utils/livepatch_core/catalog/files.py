"""Files that the file server serves: written whole, durably, one writer at a time, as the master's user.

Unlike the host's own files (host/durable.py) these are for others to read, and belong to the master's user
also when root wrote them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from livepatch_core.catalog.settings import Master, Owner
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind

FILE, PRIVATE_FILE = 0o644, 0o600
DIRECTORY, PRIVATE_DIRECTORY = 0o755, 0o700


@contextmanager
def exclusive(master: Master, lock: Path) -> Iterator[None]:
    """Hold a lock of the master's; waits for the writer before. Raises LivepatchError (privilege).

    flock ends with its holder, however that dies. The file is never removed: two could hold it then.
    """
    with writable(master, "nothing was changed"):
        make_directory(master.state_dir, master.owner, PRIVATE_DIRECTORY)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        _give(descriptor, master.owner)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def writable(master: Master, state: str) -> Iterator[None]:
    """Turns an OSError of writing into a LivepatchError that says whose the directory has to be.

    state: what was changed when it happens, a clause.
    """
    try:
        yield
    except OSError as problem:
        denied = isinstance(problem, PermissionError)
        places = " and ".join(str(path) for path in (master.catalog_dir, master.state_dir) if path)
        raise LivepatchError(
            Kind.PRIVILEGE if denied else Kind.CATALOG,
            f"{problem.filename or places} could not be written ({problem.strerror}); {state}.",
            remedy=(
                f"{places} must belong to {master.user}, as whom the master runs: "
                f"install -d -o {master.user} DIRECTORY."
                if denied
                else "Make room or mend the file system, then repeat the command."
            ),
            errno=problem.errno,
        ) from problem


def write(path: Path, data: bytes, owner: Owner | None, mode: int = FILE) -> None:
    """Replace ``path`` by ``data`` or leave it as it was. Raises OSError (ENOSPC, EROFS ...).

    Synced before the rename and the directory after it: a power cut leaves old or new, never between. The
    temporary name is always the same (writers hold the lock), so that killed ones leave one file at most.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, mode)  # whatever the umask: who serves it may be another user
            _give(descriptor, owner)
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def make_directory(directory: Path, owner: Owner | None, mode: int = DIRECTORY) -> None:
    """Create ``directory`` and those above it, each synced into its parent."""
    missing = [one for one in (directory, *directory.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=mode, exist_ok=True)
        if owner is not None:
            os.chown(one, owner.uid, owner.gid)
        sync_directory(one.parent)


def remove(path: Path) -> None:
    """Remove ``path`` if it is there, durably."""
    if path.exists():
        path.unlink()
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _give(descriptor: int, owner: Owner | None) -> None:
    if owner is not None:
        os.fchown(descriptor, owner.uid, owner.gid)
