"""ELF files: what is written reads back the same, and a damaged file is refused, never more."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livepatch_core.build.objectfile import build_id, read_object
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.unit import Unit
from tests.unit.build.objects import Source


def sample() -> bytes:
    source = Source()
    source.function("one", b"\xe8\0\0\0\0\xc3", calls={1: "two"})
    source.function("two", b"\xe8\0\0\0\0\xc3", calls={1: "outside"}, local=True)
    source.data("count.1", bytes(4), section=".bss.count.1")
    source.record("__bug_table", bytes(12), {0: "one", 4: "two"})
    return source.file()


GOOD = sample()


def test_written_file_reads_back() -> None:
    file = read_object(GOOD)
    assert {s.name for s in file.symbols if s.name} == {"one", "two", "count.1", "outside"}
    section = file.section(".text.one")
    assert section is not None
    assert section.data == b"\xe8\0\0\0\0\xc3"
    assert [(r.offset, file.symbols[r.symbol].name, r.addend) for r in section.relocations] == [
        (1, "two", -4)
    ]


@settings(max_examples=500)
@given(st.data())
def test_damaged_file_is_read_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for candidate in (bytes(damaged), bytes(damaged[:cut])):
        try:
            Unit("fs/x.c", read_object(candidate))
        except Refused:
            pass


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        read_object(data)
    assert caught.value.refusal is Refusal.OBJECT_FORMAT


@pytest.mark.parametrize("header", [b"\x7fELF\x02\x01" + bytes(58), b"\x7fELF\x01\x01" + bytes(58)])
def test_headers_without_sections_are_refused(header: bytes) -> None:
    with pytest.raises(Refused):
        read_object(header)


def test_section_count_that_claims_gigabytes_costs_nothing() -> None:
    hostile = bytearray(GOOD)
    hostile[0x3C:0x3E] = b"\0\0"  # e_shnum 0: the real count is the size field of section 0
    start = int.from_bytes(hostile[0x28:0x30], "little")
    hostile[start + 32 : start + 40] = (1 << 40).to_bytes(8, "little")
    with pytest.raises(Refused):
        read_object(bytes(hostile))


@given(st.binary(max_size=100))
def test_any_note_has_an_identity_or_none(data: bytes) -> None:
    assert build_id(data) is None or isinstance(build_id(data), str)


def test_identity_is_read_from_among_other_notes() -> None:
    other = b"\x04\0\0\0\x04\0\0\0\x01\0\0\0GNU\0abcd"
    own = b"\x04\0\0\0\x03\0\0\0\x03\0\0\0GNU\0\x01\x02\x03\0"
    assert build_id(other + own) == "010203"
