"""The kernel's own symbol table, read out of the stripped image: names, letters and addresses in kallsyms
order.

scripts/kallsyms.c writes it. The order of its parts changed in 6.4 (404bad70fcf7), so the parts are found by
their own consistency: the token index repeats the token table's string offsets, the markers repeat the offset
of every 256th name. Both must agree entirely or the table is refused.
"""

from __future__ import annotations

import struct
from array import array
from typing import NamedTuple, Optional

from livepatch_core.build.refusals import Refusal, Refused

_DIGITS = b"".join(bytes([c, 0]) for c in b"0123456789")
_TOKENS = 256
_MOST_SYMBOLS = 2_000_000


class KernelSymbol(NamedTuple):
    """One line of /proc/kallsyms; ``address`` as linked (per-CPU symbols: their offset)."""

    name: str
    letter: str
    address: int


def _refused(why: str) -> Refused:
    return Refused(
        Refusal.KERNEL_IMAGE,
        f"The image's symbol table was not found: {why}.",
        remedy="Only kernels with CONFIG_KALLSYMS_ALL can be proven against.",
    )


def _align(value: int, to: int) -> int:
    return value + to - 1 & -to


def _table_start(data: bytes, digits: int) -> Optional[int]:
    """Where 48 strings end right before the string "0" at ``digits``; strings hold no NUL, so count NULs
    back.
    """
    position = digits - 1
    for _ in range(48):
        position = data.rfind(b"\0", 0, position)
        if position < 0:
            return None
    return position + 1


def _tokens_at(data: bytes, start: int) -> Optional[tuple[list[bytes], int]]:
    """(tokens, end of the token index) if a token table starts here and its index agrees."""
    offsets, position = [], start
    for _ in range(_TOKENS):
        offsets.append(position - start)
        end = data.find(b"\0", position, position + 1024)
        if end < 0:
            return None
        position = end + 1
    index = _align(position, 8)
    if offsets[-1] > 0xFFFF or data[index : index + 512] != struct.pack("<256H", *offsets):
        return None
    tokens = [data[start + o : data.index(b"\0", start + o)] for o in offsets]
    return tokens, index + 512


def _find_tokens(data: bytes) -> tuple[list[bytes], int, int]:
    """(tokens, start of the token table, end of the token index)."""
    digits = data.find(_DIGITS)
    while digits >= 0:
        # The string before the first token may be padding: try the few starts that alignment allows.
        counted = _table_start(data, digits)
        for start in () if counted is None else (counted, *range(_align(counted - 7, 8), counted + 64, 8)):
            found = _tokens_at(data, start)
            if found is not None:
                return found[0], start, found[1]
        digits = data.find(_DIGITS, digits + 1)
    raise _refused("no token table")


def _length_at(data: bytes, position: int) -> tuple[int, int]:
    """(bytes of the compressed name, where it starts): one byte, or two since 6.1 for long names."""
    length = data[position]
    if length & 0x80:
        return (length & 0x7F) | data[position + 1] << 7, position + 2
    return length, position + 1


def _walk(data: bytes, start: int, count: int, stop: int) -> Optional[tuple[list[tuple[int, int]], int]]:
    """Spans of ``count`` names from ``start``, and where they end, if their markers follow."""
    spans, marks, position = [], [], start
    for number in range(count):
        if position + 2 > stop:
            return None
        if number % 256 == 0:
            marks.append(position - start)
        length, position = _length_at(data, position)
        spans.append((position, position + length))
        position += length
    markers = _align(position, 8)
    expected = struct.pack(f"<{len(marks)}I", *marks)
    return (spans, position) if data[markers : markers + len(expected)] == expected else None


def _names_before(data: bytes, count_at: int, stop: int) -> Optional[list[tuple[int, int]]]:
    """The spans of all names if a plausible kallsyms_num_syms stands at ``count_at``."""
    (count,) = struct.unpack_from("<I", data, count_at)
    if not 1000 < count < _MOST_SYMBOLS or data[count_at + 4 : count_at + 8] != bytes(4):
        return None
    walked = _walk(data, count_at + 8, count, stop)
    return walked[0] if walked else None


def _find_old(data: bytes, base: bytes, tokens_at: int) -> Optional[tuple[list[tuple[int, int]], int, int]]:
    """Until 6.3: offsets, base, count, names, markers, tokens. (name spans, offsets at, base at)."""
    position = data.rfind(base, 0, tokens_at)
    while position >= 0:
        spans = _names_before(data, position + 8, tokens_at) if position % 8 == 0 else None
        if spans is not None:
            return spans, position - _align(4 * len(spans), 8), position
        position = data.rfind(base, 0, position)
    return None


def _find_new(
    data: bytes, base: bytes, tokens_at: int, index_end: int
) -> Optional[tuple[list[tuple[int, int]], int, int]]:
    """Since 6.4: count, names, markers, tokens, offsets, base."""
    position = data.find(base, index_end)
    while 0 <= position < index_end + 4 * _MOST_SYMBOLS:
        for count in range((position - index_end) // 4, (position - index_end) // 4 - 2, -1):
            at = (
                data.rfind(struct.pack("<Q", count), 0, tokens_at)
                if position % 8 == 0 and count > 1000
                else -1
            )
            spans = _names_before(data, at, tokens_at) if at >= 0 else None
            if spans is not None:
                return spans, index_end, position
        position = data.find(base, position + 1)
    return None


def _address(offset: int, base: int, signed: bool) -> int:
    """kallsyms_sym_address(): with KALLSYMS_ABSOLUTE_PERCPU, offsets from 0 up are absolute values."""
    if not signed:
        return base + (offset & 0xFFFFFFFF)
    return offset if offset >= 0 else base - 1 - offset


def read_kallsyms(data: bytes, text: int) -> list[KernelSymbol]:
    """All symbols of the kernel in ``data`` (a file or section), whose lowest address is ``text``."""
    tokens, tokens_at, index_end = _find_tokens(data)
    base = struct.pack("<Q", text)
    found = _find_old(data, base, tokens_at) or _find_new(data, base, tokens_at, index_end)
    if found is None:
        raise _refused("no name table that agrees with its markers")
    spans, offsets_at, _base_at = found
    offsets = array("i")
    offsets.frombytes(data[offsets_at : offsets_at + 4 * len(spans)])
    signed = min(offsets) < 0
    symbols = []
    for (start, end), offset in zip(spans, offsets):
        name = b"".join([tokens[code] for code in data[start:end]]).decode("latin-1")
        symbols.append(KernelSymbol(name[1:], name[0], _address(offset, text, signed)))
    return symbols
