"""A guest with systemd on which the units of the formula are installed, and verbs of the library."""

from __future__ import annotations

import time
from typing import Any

import yaml

from lab.errors import GuestReset
from lab.systemd import SystemdGuest
from tests.kernel import LIBRARY
from tests.kernel.patchable import Patchable

FILES = LIBRARY.parent / "formulas/livepatch/files"
STARTED = ("livepatch-disarm.service", "livepatch-boot.service", "livepatch-soak.timer")
UNITS = (*STARTED, "livepatch-soak.service")
PYTHON = "/usr/bin/env PYTHONPATH=/opt/salt/lib /usr/bin/python3 -B"
RESETS = 8  # one reboot resets the machine up to three times
SCRIPT_DIR = "/usr/local/lib/livepatch"
EXTENSION_MODULES = "/var/cache/salt/minion/extmods"


class Booted(Patchable):
    """``guest`` is the systemd guest: reboot, power_cut, wait_reset ..."""

    guest: SystemdGuest

    def __init__(self, guest: SystemdGuest, **options: Any) -> None:
        super().__init__(guest)
        self.options = options
        guest.put_tree(LIBRARY, "/root/lib")
        guest.put_tree(LIBRARY, f"{EXTENSION_MODULES}/utils")
        guest.put(f"{SCRIPT_DIR}/livepatch-boot.py", (FILES / "livepatch-boot.py").read_bytes(), mode=0o755)
        guest.put("/etc/salt/minion.d/livepatch.conf", yaml.safe_dump({"livepatch": options}))
        guest.put("/etc/modules-load.d/ramoops.conf", "ramoops\n")
        for unit in UNITS:
            text = (FILES / unit).read_text().replace("{{ python }}", PYTHON)
            text = text.replace("{{ script_dir }}", SCRIPT_DIR)
            text = text.replace("{{ extension_modules }}", EXTENSION_MODULES)
            text = text.replace("{{ state_dir }}", "/var/lib/livepatch")
            assert "{{" not in text
            guest.put(f"/etc/systemd/system/{unit}", text)
        guest.exec(["systemctl", "daemon-reload"], check=True)
        guest.exec(["systemctl", "enable", *STARTED], timeout=120, check=True)
        guest.exec(["systemctl", "start", *STARTED], timeout=120, check=True)

    def ask(self, verb: str, within: float = 300, **arguments: Any) -> Any:
        return super().ask(verb, within, settings=self.options, **arguments)

    def tick(self) -> Any:
        return self.ask("tick")

    def proven(self, level: int) -> None:
        """Apply the level, ask for it to be kept, and let its soak (of the options) end."""
        assert self.to_level(level)["result"] is True
        answer = self.ask("persist")
        assert answer["result"] is True, answer
        self.until(f"[ ! -e /var/lib/livepatch/armed.json ] || {self._ticking()}")

    def until(self, condition: str, seconds: float = 300) -> None:
        script = f"until {condition}; do sleep 0.5; done"
        self.guest.exec(script, timeout=seconds, check=True)

    def booted(self) -> Any:
        """The status once the boot unit has done its work, which it must have done well.

        The agent answers before the unit has ended: a boot that the unit's level takes down is seen so.
        """
        for _ in range(RESETS):
            before = self.guest.resets
            try:
                return self._booted()
            except GuestReset:
                self.guest.wait_reset(before)
        raise AssertionError(f"the guest was reset {RESETS} times")

    def _booted(self) -> Any:
        unit = "livepatch-boot.service"
        self.until(f"systemctl is-active {unit} | grep -qE '^(active|failed)$'")
        said = self.guest.exec(f"systemctl is-active {unit}; journalctl -b -u {unit} --no-pager").text
        assert said.startswith("active"), said
        return self.status()

    def until_console(self, words: str, seconds: float = 120) -> None:
        """For what a guest says that has no agent yet."""
        deadline = time.monotonic() + seconds
        while words not in self.guest.console:
            assert time.monotonic() < deadline, self.guest.console[-2000:]
            time.sleep(0.2)

    @staticmethod
    def _ticking() -> str:
        return "{ systemctl start livepatch-soak.service; [ ! -e /var/lib/livepatch/armed.json ]; }"
