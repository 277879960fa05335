"""What the engine does all day: take over what nobody drives, each rollout in a process of its own.

A process, not a thread: one rollout that hangs or fails takes no other with it, and the kernel frees its lock
when it dies.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
from collections.abc import Callable
from pathlib import Path

from livepatch_core.rollout.adoption import Orphans
from livepatch_core.rollout.clock import Clock

# A process that ended badly is not begun again at once, or a damaged file would keep a processor busy.
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
Drive = Callable[[Path], None]


class Keeper:
    """drive: takes over one rollout, in a process of its own, and returns when that is to be driven no more.
    say: is told what was taken over and what went wrong. lock: the descriptor of the engine's."""

    def __init__(
        self, folder: Path, drive: Drive, clock: Clock, say: Callable[[str], None], lock: int
    ) -> None:
        self._drive, self._clock, self._say, self._lock = drive, clock, say, lock
        self._orphans = Orphans(folder)
        self._running: dict[str, multiprocessing.process.BaseProcess] = {}
        self._pauses: dict[str, float] = {}  # how long the next pause is
        self._not_before: dict[str, float] = {}
        self._said: dict[str, str] = {}

    def turn(self) -> None:
        """Look once: bury the processes that have ended, take over what nobody drives."""
        self._reap()
        for directory in self._orphans.found():
            name = directory.name
            if name not in self._running and self._clock.monotonic() >= self._not_before.get(name, 0.0):
                self._begin(directory)
        for name, problem in self._orphans.problems.items():
            if self._said.get(name) != problem:
                self._said[name] = problem
                self._say(f"rollout {name} cannot be read and is left alone: {problem}")

    def _begin(self, directory: Path) -> None:
        """Forked: the child has the code and the configuration of this process, and nothing to be pickled."""
        name = f"livepatch {directory.name}"
        process = multiprocessing.get_context("fork").Process(
            target=self._driving, args=(directory,), name=name
        )
        process.start()
        self._running[directory.name] = process
        self._say(f"rollout {directory.name} is driven by process {process.pid}")

    def _driving(self, directory: Path) -> None:
        """In the child. An engine that is killed is replaced, however long what it began goes on."""
        os.close(self._lock)
        self._drive(directory)

    def _reap(self) -> None:
        for name, process in list(self._running.items()):
            if process.is_alive():
                continue
            process.join()
            del self._running[name]
            if process.exitcode == 0:
                self._pauses.pop(name, None)
                continue
            pause = self._pauses.get(name, FIRST_PAUSE)
            self._pauses[name] = min(pause * 2, LONGEST_PAUSE)
            self._not_before[name] = self._clock.monotonic() + pause
            what = f"the process that drove rollout {name} ended with {process.exitcode}"
            self._say(f"{what}; it is taken over again in {pause:.0f} s")
