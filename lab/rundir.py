"""Where a running lab says that it is up: a lock held by its supervisor, a socket, a description."""

from __future__ import annotations

import dataclasses
import fcntl
import json
from pathlib import Path
from typing import Any

from lab import cache
from lab.errors import LabError

READY, FAILED = "ready", "failed"


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """Where a running lab keeps its socket, lock, log and description; one for each cache."""

    path: Path

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def socket(self) -> Path:
        return self.path / "socket"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    def is_running(self) -> bool:
        """Whether a supervisor lives: the kernel drops its lock when it does not."""
        if not self.lock.exists():
            return False
        with self.lock.open() as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def read_state(self) -> dict[str, Any]:
        """What `Supervisor` wrote; LabError when no lab is up (what a dead one left is not believed)."""
        if not self.is_running() or not self.state.exists():
            raise LabError("no lab is up", "start one: scripts/lab up")
        state: dict[str, Any] = json.loads(self.state.read_text())
        return state


def run_directory() -> RunDirectory:
    return RunDirectory(cache.root() / "up")
