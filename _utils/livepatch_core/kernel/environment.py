"""What this kernel allows, and what else is at work on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from livepatch_core.kernel.attributes import read_flag, read_int, read_text
from livepatch_core.kernel.identity import read_machine
from livepatch_core.kernel.roots import Roots

# Bit number -> letter, in the order of kernel/panic.c (taint_flags);
# Documentation/admin-guide/tainted-kernels.rst says what each means. 4096 is O (out of tree), 8192 E
# (unsigned), 32768 K (live patched). 19 and 20 are recent.
_TAINT_LETTERS = "PFSRMBUDAWCIOELKXTNJ"

# Architectures on which mainline selects HAVE_RELIABLE_STACKTRACE for every kernel that can live-patch at
# all.
_RELIABLE = frozenset({"x86_64", "ppc64le", "s390x"})


@dataclass(frozen=True)
class Environment:
    """None in a field: the kernel does not offer it, or it could not be read (for example no securityfs
    mounted).

    lockdown: ``none``, ``integrity`` or ``confidentiality``. reliable_stacks: by machine; None where it
    depends on the release (arm64, loongarch ...): there the kernel has the symbol
    ``arch_stack_walk_reliable`` if it can. panic_timeout: seconds, 0 = hang, negative = reboot at once.
    taint: the bit mask, see ``taint_flags``. cpus: online ones. threads: all of the host, kernel threads
    too. other_managers: what else live-patches this host, see ``other_managers``.
    """

    livepatch: bool | None
    ftrace_enabled: bool | None
    sig_enforce: bool | None
    lockdown: str | None
    reliable_stacks: bool | None
    modules_disabled: bool | None
    panic_timeout: int | None
    taint: int | None
    cpus: int
    threads: int | None
    cmdline: str | None
    other_managers: tuple[str, ...]


def read_environment(roots: Roots) -> Environment:
    """Reads about twenty small files; raises nothing: each field says by itself whether it could be read."""
    sysctl = roots.proc / "sys/kernel"
    kernel = roots.sys / "kernel"
    return Environment(
        livepatch=os.path.isdir(kernel / "livepatch") if os.path.isdir(kernel) else None,
        ftrace_enabled=read_flag(sysctl / "ftrace_enabled"),
        sig_enforce=read_flag(roots.sys / "module/module/parameters/sig_enforce"),
        lockdown=_read_lockdown(kernel / "security"),
        reliable_stacks=True if read_machine(roots) in _RELIABLE else None,
        modules_disabled=read_flag(sysctl / "modules_disabled"),
        panic_timeout=read_int(sysctl / "panic"),
        taint=read_int(sysctl / "tainted"),
        cpus=_read_cpus(roots),
        threads=threads_in(read_text(roots.proc / "loadavg")),
        cmdline=read_text(roots.proc / "cmdline"),
        other_managers=other_managers(roots),
    )


def taint_flags(value: int) -> tuple[str, ...]:
    """The letters of a taint mask in the order of their bits; a bit without a letter here as
    ``bit<number>``."""
    bits = (bit for bit in range(value.bit_length()) if value >> bit & 1)
    return tuple(_TAINT_LETTERS[bit] if bit < len(_TAINT_LETTERS) else f"bit{bit}" for bit in bits)


def chosen(text: str) -> str | None:
    """The bracketed word of a choice such as ``none [integrity] confidentiality``; None if there is not
    exactly one."""
    words = [word[1:-1] for word in text.split() if word.startswith("[") and word.endswith("]")]
    return words[0] if len(words) == 1 else None


def count_cpus(ranges: str) -> int | None:
    """The number of CPUs in a list such as ``0-3,8,10-11``; None for what is not such a list."""
    total = 0
    for part in ranges.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            return None
        total += int(last) - int(first) + 1 if dash else 1
    return total


def threads_in(loadavg: str | None) -> int | None:
    """The number of threads of the host, from the fourth field of ``/proc/loadavg`` (runnable/existing)."""
    fields = (loadavg or "").split()
    if len(fields) != 5:
        return None
    _runnable, _slash, existing = fields[3].partition("/")
    return int(existing) if existing.isdecimal() else None


def find_tracefs(roots: Roots) -> Path | None:
    """Where tracefs is mounted. Nothing is mounted here by hand, but a kernel mounts the second place by
    itself when it is looked at (debugfs_create_automount); since 4.1 the first one is where distributions
    mount it."""
    for place in ("kernel/tracing", "kernel/debug/tracing"):
        if os.path.exists(roots.sys / place / "tracing_on"):
            return roots.sys / place
    return None


def other_managers(roots: Roots) -> tuple[str, ...]:
    """Whatever else live-patches this host, by file tests alone; installed but idle tools are not looked for.

    ``kernelcare``: its kernel module is there (procfs directory, or the module). ``ksplice``: a Ksplice
    update or its core is in the kernel. ``kgraft``, ``kpatch-core``: out-of-tree predecessors of livepatch.
    ``kpatch.service``: kpatch loads its own modules at boot. ``canonical-livepatch``: its daemon's snap is
    installed, and so runs.
    """
    loaded = _names(roots.sys / "module")
    systemd = roots.root / "etc/systemd/system"
    ksplice = any(name.startswith("ksplice") for name in loaded)
    found = {
        "kernelcare": os.path.exists(roots.proc / "kcare") or "kcare" in loaded,
        "ksplice": ksplice or os.path.exists(roots.sys / "kernel/ksplice"),
        "kgraft": os.path.exists(roots.sys / "kernel/kgraft"),
        "kpatch-core": os.path.exists(roots.sys / "kernel/kpatch"),
        # lexists: the link's target is an absolute path, which does not resolve inside a captured tree.
        "kpatch.service": os.path.lexists(systemd / "multi-user.target.wants/kpatch.service"),
        "canonical-livepatch": os.path.exists(roots.root / "var/snap/canonical-livepatch/current"),
    }
    return tuple(sorted(name for name, present in found.items() if present))


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _read_lockdown(security: Path) -> str | None:
    """Where securityfs lists the active security modules and lockdown is not one of them, nothing is locked
    down."""
    state = read_text(security / "lockdown")
    if state is not None:
        return chosen(state)
    active = read_text(security / "lsm")
    return "none" if active and "lockdown" not in active.split(",") else None


def _read_cpus(roots: Roots) -> int:
    """sysfs says which CPUs are online; where a container hides sysfs, the C library's count of them."""
    online = read_text(roots.sys / "devices/system/cpu/online")
    return (count_cpus(online) if online else None) or os.cpu_count() or 1
