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
_MOST_SYMBOLS = 1_000_000  # a stock kernel has up to 200,000
# What a crafted image may cost. In a stock kernel's image the first place that looks right is right.
_LONGEST_TOKEN = 1024
_MOST_PLACES = 1000
_MOST_WALKS = 16
_LONGEST_NAME = 1024  # bytes; KSYM_NAME_LEN is 512
_MOST_TEXT = 64 << 20  # bytes of all names; a stock kernel has 2.5 MB


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
        position = data.rfind(b"\0", max(position - _LONGEST_TOKEN, 0), position)
        if position < 0:
            return None
    return position + 1


def _tokens_at(data: bytes, start: int) -> Optional[tuple[list[bytes], int]]:
    """(tokens, end of the token index) if a token table starts here and its index agrees."""
    offsets, position = [], start
    for _ in range(_TOKENS):
        offsets.append(position - start)
        end = data.find(b"\0", position, position + _LONGEST_TOKEN)
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
    digits = -1
    for _ in range(_MOST_PLACES):
        digits = data.find(_DIGITS, digits + 1)
        if digits < 0:
            break
        # The string before the first token may be padding: try the few starts that alignment allows.
        counted = _table_start(data, digits)
        for start in () if counted is None else (counted, *range(_align(counted - 7, 8), counted + 64, 8)):
            found = _tokens_at(data, start)
            if found is not None:
                return found[0], start, found[1]
    raise _refused("no token table")


def _length_at(data: bytes, position: int) -> tuple[int, int]:
    """(bytes of the compressed name, where it starts): one byte, or two since 6.1 for long names."""
    length = data[position]
    if length & 0x80:
        return (length & 0x7F) | data[position + 1] << 7, position + 2
    return length, position + 1


Spans = list[tuple[int, int]]


def _walk(data: bytes, start: int, count: int, stop: int) -> Optional[Spans]:
    """Spans of ``count`` names from ``start`` if the markers that follow them agree."""
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
    return spans if data[markers : markers + len(expected)] == expected else None


def _count_at(data: bytes, at: int) -> int:
    """A plausible kallsyms_num_syms at ``at``, else 0."""
    count: int = struct.unpack_from("<Q", data, at)[0] if at + 8 <= len(data) else 0
    return count if 1000 < count < _MOST_SYMBOLS else 0


def _find_old(data: bytes, base: bytes, tokens_at: int) -> Optional[tuple[Spans, int]]:
    """Until 6.3: offsets, base, count, names, markers, tokens. (name spans, where the offsets are)."""
    position, walks = tokens_at, 0
    for _ in range(_MOST_PLACES):
        position = data.rfind(base, 0, position + 7) if position > 0 else -1
        if position < 0 or walks == _MOST_WALKS:
            break
        count = _count_at(data, position + 8) if position % 8 == 0 else 0
        walks += bool(count)
        spans = _walk(data, position + 16, count, tokens_at) if count else None
        if spans is not None:
            return spans, position - _align(4 * count, 8)
    return None


def _find_new(data: bytes, base: bytes, tokens_at: int, index_end: int) -> Optional[tuple[Spans, int]]:
    """Since 6.4: count, names, markers, tokens, index, offsets, base. (name spans, where the offsets are)."""
    position = index_end - 1
    for _ in range(_MOST_WALKS):
        position = data.find(base, position + 1, index_end + 4 * _MOST_SYMBOLS)
        if position < 0:
            break
        most = (position - index_end) // 4
        for count in (most, most - 1) if position % 8 == 0 and most > 1001 else ():
            at = data.rfind(struct.pack("<Q", count), 0, tokens_at)
            spans = _walk(data, at + 8, count, tokens_at) if at >= 0 else None
            if spans is not None:
                return spans, index_end
    return None


def _address(offset: int, base: int, signed: bool) -> int:
    """kallsyms_sym_address(): with KALLSYMS_ABSOLUTE_PERCPU, offsets from 0 up are absolute values."""
    if not signed:
        return base + (offset & 0xFFFFFFFF)
    return offset if offset >= 0 else base - 1 - offset


def _names(data: bytes, spans: Spans, tokens: list[bytes]) -> list[str]:
    """Each name with the symbol's letter in front, unpacked."""
    names, room = [], _MOST_TEXT
    for start, end in spans:
        name = b"".join([tokens[code] for code in data[start : min(end, start + _LONGEST_NAME)]])
        room -= len(name)
        if not 1 < len(name) <= _LONGEST_NAME or room < 0:
            raise _refused("it has a name that no kernel has")
        names.append(name.decode("latin-1"))
    return names


def read_kallsyms(data: bytes, text: int) -> list[KernelSymbol]:
    """All symbols of the kernel in ``data`` (a file or section), whose lowest address is ``text``."""
    tokens, tokens_at, index_end = _find_tokens(data)
    base = struct.pack("<Q", text)
    found = _find_old(data, base, tokens_at) or _find_new(data, base, tokens_at, index_end)
    if found is None:
        raise _refused("no name table that agrees with its markers")
    spans, offsets_at = found
    if not 0 <= offsets_at <= len(data) - 4 * len(spans):
        raise _refused("its addresses lie outside of the image")
    offsets = array("i")
    offsets.frombytes(data[offsets_at : offsets_at + 4 * len(spans)])
    signed = min(offsets) < 0
    return [
        KernelSymbol(name[1:], name[0], _address(offset, text, signed))
        for name, offset in zip(_names(data, spans, tokens), offsets)
    ]
