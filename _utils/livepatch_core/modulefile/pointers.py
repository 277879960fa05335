"""Following the pointers of a module's data: in a relocatable object a pointer is a relocation."""

from __future__ import annotations

import struct
from bisect import bisect_left
from dataclasses import dataclass

from livepatch_core.modulefile.elf import (
    POINTER,
    SHF_EXECINSTR,
    SHN_LORESERVE,
    SHN_UNDEF,
    STT_OBJECT,
    Elf,
    Relocation,
    Section,
)
from livepatch_core.modulefile.refusal import refusal

# Of all tables together. A klp_func takes about 150 bytes: room for more functions than any kernel has.
MAX_TABLES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Place:
    """An offset in a section."""

    section: int
    offset: int


@dataclass(frozen=True)
class Extent:
    """The bytes of one variable, and its pointers by offset within it. ``.bss`` has a size but no bytes: it
    is zero.
    """

    name: str
    size: int
    data: bytes
    pointers: dict[int, Relocation]

    def zero(self, start: int, end: int) -> bool:
        """No byte is set and no pointer begins in ``[start, end)``."""
        return not self.data[start:end].strip(b"\0") and not any(start <= at < end for at in self.pointers)

    def entries(self, stride: int) -> list[Extent]:
        """Its equal parts of ``stride`` bytes; a shorter rest is the last part."""
        pointers: dict[int, dict[int, Relocation]] = {}
        for at, pointer in self.pointers.items():
            pointers.setdefault(at // stride, {})[at % stride] = pointer
        starts = range(0, self.size, stride)
        return [
            Extent(
                self.name,
                min(stride, self.size - start),
                self.data[start : start + stride],
                pointers.get(start // stride, {}),
            )
            for start in starts
        ]


class Pointers:
    """Reads variables, strings and what pointers point to; keeps the relocations of each section it has
    read.
    """

    def __init__(self, elf: Elf) -> None:
        self.elf = elf
        self._relocations: dict[int, tuple[dict[int, Relocation], list[int]]] = {}
        self._sizes: dict[Place, set[int]] = {}
        self._budget = MAX_TABLES
        for symbol in elf.symbols:
            if symbol.type == STT_OBJECT and symbol.size:
                self._sizes.setdefault(Place(symbol.section, symbol.value), set()).add(symbol.size)

    def relocations(self, section: Section) -> tuple[dict[int, Relocation], list[int]]:
        """The relocations of a section by offset, and the offsets in order."""
        if section.index not in self._relocations:
            found = self.elf.relocations_of(section)
            self._relocations[section.index] = (found, sorted(found))
        return self._relocations[section.index]

    def target(self, pointer: Relocation) -> Place:
        """Where a pointer leads, in this file."""
        if pointer.type != POINTER[self.elf.machine]:
            raise refusal(f"its livepatch tables have a relocation of type {pointer.type}, not of a pointer")
        symbol = self.elf.symbols[pointer.symbol]
        if symbol.section == SHN_UNDEF or symbol.section >= min(SHN_LORESERVE, len(self.elf.sections)):
            raise refusal("a pointer in its livepatch tables leads out of the module")
        return Place(symbol.section, symbol.value + pointer.addend)

    def section(self, place: Place) -> Section:
        return self.elf.sections[place.section]

    def string(self, pointer: Relocation) -> str:
        """The text a ``char *`` points to; never empty."""
        place = self.target(pointer)
        text = self.elf.string(self.section(place), place.offset)
        if not text:
            raise refusal("a name in its livepatch tables is empty")
        return text

    def check_code(self, pointer: Relocation) -> None:
        """Refuses a function pointer that does not lead to code of this module."""
        if not self.section(self.target(pointer)).flags & SHF_EXECINSTR:
            raise refusal("a function pointer in its livepatch tables does not lead to code")

    def variable(self, place: Place, name: str) -> Extent:
        """The variable that begins at ``place``; its symbol says how long it is."""
        sizes = self._sizes.get(place, set())
        if len(sizes) != 1:
            raise refusal(f"its {name} table has no symbol that gives its size: its symbols were stripped")
        return self.extent(self.section(place), place.offset, next(iter(sizes)), name)

    def extent(self, section: Section, start: int, size: int, name: str) -> Extent:
        if start < 0 or start + size > section.size:
            raise refusal(f"its {name} table lies outside of its section")
        self._budget -= size
        if self._budget < 0:
            raise refusal(f"its livepatch tables have more than {MAX_TABLES // 1024 // 1024} MiB")
        found, order = self.relocations(section)
        inside = order[bisect_left(order, start) : bisect_left(order, start + size)]
        # .bss has no bytes in the file: it is zero.
        data = self.elf.data(section)[start : start + size] if section.type != "SHT_NOBITS" else b""
        return Extent(name, size, data, {at - start: found[at] for at in inside})

    def whole(self, section: Section, name: str) -> Extent:
        """A section that is one table."""
        return self.extent(section, 0, section.size, name)

    def word(self, extent: Extent, offset: int) -> int:
        """An ``unsigned long`` that is plain data."""
        if offset in extent.pointers or offset + 8 > len(extent.data):
            raise refusal(f"a number in its {extent.name} table is not plain data")
        value: int = struct.unpack_from(self.elf.order + "Q", extent.data, offset)[0]
        return value
