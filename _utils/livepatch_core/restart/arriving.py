"""After the boot: is it the kernel that was asked for, at its level, and well? Then what was drained comes
back, and it does so too where the answer is no, and where the host never left."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.host import apply, health, lastact, programs
from livepatch_core.host.context import Host
from livepatch_core.host.lock import exclusive
from livepatch_core.host.move import Wish
from livepatch_core.host.outcome import Outcome
from livepatch_core.host.probes import Sample, parse_sample
from livepatch_core.host.statefile import read_document
from livepatch_core.kernel.attributes import read_text
from livepatch_core.kernel.identity import Identity, read_identity
from livepatch_core.kexec import status as kexec_status
from livepatch_core.restart.hooks import Hooks
from livepatch_core.restart.leaving import patiently, undo, undrained
from livepatch_core.restart.record import Method, Restart, Stage, lock_of, read_restart, write_restart
from livepatch_core.words import CheckVerdict, Kind

SETTLED_SECONDS = 300.0  # for services to start; systemd itself says when all have
SLACK = 5.0  # seconds: from when systemd's timer is due until systemd says that it is stopping


def finish(host: Host, hooks: Hooks) -> Outcome:
    """Verify and undrain; again: the same answer, but what is still owed is tried once more.

    The level is that of the approval under which the host was restarted, unless a newer one came since. A
    host that never left is taken back to where it was. Raises LivepatchError where there is nothing to
    finish, or somebody is at it (busy).
    """
    with exclusive(lock_of(host), "finish"):
        found, here = read_restart(host), read_identity(host.roots)
        if found is None:
            raise LivepatchError(
                Kind.ARGUMENT, "This host was not restarted under an approval; nothing was changed."
            )
        if not found.open:
            return found.outcome()
        if found.boot_id == here.boot_id:
            return _never_left(host, found, hooks)
        if found.stage is not Stage.DONE:
            found = write_restart(host, _verified(host, found, here))
        return undrained(host, found, hooks)


def _never_left(host: Host, found: Restart, hooks: Hooks) -> Outcome:
    if found.stage is Stage.LEAVING and _is_leaving(host, found):
        raise LivepatchError(
            Kind.BUSY,
            f"This host is leaving for kernel {found.kernel}; nothing was changed.",
            remedy="If it stays, ask again: livepatch_restart.finish.",
        )
    if found.stage is Stage.DONE:
        return undrained(host, found, hooks)
    what = "was told to leave, and did not" if found.stage is Stage.LEAVING else f"was {found.stage}"
    error = LivepatchError(Kind.STALLED, f"The host {what}; it stays on its kernel")
    return undo(host, found, error, hooks)


def _is_leaving(host: Host, found: Restart) -> bool:
    """Whether the order is still to be carried out, or services are being stopped: nothing may come back
    then."""
    if host.clock() < found.due + SLACK:
        return True
    said = programs.run(["systemctl", "is-system-running"])
    return said is not None and said.out.strip() == "stopping"


def _verified(host: Host, found: Restart, here: Identity) -> Restart:
    """With its evidence and its answer; what was drained is still away."""
    found = write_restart(host, replace(found, stage=Stage.FINISHING))
    evidence = {**found.evidence, **_evidence(host, found, here)}
    problem = _kernel_problem(found, evidence)
    if problem is None:
        problem = _level_problem(host, found, here) or _health_problem(host, found)
    away = evidence["away"]
    text = f"Kernel {here.release} runs" + ("" if away is None else f", {away:.0f} s after the host left")
    comment = f"{(text if problem is None else problem.message).rstrip('.')}."
    kind = "" if problem is None else str(problem.kind)
    return replace(found, evidence=evidence, result=problem is None, kind=kind, comment=comment)


def _evidence(host: Host, found: Restart, here: Identity) -> dict[str, Any]:
    """away: seconds from leaving until the new kernel ran. ended: how this boot came about; one before which
    nothing was ordered (a crash during the drain) is not the one that was asked for, whatever runs now."""
    last = kexec_status.status(host)["last"] or {}
    ended = str(kexec_status.Ended.OTHERWISE)
    if found.left and found.method is Method.REBOOT:
        ended = str(Method.REBOOT)  # as far as can be told: a crash after the order looks the same
    elif found.left and last.get("boot_id_before") == found.boot_id:
        ended = str(last["ended"])
    started = kexec_status.boot_time(read_text(host.roots.proc / "stat"))
    return {
        "release": here.release,
        "build_id": here.build_id,
        "boot_id": here.boot_id,
        "ended": ended,
        "as_asked": here.release == found.kernel and ended == str(found.method),
        "away": round(started - found.left, 1) if started is not None and found.left else None,
    }


def _kernel_problem(found: Restart, evidence: dict[str, Any]) -> LivepatchError | None:
    if evidence["as_asked"]:
        return None
    if evidence["release"] != found.kernel:
        text = f"Kernel {found.kernel} was asked for, and {evidence['release']} runs"
        return LivepatchError(Kind.KERNEL_MISMATCH, f"{text} (it booted {evidence['ended']}).")
    return LivepatchError(
        Kind.HEALTH, f"Kernel {found.kernel} runs, but this boot is not the one that was ordered."
    )


def _level_problem(host: Host, found: Restart, here: Identity) -> LivepatchError | None:
    """The level that the approval names for this kernel build, which may have been loaded at boot already."""
    if here.build_id not in found.approval.get("builds", {}):
        return None
    wish = Wish(approval=found.approval)
    try:  # the boot unit, or a highstate, may be at it
        done = patiently(host, lambda: lastact.noted(host, wish, apply.apply))
    except LivepatchError as problem:
        return problem
    return None if done.result is True else LivepatchError(done.kind or Kind.INTERNAL, done.comment)


def _health_problem(host: Host, found: Restart) -> LivepatchError | None:
    """Services and probes as before it left; taint and log as of this boot. What is checked during the soak
    is measured by this sample too, unless a level was loaded in this boot, which has one of its own."""
    _settle(host)
    now = health.sample(host)
    before = replace(parse_sample(found.sample), boot_id=now.boot_id, last=now.last)
    _remember(host, before)
    late = health.on_their_way(now)  # the boot has ended: what is on its way still is no restart
    seen = health.judge(before, now, late)
    if seen.verdict is not CheckVerdict.FAIL:
        return None
    return LivepatchError(Kind.HEALTH, f"The host is not as well as before it left: {seen.reason}.")


def _remember(host: Host, before: Sample) -> None:
    kept = read_document(host.settings.health_file).get("before") or {}
    if kept.get("boot_id") != before.boot_id:
        health.remember(host, before, None)


def _settle(host: Host) -> None:
    """Wait for the end of the boot where services are to be judged; how it ended is theirs to show."""
    if host.settings.services and read_text(host.roots.proc / "1/comm") == "systemd":
        with contextlib.suppress(LivepatchError):
            programs.run(["systemctl", "is-system-running", "--wait"], SETTLED_SECONDS)
