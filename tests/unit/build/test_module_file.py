"""A stock module as it lies on the builder: plain or compressed, whole or damaged."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.target import read_module_file

ELF = b"\x7fELF" + bytes(500)


@pytest.mark.parametrize("stored", [ELF, lzma.compress(ELF)])
def test_bytes_of_the_module(tmp_path: Path, stored: bytes) -> None:
    (tmp_path / "m.ko").write_bytes(stored)
    assert read_module_file(tmp_path / "m.ko") == ELF


@pytest.mark.parametrize("stored", [lzma.compress(ELF)[:-20], lzma.compress(ELF)[:30] + bytes(60)])
def test_damage_is_said(tmp_path: Path, stored: bytes) -> None:
    (tmp_path / "m.ko.xz").write_bytes(stored)
    with pytest.raises(Refused, match=r"m\.ko\.xz cannot be decompressed") as caught:
        read_module_file(tmp_path / "m.ko.xz")
    assert caught.value.refusal is Refusal.SOURCE
