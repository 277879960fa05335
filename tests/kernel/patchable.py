"""A guest with the library in it and a catalog of its own: what most kernel tests work on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from lab.guest import Guest, Process
from tests.kernel import DRIVER

CATALOG = "/srv/livepatch"
LEDGER = "ledger-of-the-tests"


class Patchable:
    """Verbs of the library, run in the guest; each returns the document that the library made."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.release = guest.kernel.release
        self.build_id = note_build_id(guest.get("/sys/kernel/notes"))

    # -- what the fleet may load

    def publish(self, levels: dict[int, Path], **changed: dict[str, Any]) -> None:
        """A catalog of these modules for this kernel build; ``level1={...}`` alters the entry of level 1."""
        entries = {number: self._entry(number, path) for number, path in levels.items()}
        for number in levels:
            entries[number].update(changed.get(f"level{number}", {}))
            path = levels[number]
            self.guest.put(f"{CATALOG}/{self.release}/{path.name}", path.read_bytes())
        build = {"version": "the guest's", "levels": entries}
        self.publish_text(
            yaml.safe_dump({"schema": 1, "release": self.release, "builds": {self.build_id: build}})
        )

    def publish_text(self, text: str) -> None:
        self.guest.put(f"{CATALOG}/{self.release}/catalog.yaml", text)

    def _entry(self, number: int, path: Path) -> dict[str, Any]:
        return {
            "status": "released",
            "module": path.name,
            "name": path.name.split(".")[0],
            "sha256": digest(path),
            "fixes": [{"cve": f"CVE-2026-{number:04}", "severity": "high"}],
        }

    def approval(
        self, rev: int, level: int, path: Path | None = None, ledger: str = LEDGER
    ) -> dict[str, Any]:
        grant = {"level": level, "sha256": digest(path) if path else None}
        return {"ledger_id": ledger, "rev": rev, "builds": {self.build_id: grant}}

    def install(self, path: Path) -> None:
        """Install a module, listed in modules.dep (depmod itself needs a minute here)."""
        tree = f"/lib/modules/{self.release}"
        layer = "/run/installed"
        dirs = f"lowerdir={tree},upperdir={layer}/upper,workdir={layer}/work"
        made = f"mkdir {layer} && mount -t tmpfs tmpfs {layer} && mkdir {layer}/upper {layer}/work"
        self.guest.exec(f"{made} && mount -t overlay -o {dirs} overlay {tree}", check=True)
        self.guest.put(f"{tree}/updates/{path.name}", path.read_bytes())
        self.guest.exec(f"echo updates/{path.name}: >> {tree}/modules.dep", check=True)

    def installed(self, path: Path) -> str:
        return f"/lib/modules/{self.release}/updates/{path.name}"

    # -- verbs

    def ask(self, verb: str, within: float = 300, **arguments: Any) -> Any:
        return self.result(self.begin(verb, within, **arguments))

    def begin(self, verb: str, within: float = 300, **arguments: Any) -> Process:
        """The same in a process that goes on; ``result`` waits for it."""
        return self.guest.spawn_python(DRIVER.read_text(), verb, json.dumps(arguments), timeout=within)

    def words(self, verb: str, **arguments: Any) -> list[str]:
        """Arguments for the driver in a process of its own (/root/driver.py)."""
        self.guest.put("/root/driver.py", DRIVER.read_text())
        return [verb, json.dumps(arguments)]

    @staticmethod
    def result(process: Process) -> Any:
        ended = process.wait()
        assert ended.rc == 0, ended.error_text
        return json.loads(ended.stdout)

    def to_level(self, level: int, **arguments: Any) -> Any:
        """By hand, which needs no ledger: what tests of the kernel side use."""
        return self.ask("apply", level=level, reason="a test", **arguments)

    def status(self) -> Any:
        return self.ask("status")

    # -- what the kernel says by itself

    def patches(self) -> list[str]:
        return self.guest.exec("ls /sys/kernel/livepatch").text.split()

    def modules(self) -> set[str]:
        return {line.split()[0] for line in self.guest.exec("cat /proc/modules").text.splitlines()}

    def until_patching(self, patch: str, seconds: float = 0) -> None:
        """Wait until the patch is in transition, and so for ``seconds``; at most as long as an act may take.
        It starts no process to read with: those would keep the processor from the act itself."""
        file = f"/sys/kernel/livepatch/{patch}/transition"
        is_on = f'{{ read -r on <{file}; }} 2>/dev/null && [ "$on" = 1 ]'
        self.guest.exec(f"until {is_on}; do sleep 0.02; done; sleep {seconds}", timeout=300, check=True)

    def journal(self) -> bytes:
        """Empty on a host that never acted."""
        return self.guest.exec("cat /var/lib/livepatch/journal.jsonl 2>/dev/null").stdout

    def record(self) -> bytes:
        return self.guest.get("/var/lib/livepatch/record.json")

    def log_length(self) -> int:
        return len(self.guest.dmesg().splitlines())


def note_build_id(notes: bytes) -> str:
    """Read apart from the library, which is under test: owner GNU, type 3, 20 bytes."""
    start = notes.index(b"\x14\0\0\0\x03\0\0\0GNU\0") + 12
    return notes[start : start + 20].hex()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
