"""What this project loaded, and when it left which kernel: ``kexec.json`` in the host's state directory."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from livepatch_core.host.context import Host
from livepatch_core.host.statefile import read_document, unreadable, write_document

FILE_NAME = "kexec.json"


@dataclass(frozen=True)
class Loaded:
    """An image we gave to the kernel of one boot. token: the mark in its command line. at: ISO 8601, UTC."""

    boot_id: str
    release: str
    image: str
    sha256: str
    initrd: str
    initrd_sha256: str
    cmdline: str
    token: str
    at: str


@dataclass(frozen=True)
class Departure:
    """One time that we left a kernel. boot_id, release: of the kernel left. to: the release asked for.

    how: ``systemd`` or ``direct``. at: when the order was given, left: seconds since the epoch at which it
    was to be carried out, due: the same by the host's clock that never goes back, which only this boot has.
    reason, jid: who wanted it.
    """

    boot_id: str
    release: str
    to: str
    token: str
    how: str
    at: str
    left: float
    due: float
    reason: str = ""
    jid: str = ""


@dataclass(frozen=True)
class Notes:
    loaded: Loaded | None = None
    departure: Departure | None = None


def path_of(host: Host) -> Path:
    return host.settings.state_dir / FILE_NAME


def read_notes(host: Host) -> Notes:
    """Raises LivepatchError (journal) when the file is there and cannot be understood."""
    path = path_of(host)
    document = read_document(path)
    try:
        return Notes(
            _made(Loaded, document.get("loaded")),
            _made(Departure, document.get("departure")),
        )
    except TypeError as problem:
        raise unreadable(path, problem) from problem


def _made(kind: Any, value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise TypeError(f"{kind.__name__.lower()} is no mapping")
    return kind(**value)


def write_notes(host: Host, notes: Notes) -> None:
    """Durable before it returns; raises LivepatchError (journal)."""
    write_document(
        path_of(host),
        {key: value and asdict(value) for key, value in vars(notes).items()},
    )


def with_loaded(notes: Notes, loaded: Loaded | None) -> Notes:
    return replace(notes, loaded=loaded)


def ours(notes: Notes, boot_id: str | None, loaded: bool | None) -> Loaded | None:
    """The image that is loaded now and is ours; the kernel says only that one is loaded. Pure."""
    held = notes.loaded
    return held if loaded and held is not None and held.boot_id == boot_id else None
