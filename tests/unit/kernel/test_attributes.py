"""Small kernel files that are there, missing, hidden, odd or huge."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from livepatch_core.kernel import attributes
from livepatch_core.kernel.attributes import read_bytes, read_flag, read_int, read_text


@pytest.mark.parametrize(
    ("text", "flag", "number"),
    [
        ("1\n", True, 1),
        ("0\n", False, 0),
        ("Y\n", True, None),
        ("N\n", False, None),
        ("2\n", None, 2),
        ("-1\n", None, -1),
        ("\n", None, None),
    ],
)
def test_values(tmp_path: Path, text: str, flag: bool | None, number: int | None) -> None:
    path = tmp_path / "value"
    path.write_text(text)
    assert (read_flag(path), read_int(path), read_text(path)) == (flag, number, text.strip())


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "file/below"):
        assert (read_bytes(path), read_text(path), read_int(path), read_flag(path)) == (None,) * 4


def test_what_vanishes_between_open_and_read_is_none_and_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "value"
    path.write_text("1")
    closed: list[int] = []

    def gone(_descriptor: int, _size: int) -> bytes:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(attributes.os, "read", gone)
    monkeypatch.setattr(attributes.os, "close", lambda descriptor: closed.append(descriptor))
    assert read_flag(path) is None
    monkeypatch.undo()
    (descriptor,) = closed
    os.close(descriptor)
