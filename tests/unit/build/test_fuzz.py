"""Real files, damaged: whatever is changed, reading ends soon, with a value or a refusal, in little memory.

The modules are those of the host side's tests (data/modulefile), the kernel's symbol table is that of
test_kallsyms, the diffs are the examples. Longer campaigns with a coverage-guided fuzzer found what
test_hostile.py holds.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livepatch_core.build.bootimage import kernel_elf
from livepatch_core.build.image import Image, livepatch_image, module_image
from livepatch_core.build.kallsyms import read_kallsyms
from livepatch_core.build.objectfile import read_object
from livepatch_core.build.patchset import apply_hunks, kernel_files, lines_of, parse_diff, render
from livepatch_core.build.refusals import Refused
from livepatch_core.build.unit import Unit
from tests.unit.build import test_kallsyms, test_objectfile
from tests.unit.build.limits import memory, processor_seconds
from tests.unit.build.test_hostile import boot_image, gz
from tests.unit.modulefile.images import NAMES, image

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "patches"
OBJECTS = {name: image(name) for name in NAMES} | {"unit": test_objectfile.GOOD}
TABLES = [test_kallsyms.image(order) for order in (test_kallsyms.OLD, test_kallsyms.NEW)]
IMAGE = boot_image(gz(test_objectfile.GOOD))
DIFFS = [path.read_text(encoding="utf-8") for path in sorted(EXAMPLES.glob("*.patch"))]
SOURCE = [
    line[1:] for text in DIFFS for line in text.split("\n") if line[:1] in (" ", "-") and line[:4] != "--- "
]
KERNEL = Image("vmlinux", "00", [], [])
# Values that counts, offsets, links and sizes have at their worst; those below 64 swap and close links.
WORST = (
    0xFF00,
    0xFF20,
    0xFFF2,
    0xFFFF,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)


@pytest.fixture(autouse=True)
def _limits() -> Iterator[None]:
    with memory():
        yield


numbers = st.one_of(st.integers(0, 64), st.sampled_from(WORST))
writes = st.tuples(st.integers(0, 1 << 30), st.sampled_from([1, 2, 4, 8]), numbers)
bytes_ = st.tuples(st.integers(0, 1 << 30), st.just(1), st.integers(0, 255))
damages = st.lists(st.one_of(writes, bytes_), min_size=1, max_size=6)


def damaged(data: bytes, damage: list[tuple[int, int, int]], cut: int | None) -> bytes:
    """Numbers written at places that are multiples of their size, as fields are, then the end cut off."""
    out = bytearray(data)
    for at, size, value in damage:
        at = at % (len(out) - size) // size * size
        out[at : at + size] = struct.pack("<Q", value)[:size]
    return bytes(out if cut is None else out[: cut % len(out)])


def survives(read: Callable[[], object]) -> None:
    with processor_seconds(20):
        try:
            read()
        except Refused:
            pass


cuts = st.one_of(st.none(), st.integers(0, 1 << 30))


@settings(max_examples=400)
@given(name=st.sampled_from(sorted(OBJECTS)), damage=damages, cut=cuts)
def test_objects_and_modules(name: str, damage: list[tuple[int, int, int]], cut: int | None) -> None:
    data = damaged(OBJECTS[name], damage, cut)
    survives(lambda: Unit("fs/x.c", read_object(data)))
    survives(lambda: module_image("m", data, KERNEL, ()))
    survives(lambda: livepatch_image("m", read_object(data), {}))


@settings(max_examples=400)
@given(
    name=st.sampled_from(sorted(OBJECTS)),
    damage=st.lists(
        st.tuples(st.integers(0, 99), st.sampled_from([0, 4, 8, 24, 32, 40, 44, 48, 56]), numbers),
        min_size=1,
        max_size=4,
    ),
)
def test_section_headers(name: str, damage: list[tuple[int, int, int]]) -> None:
    """Sections of any type, size and place; names, links and targets in circles."""
    out = bytearray(OBJECTS[name])
    (table,), (count,) = struct.unpack_from("<Q", out, 40), struct.unpack_from("<H", out, 60)
    for section, field, value in damage:
        size = 4 if field in (0, 4, 40, 44) else 8
        at = table + 64 * (section % count) + field
        out[at : at + size] = struct.pack("<Q", value)[:size]
    data = bytes(out)
    survives(lambda: Unit("fs/x.c", read_object(data)))
    survives(lambda: module_image("m", data, KERNEL, ()))


@settings(max_examples=60)
@given(table=st.sampled_from(TABLES), damage=damages, cut=cuts)
def test_symbol_table_of_a_kernel(table: bytes, damage: list[tuple[int, int, int]], cut: int | None) -> None:
    survives(lambda: read_kallsyms(damaged(table, damage, cut), test_kallsyms.TEXT))


@settings(max_examples=200)
@given(damage=damages, cut=cuts)
def test_boot_image(damage: list[tuple[int, int, int]], cut: int | None) -> None:
    survives(lambda: kernel_elf(damaged(IMAGE, damage, cut)))


edits = st.tuples(
    st.integers(0, 1 << 20),
    st.integers(0, 3),
    st.sampled_from(
        ["", "+", "-", " ", "\\", "\n", "@@ -1,9 +1 @@\n", "--- a/fs/x.c\n+++ b/fs/x.c\n", "/*", "*/", '"',
         "\0", "999999999", "-- \n", "\r", "\udc80", "\\ No newline at end of file\n", "+++ /dev/null\n"]
    ),
)  # fmt: skip


def read_and_apply(text: str) -> None:
    for file in kernel_files(parse_diff(text)):
        render(apply_hunks(lines_of("\n".join(SOURCE)), file)[0], directives=True)


@settings(max_examples=400)
@given(text=st.sampled_from(DIFFS), changes=st.lists(edits, min_size=1, max_size=5))
def test_diffs(text: str, changes: list[tuple[int, int, str]]) -> None:
    for at, gone, new in changes:
        at %= len(text) + 1
        text = text[:at] + new + text[at + gone :]
    survives(lambda: read_and_apply(text))
