"""Hot functions replaced by themselves: the extraction is right where it is executed.

Each module replaces dozens of functions of one subsystem with copies of equal code, under a workload that
reaches them. Which functions are hot was measured once in a guest; identity.json holds the list. That they
ran is counted by a module of our own. schedule() is not in the list: it is on the stack of whoever sleeps, so
that a transition waits for every idle kernel thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import kbuild, kernels
from lab.kernels import Kernel
from lab.machine import Machine
from livepatch_core.build.builder import Built
from livepatch_core.build.target import Target
from tests.kernel.build.edits import comment
from tests.kernel.build.patched import Patched

HERE = Path(__file__).resolve().parent
GROUPS: dict[str, dict[str, list[str]]] = json.loads((HERE / "identity.json").read_text(encoding="utf-8"))
WORKLOAD = (HERE / "workload.py").read_text(encoding="utf-8")
PARTS = ("files", "network", "memory", "tasks")
# Of the functions in the list this share ran within seconds when it was measured.
LEAST_HIT = 0.8
LEAST_FUNCTIONS = 300


def test_list_is_long_enough() -> None:
    assert sum(len(names) for files in GROUPS.values() for names in files.values()) >= LEAST_FUNCTIONS
    assert min(sum(map(len, files.values())) for files in GROUPS.values()) >= 24


@pytest.fixture(scope="module")
def counter() -> bytes:
    """The module that counts entries into functions."""
    source = (HERE / "hits.c").read_text(encoding="utf-8")
    return kbuild.build_module(kernels.kernel("6.1"), {"lab_hits.c": source}).read_bytes()


def addresses(guest: Patched, name: str, wanted: set[str]) -> dict[str, int]:
    """Where the functions of a loaded module are, in order of their places."""
    lines = guest.run(rf"grep '\[{name}\]$' /proc/kallsyms").splitlines()
    found = sorted((int(address, 16), symbol) for address, _, symbol, _ in map(str.split, lines))
    return {symbol: address for address, symbol in found if symbol in wanted}


def entered(guest: Patched, counter: bytes, places: dict[str, int]) -> dict[str, int]:
    """How often the workload enters each of the functions."""
    guest.guest.put("/root/workload.py", WORKLOAD)
    guest.guest.put("/root/lab_hits.ko", counter)
    guest.run(f"insmod /root/lab_hits.ko ips={','.join(map(hex, places.values()))}")
    for part in PARTS:
        guest.run(f"python3 /root/workload.py {part}")
    hits = guest.run("cat /sys/module/lab_hits/parameters/hits").strip().split(",")
    guest.run("rmmod lab_hits")
    return dict(zip(places, map(int, hits)))


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_group(
    group: str,
    make: Callable[..., Built],
    boot: Callable[..., Patched],
    target_of: Callable[[Kernel], Target],
    counter: bytes,
) -> None:
    files = GROUPS[group]
    source = target_of(kernels.kernel("6.1")).source
    built = make(f"identity_{group}", [comment(source, path) for path in files], forced=files)
    wanted = {name for names in files.values() for name in names}
    assert {f.old_name for unit in built.units for f in unit.functions} >= wanted
    guest = boot(machine=Machine(memory=1024))
    name = guest.load(built)
    hits = entered(guest, counter, addresses(guest, name, wanted))
    guest.revert(name)
    assert sum(map(bool, hits.values())) >= LEAST_HIT * len(wanted), hits
