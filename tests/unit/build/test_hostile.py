"""Inputs made to be expensive: each costs the builder a refusal, never a traceback, a hang or gigabytes."""

from __future__ import annotations

import random
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from livepatch_core.build.bootimage import kernel_elf
from livepatch_core.build.hooks import declared_states
from livepatch_core.build.image import Image, module_image
from livepatch_core.build.kallsyms import read_kallsyms
from livepatch_core.build.objectfile import (
    R_64,
    SHF_ALLOC,
    SHF_WRITE,
    SHN_LIVEPATCH,
    SHT_NOBITS,
    SHT_NOTE,
    SHT_PROGBITS,
    LivepatchRelocations,
    Relocation,
    Section,
    Symbol,
    read_object,
    write_object,
)
from livepatch_core.build.patchset import apply_hunks, lines_of, parse_diff, render
from livepatch_core.build.refusals import Refusal, Refused
from tests.unit.build.limits import memory, processor_seconds
from tests.unit.build.objects import Source
from tests.unit.build.test_kallsyms import NAMES, OLD, TEXT, parts

BIG = 8 << 20
KERNEL = Image("vmlinux", "00", [], [])
NOTE = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0" + bytes(20)


@pytest.fixture(autouse=True)
def _limits() -> Iterator[None]:
    with processor_seconds(20), memory():
        yield


def refusal_of(act: Callable[[], object]) -> Refusal:
    with pytest.raises(Refused) as caught:
        act()
    return caught.value.refusal


def elf(headers: list[bytes], body: bytes, kind: int = 1) -> bytes:
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    at = 64 + len(body)
    head = struct.pack("<HHIQQQIHHHHHH", kind, 62, 1, 0, 0, at, 0, 64, 0, 0, 64, 0, 1)
    first = struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, len(headers) + 1, 0, 0, 0, 0)
    return ident + head + body + first + b"".join(headers)


def row(type_: int, offset: int, size: int, *, name: int = 0, link: int = 0) -> bytes:
    return struct.pack("<IIQQQQIIQQ", name, type_, 0, 0, offset, size, link, 0, 1, 0)


# -- objects


def test_every_section_is_the_whole_file() -> None:
    data = elf([row(3, 64, BIG), *[row(1, 64, BIG)] * 20_000], bytes(BIG))
    assert refusal_of(lambda: read_object(data)) is Refusal.OBJECT_FORMAT


def test_every_section_has_a_name_of_megabytes() -> None:
    data = elf([row(3, 64, BIG), *[row(8, 0, 0, name=1)] * 20_000], b"\0" + b"n" * (BIG - 2) + b"\0")
    assert refusal_of(lambda: read_object(data)) is Refusal.OBJECT_FORMAT


def test_every_symbol_has_a_name_of_megabytes() -> None:
    symbols = struct.pack("<IBBHQQ", 1, 1, 0, 0, 0, 0) * 50_000
    body = b"\0" + b"n" * (BIG - 2) + b"\0" + symbols
    data = elf([row(3, 64, BIG), row(2, 64 + BIG, len(symbols), link=1)], body)
    assert refusal_of(lambda: read_object(data)) is Refusal.OBJECT_FORMAT


def module(size: int, type_: int = SHT_NOBITS, content: bytes = b"", at: int = 0) -> bytes:
    """A module with a section of that size that a relocation at ``at`` belongs to."""
    where = Section(".bss", type_, SHF_ALLOC | SHF_WRITE, content, size, 8)
    where.relocations.append(Relocation(at, R_64, 1, 0))
    note = Section(".note.gnu.build-id", SHT_NOTE, SHF_ALLOC, NOTE, len(NOTE), 4)
    symbols = [Symbol("", 0, 0, 0, 0, 0), Symbol("x", 0, 8, 1, 1, 1)]
    return write_object([where, note], symbols)


@pytest.mark.parametrize("size", [1 << 24, 1 << 33, 1 << 62])
def test_bss_of_gigabytes(size: int) -> None:
    data = module(size, at=size - 8)
    assert refusal_of(lambda: module_image("m", data, KERNEL, ())) is Refusal.OBJECT_FORMAT


def test_section_without_a_type_has_no_bytes_to_relocate() -> None:
    data = module(64, type_=0, content=b"")
    assert refusal_of(lambda: module_image("m", data, KERNEL, ())) is Refusal.OBJECT_FORMAT


def test_symbol_larger_than_its_section() -> None:
    symbols = [Symbol("", 0, 0, 0, 0, 0), Symbol("x", 0, 1 << 60, 1, 1, 1)]
    data = write_object([Section(".bss.x", SHT_NOBITS, SHF_ALLOC | SHF_WRITE, b"", 8, 8)], symbols)
    assert refusal_of(lambda: read_object(data)) is Refusal.OBJECT_FORMAT


