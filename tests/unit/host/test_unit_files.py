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


def test_a_unit_that_can_fail_disarms_nothing() -> None:
    """systemd runs no ExecStop of a unit whose start failed (systemd.service(5)), and the boot unit fails
    where its level is refused; a level that is applied later must not be blamed for a shutdown."""
    for path in SERVICES:
        lines = path.read_text()
        assert ("ExecStop=" in lines) is ("ExecStart=" not in lines), path
    disarm = said("livepatch-disarm.service")
    assert any(line.startswith("ExecStop=") and line.endswith(" stop") for line in disarm)
    assert "RemainAfterExit=yes" in disarm
    # stopped in the opposite order, after whatever may still be loading
    assert any(line.startswith("Before=livepatch-boot.service ") for line in disarm)
    assert "Also=livepatch-disarm.service" in said("livepatch-boot.service")
