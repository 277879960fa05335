"""Wait for the kernel: for a transition to end, for a module to be free of users.

Both are polled, because neither file can be waited on: the kernel never calls sysfs_notify() for
``transition`` or ``refcnt``, so poll(2) on them sleeps for ever.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from livepatch_core.kernel.patches import read_transition
from livepatch_core.kernel.roots import Roots
from livepatch_core.words import Word

# A transition without stragglers ends in milliseconds, so the first polls are close together. One with
# stragglers is retried by the kernel once a second (klp_try_complete_transition): noticing its end
# 20 ms late costs 2 % of a round and keeps the waiting below 1 % of a CPU.
_FIRST_POLL = 0.001
_LAST_POLL = 0.020
_GROWTH = 1.5

# A round of the kernel is one second and a walk over all threads and all CPUs' idle tasks. 112 idle CPUs
# were seen to need more than 3 s where a small host needs one round (kpatch issue 841): 20 ms for each
# CPU and round is above that. A thread's stack is unwound in microseconds; 20 us is above what was seen.
_SECONDS_PER_CPU = 0.020
_SECONDS_PER_THREAD = 20e-6

Clock = Callable[[], float]
Pause = Callable[[float], None]


class Outcome(Word):
    """How waiting for a transition ended."""

    COMPLETE = "complete"  # no transition, and the patch is what was waited for
    REVERSED = "reversed"  # no transition, and the patch is the opposite: somebody reversed it
    VANISHED = "vanished"  # the patch was to be enabled and is gone: reversed and freed, or replaced
    DEADLINE = "deadline"  # still in transition


@dataclass(frozen=True)
class Watched:
    """The outcome and the ``seconds`` it took by the clock given."""

    outcome: Outcome
    seconds: float


def deadline_for(cpus: int, threads: int, base: float = 75.0) -> float:
    """Seconds after which a transition on a host of this size counts as stalled.

    ``base`` is for a small host: 75 rounds of the kernel, in which it sends its fake signals five times
    (every 15th round). Each round is longer by the walk over ``cpus`` and ``threads``.
    """
    return base * (1 + max(cpus, 0) * _SECONDS_PER_CPU + max(threads, 0) * _SECONDS_PER_THREAD)


def wait(
    roots: Roots,
    patch: str,
    *,
    target: bool,
    deadline: float,
    clock: Clock = time.monotonic,
    poll: Pause = time.sleep,
) -> Watched:
    """Wait until the transition of ``patch`` to ``target`` (true: enabled) has ended, at most ``deadline``
    seconds. Reads only ``transition`` until that says no. ``poll`` waits for the seconds it is given.

    A disabled patch is freed by the kernel, so for ``target`` false a missing directory is *complete*.
    """
    started = clock()
    pause = _FIRST_POLL
    while True:
        transition = read_transition(roots, patch)
        seconds = clock() - started
        if not transition:
            return Watched(_ended(roots, patch, target, gone=transition is None), seconds)
        if seconds >= deadline:
            return Watched(Outcome.DEADLINE, seconds)
        poll(max(min(pause, deadline - seconds), _FIRST_POLL))
        pause = min(pause * _GROWTH, _LAST_POLL)


def _ended(roots: Roots, patch: str, target: bool, *, gone: bool) -> Outcome:
    enabled = None if gone else _read_word(roots.sys / "kernel/livepatch" / patch / "enabled")
    if enabled is None:  # gone, perhaps between the two reads
        return Outcome.VANISHED if target else Outcome.COMPLETE
    return Outcome.COMPLETE if (enabled == "1") == target else Outcome.REVERSED


def wait_unloadable(
    roots: Roots,
    module: str,
    deadline: float,
    *,
    clock: Clock = time.monotonic,
    poll: Pause = time.sleep,
) -> bool:
    """Wait at most ``deadline`` seconds until nothing holds ``module`` (``refcnt`` 0, ``initstate`` live).

    The kernel drops a disabled or replaced patch's reference from a work queue, after its directory has
    gone. True also when the module itself is gone: then there is nothing left to remove. False at once
    where the kernel cannot unload modules (no ``refcnt`` file).
    """
    directory = roots.sys / "module" / module
    started = clock()
    pause = _FIRST_POLL
    while True:
        if not directory.is_dir():
            return True
        refcount, state = _read_word(directory / "refcnt"), _read_word(directory / "initstate")
        if refcount == "0" and state == "live":
            return True
        seconds = clock() - started
        if seconds >= deadline or (refcount is None and directory.is_dir()):
            return False
        poll(max(min(pause, deadline - seconds), _FIRST_POLL))
        pause = min(pause * _GROWTH, _LAST_POLL)


def _read_word(path: Path) -> str | None:
    """The word in a sysfs file; None when the file, or what it spoke of, is gone (ENOENT, ENODEV)."""
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return None
