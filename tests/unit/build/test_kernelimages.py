"""What is read of a target kernel, and what it is held against every time."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from livepatch_core.build.image import Image, keep
from livepatch_core.build.kernelimages import Kernel
from livepatch_core.build.refusals import Refusal, Refused
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


@pytest.mark.parametrize(("version", "fits"), [("6.1.2", True), ("6.1.3", False)])
def test_kept_image_is_held_against_the_source_every_time(
    target: Target, tmp_path: Path, version: str, fits: bool
) -> None:
    packed = b"the packed image"
    target.image.write_bytes(packed)
    banner = f"Linux version 6.1.0 (a@b) (gcc) #1 SMP Debian {version}-1 (2026-11-30)\n".encode()
    image = Image("vmlinux", "id", [(0x1000, b"\0" * 8), (0x2000, b"text" + banner)], [])
    keep(image, tmp_path / "cache/images" / hashlib.sha256(packed).hexdigest()[:32])
    kernel = Kernel(target, tmp_path / "cache")
    if fits:
        assert kernel.image("vmlinux").build_id == "id"
        return
    with pytest.raises(Refused) as caught:
        kernel.image("vmlinux")
    assert caught.value.refusal is Refusal.SOURCE
    assert version in caught.value.message
