"""Files on a disk that is full (a real one: a tmpfs of a few pages), and files that a crash left."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from livepatch_core.durable import append_durably, write_atomically
from livepatch_core.errors import LivepatchError
from livepatch_core.host import journal
from livepatch_core.host.journal import JournalState
from livepatch_core.host.record import Record, read_record, write_record
from tests.conftest import REPO
from tests.unit.host.world import World

LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 KiB; needs root, as the tests that load modules do."""
    place = tmp_path / "small"
    place.mkdir()
    options = b"size=32k,mode=0700"
    if LIBC.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, options):
        pytest.fail(f"mount: {os.strerror(ctypes.get_errno())}")
    yield place
    LIBC.umount2(os.fsencode(place), 2)  # MNT_DETACH


def fill(place: Path, leave: int = 0) -> None:
    """Take all room but ``leave`` pages of 4096 bytes."""
    spare = [place / f"spare{n}" for n in range(leave)]
    for one in spare:
        one.write_bytes(b"x" * 4096)
    descriptor = os.open(place / "filling", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while os.write(descriptor, b"x" * 4096):
            pass
    os.close(descriptor)
    for one in spare:
        one.unlink()


def test_a_full_disk_leaves_the_old_file(small: Path) -> None:
    path = small / "record.json"
    write_atomically(path, b"old")
    fill(small)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new" * 4096)
    assert path.read_bytes() == b"old"
    assert sorted(one.name for one in small.iterdir()) == ["filling", "record.json"]


def test_a_full_disk_tears_the_journal_and_the_next_append_mends_it(small: Path) -> None:
    path = small / "journal.jsonl"
    head = journal.append(path, {"n": 1})
    fill(small, leave=1)  # room for a beginning of the line
    with pytest.raises(OSError, match="No space") as caught:
        journal.append(path, {"n": "x" * 16384})
    assert caught.value.errno == errno.ENOSPC
    assert journal.verify(path.read_bytes(), head).state is JournalState.TORN
    (small / "filling").unlink()
    head = journal.append(path, {"n": 2})
    assert journal.verify(path.read_bytes(), head).state is JournalState.WHOLE


def test_an_act_on_a_full_disk_does_not_begin(world: World, small: Path) -> None:
    world.directory = small
    assert world.apply(1).result is True
    fill(small)
    changed = list(world.kernel.changed)
    outcome = world.apply(2)
    assert outcome.result is False
    assert "nothing was changed" in outcome.comment
    assert world.kernel.changed == changed
    (small / "filling").unlink()
    assert world.apply(2).result is True
    assert world.verified is JournalState.WHOLE


def test_an_error_says_which_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(LivepatchError, match=r"record\.json could not be written"):
        write_record(tmp_path / "file/record.json", Record())


def test_files_are_for_root_only(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a/b/record.json", b"x")
    append_durably(tmp_path / "a/b/journal.jsonl", b"x")
    modes = [path.stat().st_mode & 0o777 for path in sorted(tmp_path.rglob("*"))]
    assert modes == [0o700, 0o700, 0o600, 0o600]


KILLED = """
import os, signal, sys
from pathlib import Path
from livepatch_core.host import record
real = getattr(os, sys.argv[2])
def die(*arguments, **keywords):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, sys.argv[2], die)
record.write_record(Path(sys.argv[1]), record.Record(rev=2))
"""


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_killed_writer_leaves_the_old_record(tmp_path: Path, call: str) -> None:
    """A real process, a real SIGKILL: before the new file is synced, and before it takes the name."""
    path = tmp_path / "record.json"
    write_record(path, Record(rev=1))
    environment = {**os.environ, "PYTHONPATH": str(REPO / "_utils")}
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), call], env=environment, check=False)
    assert done.returncode == -9
    assert read_record(path) == Record(rev=1)
    write_record(path, Record(rev=3))
    assert read_record(path) == Record(rev=3)
    assert [one.name for one in tmp_path.iterdir()] == ["record.json"]  # nothing is left lying about
