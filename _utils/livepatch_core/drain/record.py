"""Which machines were taken from this host: ``drain.json`` in its state directory, written before a step."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from livepatch_core.durable import remove_durably
from livepatch_core.errors import LivepatchError
from livepatch_core.host.context import Host
from livepatch_core.host.statefile import read_document, unreadable, write_document
from livepatch_core.words import Kind, Word

FILE_NAME = "drain.json"


class Means(Word):
    SAVE = "save"  # memory to disk: the guest goes on where it was
    SHUTDOWN = "shutdown"  # the guest boots again afterwards
    COMMAND = "command"  # of the operator: evacuate to other hosts


class Stage(Word):
    PLANNED = "planned"
    LEAVING = "leaving"  # it has been told, and may be gone or yet go
    AWAY = "away"
    BACK = "back"


@dataclass(frozen=True)
class Guest:
    """One virtual machine. ran: it was not paused. left, returned: seconds since the epoch. clock: ``set``,
    or why it is not. booted: it was to go on where it was, and its saved memory was not there."""

    name: str
    stage: Stage = Stage.PLANNED
    ran: bool = True
    left: float | None = None
    returned: float | None = None
    clock: str = ""
    booted: bool = False

    def document(self) -> dict[str, Any]:
        away = None if self.left is None or self.returned is None else round(self.returned - self.left, 1)
        shown = {"name": self.name, "stage": str(self.stage), "away": away, "clock": self.clock}
        return {**shown, "booted": True} if self.booted else shown


@dataclass(frozen=True)
class Drained:
    """A drain that was begun and is not undone yet."""

    uri: str
    means: Means
    at: str
    guests: tuple[Guest, ...]

    def with_guest(self, guest: Guest) -> Drained:
        return replace(self, guests=tuple(guest if one.name == guest.name else one for one in self.guests))

    def without(self, name: str) -> Drained:
        return replace(self, guests=tuple(one for one in self.guests if one.name != name))

    def at_stage(self, *stages: Stage) -> tuple[Guest, ...]:
        return tuple(one for one in self.guests if one.stage in stages)

    def told(self) -> tuple[Guest, ...]:
        """Those that left, or may have: it is these that are brought back."""
        return self.at_stage(Stage.LEAVING, Stage.AWAY)

    def document(self) -> dict[str, Any]:
        guests = [one.document() for one in self.guests]
        return {"means": str(self.means), "uri": self.uri, "at": self.at, "guests": guests}


def path_of(host: Host) -> Path:
    return host.settings.state_dir / FILE_NAME


def read_drained(host: Host) -> Drained | None:
    """None where nothing is drained. Raises LivepatchError (journal) when the file cannot be understood."""
    path = path_of(host)
    document = read_document(path)
    if not document:
        return None
    try:
        guests = tuple(Guest(**{**one, "stage": Stage(one["stage"])}) for one in document["guests"])
        return Drained(document["uri"], Means(document["means"]), document["at"], guests)
    except (KeyError, TypeError, ValueError) as problem:
        raise unreadable(path, problem) from problem


def write_drained(host: Host, drained: Drained) -> None:
    """Durable before it returns; raises LivepatchError (journal)."""
    document = asdict(drained)
    guests = [{**asdict(one), "stage": str(one.stage)} for one in drained.guests]
    write_document(path_of(host), {**document, "means": str(drained.means), "guests": guests})


def forget(host: Host) -> None:
    """Nobody is away any more; raises LivepatchError (journal)."""
    path = path_of(host)
    try:
        remove_durably(path)
    except OSError as problem:
        raise LivepatchError(
            Kind.JOURNAL,
            f"{path} could not be removed ({problem.strerror}); the virtual machines are back.",
            remedy="Make its directory writable, then ask for livepatch_drain.undrain again.",
        ) from problem
