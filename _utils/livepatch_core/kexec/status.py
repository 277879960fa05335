"""What is loaded, and what became of the last time this host was told to leave; reads only."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.host.context import Host
from livepatch_core.host.statefile import read_document
from livepatch_core.kernel.attributes import read_text
from livepatch_core.kernel.roots import Roots
from livepatch_core.kexec import cmdline, facts, leave
from livepatch_core.kexec.record import Departure, Notes, ours, read_notes
from livepatch_core.words import Word


class Ended(Word):
    """How an order to leave ended."""

    ORDERED = "ordered"  # this is still the boot that shall be left
    STAYED = "stayed"  # the order was long ago, and the host never left
    KEXEC = "kexec"  # this boot was started by it
    OTHERWISE = "otherwise"  # the host booted, but not by it: through the firmware, or once more since


def status(host: Host) -> dict[str, Any]:
    """The document that kexec.status returns. Raises LivepatchError (journal): unreadable notes."""
    machine, notes = facts.read_machine(host.roots), read_notes(host)
    return {
        "kernel": {"release": machine.release, "boot_id": machine.boot_id},
        "supported": machine.file_load,
        "disabled": machine.disabled,
        "lockdown": machine.lockdown,
        "orderly": machine.systemd,
        "crash_kernel": machine.crash_loaded,
        "loaded": _loaded(notes, machine),
        "last": last(host, notes.departure, machine),
    }


def last(host: Host, departure: Departure | None, machine: facts.Machine) -> dict[str, Any] | None:
    """The last order and its end; None where none was ever given."""
    if departure is None:
        return None
    ended = judge(departure, machine.boot_id, machine.cmdline, host.clock())
    here = ended is Ended.KEXEC
    return {
        "ended": str(ended),
        "from": departure.release,
        "to": departure.to,
        "how": departure.how,
        "at": departure.at,
        "reason": departure.reason,
        "jid": departure.jid,
        "boot_id_before": departure.boot_id,
        "as_asked": machine.release == departure.to if here else None,
        "away": _away(host, departure, machine) if here else None,
        "level": _level(host, machine.boot_id),
    }


def judge(departure: Departure, boot_id: str | None, running: str | None, clock: float) -> Ended:
    """Pure. running: the command line of this kernel, which carries our mark if this boot is ours. clock: the
    host's, which never goes back in a boot."""
    if boot_id == departure.boot_id:
        return Ended.STAYED if clock >= departure.due + leave.PATIENCE else Ended.ORDERED
    return Ended.KEXEC if cmdline.token_in(running) == departure.token else Ended.OTHERWISE


def boot_time(stat: str | None) -> float | None:
    """Seconds since the epoch at which the kernel started: ``btime`` of /proc/stat. Pure."""
    for line in (stat or "").splitlines():
        if line.startswith("btime ") and line[6:].strip().isdecimal():
            return float(line[6:])
    return None


def _away(host: Host, departure: Departure, machine: facts.Machine) -> dict[str, float | None]:
    """Seconds from the moment of leaving: until the new kernel ran, until its level was in force."""
    started = boot_time(_stat(host.roots))
    report = _boot_report(host, machine.boot_id)
    levelled = _epoch(report.get("at"))
    return {
        "kernel": None if started is None else round(started - departure.left, 1),
        "level": None if levelled is None else round(levelled - departure.left, 1),
    }


def _stat(roots: Roots) -> str | None:
    return read_text(roots.proc / "stat")


def _level(host: Host, boot_id: str | None) -> dict[str, Any] | None:
    """What the boot unit of livepatch did in this boot; None where it did not run."""
    report = _boot_report(host, boot_id)
    if not report:
        return None
    level = (report.get("changes") or {}).get("level") or {}
    return {"result": report.get("result"), "level": level.get("new"), "comment": report.get("comment")}


def _boot_report(host: Host, boot_id: str | None) -> Mapping[str, Any]:
    try:
        report = read_document(host.settings.boot_file)
    except LivepatchError:
        return {}  # livepatch.status says what is wrong with it
    return report if report.get("boot_id") == boot_id else {}


def _epoch(timestamp: object) -> float | None:
    try:
        return datetime.fromisoformat(str(timestamp).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def _loaded(notes: Notes, machine: facts.Machine) -> dict[str, Any] | None:
    if not machine.loaded:
        return None
    held = ours(notes, machine.boot_id, machine.loaded)
    if held is None:
        return {"by": "other"}
    return {
        "by": "us",
        "release": held.release,
        "image": held.image,
        "sha256": held.sha256,
        "initrd": held.initrd or None,
        "cmdline": held.cmdline,
        "at": held.at,
    }
