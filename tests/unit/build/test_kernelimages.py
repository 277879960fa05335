"""What is read of a target kernel, and what it is held against every time."""

from __future__ import annotations

from pathlib import Path

import pytest

from livepatch_core.build.kernelimages import Kernel
from livepatch_core.build.target import Target


@pytest.fixture
def target(tmp_path: Path) -> Target:
    for name in ("source", "headers", "modules"):
        (tmp_path / name).mkdir()
    (tmp_path / "headers/Module.symvers").write_text("", encoding="utf-8")
    (tmp_path / "source/Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 2\n", encoding="utf-8")
    return Target(
        release="6.1.0",
        source=tmp_path / "source",
        headers=tmp_path / "headers",
        kbuild=tmp_path,
        image=tmp_path / "vmlinuz",
        modules=tmp_path / "modules",
    )


def test_kernel_itself_needs_no_module(target: Target) -> None:
    assert Kernel(target).depends("vmlinux") == frozenset()
