"""Directories for what is running, in /tmp because socket paths must be short (sun_path holds 107 bytes,
unix(7)).

Each names its owner by process id and start time. What dead owners left is deleted when the next one is made.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

BASE = Path("/tmp")
OWNER_FILE = "owner"
PREFIX = f"lab-{os.getuid()}-"


def make(kind: str) -> Path:
    """A new directory that belongs to this process."""
    sweep()
    path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-", dir=BASE))
    (path / OWNER_FILE).write_text(f"{os.getpid()} {start_time(os.getpid())}")
    return path


def parse_start_time(stat: str) -> int:
    """Field 22 of /proc/PID/stat, clock ticks since boot (proc(5)); the name in field 2 may hold spaces and
    brackets.
    """
    return int(stat.rpartition(")")[2].split()[19])


def start_time(pid: int) -> int | None:
    """When a process started; None when there is none. A number that was given out again has another start
    time.
    """
    try:
        return parse_start_time(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


def sweep() -> list[Path]:
    """Deletes what dead processes left, and returns it. A directory without an owner yet is just being
    made.
    """
    doomed = [path for path in BASE.glob(f"{PREFIX}*") if _is_stale(path)]
    for path in doomed:
        shutil.rmtree(path, ignore_errors=True)  # another process may be sweeping too
    return doomed


def _is_stale(path: Path) -> bool:
    try:
        pid, started = (path / OWNER_FILE).read_text().split()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    return start_time(int(pid)) != int(started)
