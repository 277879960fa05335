"""Take every virtual machine off this host, or take none: what cannot leave stops it, and the rest return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from livepatch_core.drain.record import (
    Drained,
    Guest,
    Means,
    Stage,
    forget,
    read_drained,
    write_drained,
)
from livepatch_core.drain.virsh import AGENT_SECONDS, Virsh
from livepatch_core.errors import LivepatchError
from livepatch_core.host.context import Host
from livepatch_core.host.lock import exclusive
from livepatch_core.host.outcome import Outcome
from livepatch_core.words import Kind

LEAVE_SECONDS = 600.0  # saving 100 GiB to a disk that writes 200 MB/s takes 9 minutes
RETURN_SECONDS = 600.0
POLL_SECONDS = 0.5
CLOCK_TOLERANCE = 5  # seconds; domtime itself counts whole ones, and each question costs one


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
        before = read_drained(host)
        active = virsh.active()
        if not active:
            away = [one.name for one in before.guests if one.stage is Stage.AWAY] if before else []
            said = f"it is drained ({', '.join(away)} away)" if away else "there is none"
            return Outcome(True, f"No virtual machine runs here: {said}.", details=_details(before))
        changes = {"machines": {"old": sorted(active), "new": []}}
        if order.test:
            text = f"Would {order.means} {len(active)} virtual machines."
            return Outcome(None, text, changes=changes)
        drained = _plan(host, virsh, order, before, active)
        write_drained(host, drained)
        drained = _leave(host, virsh, order, drained)
        text = f"{len(active)} virtual machines left this host ({order.means})."
        return Outcome(True, text, changes=changes, details=_details(drained))


def undrain(host: Host, virsh: Virsh, order: Order) -> Outcome:
    """Bring back what left, and set the clocks. What cannot return is named, and can be tried again."""
    with exclusive(host.settings.lock_file, "undrain", test=order.test):
        drained = read_drained(host)
        if drained is None:
            return Outcome(True, "No virtual machine had left this host.")
        names = [one.name for one in drained.guests]
        changes = {"machines": {"old": sorted(virsh.active()), "new": sorted({*virsh.active(), *names})}}
        if order.test:
            return Outcome(None, f"Would bring back {len(names)} virtual machines.", changes=changes)
        return _return(host, replace(virsh, uri=drained.uri), order, drained)


def status(host: Host, virsh: Virsh) -> dict[str, Any]:
    """What runs, what left: ``{"active": [...], "drained": {...} or None}``. Reads only."""
    drained = read_drained(host)
    return {"active": sorted(virsh.active()), "drained": _details(drained).get("drained")}


def _plan(host: Host, virsh: Virsh, order: Order, before: Drained | None, active: Sequence[str]) -> Drained:
    if order.means is Means.COMMAND and not order.command:
        raise LivepatchError(
            Kind.ARGUMENT,
            "No command to evacuate this host is configured; nothing was changed.",
            remedy="Set livepatch_drain:command in the minion's own configuration.",
        )
    # A drain that died half way goes on: who is away already stays in the record.
    kept = (
        tuple(one for one in before.guests if one.stage is Stage.AWAY and one.name not in active)
        if before
        else ()
    )
    return Drained(
        virsh.uri, order.means, host.timestamp(), (*kept, *(Guest(name) for name in sorted(active)))
    )


def _leave(host: Host, virsh: Virsh, order: Order, drained: Drained) -> Drained:
    going = [one for one in drained.guests if one.stage is Stage.PLANNED]
    if order.means is Means.COMMAND:
        return _evacuate(host, virsh, order, drained, going)
    for guest in going:
        guest = replace(guest, stage=Stage.LEAVING, left=host.now())
        drained = drained.with_guest(guest)
        write_drained(host, drained)
        try:
            _one_leaves(host, virsh, order, guest.name)
        except LivepatchError as problem:
            raise _stopped(host, virsh, drained, guest.name, problem) from problem
        drained = drained.with_guest(replace(guest, stage=Stage.AWAY))
        write_drained(host, drained)
    return drained


def _one_leaves(host: Host, virsh: Virsh, order: Order, name: str) -> None:
    """Returns when it does not run any more, and, where it was to be saved, is saved."""
    if order.means is Means.SAVE:
        virsh.save(name, order.timeout)
    else:
        virsh.shut_down(name)
    if not _wait(host, lambda: name not in virsh.active(), order.timeout):
        raise LivepatchError(Kind.STALLED, f"{name} still runs after {order.timeout:.0f} s")
    if order.means is Means.SAVE and name not in virsh.saved():
        raise LivepatchError(Kind.HEALTH, f"{name} ended, and libvirt shows no saved memory of it")


def _evacuate(host: Host, virsh: Virsh, order: Order, drained: Drained, going: Sequence[Guest]) -> Drained:
    """The operator's command moves them; that they are gone is asked of libvirt, not of its exit status."""
    left = host.now()
    said = virsh.run(order.command, order.timeout)
    still = [one.name for one in going if one.name in virsh.active()]
    for guest in going:
        stage = Stage.PLANNED if guest.name in still else Stage.AWAY
        drained = drained.with_guest(replace(guest, stage=stage, left=left))
    write_drained(host, drained)
    if still:
        complaint = said.complaint if said else "it is not installed"
        raise LivepatchError(
            Kind.HEALTH,
            f"The command left {', '.join(still)} running here ({complaint}); the host was not emptied.",
            remedy="See why; livepatch_drain.undrain brings back those that left.",
        )
    return drained


