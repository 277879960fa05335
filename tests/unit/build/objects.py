"""Small object files made on the spot, as the compiler and the assembler stand-in would make them."""

from __future__ import annotations

from dataclasses import dataclass, field

from livepatch_core.build.assembler import LOCALS_SECTION
from livepatch_core.build.objectfile import (
    R_PC32,
    R_PLT32,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_MERGE,
    SHF_STRINGS,
    SHF_WRITE,
    SHT_NOBITS,
    SHT_PROGBITS,
    STB_GLOBAL,
    STB_LOCAL,
    STB_WEAK,
    STT_FUNC,
    STT_NOTYPE,
    STT_OBJECT,
    STT_SECTION,
    Relocation,
    Section,
    Symbol,
    read_object,
    write_object,
)
from livepatch_core.build.unit import Unit


@dataclass
class Source:
    """A unit under construction: ``function`` and ``data`` add pieces, ``unit`` gives the result."""

    sections: list[Section] = field(default_factory=list)
    symbols: list[Symbol] = field(default_factory=lambda: [Symbol("", 0, 0, STT_NOTYPE, STB_LOCAL, 0)])
    local: list[str] = field(default_factory=list)
    _later: list[tuple[int, int, int, str, int]] = field(default_factory=list)

    def _section(self, name: str, flags: int, data: bytes, kind: int = SHT_PROGBITS) -> int:
        self.sections.append(Section(name, kind, flags, data, len(data), 16))
        return len(self.sections)

    def function(
        self, name: str, code: bytes, *, calls: dict[int, str] | None = None, traced: bool = True,
        local: bool = False, takes: dict[int, str] | None = None, section: str = "", weak: bool = False,
    ) -> None:  # fmt: skip
        """``calls``: offset of a 4-byte field -> called name; ``takes``: the same for addresses that are
        taken.
        """
        number = self._section(section or f".text.{name}", SHF_ALLOC | SHF_EXECINSTR, code)
        binding = STB_WEAK if weak else STB_GLOBAL
        self.symbols.append(Symbol(name, 0, len(code), STT_FUNC, binding, number))
        self._later += [(number, at, R_PLT32, target, -4) for at, target in (calls or {}).items()]
        self._later += [(number, at, R_PC32, target, -4) for at, target in (takes or {}).items()]
        if local:
            self.local.append(name)
        if traced:
            self.record("__mcount_loc", bytes(8), {0: name}, wide=True)

    def alias(self, name: str, function: str) -> None:
        """A second name of a function."""
        first = next(s for s in self.symbols if s.name == function)
        self.symbols.append(first._replace(name=name))

    def record(self, table: str, data: bytes, about: dict[int, str], *, wide: bool = False) -> None:
        existing = next((n for n, s in enumerate(self.sections, 1) if s.name == table), 0)
        number = existing or self._section(table, SHF_ALLOC, b"")
        section = self.sections[number - 1]
        base = section.size
        section.data += data
        section.size = len(section.data)
        self._later += [(number, base + at, 1 if wide else R_PC32, name, 0) for at, name in about.items()]

    def data(
        self,
        name: str,
        content: bytes,
        *,
        section: str = "",
        holds: dict[int, str] | None = None,
        local: bool = True,
    ) -> None:
        home = section or f".data.{name}"
        flags = SHF_ALLOC if home.startswith((".rodata", ".init.rodata")) else SHF_ALLOC | SHF_WRITE
        kind = SHT_NOBITS if home.startswith(".bss") else SHT_PROGBITS
        number = self._section(home, flags, content, kind)
        self.symbols.append(Symbol(name, 0, len(content), STT_OBJECT, STB_GLOBAL, number))
        self._later += [(number, at, 1, target, 0) for at, target in (holds or {}).items()]
        if local:
            self.local.append(name)

    def string(self, text: bytes) -> int:
        """A string section; the number to name in ``point``."""
        return self._section(".rodata.str1.1", SHF_ALLOC | SHF_MERGE | SHF_STRINGS, text + b"\0")

    def unnamed(self, content: bytes) -> int:
        """A section of constants that no symbol names (local arrays); the number to name in ``point``."""
        return self._section(".rodata", SHF_ALLOC, content)

    def point(self, function: str, at: int, section: int) -> None:
        """Let a function's field at ``at`` hold the (32-bit) address of a section's start."""
        number = next(s.section for s in self.symbols if s.name == function)
        self.symbols.append(Symbol("", 0, 0, STT_SECTION, STB_LOCAL, section))
        self.sections[number - 1].relocations.append(Relocation(at, 11, len(self.symbols) - 1, 0))

    def file(self) -> bytes:
        listed = b"".join(name.encode() + b"\0" for name in self.local)
        self._section(LOCALS_SECTION, 0, listed)
        known = {symbol.name: number for number, symbol in enumerate(self.symbols)}
        for number, at, kind, name, addend in self._later:
            if name not in known:
                self.symbols.append(Symbol(name, 0, 0, STT_NOTYPE, STB_GLOBAL, 0))
                known[name] = len(self.symbols) - 1
            self.sections[number - 1].relocations.append(Relocation(at, kind, known[name], addend))
        for section in self.sections:
            section.relocations.sort()
        return write_object(self.sections, self.symbols)

    def unit(self, path: str = "fs/x.c") -> Unit:
        return Unit(path, read_object(self.file()))
