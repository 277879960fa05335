"""Files that survive a crash of the writer or of the machine. Writers of one file exclude each other."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace ``path`` by ``data``, or leave it as it was: there is no moment with half of it.

    The file is synced before the rename and the directory after it, or a power cut could leave the new
    name with old or no content (ext4 delays allocation). Raises OSError (ENOSPC, EROFS ...).
    """
    make_directory(path.parent)
    # One name, not one for each process: a writer that was killed leaves one file at most.
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def append_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
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


def make_directory(directory: Path) -> None:
    """Create ``directory`` and those above it, each synced into its parent: a file is no safer than they."""
    missing = [one for one in (directory, *directory.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
        sync_directory(one.parent)


def sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
