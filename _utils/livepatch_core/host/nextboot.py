"""What the next boot of this kernel loads, and why: the boot unit and status ask the same function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.host import blocks, journal, quarantine, store
from livepatch_core.host.armed import read_armed
from livepatch_core.host.context import Host
from livepatch_core.host.record import Record, read_record
from livepatch_core.host.store import Kept
from livepatch_core.kernel.attributes import read_text

SWITCH = "livepatch.boot=off"  # on the kernel's command line
NOTHING = "nothing loads a level at boot on this host"


@dataclass(frozen=True)
class Choice:
    """kept: what is loaded, None for nothing. why: a sentence without its full stop."""

    kept: Kept | None
    why: str

    @property
    def level(self) -> int:
        return self.kept.level if self.kept else 0


def choose(kept: tuple[Kept, ...], bound: int | None, refused: Mapping[str, str], off: str = "") -> Choice:
    """The highest proven level that may be loaded. Pure.

    kept: highest first. bound: the highest level that the host's record allows, None where it says nothing.
    refused: why a module must not be loaded, by its digest. off: what switches it all off, "" if nothing.
    """
    if not kept:
        return Choice(None, NOTHING)
    if off:
        return Choice(None, f"loading at boot is switched off by {off}")
    passed_over: list[str] = []
    for one in kept:
        if bound is not None and one.level > bound:
            passed_over.append(f"level {one.level} is above {bound}, where this host was told to be")
        elif one.sha256 in refused:
            passed_over.append(f"level {one.level} is {refused[one.sha256]}")
        else:
            said = "; ".join(["it is the highest proven level", *passed_over])
            return Choice(one, said)
    return Choice(None, "; ".join(passed_over))


def read_choice(host: Host, kernel: str | None, record: Record) -> Choice:
    """Raises LivepatchError when something that decides cannot be read."""
    if kernel is None:
        return Choice(None, "the build-id of the kernel could not be read")
    kept = store.read_store(host, kernel)
    refused = blocks.read_blocks(host, kernel)
    refused.update({one.sha256: f"{one.ward} ({one.reason})" for one in quarantine.read_warded(host)})
    for one in kept:
        if one.sha256 not in refused and not store.is_sound(host, kernel, one):
            refused[one.sha256] = "damaged in the store"
    return choose(kept, bound_of(record, kernel), refused, switched_off(host))


def bound_of(record: Record, kernel: str) -> int | None:
    """The highest level that this kernel build may have, None where the host was never told one.

    A level by hand outranks the approval until a newer one arrives, at boot as ever. What an act under way
    was to bring does not count: a boot would cut it off.
    """
    record = record.undo()
    held = record.by_hand
    if held is not None and held.binds(kernel):
        return held.level
    return record.bounds.get(kernel)


def switched_off(host: Host) -> str:
    """What switches loading at boot off, for people; "" if nothing does."""
    if SWITCH in (read_text(host.roots.proc / "cmdline") or "").split():
        return f"{SWITCH} on the kernel's command line"
    if host.settings.off_file.exists():
        return f"the file {host.settings.off_file}"
    return ""


def _read_before_a_load(host: Host) -> None:
    """What else the boot unit loads nothing without. Raises LivepatchError where it cannot be understood."""
    read_record(host.settings.record_file)  # the record given here may be an empty one instead
    read_armed(host)
    journal.last_entry(host.settings.journal_file)


def next_boot(host: Host, kernel: str | None, record: Record, level: int | None) -> dict[str, Any]:
    """For status: what the next boot loads, why, and why that is not what runs now."""
    try:
        _read_before_a_load(host)
        choice = read_choice(host, kernel, record)
    except LivepatchError as problem:
        return {"level": 0, "why": problem.message}
    shown: dict[str, Any] = {"level": choice.level, "why": choice.why}
    if choice.kept is not None and not host.settings.boot_unit.exists():
        shown = {"level": 0, "why": f"level {choice.level} is kept, but the boot unit is not enabled"}
    if shown["level"] != level and choice.why != NOTHING:
        shown["differs"] = f"now {'no known level' if level is None else f'level {level}'} is in force"
    return shown
