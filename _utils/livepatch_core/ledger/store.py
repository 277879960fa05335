"""The ledger's file: SQLite, in WAL mode, synced at every commit.

Why SQLite and not a journal of our own: a write touches the approvals of any number of hosts and has to be
there wholly or not at all, the pillar of one host must not read those of ten thousand, and both must be true
while other processes write. In WAL mode readers wait for nobody; ``synchronous=FULL`` syncs the log before a
commit returns (SQLite's documentation: pragma.html#pragma_synchronous, wal.html). WAL needs shared memory:
state_dir must be on a local file system.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from livepatch_core.catalog import files
from livepatch_core.catalog.settings import Master
from livepatch_core.durable import PRIVATE_FILE, Owner, give, sync_directory
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind

FILE_NAME = "ledger.sqlite"
SCHEMA = 1
APPLICATION = 0x6C706C67  # "lplg": what file(1) and restore tell a ledger from another database by
WAIT_SECONDS = 30.0  # for the writer before; a write of ten thousand approvals takes less than one
TABLES = """
CREATE TABLE meta (ledger_id TEXT NOT NULL, rev INTEGER NOT NULL);
CREATE TABLE entry (rev INTEGER PRIMARY KEY, at TEXT NOT NULL, who TEXT NOT NULL, act TEXT NOT NULL,
                    why TEXT NOT NULL, detail TEXT NOT NULL);
CREATE TABLE grants (digest TEXT PRIMARY KEY, builds TEXT NOT NULL);
CREATE TABLE approval (minion TEXT PRIMARY KEY, rev INTEGER NOT NULL, digest TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE freeze (minion TEXT PRIMARY KEY, rev INTEGER NOT NULL, at TEXT NOT NULL, who TEXT NOT NULL,
                     why TEXT NOT NULL) WITHOUT ROWID;
"""


def ledger_file(state_dir: Path) -> Path:
    return state_dir / FILE_NAME


def new_ledger_id() -> str:
    return f"ledger-{uuid.uuid4().hex[:12]}"


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """One consistent state of the ledger; None where there is none yet. Raises LivepatchError (journal)."""
    if not path.exists():
        yield None
        return
    with _explained(path), closing(_open(path)) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        _check(connection, path)
        yield connection


@contextmanager
def writing(master: Master) -> Iterator[sqlite3.Connection]:
    """A transaction that is durable when the block ends, and never happened if it raises.

    Writers wait for each other. Makes the ledger where there is none. Raises LivepatchError (journal,
    privilege).
    """
    path = ledger_file(master.state_dir)
    _make(path, master)
    with _explained(path), closing(_open(path)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            _check(connection, path)
            yield connection
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _make(path: Path, master: Master) -> None:
    """An empty ledger where there is none. It is made under another name: a ledger is there whole or not at
    all, and nobody meets one that is not in WAL mode yet.
    """
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.new")
    with files.exclusive(master, master.ledger_lock), files.writable(master, "nothing was changed"):
        if path.exists():  # another process was first
            return
        _refuse_leftovers(path)
        temporary.unlink(missing_ok=True)
        touch(temporary, master.owner)
        with _explained(path), closing(_open(temporary)) as connection:
            _create(connection, path)
        sync(temporary)
        os.replace(temporary, path)
        sync_directory(path.parent)


def _create(connection: sqlite3.Connection, path: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise _unusable(path, "its file system offers no shared memory for SQLite's log")
    connection.execute("BEGIN IMMEDIATE")
    for statement in TABLES.split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute("INSERT INTO meta VALUES (?, 0)", (new_ledger_id(),))
    connection.execute("COMMIT")


def touch(path: Path, owner: Owner | None) -> None:
    """An empty file of the master's user: SQLite gives the files beside it to the same."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        give(descriptor, owner)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_leftovers(path: Path) -> None:
    """SQLite would take the log of a ledger that is gone for that of the new one."""
    left = [str(one) for one in (Path(f"{path}-wal"), Path(f"{path}-shm")) if one.exists()]
    if left:
        raise _unusable(path, f"it is gone, but {' and '.join(left)} of it is still there")


def _open(path: Path) -> sqlite3.Connection:
    """mode=rw: a reader also needs to write SQLite's shared memory, but must not make an empty ledger."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=WAIT_SECONDS, isolation_level=None)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Raises LivepatchError (journal) for a file that is no ledger this version reads."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION:
        raise _unusable(path, "it is empty, or another program's database")
    if version != SCHEMA:
        raise _unusable(path, f"it has schema {version}, this version reads {SCHEMA}")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as problem:
        raise _unusable(path, str(problem)) from problem


def _unusable(path: Path, why: str) -> LivepatchError:
    return LivepatchError(
        Kind.JOURNAL,
        f"The ledger {path} cannot be used ({why}); nothing was changed.",
        remedy="See that it belongs to the master's user and that there is room. If it is damaged, move it "
        "away with its -wal and -shm files and run livepatch_ledger.restore or rebuild.",
    )
