"""A relocatable object under construction."""

from __future__ import annotations

from livepatch_core.build.objectfile import (
    SHN_UNDEF,
    SHT_NOBITS,
    STB_GLOBAL,
    STB_LOCAL,
    STT_NOTYPE,
    STT_SECTION,
    Relocation,
    Section,
    Symbol,
    write_object,
)


class Output:
    """Sections and symbols; section numbers count from 1."""

    def __init__(self) -> None:
        self.sections: list[Section] = []
        self.symbols: list[Symbol] = [Symbol("", 0, 0, STT_NOTYPE, STB_LOCAL, SHN_UNDEF)]
        self._numbers: dict[str, int] = {}
        self._undefined: dict[str, int] = {}
        self._section_symbols: dict[int, int] = {}

    def section(self, name: str, type_: int, flags: int, align: int) -> int:
        """The number of the section of that name, made if it does not exist."""
        if name not in self._numbers:
            self.sections.append(Section(name, type_, flags, b"", 0, align))
            self._numbers[name] = len(self.sections)
        number = self._numbers[name]
        self.sections[number - 1].align = max(self.sections[number - 1].align, align)
        return number

    def append(self, number: int, data: bytes, align: int = 1) -> int:
        """Add bytes to a section; where they start."""
        section = self.sections[number - 1]
        start = section.size + align - 1 & -align
        section.size = start + len(data)
        if section.type != SHT_NOBITS:
            section.data += bytes(start - len(section.data)) + data
        return start

    def symbol(self, symbol: Symbol) -> int:
        self.symbols.append(symbol)
        return len(self.symbols) - 1

    def undefined(self, name: str) -> int:
        if name not in self._undefined:
            self._undefined[name] = self.symbol(Symbol(name, 0, 0, STT_NOTYPE, STB_GLOBAL, SHN_UNDEF))
        return self._undefined[name]

    def section_symbol(self, number: int) -> int:
        if number not in self._section_symbols:
            self._section_symbols[number] = self.symbol(Symbol("", 0, 0, STT_SECTION, STB_LOCAL, number))
        return self._section_symbols[number]

    def relocate(self, number: int, relocation: Relocation) -> None:
        self.sections[number - 1].relocations.append(relocation)

    def bytes(self) -> bytes:
        for section in self.sections:
            section.relocations.sort()
        return write_object(self.sections, self.symbols)
