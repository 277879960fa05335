"""Whatever the bytes, reading ends soon, in a module or in LivepatchError(MODULE_FORMAT)."""

from __future__ import annotations

import random
import struct
import time
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livepatch_core.errors import LivepatchError
from livepatch_core.modulefile.read import read_module
from livepatch_core.words import Kind
from tests.unit.build.limits import memory
from tests.unit.modulefile.images import NAMES, header_at, image, replaced, section_at, stored

IMAGES = {name: image(name) for name in NAMES}
# A read takes about a millisecond; this is far beyond any machine's jitter and far below a hang.
QUICK = settings(
    deadline=timedelta(seconds=5), max_examples=300, suppress_health_check=[HealthCheck.differing_executors]
)


def read_or_refuse(data: bytes) -> bool:
    """True when it was read."""
    refused: LivepatchError | None = None
    try:
        read_module(data)
    except LivepatchError as error:
        refused = error
    assert refused is None or refused.kind is Kind.MODULE_FORMAT
    return refused is None


@pytest.mark.parametrize("name", ["lp_one-6.1", "standin_kpatch", "standin_klp_build"])
def test_truncated(name: str) -> None:
    """No prefix of a module is a module: the section table ends it. Between head and table, samples do."""
    data = IMAGES[name]
    end = len(data) - 8
    lengths = {*range(256), *range(256, end, 13), *range(section_table(data)[0] - 64, end)}
    assert not any(read_or_refuse(data[:length]) for length in sorted(lengths))


def test_signature_truncated_at_every_offset() -> None:
    """What is left is a whole module without a signature: unsigned, never half signed."""
    data, unsigned = IMAGES["lp_one-6.1-signed"], IMAGES["lp_one-6.1"]
    for length in range(len(unsigned), len(data)):
        assert read_module(data[:length]).signature is None


@pytest.mark.parametrize("name", NAMES)
def test_compressed_and_truncated_at_every_offset(name: str) -> None:
    data = stored(name)
    assert not any(read_or_refuse(data[:length]) for length in range(len(data)))


@QUICK
@given(
    st.sampled_from(NAMES),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=9)), min_size=1, max_size=8),
)
def test_overwritten_anywhere(name: str, damage: list[tuple[int, bytes]]) -> None:
    data = IMAGES[name]
    for at, new in damage:
        data = replaced(data, at % len(data), new)
    read_or_refuse(data)


numbers = st.sampled_from(
    [
        0,
        1,
        2,
        7,
        8,
        23,
        24,
        63,
        64,
        0xFF,
        0xFF00,
        0xFF20,
        0xFFFF,
        2**31,
        2**32 - 1,
        2**63 - 1,
        2**63,
        2**64 - 1,
    ]
)
HEADER = {40: 8, 52: 2, 58: 2, 60: 2, 62: 2, 4: 1, 5: 1, 16: 2, 18: 2}  # offset: size of the field
SECTION = {0: 4, 4: 4, 8: 8, 16: 8, 24: 8, 32: 8, 40: 4, 44: 4, 56: 8}


def section_table(data: bytes) -> tuple[int, int]:
    return struct.unpack_from("<Q", data, 40)[0], struct.unpack_from("<H", data, 60)[0]


@QUICK
@given(st.sampled_from(NAMES), st.sampled_from(sorted(HEADER)), numbers)
def test_header_fields(name: str, field: int, value: int) -> None:
    read_or_refuse(replaced(IMAGES[name], field, struct.pack("<Q", value)[: HEADER[field]]))


@QUICK
@given(
    st.sampled_from(NAMES),
    st.lists(
        st.tuples(st.integers(0, 99), st.sampled_from(sorted(SECTION)), numbers), min_size=1, max_size=4
    ),
)
def test_section_header_fields(name: str, damage: list[tuple[int, int, int]]) -> None:
    """Huge and overlapping sections, wrong kinds, links in circles, names outside of the table."""
    data = IMAGES[name]
    table, count = section_table(data)
    for section, field, value in damage:
        at = table + 64 * (section % count) + field
        data = replaced(data, at, struct.pack("<Q", value)[: SECTION[field]])
    read_or_refuse(data)


@QUICK
@given(st.sampled_from(NAMES), st.integers(0, 99), st.integers(0, 99), st.sampled_from(sorted(SECTION)))
def test_section_header_fields_of_another_section(name: str, one: int, other: int, field: int) -> None:
    """Cyclic and swapped references: each value is plausible, only not there."""
    data = IMAGES[name]
    table, count = section_table(data)
    source = table + 64 * (other % count) + field
    value = data[source : source + SECTION[field]]
    read_or_refuse(replaced(data, table + 64 * (one % count) + field, value))


