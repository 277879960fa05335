"""What systemd is told by the units that the formula installs; tests/kernel lets a real one act on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.house.sources import REPO

FILES = REPO / "formulas/livepatch/files"
SERVICES = sorted(FILES.glob("*.service"))


def said(name: str) -> list[str]:
    return (FILES / name).read_text().splitlines()


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_no_unit_acts_in_a_capture_kernel(path: Path) -> None:
    """That boots the same root, to save a dump which is not there yet."""
    assert "ConditionPathExists=!/proc/vmcore" in said(path)
