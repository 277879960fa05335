"""Take every virtual machine off this host, or take none: what cannot leave stops it, and the rest return.

Before each step the record says what is about to be done, so that whoever stops, or comes after one that
died, acts by the record and by what libvirt says now.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from livepatch_core.drain.record import (
    Drained,
    Guest,
    Means,
    Stage,
    forget,
    path_of,
    read_drained,
    write_drained,
)
from livepatch_core.drain.returning import bring_back, remarks, wait
from livepatch_core.drain.virsh import Virsh
from livepatch_core.errors import LivepatchError
from livepatch_core.host.context import Host
from livepatch_core.host.lock import exclusive
from livepatch_core.host.outcome import Outcome
from livepatch_core.words import Kind

LEAVE_SECONDS = 600.0  # saving 100 GiB to a disk that writes 200 MB/s takes 9 minutes
RETURN_SECONDS = 600.0


@dataclass(frozen=True)
class Order:
    """means: how machines leave. timeout: seconds for each. command, back: of the minion's configuration, for
    Means.COMMAND: what evacuates this host, and what brings the machines back."""

    means: Means = Means.SAVE
    timeout: float = LEAVE_SECONDS
    command: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    test: bool = False


def drain(host: Host, virsh: Virsh, order: Order) -> Outcome:
    """Raises LivepatchError when it was refused, or stopped: then every machine runs again, or the message
    names those that do not."""
    with exclusive(host.settings.lock_file, "drain", test=order.test):
        before, active = read_drained(host), sorted(virsh.active())
        kept = _kept(host, virsh, order, before)
        if not active:
            away = ", ".join(one.name for one in kept)
            said = f"it is drained ({away} away)" if away else "there is none"
            return Outcome(True, f"No virtual machine runs here: {said}.", details=_details(before))
        _refuse(virsh, order)
        if order.test:
            text = f"Would {order.means} {len(active)} virtual machines."
            return Outcome(None, text, changes=_changes(active, ()))
        # One whose save goes on since a drain that died is paused by it, and not by its owner.
        leaving = before.at_stage(Stage.LEAVING) if before else ()
        ran = {*virsh.running(), *(one.name for one in leaving if one.ran)}
        going = tuple(Guest(name, ran=name in ran) for name in active)
        drained = Drained(virsh.uri, order.means, host.timestamp(), (*kept, *going))
        write_drained(host, drained)
        leave = _evacuate if order.means is Means.COMMAND else _leave
        drained = leave(host, virsh, order, drained)
        left = [one.name for one in drained.told() if one.name in active]
        text = f"{len(left)} virtual machines left this host ({order.means})."
        return Outcome(True, text, changes=_changes(left, ()), details=_details(drained))


def undrain(host: Host, virsh: Virsh, order: Order) -> Outcome:
    """Bring back what left, and set the clocks. What cannot return is named, and can be tried again."""
    with exclusive(host.settings.lock_file, "undrain", test=order.test):
        drained = read_drained(host)
        if drained is None:
            return Outcome(True, "No virtual machine had left this host.")
        virsh, told = replace(virsh, uri=drained.uri), drained.told()
        before = virsh.active()
        if order.test:
            changes = _changes(before, (*before, *(one.name for one in told)))
            return Outcome(None, f"Would bring back {len(told)} virtual machines.", changes=changes)
        complaint = ""
        if drained.means is Means.COMMAND and told:
            complaint = f" The command to bring them back: {_brought(virsh, order, len(told))}."
        drained, missing = bring_back(host, virsh, drained, order.timeout)
        back = [one.name for one in drained.at_stage(Stage.BACK)]
        changes = _changes(before, (*before, *back))
        idle = [one.name for one in drained.at_stage(Stage.PLANNED) if one.name not in before]
        text = f"{len(back)} virtual machines are back.{remarks(drained)}"
        if idle:
            text += f" Not started, as the drain had not come to them: {', '.join(idle)}."
        if missing:
            text = f"Not back: {', '.join(missing)}.{complaint} {text} livepatch_drain.undrain tries again."
            return Outcome(False, text, Kind.HEALTH, changes, _details(drained))
        return Outcome(True, text, changes=changes, details=_details(drained))


def status(host: Host, virsh: Virsh) -> dict[str, Any]:
    """What runs, what left: ``{"active": [...], "drained": {...} or None}``. Reads only."""
    drained = read_drained(host)
    return {"active": sorted(virsh.active()), "drained": drained.document() if drained else None}


def _kept(host: Host, virsh: Virsh, order: Order, before: Drained | None) -> tuple[Guest, ...]:
    """Who left by a drain before this one, which then goes on: one that was leaving when it died has left by
    now, if it is not there. Raises LivepatchError (conflict) where they left in another way: only by that can
    they be brought back."""
    if before is None:
        return ()
    there = replace(virsh, uri=before.uri).active()
    kept = tuple(replace(one, stage=Stage.AWAY) for one in before.told() if one.name not in there)
    if kept and (before.means, before.uri) != (order.means, virsh.uri):
        names = ", ".join(one.name for one in kept)
        elsewhere = f" Remove {path_of(host)} if they are to stay elsewhere."
        raise LivepatchError(
            Kind.CONFLICT,
            f"{names} left by {before.means} ({before.uri}) and did not return; this drain would be by "
            f"{order.means} ({virsh.uri}). Nothing was changed.",
            remedy="Bring them back first (livepatch_drain.undrain), or drain the same way."
            + (elsewhere if before.means is Means.COMMAND else ""),
        )
    return kept


def _refuse(virsh: Virsh, order: Order) -> None:
    """Raises LivepatchError for what is known before anything is touched."""
    if order.means is Means.COMMAND:
        if not order.command:
            raise LivepatchError(
                Kind.ARGUMENT,
                "No command to evacuate this host is configured; nothing was changed.",
                remedy="Set livepatch_drain:command in the minion's own configuration.",
            )
        return
    transient = virsh.transient()
    if transient:
        raise LivepatchError(
            Kind.UNSUPPORTED,
            f"Transient virtual machines would be gone for good, as libvirt forgets their definition when "
            f"they end: {', '.join(transient)}. Nothing was changed.",
            remedy="Define them (virsh define), move them to another host, or drain with means=command.",
        )


def _leave(host: Host, virsh: Virsh, order: Order, drained: Drained) -> Drained:
    try:
        for guest in drained.at_stage(Stage.PLANNED):
            drained = _one_leaves(host, virsh, order, drained, guest)
        new = ", ".join(virsh.active())
        if new:
            raise LivepatchError(Kind.CONFLICT, f"Started during the drain: {new}")
    except LivepatchError as problem:
        raise _stopped(host, virsh, problem) from problem
    return drained


def _one_leaves(host: Host, virsh: Virsh, order: Order, drained: Drained, guest: Guest) -> Drained:
    """Returns when it does not run any more, and, where it was to be saved, is saved."""
    name = guest.name
    if name not in virsh.active():  # its owner ended it: it is not ours to bring back
        drained = drained.without(name)
        write_drained(host, drained)
        return drained
    guest = replace(guest, stage=Stage.LEAVING, left=host.now())
    write_drained(host, drained.with_guest(guest))
    if order.means is Means.SAVE:
        virsh.save(name, order.timeout)
    else:
        virsh.shut_down(name)
    if not wait(host, lambda: name not in virsh.active(), order.timeout):
        raise LivepatchError(Kind.STALLED, f"{name} still runs after {order.timeout:.0f} s")
    if order.means is Means.SAVE and name not in virsh.saved():
        raise LivepatchError(Kind.HEALTH, f"{name} ended, and libvirt shows no saved memory of it")
    drained = drained.with_guest(replace(guest, stage=Stage.AWAY))
    write_drained(host, drained)
    return drained


def _stopped(host: Host, virsh: Virsh, problem: LivepatchError) -> LivepatchError:
    """Bring back who had left already; the record keeps who could not."""
    drained = read_drained(host)
    assert drained is not None  # it was written before the first step
    stuck = ", ".join(one.name for one in drained.at_stage(Stage.LEAVING))
    why = str(problem.evidence.get("why", problem.message)).rstrip(".")
    text = f"{stuck} could not leave: {why}" if stuck else why
    drained, missing = bring_back(host, virsh, drained, RETURN_SECONDS)
    state = f"not back: {', '.join(missing)}" if missing else "every virtual machine runs as before"
    return LivepatchError(
        problem.kind,
        f"{text}. The drain was stopped; {state}.{remarks(drained)}",
        remedy="livepatch_drain.undrain tries again."
        if missing
        else "See why; give it more time (timeout), or choose another means.",
        **_details(drained),
    )


def _evacuate(host: Host, virsh: Virsh, order: Order, drained: Drained) -> Drained:
    """The operator's command moves them; that they are gone is asked of libvirt, not of its exit status."""
    going, left = drained.at_stage(Stage.PLANNED), host.now()
    for guest in going:
        drained = drained.with_guest(replace(guest, stage=Stage.LEAVING, left=left))
    write_drained(host, drained)
    stayed = Stage.PLANNED
    try:
        complaint = _complaint(virsh, order.command, order.timeout * len(going))
    except LivepatchError as problem:  # what it began may go on
        complaint, stayed = problem.message.rstrip("."), Stage.LEAVING
    try:
        active = virsh.active()
        for guest in drained.at_stage(Stage.LEAVING):
            stage = stayed if guest.name in active else Stage.AWAY
            drained = drained.with_guest(replace(guest, stage=stage))
        write_drained(host, drained)
    except LivepatchError as problem:
        names = ", ".join(one.name for one in going)
        why = problem.evidence.get("why", problem.message)
        raise LivepatchError(
            problem.kind,
            f"The command was run ({complaint}); which of {names} left is not known: {why}",
            remedy="livepatch_drain.status says what runs; livepatch_drain.undrain brings back the others.",
        ) from problem
    if active:
        if not drained.told():
            forget(host)
        raise LivepatchError(
            Kind.HEALTH,
            f"The command left {', '.join(active)} running here ({complaint}); the host was not emptied.",
            remedy="See why; livepatch_drain.undrain brings back those that left.",
        )
    return drained


def _brought(virsh: Virsh, order: Order, count: int) -> str:
    """What the operator's command to bring them back said."""
    if not order.back:
        return "none is configured"
    try:
        return _complaint(virsh, order.back, order.timeout * count)
    except LivepatchError as problem:
        return problem.message.rstrip(".")


def _complaint(virsh: Virsh, command: Sequence[str], seconds: float) -> str:
    said = virsh.run(command, seconds)
    return said.complaint if said else "it is not installed"


def _changes(old: Iterable[str], new: Iterable[str]) -> dict[str, Any]:
    before, after = sorted(set(old)), sorted(set(new))
    return {} if before == after else {"machines": {"old": before, "new": after}}


def _details(drained: Drained | None) -> dict[str, Any]:
    return {"drained": drained.document()} if drained else {}