@pytest.mark.parametrize(("at", "symbol"), [(1 << 39, 1), (8, 1), (0, 2)])
def test_livepatch_relocation_outside_of_its_section(at: int, symbol: int) -> None:
    where = Section(".text", SHT_PROGBITS, SHF_ALLOC, bytes(8), 8, 8)
    symbols = [Symbol("", 0, 0, 0, 0, 0), Symbol(".klp.sym.vmlinux.x,0", 0, 0, 0, 1, SHN_LIVEPATCH)]
    later = LivepatchRelocations("vmlinux", 1, [Relocation(at, R_64, 1, 0)])
    data = write_object([where], symbols, [later])
    data = data.replace(struct.pack("<QQ", at, 1 << 32 | R_64), struct.pack("<QQ", at, symbol << 32 | R_64))
    assert refusal_of(lambda: read_object(data)) is Refusal.OBJECT_FORMAT


def test_state_declared_by_hand_with_another_size() -> None:
    source = Source()
    source.data("mine", bytes(12), section=".livepatch.states")
    unit = source.unit()
    assert refusal_of(lambda: declared_states(unit)) is Refusal.HOOKS


# -- the kernel's symbol table


def kallsyms(**changed: bytes) -> bytes:
    made = {**parts(False), **changed}
    return bytes(2048) + b"".join(made[part] for part in OLD) + bytes(4096)


def names(coded: list[bytes]) -> dict[str, bytes]:
    """The parts that hold these coded names; equal names below the marks are what costs."""
    text, marks = b"", []
    for number, code in enumerate(coded):
        if number % 256 == 0:
            marks.append(len(text))
        text += (
            bytes([len(code)]) if len(code) < 128 else bytes([len(code) & 127 | 128, len(code) >> 7])
        ) + code
    pad = bytes(-len(text) % 8)
    markers = struct.pack(f"<{len(marks)}I", *marks)
    return {
        "names": text + pad,
        "markers": markers + bytes(-len(markers) % 8),
        "count": struct.pack("<Q", len(coded)),
        "offsets": bytes(4 * len(coded) + (4 * len(coded)) % 8),
    }


def tokens_of(first: bytes) -> dict[str, bytes]:
    """A token table whose token 0x80 is ``first``."""
    table = [bytes([code]) for code in range(256)]
    table[0], table[0x80] = b"z", first
    offsets, text = [], b""
    for token in table:
        offsets.append(len(text))
        text += token + b"\0"
    return {"tokens": text + bytes(-len(text) % 8), "index": struct.pack("<256H", *offsets)}


def test_names_that_unpack_to_gigabytes() -> None:
    coded = names([b"T" + b"\x80" * 5000] * 1200)
    data = kallsyms(**coded, **tokens_of(b"n" * 1000))
    assert refusal_of(lambda: read_kallsyms(data, TEXT)) is Refusal.KERNEL_IMAGE


def test_name_without_a_letter() -> None:
    data = kallsyms(**names([b"Ta"] * 1100 + [b""] + [b"Tb"] * 99))
    assert refusal_of(lambda: read_kallsyms(data, TEXT)) is Refusal.KERNEL_IMAGE


def test_table_that_begins_before_the_file() -> None:
    made = parts(False)
    data = b"".join(made[part] for part in OLD if part != "offsets") + bytes(4096)
    assert refusal_of(lambda: read_kallsyms(data, TEXT)) is Refusal.KERNEL_IMAGE


def test_a_million_starts_of_a_name_table() -> None:
    start = struct.pack("<QQ", TEXT, 900_000)
    made = parts(False)
    data = start * 300_000 + made["tokens"] + made["index"] + bytes(64)
    assert refusal_of(lambda: read_kallsyms(data, TEXT)) is Refusal.KERNEL_IMAGE


def test_a_million_ends_of_an_offset_table() -> None:
    made = parts(False)
    head = bytes(4 << 20) + made["tokens"] + made["index"]
    data = head + struct.pack("<Q", TEXT) * 300_000
    assert refusal_of(lambda: read_kallsyms(data, TEXT)) is Refusal.KERNEL_IMAGE


def test_a_million_starts_of_a_token_table() -> None:
    digits = b"".join(bytes([c, 0]) for c in b"0123456789")
    data = digits * 400_000
    assert refusal_of(lambda: read_kallsyms(data, TEXT)) is Refusal.KERNEL_IMAGE


