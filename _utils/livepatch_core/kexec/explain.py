"""Why the kernel did not take an image: its errno, and what was known before. Pure."""

from __future__ import annotations

import errno
import os

from livepatch_core.errors import LivepatchError
from livepatch_core.kexec.facts import Machine
from livepatch_core.words import Kind

_KEPT = "what was loaded before is as it was"


def explain_load(problem: OSError, release: str, machine: Machine) -> LivepatchError:
    """A sentence and a remedy. EPERM has three causes in kernel/kexec_file.c, told apart by what was read."""
    code = problem.errno or 0
    kind, why, remedy = _reason(code, machine)
    return LivepatchError(
        kind,
        f"The kernel did not take {release} ({why}); {_KEPT}.",
        remedy=remedy,
        errno=errno.errorcode.get(code, str(code)),
    )


def _reason(code: int, machine: Machine) -> tuple[Kind, str, str]:
    firmware = "Boot by way of the firmware (method reboot)."
    if code == errno.EPERM and machine.lockdown not in (None, "none"):
        return (
            Kind.LOCKDOWN,
            f"lockdown={machine.lockdown}, and it does not trust who signed the image",
            "Start a kernel that the running one trusts, or boot by way of the firmware (method reboot).",
        )
    table = {
        errno.EPERM: (
            Kind.FORBIDDEN,
            "it is not allowed here",
            f"See kernel.kexec_load_disabled. {firmware}",
        ),
        errno.EKEYREJECTED: (Kind.SIGNATURE, "its signature was rejected", firmware),
        errno.ENOKEY: (Kind.SIGNATURE, "it has no key for the image's signature", firmware),
        errno.ENODATA: (Kind.SIGNATURE, "the image is not signed", firmware),
        errno.EBADMSG: (
            Kind.SIGNATURE,
            "the image's signature is damaged",
            "Reinstall the kernel's package.",
        ),
        errno.ENOEXEC: (
            Kind.UNSUPPORTED,
            "it knows no such format of images",
            "Reinstall the kernel's package.",
        ),
        errno.EBUSY: (Kind.BUSY, "another process is loading one", "Ask again."),
        errno.ENOMEM: (Kind.HEALTH, "there is not enough memory", "Free memory on this host first."),
        errno.EADDRNOTAVAIL: (Kind.HEALTH, "no stretch of memory is large enough", firmware),
        errno.ENOSYS: (Kind.UNSUPPORTED, "it has no kexec_file_load", firmware),
        errno.EINVAL: (Kind.ARGUMENT, "it takes no such command line", "Give a shorter one: cmdline=..."),
    }
    return table.get(code, (Kind.INTERNAL, os.strerror(code), firmware))
