"""The armed record: which module this host has just loaded, written before the kernel is told.

A crash writes nothing, so what is found armed under another boot id is what the host went down with. It is
disarmed once the module has been healthy for the soak time, when its patch is gone, and by an orderly
shutdown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from livepatch_core.durable import remove_durably
from livepatch_core.errors import LivepatchError
from livepatch_core.host.context import Host
from livepatch_core.host.record import Loaded
from livepatch_core.host.statefile import (
    MISFITS,
    Types,
    known,
    read_document,
    typed,
    unreadable,
    write_document,
)
from livepatch_core.kernel.identity import read_identity
from livepatch_core.words import Kind


@dataclass(frozen=True)
class Armed:
    """kernel: build-id of the running image. since: when it was loaded, in seconds since the epoch, for what
    is compared with the time of files. clock: when its soak began, by the clock of that boot, which nobody
    sets. marks: soak checks passed, seconds after that. persist: whether the level is to be kept over a boot
    once it is proven. replaced: what was armed in this boot before; it is again if this one comes to
    nothing. on_their_way: services that were so at the last look, and since which look."""

    level: int | None
    name: str
    sha256: str
    kernel: str
    boot_id: str
    since: float
    clock: float
    marks: tuple[float, ...] = ()
    persist: bool = False
    replaced: Armed | None = None
    on_their_way: tuple[tuple[str, float], ...] = ()

    @property
    def load(self) -> tuple[str, str, float]:
        """Which load it is: the same module can be loaded again, in this boot or another one."""
        return (self.sha256, self.boot_id, self.since)


_TYPES: Types = {
    "level": (int, type(None)),
    "name": (str,),
    "sha256": (str,),
    "kernel": (str,),
    "boot_id": (str,),
    "since": (float, int),
    "clock": (float, int),
    "persist": (bool,),
}


def read_armed(host: Host) -> Armed | None:
    """What is armed. Raises LivepatchError (journal) when that cannot be told."""
    document: dict[str, Any] = read_document(host.settings.armed_file)
    document.pop("schema", None)
    if not document:
        return None
    try:
        return _parsed(document)
    except MISFITS as problem:
        raise unreadable(host.settings.armed_file, problem) from problem


def _parsed(document: Mapping[str, Any]) -> Armed:
    values, replaced = known(Armed, document), document.get("replaced")
    values["marks"] = tuple(map(float, document["marks"]))
    values["replaced"] = None if replaced is None else _parsed(replaced)
    values["on_their_way"] = tuple((str(s), float(at)) for s, at in document.get("on_their_way", ()))
    return typed(Armed(**values), _TYPES)


def arm(host: Host, loaded: Loaded) -> None:
    """Durable before it returns. Raises LivepatchError: then nothing may be loaded."""
    kernel = read_identity(host.roots).build_id or ""
    before = read_armed(host)
    if before is not None:
        before = replace(before, replaced=None) if before.boot_id == loaded.boot_id else None
    now, clock = host.now(), host.clock()
    armed = Armed(loaded.level, loaded.name, loaded.sha256, kernel, loaded.boot_id, now, clock)
    write_armed(host, replace(armed, replaced=before))


def write_armed(host: Host, armed: Armed) -> None:
    write_document(host.settings.armed_file, _document(armed))


def _document(armed: Armed) -> dict[str, Any]:
    """Without what is empty: versions from before that was written cannot read it."""
    document = asdict(armed)
    document["replaced"] = _document(armed.replaced) if armed.replaced else None
    optional = ("replaced", "on_their_way")
    return {key: value for key, value in document.items() if value or key not in optional}


def mark(host: Host, armed: Armed, passed: float) -> Armed:
    """One more soak check was passed."""
    marked = replace(armed, marks=(*armed.marks, passed))
    write_armed(host, marked)
    return marked


def unkept(armed: Armed) -> Armed:
    """``armed``, not to be kept over a boot; nor is what it replaced, should that be armed again. Pure."""
    before = replace(armed.replaced, persist=False) if armed.replaced else None
    return replace(armed, persist=False, replaced=before)


def disarm(host: Host) -> None:
    try:
        remove_durably(host.settings.armed_file)
    except FileNotFoundError:
        return  # no state directory: this host never acted
    except OSError as problem:
        raise LivepatchError(
            Kind.JOURNAL,
            f"The armed record {host.settings.armed_file} could not be removed ({problem.strerror}); a crash "
            "from whatever cause would now be blamed on the level it names.",
            remedy="Make its directory writable.",
        ) from problem


def disarm_gone(host: Host, present: Collection[str]) -> None:
    """Stand down what is no longer in the kernel: it was refused, reversed or reverted.

    What is of another boot is the crash breaker's. What cannot be done now, the soak timer does later: an
    act that is done must not fail for it.
    """
    try:
        armed = read_armed(host)
        here = armed is not None and armed.boot_id == read_identity(host.roots).boot_id
        if armed is not None and here and armed.name not in present:
            stand_down(host, armed, present)
    except LivepatchError:
        pass


def stand_down(host: Host, armed: Armed, present: Collection[str]) -> Armed | None:
    """``armed`` is gone. What it was to replace goes on with its soak, where that is still in the kernel: it
    is armed again, and returned."""
    if armed.replaced is None or armed.replaced.name not in present:
        disarm(host)
        return None
    write_armed(host, armed.replaced)
    return armed.replaced
