"""Which machines were taken from this host: ``drain.json`` in its state directory, written before a step."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from livepatch_core.durable import remove_durably
from livepatch_core.host.context import Host
from livepatch_core.host.statefile import read_document, unreadable, write_document
from livepatch_core.words import Word

FILE_NAME = "drain.json"


class Means(Word):
    SAVE = "save"  # memory to disk: the guest goes on where it was
    SHUTDOWN = "shutdown"  # the guest boots again afterwards
    COMMAND = "command"  # of the operator: evacuate to other hosts


class Stage(Word):
    PLANNED = "planned"
    LEAVING = "leaving"  # libvirt has been told
    AWAY = "away"
    BACK = "back"


@dataclass(frozen=True)
class Guest:
    """One virtual machine. left, returned: seconds since the epoch. clock: ``set``, or why it is not."""

    name: str
    stage: Stage = Stage.PLANNED
    left: float | None = None
    returned: float | None = None
    clock: str = ""

    def document(self) -> dict[str, Any]:
        away = None if self.left is None or self.returned is None else round(self.returned - self.left, 1)
        return {"name": self.name, "stage": str(self.stage), "away": away, "clock": self.clock}


@dataclass(frozen=True)
class Drained:
    """A drain that was begun and is not undone yet."""

    uri: str
    means: Means
    at: str
    guests: tuple[Guest, ...]

    def with_guest(self, guest: Guest) -> Drained:
        return replace(self, guests=tuple(guest if one.name == guest.name else one for one in self.guests))


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
    try:
        remove_durably(path_of(host))
    except FileNotFoundError:
        pass
