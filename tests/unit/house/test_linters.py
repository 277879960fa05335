"""The linters, as tests: one command checks all that a reviewer should not have to."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

from tests.unit.house.sources import LIBRARY, REPO, shell_folders

CODE = (LIBRARY, REPO / "lab", *shell_folders())


def run(tool: str, *arguments: str) -> None:
    command = [str(Path(sysconfig.get_path("scripts"), tool)), *arguments]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"\n{done.stdout}{done.stderr}"


def test_ruff() -> None:
    run("ruff", "check", "--output-format=concise", ".")


def test_mypy() -> None:
    """Strict, for the library and the lab."""
    run("mypy")


def test_runs_on_python_3_9() -> None:
    """No feature of a later version, in syntax (which ruff sees too) or in the standard library."""
    run("vermin", "--no-tips", "--target=3.9-", "--violations", *map(str, CODE))
