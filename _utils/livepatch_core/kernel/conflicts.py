"""Who else hooks the functions that are to be patched: ftrace's users and kprobes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from livepatch_core.kernel.environment import find_tracefs
from livepatch_core.kernel.roots import Roots
from livepatch_core.kernel.symbols import VMLINUX


@dataclass(frozen=True)
class FtraceUser:
    """A function that ftrace has hooked: one record of tracefs' ``enabled_functions``.

    module: None = vmlinux. users: how many ftrace_ops are attached. ipmodify, direct: flags I and D. ops:
    what the kernel says of trampolines and handlers, as it says it; it names handlers only where a function
    has a single user.
    """

    function: str
    module: str | None
    users: int
    ipmodify: bool
    direct: bool
    ops: str

    @property
    def livepatch(self) -> bool:
        """The kernel names livepatch's handler among the users. False proves nothing: see ``ops``."""
        return "(klp_ftrace_handler" in self.ops

    @property
    def bpf(self) -> bool:
        """The direct call goes to a BPF trampoline, which shares a function with livepatch since 6.0. Any
        other direct caller does not: loading then fails with EBUSY (seen on 6.1 and 6.12)."""
        return "direct-->bpf_trampoline_" in self.ops


@dataclass(frozen=True)
class Kprobe:
    """One line of debugfs' ``kprobes/list``. kind: ``k`` or ``r`` (return probe). function: None where the
    address has no symbol. module: None = vmlinux. flags: GONE, DISABLED, OPTIMIZED, FTRACE (on the fentry
    call, by ftrace)."""

    address: str
    kind: str
    function: str | None
    offset: int
    module: str | None
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Conflicts:
    """What is on the functions asked for. None: could not be read (tracefs or debugfs not mounted, or not
    permitted)."""

    ftrace: tuple[FtraceUser, ...] | None
    kprobes: tuple[Kprobe, ...] | None


# kernel/trace/ftrace.c, t_show(): "%ps (%ld)" and then each flag as " X" or two blanks: R I D until 6.2, R
# I D O in 6.3, R I D O M since 6.6; vendors backport, so flags are read by letter, not by column. %ps adds
# " [module]". What follows is a tab and free text ("tramp: ...", "ops: ...", " ->handler"), and for direct
# callers a second line, tab "direct-->...". Lines without a count are addresses of weak functions that lost
# (__ftrace_invalid_address__).
_FTRACE = re.compile(
    r"^(?P<function>\S+)(?: \[(?P<module>[^\]\s]+)\])? \((?P<users>\d+)\)"
    r"(?P<flags>(?: [A-Z]|  )*)(?P<ops>.*(?:\n\t.*)*)$",
    re.MULTILINE,
)

# kernel/kprobes.c, report_probe(): "address  kind  symbol+0xoffset  module [FLAG][FLAG]", or without symbol
# "address  kind  address [FLAG]". The address is hidden as zeros or "(____ptrval____)".
_KPROBE = re.compile(
    r"^(?P<address>\S+) +(?P<kind>[a-z]) +(?:(?P<function>\S+)\+0x(?P<offset>[0-9a-f]+)|\S+)"
    r"(?: +(?P<module>[^\s\[\]]+))? *(?P<flags>(?:\[\w+\])*)$",
    re.MULTILINE,
)


def parse_enabled_functions(text: str) -> tuple[FtraceUser, ...]:
    """All records, in the order of the file; what does not look like one is left out."""
    return tuple(_ftrace_user(found) for found in _FTRACE.finditer(text))


def parse_kprobes(text: str) -> tuple[Kprobe, ...]:
    """All lines, in the order of the file; what does not look like one is left out."""
    return tuple(
        Kprobe(
            address=found["address"],
            kind=found["kind"],
            function=found["function"],
            offset=int(found["offset"] or "0", 16),
            module=found["module"],
            flags=tuple(re.findall(r"\w+", found["flags"])),
        )
        for found in _KPROBE.finditer(text)
    )


def read_conflicts(roots: Roots, functions: Iterable[tuple[str, str]]) -> Conflicts:
    """ftrace users and kprobes on these ``(object, function)`` only. Mounts nothing."""
    wanted = frozenset(functions)
    tracefs = find_tracefs(roots)
    hooked = None if tracefs is None else _read(tracefs / "enabled_functions")
    probed = _read(roots.sys / "kernel/debug/kprobes/list")
    users = None if hooked is None else parse_enabled_functions(hooked)
    probes = None if probed is None else parse_kprobes(probed)
    return Conflicts(
        ftrace=None if users is None else tuple(user for user in users if _on(user, wanted)),
        kprobes=None if probes is None else tuple(probe for probe in probes if _on(probe, wanted)),
    )


def _on(hook: FtraceUser | Kprobe, wanted: frozenset[tuple[str, str]]) -> bool:
    return (hook.module or VMLINUX, hook.function) in wanted


def _ftrace_user(found: re.Match[str]) -> FtraceUser:
    flags = found["flags"].split()
    return FtraceUser(
        function=found["function"],
        module=found["module"],
        users=int(found["users"]),
        ipmodify="I" in flags,
        direct="D" in flags,
        ops=" ".join(found["ops"].split()),
    )


def _read(path: Path) -> str | None:
    """A whole seq_file; None when it is not there or may not be read (lockdown=confidentiality, not root)."""
    if not os.path.exists(path):
        return None
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
