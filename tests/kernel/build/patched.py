"""A guest as a test of the builder sees it: load, wait, look, go back, and a log without a complaint."""

from __future__ import annotations

import re
import time

from lab.guest import Guest
from livepatch_core.build.builder import Built

UNCLEAN = re.compile(
    r"WARNING:|BUG:|Oops|cut here|Call Trace|general protection|refusing to load|Skipping invalid"
)
PATCHES = "/sys/kernel/livepatch"
SECONDS = 90.0  # a transition takes under two seconds; the machine may be twenty times as slow


class Patched:
    """Verbs on one guest."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    def run(self, command: str, *, check: bool = True) -> str:
        return self.guest.exec(command, timeout=SECONDS, check=check).stdout.decode()

    def load(self, built: Built) -> str:
        """Insert the module and wait until it is in force; its name."""
        name = built.manifest.name
        self.guest.put(f"/root/{name}.ko", built.module or b"")
        self.run(f"insmod /root/{name}.ko")
        self.settle(name)
        return name

    def settle(self, name: str) -> None:
        self._until(f'[ "$(cat {PATCHES}/{name}/transition)" = 0 ]', f"{name} is not in force")

    def disable(self, name: str) -> None:
        self.run(f"echo 0 > {PATCHES}/{name}/enabled")

    def gone(self, name: str) -> None:
        """Wait until the kernel has forgotten the patch, then remove its module."""
        self._until(f"[ ! -e {PATCHES}/{name} ]", f"{name} is still in force")
        self.run(f"rmmod {name}")

    def revert(self, name: str) -> None:
        self.disable(name)
        self.gone(name)

    def _until(self, condition: str, failure: str) -> None:
        end = time.monotonic() + SECONDS
        while self.guest.exec(condition, timeout=SECONDS).rc:
            assert time.monotonic() < end, failure
            time.sleep(0.05)  # sysfs has no event for the end of a transition

    def check_log(self) -> None:
        assert not [line for line in self.guest.dmesg().splitlines() if UNCLEAN.search(line)]
