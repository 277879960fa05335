"""Fresh environments with a Salt of one's choice, from wheels that are fetched once."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import cache

NEEDED_BESIDE_SALT = ("pyelftools", "setuptools>=64")  # the second builds our own package


@dataclass(frozen=True)
class Environment:
    """A virtual environment without pip: ours installs into it."""

    folder: Path
    wheels: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def install(self, *what: str) -> None:
        pip = (sys.executable, "-m", "pip", "--python", str(self.python))
        run(*pip, "install", "--quiet", "--no-compile", "--no-index", "--find-links", str(self.wheels), *what)

    def run(self, program: str, *arguments: str) -> str:
        """Runs one of its programs; what it printed. A failure fails the test, with all that was said."""
        return run(str(self.folder / "bin" / program), *arguments)


def run(*command: str) -> str:
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def wheels_for(salt: str) -> Path:
    """A folder of wheels: Salt of that major release, all it depends on, and what our package needs."""
    wanted = (f"salt>={salt},<{int(salt) + 1}", *NEEDED_BESIDE_SALT)

    def fetch(into: Path) -> None:
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(into), *wanted)

    inputs = {"python": sys.version, "wheels": wanted}
    return cache.artefact("environments", inputs, fetch, f"wheels of Salt {salt}")


@pytest.fixture
def environment(tmp_path: Path) -> Callable[[str], Environment]:
    """``environment("3008")`` is a fresh one with the newest Salt of that release, without this project."""

    def make(salt: str) -> Environment:
        made = Environment(tmp_path / "environment", wheels_for(salt))
        venv.create(made.folder, symlinks=True)
        made.install(f"salt>={salt},<{int(salt) + 1}", "pyelftools")
        return made

    return make
