"""Which kernel a restart would start, and whether it could be: read and judged, nothing is changed."""

from __future__ import annotations

from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.host.context import Host
from livepatch_core.kexec import checks, facts, load
from livepatch_core.kexec.installed import choose, read_installed
from livepatch_core.restart.hooks import Hook, Hooks, refuse_missing
from livepatch_core.restart.record import Method, Restart, Stage, read_restart
from livepatch_core.words import Kind

LOADS = 2  # before the drain, to see that the kernel takes it, and again after it: leaving.py


def meant(host: Host, wanted: str) -> dict[str, Any]:
    """``{"release"}`` of the installed kernel that ``wanted`` (a release, or ``newest``) means here; None
    where there is none."""
    running = facts.read_machine(host.roots).release
    found = choose(read_installed(host.roots), running, wanted)
    return {"release": None if found is None else found.release}


def check(host: Host, method: Method, wanted: str, hooks: Hooks, *used: Hook | None) -> dict[str, Any]:
    """What a restart would ask before it touches anything; only the kernel itself can judge an image for
    good. ``{"comment", "kernel", "running"}``: releases. Raises LivepatchError for what would refuse it."""
    refuse_missing(hooks, *used)
    machine = facts.read_machine(host.roots)
    refuse_open(read_restart(host), machine.boot_id)
    release = find(host, method, wanted)
    if method is Method.KEXEC:
        judged = load.judge(host, load.Wish(kernel=release, loads=LOADS))
        checks.refuse(judged.checks, f"Loading kernel {release}")
    return {"comment": f"Kernel {release} can be started.", "kernel": release, "running": machine.release}


def find(host: Host, method: Method, wanted: str) -> str:
    """The release that ``wanted`` means. Raises LivepatchError where there is none, or no way to it."""
    machine = facts.read_machine(host.roots)
    if method is Method.REBOOT and not machine.systemd:
        raise LivepatchError(
            Kind.UNSUPPORTED,
            "PID 1 is not systemd, so nothing here would reboot this host in an orderly way; nothing was "
            "changed.",
            remedy="Use the method kexec, or reboot it by hand.",
        )
    if method is Method.REBOOT and machine.loaded:
        raise LivepatchError(
            Kind.CONFLICT,
            "An image is loaded for kexec: systemd may start that one instead of going through the firmware. "
            "This kernel runs on.",
            remedy="Take it away (kexec.unload), or use the method kexec.",
        )
    return facts.find(read_installed(host.roots), machine.release, wanted).release


def refuse_open(found: Restart | None, boot_id: str | None) -> None:
    """Raises LivepatchError where an earlier restart has not come to its end."""
    if found is None or not found.open:
        return
    if found.stage is Stage.LEAVING and found.boot_id == boot_id:
        raise LivepatchError(
            Kind.BUSY,
            f"This host is about to leave for kernel {found.kernel}; nothing was changed.",
            remedy="If it stays, it is taken back by livepatch_restart.finish.",
        )
    raise LivepatchError(
        Kind.CONFLICT,
        f"The restart of {found.at} (rev {found.rev}) was never finished: it is {found.stage}"
        f"{', and what was drained is not back' if found.owed else ''}; nothing was changed.",
        remedy="Finish it: livepatch_restart.finish.",
    )
