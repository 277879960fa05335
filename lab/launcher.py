"""Starts processes that die with this one, however this one dies.

The kernel's parent-death signal (prctl(2), PR_SET_PDEATHSIG) is bound to the *thread* that forked: a guest
started from a test's short-lived thread would be killed when that thread ends. So all forking is done by
one thread that lives as long as the process.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import host

# The signal is armed only after the fork: a parent that died in between is noticed by its number having
# changed.
_ARMED = '[ "$PPID" = "$1" ] && shift && exec "$@"'

_thread: ThreadPoolExecutor | None = None


def _forget_thread() -> None:
    global _thread
    _thread = None


os.register_at_fork(after_in_child=_forget_thread)


def start(argv: Sequence[str], log: Path, death_signal: str = "KILL") -> subprocess.Popen[bytes]:
    """Starts `argv` in a session of its own with its output in `log`; `death_signal` reaches it when this
    process ends.
    """
    global _thread
    if _thread is None:
        _thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lab-launcher")
    return _thread.submit(_start, argv, log, death_signal).result()


def _start(argv: Sequence[str], log: Path, death_signal: str) -> subprocess.Popen[bytes]:
    armed = [
        host.program("setpriv"),
        "--pdeathsig",
        death_signal,
        "/bin/sh",
        "-c",
        _ARMED,
        "lab",
        str(os.getpid()),
        *argv,
    ]
    with log.open("ab") as output:
        return subprocess.Popen(
            armed, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