def _stopped(
    host: Host, virsh: Virsh, drained: Drained, name: str, problem: LivepatchError
) -> LivepatchError:
    """Bring back who had left already; the record keeps who could not."""
    lost = []
    for guest in drained.guests:
        if guest.stage is Stage.PLANNED or guest.name in virsh.active():
            continue
        try:
            virsh.start(guest.name, RETURN_SECONDS)
        except LivepatchError as failure:
            lost.append(f"{guest.name} ({failure.message})")
    if not lost:
        forget(host)
    state = f"not running: {', '.join(lost)}" if lost else "every virtual machine runs"
    return LivepatchError(
        problem.kind,
        f"{name} could not leave: {problem.message}. The drain was stopped; {state}.",
        remedy="livepatch_drain.undrain tries again." if lost else "See why, or choose another means.",
    )


def _return(host: Host, virsh: Virsh, order: Order, drained: Drained) -> Outcome:
    before, failed = virsh.active(), []
    if drained.means is Means.COMMAND and order.back:
        virsh.run(order.back, order.timeout)
    for guest in drained.guests:
        try:
            if drained.means is not Means.COMMAND and guest.name not in virsh.active():
                virsh.start(guest.name, order.timeout)
        except LivepatchError as problem:
            failed.append(f"{guest.name} ({problem.message})")
            continue
        clock = _clock(host, virsh, guest.name) if drained.means is Means.SAVE else ""
        back = replace(guest, stage=Stage.BACK, returned=host.now(), clock=clock)
        drained = drained.with_guest(back)
        write_drained(host, drained)
    changes = {"machines": {"old": sorted(before), "new": sorted(virsh.active())}}
    if failed:
        text = f"Not back: {', '.join(failed)}. livepatch_drain.undrain tries again."
        return Outcome(False, text, Kind.HEALTH, changes, _details(drained))
    forget(host)
    late = [one.name for one in drained.guests if one.clock not in ("", "set")]
    text = f"{len(drained.guests)} virtual machines are back."
    if late:
        text += f" The clock of {', '.join(late)} could not be set: it stands where it was saved."
    return Outcome(True, text, changes=changes, details=_details(drained))


def _clock(host: Host, virsh: Virsh, name: str) -> str:
    """``set`` when the guest's own clock was read afterwards and is right; else why not."""
    try:
        if virsh.agent(name) is None:
            return "it has no channel for a guest agent"
        if not _wait(host, lambda: bool(virsh.agent(name)), AGENT_SECONDS):
            return "its guest agent does not answer"
        virsh.set_clock(name)
        seen = virsh.clock(name)
    except LivepatchError as problem:
        return problem.message
    off = None if seen is None else abs(seen - host.now())
    if off is None:
        return "the guest does not say its time"
    return "set" if off <= CLOCK_TOLERANCE else f"it is {off:.0f} s off after it was set"


def _wait(host: Host, ended: Callable[[], bool], seconds: float) -> bool:
    """Ask until it has ended, at most so long. virsh shows no event that could not be missed meanwhile."""
    deadline = host.clock() + seconds
    while not ended():
        if host.clock() >= deadline:
            return False
        host.pause(POLL_SECONDS)
    return True


def _details(drained: Drained | None) -> dict[str, Any]:
    if drained is None:
        return {}
    guests = [one.document() for one in drained.guests]
    return {"drained": {"means": str(drained.means), "uri": drained.uri, "at": drained.at, "guests": guests}}
