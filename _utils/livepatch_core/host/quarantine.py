"""Levels that this host must not load again: it went down with them, or somebody said so.

*quarantined*: there is evidence that the kernel crashed. *inconclusive*: the host went down without a trace
(a power cut looks so). Either way the level is refused until it is released.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

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
from livepatch_core.words import Kind, Word


class Ward(Word):
    QUARANTINED = "quarantined"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Warded:
    """One module that is refused. kernel: the build-id it was loaded into; sha256 names the module."""

    sha256: str
    level: int | None
    kernel: str
    ward: Ward
    reason: str
    at: str
    evidence: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "ward": str(self.ward), "evidence": list(self.evidence)}


_TYPES: Types = {
    "sha256": (str,),
    "level": (int, type(None)),
    "kernel": (str,),
    "reason": (str,),
    "at": (str,),
}


def read_warded(host: Host) -> tuple[Warded, ...]:
    """Raises LivepatchError (journal) when the file cannot be understood: nothing may be loaded then."""
    document = read_document(host.settings.quarantine_file)
    try:
        return tuple(
            typed(
                Warded(
                    **{**known(Warded, one), "ward": Ward(one["ward"]), "evidence": texts(one["evidence"])}
                ),
                _TYPES,
            )
            for one in document.get("modules", ())
        )
    except MISFITS as problem:
        raise unreadable(host.settings.quarantine_file, problem) from problem


def add(host: Host, new: Warded) -> None:
    """``new`` instead of what was said of that module before."""
    kept = [one for one in read_warded(host) if one.sha256 != new.sha256]
    _write(host, [*kept, new])


def remove(host: Host, gone: tuple[Warded, ...]) -> None:
    _write(host, [one for one in read_warded(host) if one not in gone])


def refuse(host: Host, sha256: str) -> None:
    """Raises LivepatchError (quarantined) for a module that this host must not load."""
    for one in read_warded(host):
        if one.sha256 == sha256:
            what = "quarantined" if one.ward is Ward.QUARANTINED else "held as inconclusive"
            named = f"Level {one.level}" if one.level is not None else f"The module {sha256}"
            raise LivepatchError(
                Kind.QUARANTINED,
                f"{named} is {what} on this host since {one.at}: {one.reason}; nothing was changed.",
                remedy="Approve another level, or run livepatch.release if it is known to be innocent.",
                ward=str(one.ward),
                crash=list(one.evidence),
            )


def _write(host: Host, warded: list[Warded]) -> None:
    write_document(host.settings.quarantine_file, {"modules": [one.document() for one in warded]})
