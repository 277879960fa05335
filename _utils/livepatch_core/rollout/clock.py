"""Two clocks: the wall for windows and for people, elapsed time for everything that was promised.

A wall clock can be set back or jump ahead. So soaks and deadlines are measured in *observed* seconds:
what the monotonic clock counted while some process owned the rollout, summed over all owners (every
record carries the sum). Time in which nobody looked does not count: a soak can become longer than
promised by a crash, never shorter.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import NamedTuple, Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch, as the wall clock has it."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards within one process."""
        ...


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class Now(NamedTuple):
    """epoch: the wall clock. t: observed seconds since the rollout was started."""

    epoch: float
    t: float


def iso(epoch: float) -> str:
    """ISO 8601, UTC, to the second."""
    return datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
