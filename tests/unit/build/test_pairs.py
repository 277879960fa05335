"""Assembler files are compiled to see that a header's change leaves their code as it is."""

from __future__ import annotations

import pytest

from livepatch_core.build.compile import Compiled
from livepatch_core.build.pairs import _check_assembled
from livepatch_core.build.refusals import Refusal, Refused
from tests.unit.build.objects import Source


def compiled(code: bytes, calls: str, debug: bytes = b"") -> Compiled:
    source = Source()
    source.function("entry", code, calls={1: calls})
    source._section(".debug_line", 0, debug)
    return Compiled("fs/entry.S", source.file(), "vmlinux", frozenset(), "")


BEFORE = compiled(b"\xe8\0\0\0\0\xc3", "first")


def test_lines_may_move() -> None:
    _check_assembled(BEFORE, compiled(b"\xe8\0\0\0\0\xc3", "first", b"another line"))


@pytest.mark.parametrize(("code", "calls"), [(b"\xe8\0\0\0\0\x90", "first"), (b"\xe8\0\0\0\0\xc3", "second")])
def test_code_may_not_change(code: bytes, calls: str) -> None:
    with pytest.raises(Refused) as caught:
        _check_assembled(BEFORE, compiled(code, calls))
    assert (caught.value.refusal, caught.value.file) == (Refusal.UNSUPPORTED_FILE, "fs/entry.S")
