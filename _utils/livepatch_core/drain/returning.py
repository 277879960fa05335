"""Bring back the virtual machines that left, or may have left, and set the clocks of what was saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from livepatch_core.drain.record import Drained, Guest, Means, Stage, forget, write_drained
from livepatch_core.drain.virsh import AGENT_SECONDS, Virsh
from livepatch_core.errors import LivepatchError
from livepatch_core.host.context import Host
from livepatch_core.words import Kind

POLL_SECONDS = 0.5
ABORT_SECONDS = 60.0  # what QEMU has written already has to reach a slow disk
TOLD_SECONDS = 3600.0  # a guest that has not ended in an hour ignored its shutdown
CLOCK_TOLERANCE = 5  # seconds; domtime itself counts whole ones, and each question costs one


def bring_back(host: Host, virsh: Virsh, drained: Drained, seconds: float) -> tuple[Drained, list[str]]:
    """Who left, or may have, is again as before; also who is not, each with its reason. What is asked is
    libvirt, whatever the record says, so that it can be tried again; once nobody is missing it is gone."""
    told, missing = drained.told(), []
    try:
        virsh.active()
    except LivepatchError as problem:  # one that hangs would cost its time for every machine
        return drained, [f"{guest.name} ({_why(problem)})" for guest in told]
    for guest in told:
        try:
            drained = drained.with_guest(_one_returns(host, virsh, drained.means, guest, seconds))
        except LivepatchError as problem:
            missing.append(f"{guest.name} ({_why(problem)})")
            continue
        try:
            write_drained(host, drained)
        except LivepatchError:
            pass  # the older record has it as away: that it runs is then found by asking
    if not missing:
        forget(host)
    return drained, missing


def remarks(drained: Drained) -> str:
    """What is worth saying of those that are back. Pure."""
    late = [one.name for one in drained.guests if one.clock not in ("", "set")]
    booted = [one.name for one in drained.guests if one.booted]
    text = f" The clock of {', '.join(late)} could not be set: it may be late." if late else ""
    return text + (f" {', '.join(booted)} booted anew: no saved memory was there." if booted else "")


def wait(host: Host, ended: Callable[[], bool], seconds: float) -> bool:
    """Ask until it has ended, at most so long. virsh shows no event that could not be missed meanwhile."""
    deadline = host.clock() + seconds
    while not ended():
        if host.clock() >= deadline:
            return False
        host.pause(POLL_SECONDS)
    return True


def _one_returns(host: Host, virsh: Virsh, means: Means, guest: Guest, seconds: float) -> Guest:
    """Raises LivepatchError when it is not as before, or may end yet."""
    name = guest.name
    if guest.stage is Stage.LEAVING:
        _call_off(host, virsh, means, guest)
    booted = False
    if means is not Means.COMMAND and name not in virsh.active():
        booted = means is Means.SAVE and name not in virsh.saved()
        virsh.start(name, seconds)
    if name not in virsh.active():
        raise LivepatchError(Kind.HEALTH, "it does not run here")
    if guest.ran and name not in virsh.running():
        raise LivepatchError(Kind.HEALTH, "it is here and stands still: see virsh domstate")
    clock = _clock(host, virsh, name) if means is Means.SAVE else ""
    return replace(guest, stage=Stage.BACK, returned=host.now(), clock=clock, booted=booted)


def _call_off(host: Host, virsh: Virsh, means: Means, guest: Guest) -> None:
    """A save goes on in libvirt when nobody waits for it any more, unless it is aborted. What else a machine
    was told cannot be taken back."""
    name = guest.name
    if means is not Means.SAVE:
        if name in virsh.active() and host.now() - (guest.left or 0.0) < TOLD_SECONDS:
            raise LivepatchError(Kind.STALLED, "it was told to end, runs still and may yet end")
        return
    if virsh.saving(name):
        try:
            virsh.abort(name)
        except LivepatchError:
            pass  # it ended just now, or goes on: which of both is asked next
        if not wait(host, lambda: not virsh.saving(name), ABORT_SECONDS):
            raise LivepatchError(Kind.STALLED, "its memory is still being saved")
    if guest.ran and name in virsh.active() and name not in virsh.running():
        virsh.resume(name)


def _clock(host: Host, virsh: Virsh, name: str) -> str:
    """``set`` when the guest's own clock was read afterwards and is right; else why not."""
    try:
        if virsh.agent(name) is None:
            return "it has no channel for a guest agent"
        if not wait(host, lambda: bool(virsh.agent(name)), AGENT_SECONDS):
            return "its guest agent does not answer"
        virsh.set_clock(name)
        seen = virsh.clock(name)
    except LivepatchError as problem:
        return problem.message
    off = None if seen is None else abs(seen - host.now())
    if off is None:
        return "the guest does not say its time"
    return "set" if off <= CLOCK_TOLERANCE else f"it is {off:.0f} s off after it was set"


def _why(problem: LivepatchError) -> str:
    return problem.message.rstrip(".")