def test_table_with_a_part_more_is_read() -> None:
    """Kernels since 6.2, and distributions' older ones, have the names' order between markers and tokens."""
    made = parts(False)
    made["markers"] += bytes(3 * len(NAMES) + -3 * len(NAMES) % 8)
    assert [s.name for s in read_kallsyms(bytes(2048) + b"".join(made[part] for part in OLD), TEXT)] == NAMES


def test_real_table_is_found_behind_decoys() -> None:
    decoys = b"".join(bytes([c, 0]) for c in b"0123456789") * 20 + struct.pack("<QQ", TEXT, 5000) * 20
    assert [s.name for s in read_kallsyms(decoys + kallsyms(), TEXT)] == NAMES


# -- the boot image


def boot_image(payload: bytes, magic: bytes = b"HdrS", protocol: int = 0x20F, claimed: int = -1) -> bytes:
    head = bytearray(1024)
    head[0x1F1] = 1
    head[0x1FE:0x200] = b"\x55\xaa"
    head[0x202:0x206] = magic
    head[0x206:0x208] = struct.pack("<H", protocol)
    head[0x248:0x250] = struct.pack("<II", 0, len(payload) if claimed < 0 else claimed)
    return bytes(head) + payload


def gz(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def test_boot_image_is_unpacked() -> None:
    assert kernel_elf(boot_image(gz(b"\x7fELF" + bytes(100)))) == b"\x7fELF" + bytes(100)


@pytest.mark.parametrize(
    "image",
    [
        boot_image(gz(b"\x7fELF" + bytes(100)), magic=b"hdrs"),
        boot_image(gz(b"\x7fELF" + bytes(100)), protocol=0x207),
        boot_image(gz(b"\x7fELF" + bytes(100)), claimed=1 << 31),
        boot_image(gz(b"\x7fELF" + random.Random(1).randbytes(1000))[:500]),
        boot_image(b"\xfd7zXZ\0" + bytes(50)),
        boot_image(b""),
    ],
    ids=["magic", "protocol", "beyond the file", "truncated", "damaged", "empty"],
)
def test_boot_image_that_is_none(image: bytes) -> None:
    assert refusal_of(lambda: kernel_elf(image)) is Refusal.KERNEL_IMAGE


def test_boot_image_that_unpacks_to_gigabytes() -> None:
    bomb = zlib.compressobj(1, zlib.DEFLATED, 31)
    data = b"".join(bomb.compress(bytes(16 << 20)) for _ in range(17)) + bomb.flush()
    assert refusal_of(lambda: kernel_elf(boot_image(data))) is Refusal.KERNEL_IMAGE


@pytest.mark.parametrize(("tool", "magic"), [("lz4", b"\x02\x21\x4c\x18"), ("zstd", b"\x28\xb5\x2f\xfd")])
def test_tool_that_unpacks_without_end(
    tool: str, magic: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / tool
    script.write_text("#!/bin/sh\nexec cat /dev/zero\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert refusal_of(lambda: kernel_elf(boot_image(magic + bytes(64)))) is Refusal.KERNEL_IMAGE


def test_tool_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "lz4"
    script.write_text("#!/bin/sh\necho no such frame >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(Refused, match="no such frame"):
        kernel_elf(boot_image(b"\x02\x21\x4c\x18" + bytes(1 << 20)))


# -- diffs


def hunk(path: str, *added: str) -> str:
    lines = "".join(f"+{line}\n" for line in added)
    return f"--- a/{path}\n+++ b/{path}\n@@ -1 +1,{len(added) + 1} @@\n int a;\n{lines}"


@pytest.mark.parametrize("path", ["/etc/passwd.c", "fs//x.c", "fs/./x.c", "./fs/x.c", "fs/", "fs/../x.c"])
def test_path_that_is_not_plainly_inside_the_tree(path: str) -> None:
    assert refusal_of(lambda: parse_diff(hunk(path, "int b;"))) is Refusal.DIFF_SYNTAX


@pytest.mark.parametrize(
    "line",
    ["/**/" * 50_000, '"' + '\\"' * 200_000, "'" + "\\'" * 200_000, '"' * 200_001, "'\"" * 200_000],
    ids=["comments", "quotes", "apostrophes", "strings", "mixed"],
)
def test_line_that_is_long_to_scan(line: str) -> None:
    (file,) = parse_diff(hunk("fs/x.c", line))
    text = render(apply_hunks(lines_of("int a;\nint c;\n"), file)[0], directives=True)
    assert text.split("\n")[1] == line


def test_diff_of_gigabytes_of_hunks() -> None:
    text = "--- a/fs/x.c\n+++ b/fs/x.c\n" + "@@ -1 +1 @@\n-a\n+b\n" * 300_000
    assert refusal_of(lambda: parse_diff(text)) is Refusal.DIFF_SYNTAX
