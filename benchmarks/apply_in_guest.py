"""Runs inside the guest: loads one live patch in turn with this library and with ``kpatch load``; times both.

Argument: ``Order`` of benchmarks/apply.py as JSON. Prints the runs as JSON. Both tools are timed in this
process, from the moment it calls the one or starts the other until that is done; what lies between two runs
is not in any figure.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path[:0] = ["/root/lib", "/opt/salt/lib"]

import salt.minion  # noqa: F401  (the process that is forked for a job has all of it in memory)

from livepatch_core.host import apply, revert
from livepatch_core.host.context import Host
from livepatch_core.host.move import Wish
from livepatch_core.host.settings import parse_settings
from livepatch_core.kernel import control, kmsg, loading, transition
from livepatch_core.kernel.patches import read_transition
from livepatch_core.kernel.roots import RUNNING

ORDER = json.loads(sys.argv[1])
NAME, CATALOG = ORDER["name"], Path(ORDER["catalog"])
MODULE = CATALOG / ORDER["module"]
KPATCH = ["/bin/bash", "/usr/sbin/kpatch", "load", str(MODULE)]
# Those that kpatch's service would have.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
LIMIT = 60.0
HELD_IN = "lab_hold_show"
# arch/x86/entry/syscalls/syscall_64.tbl; insmod calls it, the library init_module.
FINIT_MODULE = 313
libc = ctypes.CDLL(None, use_errno=True)


class Library:
    """As an execution module uses it: nothing is kept from one run to the next but the files on disk."""

    def __init__(self) -> None:
        self.rev = int(time.time())  # grows from case to case, as a host demands

    def load(self) -> None:
        self.rev += 1
        grant = {"level": 1, "sha256": ORDER["sha256"]}
        approval = {"ledger_id": "benchmark", "rev": self.rev, "builds": {ORDER["build_id"]: grant}}
        outcome = apply.apply(self._host(), Wish(approval=approval))
        assert outcome.result is True, outcome

    def unload(self) -> None:
        outcome = revert.revert(self._host(), Wish(reason="between two runs"))
        assert outcome.result is True, outcome

    @staticmethod
    def _host() -> Host:
        return Host(parse_settings(None), fetch, {"user": "root", "jid": "", "id": "guest"})


class Script:
    """``kpatch load``, started without a shell around it."""

    @staticmethod
    def load() -> None:
        quiet = [(os.POSIX_SPAWN_DUP2, NULL, 1), (os.POSIX_SPAWN_DUP2, NULL, 2)]
        pid = os.posix_spawn(KPATCH[0], KPATCH, ENVIRONMENT, file_actions=quiet)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status == 0, f"kpatch load ended with status {status}"

    @staticmethod
    def unload() -> None:
        control.write_enabled(RUNNING, NAME, False)
        remove()


def fetch(name: str) -> bytes | None:
    path = CATALOG / name
    return path.read_bytes() if path.is_file() else None


def remove() -> None:
    """Wait for a patch that is being disabled to be gone, and take its module out."""
    transition.wait(RUNNING, NAME, target=False, deadline=LIMIT)
    assert transition.wait_unloadable(RUNNING, NAME, LIMIT)
    loading.delete_module(NAME)


def timed(act: Callable[[], None]) -> float:
    """Seconds that ``act`` took."""
    began = time.monotonic()
    act()
    return time.monotonic() - began


def transition_seconds(records: Iterable[kmsg.Record]) -> float:
    """Seconds from ``enabling patch`` to ``patching complete`` in the kernel's log."""
    stamps = {
        word: record.microseconds
        for record in records
        for word in ("enabling patch", "patching complete")
        if word in record.text and NAME in record.text
    }
    return (stamps["patching complete"] - stamps["enabling patch"]) / 1e6


def run(tool: Library | Script, held: bool, phase: float) -> dict[str, float]:
    """One load by one tool, and what the kernel's log says of it."""
    sleeper = hold() if held else None
    if held:
        wait_for_phase(phase)
    with kmsg.Tail(RUNNING) as tail:
        wall = timed(tool.load)
        log = tail.drain()
    assert read_transition(RUNNING, NAME) is False, "it returned before the transition had ended"
    if sleeper is not None:
        assert sleeper.wait(LIMIT) == 0
    tool.unload()
    return {"wall": wall, "transition": transition_seconds(log)}


def hold() -> subprocess.Popen[bytes]:
    """A process asleep in the function that will be patched."""
    process = subprocess.Popen(["/bin/cat", "/proc/lab_hold"], stdout=subprocess.DEVNULL)
    until = time.monotonic() + LIMIT
    while HELD_IN not in Path(f"/proc/{process.pid}/stack").read_text():
        assert process.poll() is None and time.monotonic() < until, "nothing sleeps in the patched function"
        time.sleep(0.005)
    return process


def wait_for_phase(phase: float) -> None:
    """Begin at a given fraction of a second: the kernel looks at a transition again at whole seconds of its
    clock, so how long one takes depends on when it began. Both tools of a pair begin alike, the pairs are
    spread over a second."""
    time.sleep((phase - time.monotonic()) % 1.0)


def insertion_seconds(call: Callable[[], None]) -> float:
    """What the system call takes beyond the transition, which ends within it when nothing holds it up."""
    with kmsg.Tail(RUNNING) as tail:
        seconds = timed(call)
        log = tail.drain()
    assert read_transition(RUNNING, NAME) is False, "the transition outlived the system call"
    Script.unload()
    return seconds - transition_seconds(log)


def init_module() -> None:
    loading.init_module(IMAGE)


def finit_module() -> None:
    descriptor = os.open(MODULE, os.O_RDONLY | os.O_CLOEXEC)
    assert libc.syscall(FINIT_MODULE, descriptor, b"", 0) == 0, os.strerror(ctypes.get_errno())
    os.close(descriptor)


def fork_seconds() -> float:
    """A child that does nothing, waited for: what a job costs in a minion before it does anything."""

    def fork() -> None:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)

    return timed(fork)


def pairs() -> list[dict[str, dict[str, float]]]:
    """The tools in turn, each first in every other pair; the first pair warms caches and is not counted."""
    tools: dict[str, Library | Script] = {"library": Library(), "kpatch": Script()}
    for tool in tools.values():
        run(tool, ORDER["held"], 0.0)
    found = []
    for number in range(ORDER["pairs"]):
        names = list(tools) if number % 2 == 0 else list(reversed(tools))
        found.append({name: run(tools[name], ORDER["held"], number / ORDER["pairs"]) for name in names})
    return found


def everything() -> dict[str, Any]:
    """The baseline needs a transition that ends at once, so a case in which tasks are held has none."""
    times = range(0 if ORDER["held"] else ORDER["pairs"])
    insertions = [(insertion_seconds(init_module), insertion_seconds(finit_module)) for _ in times]
    return {
        "init_module": [by_buffer for by_buffer, _ in insertions],
        "finit_module": [by_file for _, by_file in insertions],
        "fork": [fork_seconds() for _ in times],
        "pairs": pairs(),
    }


IMAGE = MODULE.read_bytes()
NULL = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
print(json.dumps(everything()))
