"""Answers must survive the way to the master, whatever a module file says of itself."""

from __future__ import annotations

from pathlib import Path

import msgpack
import pytest

from livepatch_core.host import inquiry

FILES = sorted((Path(__file__).parent.parent / "data/modulefile").glob("*.ko*"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_a_module_says_is_plain_data(path):
    answer = inquiry.info(path.read_bytes())
    assert answer["name"]
    packed = msgpack.packb(answer, strict_types=True)
    assert msgpack.unpackb(packed, strict_map_key=False) == answer
