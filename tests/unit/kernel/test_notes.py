"""Build-ids in ELF notes, whole and broken."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.kernel.notes import build_id
from tests.unit.kernel.captured import DATA


def note(kind: int, name: bytes, descriptor: bytes, order: str = "<") -> bytes:
    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    header = struct.pack(order + "III", len(name), len(descriptor), kind)
    return header + padded(name) + padded(descriptor)


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("6.1", "eb4fbcd037e7253717950bf2b93bd5566f47c56f"),
        ("6.12", "764949bbe8b7a9241512fbf3b0d66d0ba34686a8"),
    ],
)
def test_the_running_image_of_stock_kernels(kernel: str, expected: str) -> None:
    assert build_id((DATA / f"notes-{kernel}").read_bytes()) == expected


BUILD_IDS = st.binary(min_size=1, max_size=64)
NAMES = st.sampled_from([b"Linux\0", b"Xen\0", b"GNU\0X"])
OTHERS = st.lists(st.builds(note, st.integers(0, 2**16), NAMES, st.binary(max_size=40)))


@given(OTHERS, BUILD_IDS, OTHERS)
def test_found_among_other_notes(before: list[bytes], wanted: bytes, after: list[bytes]) -> None:
    assert build_id(b"".join([*before, note(3, b"GNU\0", wanted), *after])) == wanted.hex()


@given(BUILD_IDS)
def test_a_big_endian_machine(wanted: bytes) -> None:
    blob = note(1, b"Linux\0", b"\0" * 4, ">") + note(3, b"GNU\0", wanted, ">")
    assert build_id(blob) == wanted.hex()


@given(st.binary(max_size=200))
def test_never_raises(blob: bytes) -> None:
    found = build_id(blob)
    assert found is None or bytes.fromhex(found) in blob


@given(BUILD_IDS, st.integers(1, 60))
def test_a_truncated_note_gives_nothing(wanted: bytes, missing: int) -> None:
    # The padding behind the descriptor may be missing, nothing else.
    whole = note(3, b"GNU\0", wanted)
    keep = len(whole) - (-len(wanted) % 4) - missing
    assert build_id(whole[: max(keep, 0)]) is None


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        note(1, b"GNU\0", b"abcd"),  # NT_GNU_ABI_TAG
        note(3, b"Go\0\0", b"abcd"),
        note(3, b"GNUX", b"abcd"),
        note(3, b"GNU\0X", b"abcd"),
        note(3, b"GNU\0", b""),
        note(3, b"GNU\0", b"x" * 65),
    ],
)
def test_none_where_there_is_none(blob: bytes) -> None:
    assert build_id(blob) is None
