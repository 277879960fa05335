"""pytest fixtures: ``pytest_plugins = ["lab.fixtures"]``. A guest in use when a test fails puts its console
in the report.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lab import bare, kernels, minion, systemd
from lab import fleet as fleets
from lab.errors import CONSOLE_TAIL_LINES
from lab.guest import Guest
from lab.kernels import Kernel, Role
from lab.machine import PLAIN, Machine
from lab.master import Master
from lab.minion import Minion
from lab.systemd import SystemdGuest

REPOSITORY = Path(__file__).resolve().parents[1]
BareGuests = Callable[..., Guest]
MinionGuests = Callable[..., Minion]
SystemdGuests = Callable[..., SystemdGuest]
Fleets = Callable[..., fleets.Fleet]

_open_guests: list[Guest] = []


@contextlib.contextmanager
def watched(guest: Guest) -> Iterator[None]:
    """The guest's console belongs in the report of a test that fails while it is open."""
    _open_guests.append(guest)
    try:
        yield
    finally:
        _open_guests.remove(guest)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed:
        for guest in _open_guests:
            tail = "\n".join(guest.console.splitlines()[-CONSOLE_TAIL_LINES:])
            report.sections.append((f"console of guest {guest.name}", tail or "(nothing)"))


def _resolve(kernel: Kernel | Role | str) -> Kernel:
    return kernel if isinstance(kernel, Kernel) else kernels.kernel(kernel)


@pytest.fixture(scope="session")
def lab_kernels() -> dict[Role, Kernel]:
    """The lab's kernels by role."""
    return {kernel.role: kernel for kernel in kernels.table()}


@pytest.fixture
def bare_guest() -> Iterator[BareGuests]:
    """A function that starts bare guests: ``bare_guest(kernel="6.1", machine=Machine())``; all end with the
    test.
    """
    with contextlib.ExitStack() as stack:

        def start(
            kernel: Kernel | Role | str = Role.STABLE, machine: Machine = PLAIN, name: str = "bare"
        ) -> Guest:
            guest = stack.enter_context(bare.start(_resolve(kernel), machine, name))
            stack.enter_context(watched(guest))
            return guest

        yield start


@pytest.fixture(scope="session")
def salt_master_config() -> Mapping[str, Any]:
    """Settings of the session's master; override it in a conftest."""
    return {}


@pytest.fixture(scope="session")
def salt_master(salt_master_config: Mapping[str, Any]) -> Iterator[Master]:
    """One master for the session, which serves this repository as its file root, as a user of GitFS would
    have it.
    """
    config = {"file_ignore_glob": [".*/*", "*/__pycache__/*"], **salt_master_config}
    with Master(file_roots=[REPOSITORY], config=config, python=Path(sys.executable)) as master:
        yield master


@pytest.fixture
def minion_guest(salt_master: Master) -> Iterator[MinionGuests]:
    """A function that starts guests with minions: ``minion_guest("name", kernel="6.1", machine=...,
    config=...)``.
    """
    with contextlib.ExitStack() as stack:

        def start(
            identity: str = "guest",
            kernel: Kernel | Role | str = Role.STABLE,
            machine: Machine = PLAIN,
            config: Mapping[str, Any] | None = None,
            master: Master | None = None,
        ) -> Minion:
            found = stack.enter_context(
                minion.start(master or salt_master, _resolve(kernel), identity, machine, config)
            )
            stack.enter_context(watched(found.guest))
            return found

        yield start


@pytest.fixture
def systemd_guest() -> Iterator[SystemdGuests]:
    """A function that boots guests with systemd: ``systemd_guest(kernel="6.1", name="host")``."""
    with contextlib.ExitStack() as stack:

        def start(
            kernel: Kernel | Role | str = Role.STABLE, name: str = "systemd", **options: Any
        ) -> SystemdGuest:
            guest = systemd.start(_resolve(kernel), name, **options)
            stack.callback(guest.close)
            stack.enter_context(watched(guest))
            return guest

        yield start


@pytest.fixture
def fleet(salt_master: Master) -> Iterator[Fleets]:
    """A function that starts several minions: ``fleet(3, kernels=["6.1", "6.12"])``."""
    with contextlib.ExitStack() as stack:

        def start(
            count: int, kernels: tuple[Kernel | Role | str, ...] = (Role.STABLE,), **options: Any
        ) -> fleets.Fleet:
            found = stack.enter_context(
                fleets.start(salt_master, [_resolve(kernel) for kernel in kernels], count, **options)
            )
            for member in found.members.values():
                stack.enter_context(watched(member.guest))
            return found

        yield start
