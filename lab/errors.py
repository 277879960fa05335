"""What can go wrong in the lab, as types: a guest's panic is a result a test can expect, not a timeout."""

from __future__ import annotations

CONSOLE_TAIL_LINES = 60


class LabError(Exception):
    """Something outside the guests: a package, disk, memory, a download. ``remedy`` says what to do next."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}\n  -> {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy


class BuildFailed(LabError):
    """A tool the lab ran ended with an error; ``output`` is everything it printed."""

    def __init__(self, message: str, output: str, remedy: str = "") -> None:
        super().__init__(f"{message}\n{output.rstrip()}", remedy)
        self.output = output


class GuestError(Exception):
    """Something that happened to or in a guest; ``console`` is the kernel's console so far."""

    def __init__(self, guest: str, message: str, console: str = "") -> None:
        tail = "\n".join(console.splitlines()[-CONSOLE_TAIL_LINES:])
        super().__init__(
            f"guest {guest}: {message}" + (f"\n--- console, last lines ---\n{tail}" if tail else "")
        )
        self.guest = guest
        self.message = message
        self.console = console


class GuestPanicked(GuestError):
    """The guest's kernel panicked (an oops is a panic too unless the guest was started with
    ``oops_panics=False``).
    """


class GuestHung(GuestError):
    """The guest's processor still exists but its agent no longer answers."""


class GuestLost(GuestError):
    """The guest's QEMU process ended without a panic on the console: powered off, or killed."""


class GuestReset(GuestLost):
    """The machine was reset while a command ran in it (only guests that may reboot: others end)."""


class CommandTimedOut(GuestError):
    """A command ran longer than it was given; the guest answers, the command was killed (SIGKILL to its
    session).
    """


class CommandFailed(GuestError):
    """A command run with ``check=True`` ended with a status other than 0."""
