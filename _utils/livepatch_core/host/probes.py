"""What can be asked of a host before and after a move: log, taint, services, functions the operator names."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.host.check_answer import matches
from livepatch_core.host.context import Host
from livepatch_core.host.statefile import typed
from livepatch_core.kernel import kmsg
from livepatch_core.kernel.attributes import read_int, read_text
from livepatch_core.words import Kind

# Beginnings of the lines by which the kernel reports a fault (lib/bug.c, kernel/panic.c, arch/*/mm/fault.c,
# kernel/watchdog*.c, arch/powerpc/kernel/watchdog.c, kernel/hung_task.c, and in kernel/rcu tree_stall.h,
# tree_exp.h and tasks.h).
FAULT = (
    r"BUG: |WARNING: |Oops|kernel BUG at |Kernel panic|general protection fault|Unable to handle kernel|"
    r"INFO: task .* blocked for more than|(?:rcu: )?INFO: rcu\w* (?:self-)?detected (?:expedited )?stall|"
    r"(?:NMI )?watchdog: (?:BUG: |.*[Hh]ard LOCKUP)|unregister_netdevice"
)
SERVICE_SECONDS = 20.0
FAULTS_KEPT = 10


@dataclass(frozen=True)
class Sample:
    """What was seen at one moment; None: could not be read.

    last: sequence number of the newest kernel log record. faults: (number, line) of what reports a fault.
    services: systemd's word for each unit. functions: whether each answered as demanded, and its answer.
    """

    boot_id: str | None
    taint: int | None
    last: int | None
    faults: tuple[tuple[int, str], ...]
    services: Mapping[str, str | None]
    functions: Mapping[str, tuple[bool | None, str]]

    def document(self) -> dict[str, Any]:
        return {
            "boot_id": self.boot_id,
            "taint": self.taint,
            "last": self.last,
            "services": dict(self.services),
            "functions": {name: list(said) for name, said in self.functions.items()},
        }


_ABSENT = type(None)


def parse_sample(document: Mapping[str, Any]) -> Sample:
    """A sample that was written down; its faults were left out, as only later ones count.

    Raises one of statefile.MISFITS for what ``Sample.document`` did not write.
    """
    functions = {name: (good, str(answer)) for name, (good, answer) in document["functions"].items()}
    services = dict(document["services"])
    sample = Sample(document["boot_id"], document["taint"], document["last"], (), services, functions)
    return typed(sample, {"boot_id": (str, _ABSENT), "taint": (int, _ABSENT), "last": (int, _ABSENT)})


Log = tuple["int | None", "tuple[tuple[int, str], ...]"]
UNREAD: Log = (None, ())


def sample(host: Host, log: Log | None = None) -> Sample:
    """Read everything once; raises nothing: what cannot be read is None.

    log: newest record and faults, where the caller has watched the kernel's log himself.
    """
    last, faults = read_log(host) if log is None else log
    return Sample(
        read_text(host.roots.proc / "sys/kernel/random/boot_id"),
        read_int(host.roots.proc / "sys/kernel/tainted"),
        last,
        faults,
        {name: _service(name) for name in host.settings.services},
        {str(probe["fun"]): _function(host, probe) for probe in host.settings.probes},
    )


def read_log(host: Host) -> Log:
    """The newest record's number, and the faults in all that the log still holds."""
    try:
        newest, records = kmsg.find(host.roots, FAULT)
    except OSError:
        return UNREAD
    return (newest.sequence if newest else 0), faults_in(records)


def faults_in(records: Iterable[kmsg.Record]) -> tuple[tuple[int, str], ...]:
    """Facility 0 is the kernel's own: whoever writes to /dev/kmsg gets another (kernel/printk/printk.c)."""
    own = (one for one in records if one.priority >> 3 == 0)
    return tuple((one.sequence, one.text) for one in own if re.match(FAULT, one.text))


def _service(name: str) -> str | None:
    try:
        asked = subprocess.run(
            ["systemctl", "is-active", "--", name],
            capture_output=True,
            text=True,
            timeout=SERVICE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or None


def _function(host: Host, probe: Mapping[str, Any]) -> tuple[bool | None, str]:
    if host.ask is None:
        return None, "no minion to ask"
    try:
        answer = host.ask(str(probe["fun"]), list(probe.get("args", ())))
    except LivepatchError as problem:
        # That it failed is an answer. That it is not there, or could not be called, is none.
        return (False if problem.kind is Kind.HEALTH else None), problem.message
    return matches(probe, answer), repr(answer)[:200]
