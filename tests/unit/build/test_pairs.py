"""Which files may be left out, and that a header's change leaves the code of assembler files as it is."""

from __future__ import annotations

import pytest

from livepatch_core.build.compile import Compiled, Complaint
from livepatch_core.build.pairs import _check_assembled, left_out
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.series import Units
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


USER = "fs/user.c"
FAILED = Complaint(USER, "fs/user.c:1: error: no such type")
REACHED = Units((USER,), frozenset({USER}))


def test_user_of_a_header_that_does_not_compile_may_be_the_kernels() -> None:
    with pytest.raises(Refused) as caught:
        left_out(FAILED, REACHED, {})
    assert (caught.value.refusal, caught.value.file) == (Refusal.ORIGINAL_COMPILE, USER)
    assert "accept 'unit:fs/user.c'" in caught.value.remedy


def test_author_may_know_that_it_can_stay() -> None:
    assert "not our hardware" in left_out(FAILED, REACHED, {f"unit:{USER}": "not our hardware"})


def test_file_that_no_makefile_makes_an_object_of_need_not_compile() -> None:
    units = Units((USER,), frozenset({USER}), foreign=frozenset({USER}))
    assert "no Makefile" in left_out(FAILED, units, {})


def test_file_of_the_diff_must_compile() -> None:
    for units, refusal in (
        (Units((USER,), frozenset()), Refusal.ORIGINAL_COMPILE),
        (Units((USER,), frozenset(), unbuilt=frozenset({USER})), Refusal.NOT_BUILT),
    ):
        with pytest.raises(Refused) as caught:
            left_out(FAILED, units, {f"unit:{USER}": "a reason"})
        assert caught.value.refusal is refusal
