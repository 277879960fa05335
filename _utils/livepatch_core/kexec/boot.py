"""Starting the loaded kernel: the record and the journal first, then the order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.host import journal
from livepatch_core.host.context import Host
from livepatch_core.host.lock import exclusive
from livepatch_core.host.outcome import Outcome
from livepatch_core.host.record import read_record, write_record
from livepatch_core.kexec import facts, leave
from livepatch_core.kexec.leave import How
from livepatch_core.kexec.load import Wish, judge, load_held
from livepatch_core.kexec.record import Departure, Loaded, Notes, ours, read_notes, write_notes
from livepatch_core.words import Kind

DELAY = 5.0  # seconds: a job's return is with the master long before


@dataclass(frozen=True)
class Order:
    """wish: what to load if nothing of ours is; None starts what is loaded. how: None lets PID 1 decide."""

    wish: Wish | None
    reason: str | None
    how: How | None = None
    delay: float = DELAY
    test: bool = False


def boot(host: Host, order: Order) -> Outcome:
    """Order the loaded kernel to be started; loads one first if the order names one. Raises LivepatchError
    when it was refused: this kernel then runs on."""
    if not order.reason:
        raise LivepatchError(
            Kind.ARGUMENT, "kexec.boot needs a reason; nothing was changed.", remedy="Give one: reason='...'"
        )
    with exclusive(host.settings.lock_file, "kexec boot", test=order.test):
        return boot_held(host, order)


def boot_held(host: Host, order: Order) -> Outcome:
    """The same for who holds the lock, and has a reason."""
    machine = facts.read_machine(host.roots)
    notes = read_notes(host)
    if notes.departure and leave.pending(host, notes.departure, machine.boot_id):
        return _ordered_already(host, notes.departure, order)
    how = order.how or (How.SYSTEMD if machine.systemd else How.DIRECT)
    _refuse_way(how, machine)
    if order.wish is not None:
        loading, notes = load_held(host, replace(order.wish, test=order.test), anew=True)
        if order.test:
            return _predicted(machine.release, loading.details["kernel"]["release"], how)
    held = ours(notes, machine.boot_id, order.wish is not None or machine.loaded)
    if held is None:
        raise _nothing_loaded(machine)
    if order.test:
        return _predicted(machine.release, held.release, how)
    return _depart(host, order, machine, notes, held, how)


def _depart(
    host: Host, order: Order, machine: facts.Machine, notes: Notes, held: Loaded, how: How
) -> Outcome:
    departure = Departure(
        boot_id=held.boot_id,
        release=machine.release,
        to=held.release,
        token=held.token,
        how=str(how),
        at=host.timestamp(),
        left=host.now() + order.delay,
        due=host.clock() + order.delay,
        reason=order.reason or "",
        jid=str(host.who.get("jid", "")),
    )
    _write_journal(host, departure, held)
    write_notes(host, Notes(held, departure))
    try:
        leave.go(host, departure, order.delay)
    except LivepatchError as problem:
        if not problem.evidence.get("stands"):
            write_notes(host, notes)
        raise
    way = "after an orderly shutdown" if how is How.SYSTEMD else "directly, with nothing stopped before"
    return Outcome(
        True,
        f"Kernel {held.release} starts in {order.delay:g} s, {way}.",
        changes=_changes(machine.release, held.release),
        details={"departure": _shown(departure)},
    )


def _write_journal(host: Host, departure: Departure, held: Loaded) -> None:
    """The line comes before the act: nothing of this boot could write it afterwards."""
    body: dict[str, Any] = {
        "act": "kexec",
        "id": departure.token,
        "patch": None,
        "boot_id": departure.boot_id,
        "began": departure.at,
        "from": departure.release,
        "to": departure.to,
        "sha256": held.sha256,
        "how": departure.how,
        "reason": departure.reason,
        "who": dict(host.who),
    }
    note(host, body)


def note(host: Host, body: dict[str, Any]) -> None:
    """One line of the host's journal, and its head in the record. Raises LivepatchError (journal)."""
    record = read_record(host.settings.record_file)
    head = journal.append(host.settings.journal_file, body, record.journal)
    write_record(host.settings.record_file, replace(record, journal=head))


def _refuse_way(how: How, machine: facts.Machine) -> None:
    if how is How.SYSTEMD and not machine.systemd:
        raise LivepatchError(
            Kind.ARGUMENT, "PID 1 is not systemd; this kernel runs on.", remedy="Ask for how=direct."
        )


def _nothing_loaded(machine: facts.Machine) -> LivepatchError:
    if machine.loaded:
        return LivepatchError(
            Kind.CONFLICT,
            "An image is loaded, but not by this project: it could be any. This kernel runs on.",
            remedy="Load a kernel by kexec.load (override: image-loaded).",
        )
    return LivepatchError(
        Kind.ARGUMENT, "No image is loaded; this kernel runs on.", remedy="Name a kernel: kernel=newest."
    )


def _ordered_already(host: Host, departure: Departure, order: Order) -> Outcome:
    """Nothing to do for who wants the same; LivepatchError (busy) for who wants another kernel, other files
    or another command line for it, or to leave in another way."""
    same = order.how in (None, How(departure.how))
    if order.wish is not None:
        same = same and judge(host, order.wish).same
    if not same:
        raise leave.under_way(departure)
    return Outcome(
        True,
        f"Kernel {departure.to} was ordered to start at {departure.at} already.",
        details={"departure": _shown(departure)},
    )


def _predicted(running: str, to: str, how: How) -> Outcome:
    return Outcome(None, f"Would start kernel {to} by {how}.", changes=_changes(running, to))


def _changes(running: str, to: str) -> dict[str, Any]:
    return {"boot": {"old": running, "new": to}}


def _shown(departure: Departure) -> dict[str, Any]:
    return vars(departure).copy()
