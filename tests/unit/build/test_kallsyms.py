"""The symbol table out of an image: both orders of its parts, and refusal of anything inconsistent."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.build.kallsyms import KernelSymbol, read_kallsyms
from livepatch_core.build.refusals import Refusal, Refused

TEXT = 0xFFFFFFFF81000000
WORDS = ["alpha", "beta", "_x", "gamma.isra.0"]
NAMES = [f"{WORDS[n % 4]}_{n}" for n in range(1200)]  # the reader asks for more than 1,000 symbols


def pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def tokens() -> list[bytes]:
    """One token for every byte; the unused ones stand for whole words, as scripts/kallsyms.c makes them."""
    table = [bytes([code]) for code in range(256)]
    table[0] = b"z"
    for code, word in zip(range(0x80, 0x84), WORDS):
        table[code] = word.encode()
    return table


def parts(percpu: bool) -> dict[str, bytes]:
    table, names, marks = tokens(), b"", []
    for number, name in enumerate(NAMES):
        if number % 256 == 0:
            marks.append(len(names))
        word, _, rest = name.rpartition("_")
        coded = b"T" + bytes([0x80 + WORDS.index(word)]) + f"_{rest}".encode()
        names += bytes([len(coded)]) + coded
    offsets, text = [], b""
    for token in table:
        offsets.append(len(text))
        text += token + b"\0"
    places = [number * 16 for number in range(len(NAMES))]
    stored = [n if percpu and n < 160 else -1 - n for n in places]
    return {
        "offsets": pad(struct.pack(f"<{len(stored)}i", *stored)),
        "base": struct.pack("<Q", TEXT),
        "count": struct.pack("<Q", len(NAMES)),
        "names": pad(names),
        "markers": pad(struct.pack(f"<{len(marks)}I", *marks)),
        "tokens": pad(text),
        "index": struct.pack("<256H", *offsets),
    }


OLD = ("offsets", "base", "count", "names", "markers", "tokens", "index")  # until 6.3
NEW = ("count", "names", "markers", "tokens", "index", "offsets", "base")  # since 6.4


def image(order: tuple[str, ...], percpu: bool = False) -> bytes:
    made = parts(percpu)
    return bytes(range(256)) * 8 + b"".join(made[part] for part in order) + bytes(4096)


@pytest.mark.parametrize("order", [OLD, NEW], ids=["6.1", "6.12"])
def test_all_names_and_addresses_are_read(order: tuple[str, ...]) -> None:
    symbols = read_kallsyms(image(order), TEXT)
    assert [symbol.name for symbol in symbols] == NAMES
    assert symbols[7] == KernelSymbol(NAMES[7], "T", TEXT + 7 * 16)


def test_percpu_symbols_keep_their_offset() -> None:
    symbols = read_kallsyms(image(OLD, percpu=True), TEXT)
    assert symbols[9].address == 9 * 16
    assert symbols[10].address == TEXT + 160


@given(at=st.integers(0, 8), value=st.integers(0, 255))
def test_table_whose_markers_disagree_is_refused(at: int, value: int) -> None:
    made = parts(False)
    markers = bytearray(made["markers"])
    if markers[4 + at] == value:
        return
    markers[4 + at] = value
    made["markers"] = bytes(markers)
    with pytest.raises(Refused) as caught:
        read_kallsyms(b"".join(made[part] for part in OLD) + bytes(64), TEXT)
    assert caught.value.refusal is Refusal.KERNEL_IMAGE


@given(st.binary(max_size=2000))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        read_kallsyms(data, TEXT)
