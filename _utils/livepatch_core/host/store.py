"""Levels kept on the host, by kernel build: what the boot unit loads without master or network."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from livepatch_core.durable import remove_durably, write_atomically
from livepatch_core.errors import LivepatchError
from livepatch_core.host.context import Host
from livepatch_core.host.statefile import (
    MISFITS,
    Types,
    known,
    read_document,
    texts,
    typed,
    unreadable,
    write_document,
)
from livepatch_core.words import Kind

INDEX = "index.json"


@dataclass(frozen=True)
class Kept:
    """A proven level. sha256: of the bytes as stored, which are those of the catalog's file."""

    level: int
    sha256: str
    name: str
    fixes: tuple[str, ...]
    at: str


_TYPES: Types = {"level": (int,), "sha256": (str,), "name": (str,), "at": (str,)}


def read_store(host: Host, kernel: str) -> tuple[Kept, ...]:
    """What is kept for one kernel build, the highest level first. Raises LivepatchError (journal)."""
    path = directory(host, kernel) / INDEX
    document = read_document(path)
    try:
        kept = [
            typed(Kept(**{**known(Kept, one), "fixes": texts(one["fixes"])}), _TYPES)
            for one in document.get("levels", ())
        ]
        return tuple(sorted(kept, key=lambda one: one.level, reverse=True))
    except MISFITS as problem:
        raise unreadable(path, problem) from problem


def builds(host: Host) -> tuple[str, ...]:
    """The kernel builds of which something is kept, or was."""
    return tuple(sorted(path.name for path in (host.settings.state_dir / "store").glob("*")))


def keep_module(host: Host, kernel: str, sha256: str, data: bytes) -> None:
    """The bytes, not yet a level that is loaded at boot. Raises LivepatchError (journal) on a full disk."""
    path = directory(host, kernel) / f"{sha256}.ko"
    try:
        write_atomically(path, data)
    except OSError as problem:
        raise LivepatchError(
            Kind.JOURNAL,
            f"The module could not be kept in {path.parent} ({problem.strerror}); the next boot loads what "
            "it would have loaded before.",
            remedy="Make room there, then ask again.",
        ) from problem


def keep(host: Host, kernel: str, new: Kept) -> None:
    """``new`` is loaded at boot from now on; lower levels stay, as what to fall back to."""
    lower = [one for one in read_store(host, kernel) if one.level < new.level]
    _write(host, kernel, [new, *lower])


def forget(host: Host, kernel: str) -> None:
    """Nothing is loaded at boot into this kernel build any more."""
    _write(host, kernel, [])


def read_module(host: Host, kernel: str, kept: Kept) -> bytes:
    """The bytes of a kept level. Raises LivepatchError (digest) when they are missing or damaged."""
    path = directory(host, kernel) / f"{kept.sha256}.ko"
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise _damaged(path, kept, str(problem.strerror)) from problem
    actual = hashlib.sha256(data).hexdigest()
    if actual != kept.sha256:
        raise _damaged(path, kept, f"its SHA-256 is {actual}")
    return data


def is_sound(host: Host, kernel: str, kept: Kept) -> bool:
    """Whether the bytes are there and are those of the level."""
    try:
        read_module(host, kernel, kept)
    except LivepatchError:
        return False
    return True


def directory(host: Host, kernel: str) -> Path:
    return host.settings.state_dir / "store" / kernel


def _write(host: Host, kernel: str, kept: list[Kept]) -> None:
    folder = directory(host, kernel)
    write_document(folder / INDEX, {"levels": [asdict(one) for one in kept]})
    wanted = {f"{one.sha256}.ko" for one in kept}
    for path in folder.glob("*.ko"):
        if path.name not in wanted:
            remove_durably(path)


def _damaged(path: Path, kept: Kept, why: str) -> LivepatchError:
    return LivepatchError(
        Kind.DIGEST,
        f"Level {kept.level} is kept for the boot in {path}, but {why}; it was not loaded.",
        remedy="Persist the level again (livepatch.persist).",
    )
