"""What a hostile input may cost: processor time and memory, enforced by the kernel while a test runs."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from types import FrameType

MEMORY = 768 << 20  # bytes; the readers hold a file of some MB a few times


class TooSlow(AssertionError):
    """An input kept a reader busy."""


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise TooSlow("the processor time allowed for one input is used up")


@contextlib.contextmanager
def processor_seconds(seconds: float) -> Iterator[None]:
    """TooSlow in the block after so much processor time of this process; other load on the machine does not
    count."""
    before = signal.signal(signal.SIGVTALRM, _stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextlib.contextmanager
def memory(more: int = MEMORY) -> Iterator[None]:
    """MemoryError in the block when the process wants so many bytes more than it has now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
