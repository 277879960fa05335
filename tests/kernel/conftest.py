"""Fixtures: kernels, the modules of the tests, and guests with the library in them."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import kernels, snapshot
from lab.fixtures import pytest_runtest_makereport, watched  # noqa: F401
from lab.guest import Guest
from lab.kernels import Kernel
from lab.machine import Machine
from tests.kernel import LIBRARY
from tests.kernel.livepatches import build
from tests.kernel.patchable import Patchable

Start = Callable[..., Patchable]
PLAIN = Machine()


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    """The kernel that most tests run on."""
    return kernels.kernel("6.1")


@pytest.fixture
def start(kernel: Kernel) -> Iterator[Start]:
    """Starts guests with the library in them; each is closed when the test ends."""
    with contextlib.ExitStack() as stack:

        def start_one(machine: Machine = PLAIN, kernel: Kernel = kernel) -> Patchable:
            name = f"patchable-{kernel.release}"
            guest = snapshot.restore(name, kernel, machine, f"library {library_digest()}", bring_library)
            stack.enter_context(watched(stack.enter_context(guest)))
            return Patchable(guest)

        yield start_one


@pytest.fixture
def host(start: Start) -> Patchable:
    """One guest of the ordinary kind."""
    return start()


@pytest.fixture(scope="session")
def modules(kernel: Kernel) -> dict[str, Path]:
    """The modules of the tests for that kernel, by name (tests/kernel/modules says what each is for)."""
    return build(kernel)


def bring_library(guest: Guest) -> None:
    guest.put_tree(LIBRARY, "/root/lib")


def library_digest() -> str:
    """Names the library's content, so that a snapshot with another one in it is never taken for it."""
    whole = hashlib.sha256()
    for path in sorted(LIBRARY.rglob("*.py")):
        whole.update(f"{path.relative_to(LIBRARY)}\0{len(path.read_bytes())}\0".encode())
        whole.update(path.read_bytes())
    return whole.hexdigest()[:16]