@QUICK
@given(
    st.sampled_from(NAMES),
    st.sampled_from([".symtab", ".rela.data", ".rela.kpatch.funcs", ".rela.init.klp_objects"]),
    st.integers(0, 99),
    st.sampled_from([0, 4, 6, 8, 12, 16]),
    numbers,
)
def test_symbols_and_relocations(name: str, section: str, entry: int, field: int, value: int) -> None:
    data = IMAGES[name]
    if f"\0{section}\0".encode() not in data:
        section = ".symtab"
    size = struct.unpack_from("<Q", data, header_at(data, section) + 32)[0]
    at = section_at(data, section) + 24 * (entry % (size // 24)) + field
    read_or_refuse(replaced(data, at, struct.pack("<Q", value)[: 24 - field if field > 16 else 8]))


@QUICK
@given(st.binary(max_size=4096))
def test_any_bytes(data: bytes) -> None:
    assert not read_or_refuse(data)
    assert not read_or_refuse(b"\x7fELF\x02\x01\x01" + data)


def header(sections: int, offset: int = 64) -> bytes:
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    return ident + struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, offset, 0, 64, 0, 0, 64, sections, 1)


def shdr(name: int, kind: int, flags: int, offset: int, size: int, link: int = 0, info: int = 0) -> bytes:
    return struct.pack("<IIQQQQIIQQ", name, kind, flags, 0, offset, size, link, info, 1, 24)


def elf(*sections: bytes, body: bytes = b"") -> bytes:
    """A header, the section table, then ``body``, at 64 * (1 + number of sections)."""
    return header(len(sections)) + b"".join(sections) + body


BIG = 16 * 1024 * 1024


def names_of_16_mib() -> bytes:
    """Every section and symbol has the same name, 16 MiB long."""
    count = 4000
    start = 64 * (1 + count)
    symbols = struct.pack("<IBBHQQ", 5, 1, 0, 0, 0, 8) * 400_000
    sections = [shdr(n, 3, 0, start, BIG) for n in range(count - 1)]
    body = b"a" * (BIG - 1) + b"\0" + symbols
    return elf(*sections, shdr(0, 2, 0, start + BIG, len(symbols), 1), body=body)


def overlapping_symbol_names() -> bytes:
    """A string table of one MiB in which each of 500,000 symbols finds a name of its own, half a KiB long."""
    text = bytes(random.Random(1).choices(range(97, 123), k=1 << 20))
    strings = b"".join(text[at : at + 1020] + b"\0" for at in range(0, len(text), 1020))
    parts = [
        b"\0.modinfo\0.gnu.linkonce.this_module\0",
        b"vermagic=1\0",
        bytes(24) + b"name\0",
        strings,
        b"".join(struct.pack("<IBBHQQ", number, 0x10, 0, 0, 0, 0) for number in range(1 << 19)),
    ]
    at = [64 * 7 + sum(map(len, parts[:number])) for number in range(len(parts))]
    rows = zip((0, 1, 10, 0, 0), (3, 1, 1, 3, 2), (0, 2, 2, 0, 0), at, map(len, parts), (0, 0, 0, 0, 4))
    return elf(shdr(0, 0, 0, 0, 0), *(shdr(*row) for row in rows), body=b"".join(parts))


def many_relocation_tables() -> bytes:
    """Each of 8,000 writable sections claims the same 100,000 relocations."""
    count = 16000
    start = 64 * (1 + count)
    names = b"\0.modinfo\0"
    modinfo = b"livepatch=Y\0vermagic=1\0"
    symbols = struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)
    table = b"".join(struct.pack("<QQq", number, 0, 0) for number in range(100_000))
    head = [
        shdr(0, 0, 0, 0, 0),
        shdr(0, 3, 0, start, len(names)),
        shdr(1, 1, 2, start + len(names), len(modinfo)),
        shdr(0, 2, 0, start + len(names) + len(modinfo), 24, 1),
    ]
    at = start + len(names) + len(modinfo) + 24
    half = (count - len(head)) // 2
    writable = [shdr(0, 8, 3, 0, BIG) for _ in range(half)]
    tables = [shdr(0, 4, 0, at, len(table), 3, len(head) + n) for n in range(half)]
    return elf(*head, *writable, *tables, body=names + modinfo + symbols + table)


def symbol_table_too_large() -> bytes:
    start = 64 * 4
    names = b"\0" * 8
    return elf(
        shdr(0, 0, 0, 0, 0),
        shdr(0, 3, 0, start, 8),
        shdr(0, 2, 0, start + 8, 24 * (1 << 20), 1),
        body=names + bytes(24 * (1 << 20)),
    )


def noise() -> bytes:
    return b"\x7fELF\x02\x01\x01" + random.Random(5).randbytes(BIG)


@pytest.mark.parametrize(
    "make",
    [names_of_16_mib, overlapping_symbol_names, many_relocation_tables, symbol_table_too_large, noise],
    ids=lambda make: make.__name__,
)
def test_costly_files_cost_little(make: object) -> None:
    assert callable(make)
    data = make()
    with memory(320 << 20):
        start = time.process_time()
        assert not read_or_refuse(data)
        assert time.process_time() - start < 5
