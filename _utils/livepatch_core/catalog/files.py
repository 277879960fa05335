"""Writing the master's files: one writer at a time, and what it means when one cannot."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from livepatch_core.catalog.settings import Master
from livepatch_core.durable import PRIVATE_FILE, give, make_directory
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind

FILE, DIRECTORY = 0o644, 0o755  # of what is served


@contextmanager
def exclusive(master: Master, lock: Path) -> Iterator[None]:
    """Hold a lock of the master's; waits for the writer before. Raises LivepatchError (privilege).

    flock ends with its holder, however that dies. The file is never removed: two could hold it then.
    """
    with writable(master, "nothing was changed"):
        make_directory(master.state_dir, owner=master.owner)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        give(descriptor, master.owner)
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
