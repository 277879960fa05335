"""Where the kernel's files are found: the running system, or a captured tree in a test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Roots:
    """The mount points that the readers use; nothing else in ``kernel/`` names an absolute path."""

    sys: Path = Path("/sys")
    proc: Path = Path("/proc")
    dev: Path = Path("/dev")
    lib_modules: Path = Path("/lib/modules")

    @classmethod
    def under(cls, directory: Path) -> Roots:
        """The same layout below ``directory``: how captured trees are read."""
        return cls(directory / "sys", directory / "proc", directory / "dev", directory / "lib/modules")

    @property
    def root(self) -> Path:
        """/, or its place in a captured tree: two above the modules."""
        return self.lib_modules.parent.parent


RUNNING = Roots()
