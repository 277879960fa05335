"""Hot functions replaced by themselves: the extraction is right where it is executed.

Each module replaces dozens of functions of one subsystem with copies of equal code, under a workload that
reaches them. Which functions are hot was measured once in a guest with the function tracer; identity.json
holds the list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import kernels
from lab.kernels import Kernel
from lab.machine import Machine
from livepatch_core.build.builder import Built
from livepatch_core.build.target import Target
from tests.kernel.build.edits import comment
from tests.kernel.build.patched import Patched

HERE = Path(__file__).resolve().parent
GROUPS: dict[str, dict[str, list[str]]] = json.loads((HERE / "identity.json").read_text(encoding="utf-8"))
WORKLOAD = (HERE / "workload.py").read_text(encoding="utf-8")
TRACING = "/sys/kernel/tracing"
# Of the functions in the list this share ran within seconds when it was measured: 723 of 772.
LEAST_HIT = 0.6
LEAST_FUNCTIONS = 300
# Run here. The trace of dentry, sched and vfs, hot as they are, takes an emulated guest minutes to print, and
# was seen to end in a time-out; they want a cheaper way to see that a function ran.
SUITE = ("block", "inet", "mm", "net")


def test_list_is_long_enough() -> None:
    assert sum(len(names) for files in GROUPS.values() for names in files.values()) >= LEAST_FUNCTIONS
    assert min(sum(map(len, files.values())) for files in GROUPS.values()) >= 24


@pytest.mark.parametrize("group", SUITE)
def test_group(
    group: str,
    make: Callable[..., Built],
    boot: Callable[..., Patched],
    target_of: Callable[[Kernel], Target],
) -> None:
    files = GROUPS[group]
    source = target_of(kernels.kernel("6.1")).source
    built = make(f"identity_{group}", [comment(source, path) for path in files], forced=files)
    wanted = {name for names in files.values() for name in names}
    assert {f.old_name for unit in built.units for f in unit.functions} >= wanted
    guest = boot(machine=Machine(memory=1024))
    guest.guest.put("/root/workload.py", WORKLOAD)
    name = guest.load(built)
    guest.run(f"echo 8000 > {TRACING}/buffer_size_kb; echo ':mod:{name}' > {TRACING}/set_ftrace_filter")
    ran: set[str] = set()
    for part in ("files", "network", "memory", "tasks"):
        guest.run(f"echo function > {TRACING}/current_tracer")
        guest.run(f"python3 /root/workload.py {part}")
        trace = guest.run(f"cat {TRACING}/trace; echo nop > {TRACING}/current_tracer")
        ran |= set(re.findall(r"(\S+) <-", trace))
    guest.run(f"echo > {TRACING}/set_ftrace_filter")
    guest.revert(name)
    assert len(wanted & ran) >= LEAST_HIT * len(wanted)
