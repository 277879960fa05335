"""The module files under data/modulefile, and ways to damage them in one place only."""

from __future__ import annotations

import io
import lzma
import struct
from pathlib import Path

from elftools.elf.elffile import ELFFile

DATA = Path(__file__).parent.parent / "data/modulefile"
NAMES = tuple(sorted(path.name[: -len(".ko.xz")] for path in DATA.glob("*.ko.xz")))
HAND = ("lp_one-6.1", "lp_one-6.12", "lp_full-6.1", "lp_full-6.12")


def stored(name: str) -> bytes:
    """A module file as it is stored, compressed."""
    return (DATA / f"{name}.ko.xz").read_bytes()


def image(name: str) -> bytes:
    """A module file as the kernel gets it."""
    return lzma.decompress(stored(name))


def replaced(data: bytes, at: int, new: bytes) -> bytes:
    """``data`` with the bytes at ``at`` overwritten."""
    return data[:at] + new + data[at + len(new) :]


def section_at(data: bytes, name: str) -> int:
    """Where a section's bytes begin in the file."""
    section = ELFFile(io.BytesIO(data)).get_section_by_name(name)
    assert section is not None, name
    return int(section["sh_offset"])


def header_at(data: bytes, name: str) -> int:
    """Where a section's header is in the file."""
    elf = ELFFile(io.BytesIO(data))
    index = elf.get_section_index(name)
    assert index is not None, name
    return int(elf["e_shoff"]) + 64 * index


def variable_at(data: bytes, name: str) -> int:
    """Where a variable's bytes are in the file."""
    elf = ELFFile(io.BytesIO(data))
    symbol = elf.get_section_by_name(".symtab").get_symbol_by_name(name)[0]
    return int(elf.get_section(symbol["st_shndx"])["sh_offset"] + symbol["st_value"])


def symbol_at(data: bytes, name: str) -> int:
    """Where a symbol's entry is in the file."""
    symtab = ELFFile(io.BytesIO(data)).get_section_by_name(".symtab")
    index = next(n for n, symbol in enumerate(symtab.iter_symbols()) if symbol.name == name)
    return int(symtab["sh_offset"]) + 24 * index


def relocation_at(data: bytes, section: str, offset: int) -> int:
    """Where the entry that relocates ``offset`` of a section is in the file."""
    table = ELFFile(io.BytesIO(data)).get_section_by_name(f".rela{section}")
    index = next(n for n, entry in enumerate(table.iter_relocations()) if entry["r_offset"] == offset)
    return int(table["sh_offset"]) + 24 * index


def number(value: int, size: int = 8) -> bytes:
    return struct.pack("<Q", value)[:size]
