"""The lab's cache: every artefact lives under a name made from everything that went into it.

An artefact is a directory ``<root>/<kind>/<key>``. It is built beside its place and renamed into it, so it
is either whole or absent; a builder holds ``flock`` on ``<key>.lock``, which the kernel drops when the
builder dies.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lab import progress
from lab.errors import LabError

CACHE_VARIABLE = "LIVEPATCH_LAB_CACHE"
KEY_DIGITS = 16
INPUTS_FILE = "inputs.json"
DAY = 86400.0


def root() -> Path:
    """The cache directory: ``$LIVEPATCH_LAB_CACHE``, or ``~/.cache/saltext-livepatch-lab``; created when
    missing.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    path = Path(chosen) if chosen else Path.home() / ".cache" / "saltext-livepatch-lab"
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that change when any of `inputs` (JSON values, paths, frozen dataclasses)
    changes.
    """
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"), default=_jsonable)
    return hashlib.sha256(canonical.encode()).hexdigest()[:KEY_DIGITS]


def _jsonable(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    raise TypeError(f"cannot be part of a cache key: {value!r}")


def file_digest(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Holds an exclusive lock on `path`; says so when another process has it. A dead holder holds nothing
    (flock).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(f"waiting for another process: {what}")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def artefact(kind: str, inputs: Mapping[str, Any], build: Callable[[Path], None], what: str) -> Path:
    """The directory holding the artefact made from `inputs`; `build` fills an empty directory when there is
    none yet.
    """
    home = root() / kind
    place = home / fingerprint({"kind": kind, **inputs})
    if not _use(place):
        with locked(home / f"{place.name}.lock", what):
            if not _use(place):
                _build(place, inputs, build, what)
    return place


def _use(place: Path) -> bool:
    """Marks the artefact as used now (`prune` goes by this time); False when there is none."""
    try:
        os.utime(place / INPUTS_FILE)
    except FileNotFoundError:
        return False
    return True


def _build(place: Path, inputs: Mapping[str, Any], build: Callable[[Path], None], what: str) -> None:
    unfinished = place.with_name(f".{place.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    _require_disk(place.parent)
    unfinished.mkdir(parents=True)
    try:
        with progress.step(what):
            build(unfinished)
        (unfinished / INPUTS_FILE).write_text(
            json.dumps(inputs, sort_keys=True, indent=1, default=_jsonable) + "\n"
        )
        unfinished.rename(place)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


SMALLEST_FREE_DISK = (
    2 << 30
)  # bytes; the largest single artefact (a kernel with its modules) unpacks to about 0.7 GB


def _require_disk(where: Path) -> None:
    free = shutil.disk_usage(where).free
    if free < SMALLEST_FREE_DISK:
        raise LabError(
            f"{free >> 20} MiB are free in {where}; the lab needs {SMALLEST_FREE_DISK >> 20} to build",
            f"free some space (python -m lab prune), or set {CACHE_VARIABLE} to a directory on a larger disk",
        )


@dataclasses.dataclass(frozen=True)
class Entry:
    """One artefact in the cache; `used` is seconds since the epoch."""

    path: Path
    kind: str
    used: float


def entries() -> list[Entry]:
    """The artefacts there are; another process may be deleting some meanwhile."""
    found = (_entry(file) for file in sorted(root().glob(f"*/*/{INPUTS_FILE}")))
    return [entry for entry in found if entry is not None]


def _entry(file: Path) -> Entry | None:
    try:
        return Entry(file.parent, file.parent.parent.name, file.stat().st_mtime)
    except FileNotFoundError:
        return None


def prune(unused_for: float, now: float | None = None) -> list[Path]:
    """Deletes artefacts not used for `unused_for` seconds and what killed builders left; returns what was
    deleted.
    """
    limit = (time.time() if now is None else now) - unused_for
    doomed = [entry.path for entry in entries() if entry.used <= limit] + list(root().glob("*/.*.tmp"))
    return [path for path in doomed if _delete(path)]


def keep_newest(kind: str, count: int) -> list[Path]:
    """Deletes all but the `count` artefacts of a kind that were used last; returns what was deleted."""
    ours = sorted(
        (entry for entry in entries() if entry.kind == kind), key=lambda entry: entry.used, reverse=True
    )
    return [entry.path for entry in ours[count:] if _delete(entry.path)]


def _delete(path: Path) -> bool:
    """False when somebody is building it at this moment, or has deleted it."""
    key = path.name[1 : -len(".tmp")] if path.name.startswith(".") else path.name
    with (path.parent / f"{key}.lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if not path.exists():
            return False
        doomed = path.with_name(f".{key}.tmp")
        path.rename(doomed)  # gone at once: nobody may take up what is half deleted
        shutil.rmtree(doomed)
    return True
