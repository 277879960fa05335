"""Salt and its dependencies as wheels for the guest's Python, whatever Python the host has."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from lab import cache, host
from lab.errors import BuildFailed, LabError

REQUIREMENTS = ("salt>=3008,<3009", "pyelftools", "zstandard")
GUEST_PYTHON = "3.11"
GUEST_GLIBC = 36  # Debian 12 has 2.36
# timelib ships no wheel for this Python; Salt imports it only if it is there (salt/utils/dateutils.py).
NOT_IN_GUEST = {"timelib"}
PLATFORMS = tuple(f"manylinux_2_{minor}_x86_64" for minor in range(GUEST_GLIBC, 4, -1)) + (
    "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64",
)  # fmt: skip

FOR_GUEST = (
    "--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", GUEST_PYTHON,
    *(argument for name in PLATFORMS for argument in ("--platform", name)),
)  # fmt: skip


def build(suites: dict[str, str], requirements: tuple[str, ...] = REQUIREMENTS) -> Path:
    """A directory of wheels. `suites` only ages it: what an index serves has no digest, so it is asked when
    Debian is.
    """
    inputs = {
        "requirements": requirements,
        "python": GUEST_PYTHON,
        "not": sorted(NOT_IN_GUEST),
        "suites": suites,
    }
    return cache.artefact(
        "wheels", inputs, lambda into: _download(requirements, into), "wheels of Salt for the guests"
    )


def parse_report(report: dict[str, Any]) -> list[str]:
    """``name==version`` of everything in pip's installation report (pip documentation,
    reference/installation-report).
    """
    return [f"{item['metadata']['name']}=={item['metadata']['version']}" for item in report["install"]]


def _download(requirements: tuple[str, ...], into: Path) -> None:
    """Resolves with the host's Python (a range, so that a release whose own pins cannot be met is passed
    over), then fetches.
    """
    exact = parse_report(
        json.loads(
            _pip(["install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-", *requirements])
        )
    )
    wanted = [pin for pin in exact if _name(pin) not in NOT_IN_GUEST]
    salt = [pin for pin in wanted if _name(pin) == "salt"]
    _pip(["wheel", "--quiet", "--no-deps", "--wheel-dir", str(into), *salt])
    others = [pin for pin in wanted if pin not in salt]
    _pip(["download", "--quiet", *FOR_GUEST, "--dest", str(into), *others])


def _name(pin: str) -> str:
    return re.split(r"[=<>]", pin)[0].lower()


def _pip(arguments: list[str]) -> bytes:
    try:
        return host.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments])
    except BuildFailed as error:
        if "No module named pip" in error.output:
            raise LabError(
                "this Python has no pip", "run the lab from a virtual environment (python3 -m venv)"
            ) from error
        raise


def install(wheels: Path, into: Path) -> None:
    """Unpacks the wheels into a directory to be put on ``sys.path``."""
    found = map(str, sorted(wheels.glob("*.whl")))
    _pip(["install", "--quiet", "--no-index", "--no-compile", *FOR_GUEST, "--target", str(into), *found])
