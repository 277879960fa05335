"""The smallest guest: a stock kernel, the agent, no Salt running (it is installed). Ready in a fraction of
a second.
"""

from __future__ import annotations

from lab import snapshot
from lab.guest import Guest
from lab.kernels import Kernel
from lab.machine import PLAIN, Machine


def start(kernel: Kernel, machine: Machine = PLAIN, name: str = "bare") -> Guest:
    """A new guest, restored from the machine's snapshot (which is taken first if there is none: 10 s)."""
    return snapshot.restore(name, kernel, machine)
