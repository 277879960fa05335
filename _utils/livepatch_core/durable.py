"""Files that survive a crash of the writer or of the machine. Writers of one file exclude each other."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

PRIVATE_FILE, PRIVATE_DIRECTORY = 0o600, 0o700


@dataclass(frozen=True)
class Owner:
    """Whom files belong to that a process of root writes for another user."""

    uid: int
    gid: int


def write_atomically(path: Path, data: bytes, mode: int = PRIVATE_FILE, owner: Owner | None = None) -> None:
    """Replace ``path`` by ``data``, or leave it as it was: there is no moment with half of it.

    The file is synced before the rename and the directory after it, or a power cut could leave the new
    name with old or no content (ext4 delays allocation). Raises OSError (ENOSPC, EROFS ...).
    """
    make_directory(path.parent, owner=owner)
    # One name, not one for each process: a writer that was killed leaves one file at most.
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, mode)  # whatever the umask: who serves it may be another user
            give(descriptor, owner)
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def append_durably(path: Path, data: bytes, mode: int = PRIVATE_FILE) -> None:
    """Append ``data`` in one write and sync it; the directory too while the file is empty, that is new."""
    make_directory(path.parent)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, mode)
    try:
        if not os.fstat(descriptor).st_size:  # before the data: whoever dies in between is caught up with
            sync_directory(path.parent)
        if os.write(descriptor, data) != len(data):  # a full disk can cut a write short without an error
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_durably(path: Path) -> None:
    """Remove ``path`` if it is there, and make the removal durable."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def make_directory(directory: Path, mode: int = PRIVATE_DIRECTORY, owner: Owner | None = None) -> None:
    """Create ``directory`` and those above it, each synced into its parent: a file is no safer than they."""
    missing = [one for one in (directory, *directory.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=mode, exist_ok=True)
        if owner is not None:
            os.chown(one, owner.uid, owner.gid)
        sync_directory(one.parent)


def sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def give(descriptor: int, owner: Owner | None) -> None:
    """Make an open file the owner's, where there is one to be named."""
    if owner is not None:
        os.fchown(descriptor, owner.uid, owner.gid)
