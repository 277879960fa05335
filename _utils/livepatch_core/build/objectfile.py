"""ELF64 little-endian x86-64 files as values, read from bytes and written back.

Only what a compiler's object, a kernel module and a kernel image hold. Every offset and size is checked
against the file before it is used: a crafted file gives ``Refused(OBJECT_FORMAT)``, never a traceback,
and memory use stays proportional to the file.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

from livepatch_core.build.refusals import Refusal, Refused

SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOTE, SHT_NOBITS = 1, 2, 3, 4, 7, 8
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_MERGE, SHF_STRINGS, SHF_INFO_LINK = 0x1, 0x2, 0x4, 0x10, 0x20, 0x40
SHF_RELA_LIVEPATCH = 0x100000  # Documentation/livepatch/module-elf-format.rst
SHN_UNDEF, SHN_LORESERVE, SHN_LIVEPATCH, SHN_ABS, SHN_COMMON = 0, 0xFF00, 0xFF20, 0xFFF1, 0xFFF2
SHN_XINDEX = 0xFFFF
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION, STT_FILE = 0, 1, 2, 3, 4
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
ET_REL, ET_EXEC = 1, 2
EM_X86_64 = 62

R_64, R_PC32, R_PLT32, R_32, R_32S, R_PC64 = 1, 2, 4, 10, 11, 24
FIELD_SIZE = {R_64: 8, R_PC64: 8, R_PC32: 4, R_PLT32: 4, R_32: 4, R_32S: 4}
PC_RELATIVE = frozenset({R_PC32, R_PLT32, R_PC64})

MAX_NAME = 4096  # bytes; a symbol of the kernel has at most 512 (KSYM_NAME_LEN)
MAX_ZEROED = 16 << 20  # bytes of NOBITS in an object or module; the most in 900 stock modules is 0.1 MB

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")


class Symbol(NamedTuple):
    """A symbol table entry; ``section`` is an index, or one of the SHN_ numbers from SHN_LORESERVE up."""

    name: str
    value: int
    size: int
    kind: int
    binding: int
    section: int
    visibility: int = 0


class Relocation(NamedTuple):
    """A RELA entry: at ``offset`` of its section, ``symbol`` (an index) plus ``addend``."""

    offset: int
    type: int
    symbol: int
    addend: int


@dataclass
class Section:
    """A section with its contents (empty for NOBITS, whose length is ``size``) and its relocations."""

    name: str
    type: int
    flags: int
    data: bytes
    size: int
    align: int = 1
    entsize: int = 0
    link: int = 0
    info: int = 0
    address: int = 0
    relocations: list[Relocation] = field(default_factory=list)

    @property
    def allocated(self) -> bool:
        return bool(self.flags & SHF_ALLOC)

    @property
    def executable(self) -> bool:
        return bool(self.flags & SHF_EXECINSTR)

    @property
    def writable(self) -> bool:
        return bool(self.flags & SHF_WRITE)


@dataclass
class ObjectFile:
    """All sections (index 0 is the null section) and all symbols (index 0 is the null symbol)."""

    sections: list[Section]
    symbols: list[Symbol]
    type: int = ET_REL

    def section(self, name: str) -> Optional[Section]:
        """The first section of that name."""
        return next((section for section in self.sections if section.name == name), None)


def _malformed(what: str) -> Refused:
    return Refused(
        Refusal.OBJECT_FORMAT,
        f"The object file cannot be read: {what}; nothing was built.",
        remedy="It is damaged: build again if the compiler wrote it, fetch it anew if it is the kernel's.",
    )


def _slice(data: bytes, offset: int, size: int, what: str) -> bytes:
    if offset + size > len(data):
        raise _malformed(f"{what} reaches past the end of the file")
    return data[offset : offset + size]


def _text(table: bytes, offset: int) -> str:
    end = table.find(b"\0", offset, offset + MAX_NAME)
    if offset > len(table) or end < 0:
        raise _malformed("a name lies outside its string table or is too long")
    return table[offset:end].decode("latin-1")


def _header(data: bytes) -> tuple[int, int, int, int]:
    """(type, section header offset, number of sections, index of the section name table)."""
    if len(data) < _EHDR.size:
        raise _malformed("it is shorter than an ELF header")
    ident, kind, machine, _v, _entry, _ph, shoff, _f, _eh, _pe, _pn, shentsize, shnum, shstrndx = (
        _EHDR.unpack_from(data)
    )
    if ident[:6] != b"\x7fELF\x02\x01" or machine != EM_X86_64:
        raise _malformed("it is not a 64-bit little-endian x86-64 ELF file")
    if shentsize != _SHDR.size or shoff == 0:
        raise _malformed("it has no usable section header table")
    if shnum == 0 or shstrndx == SHN_XINDEX:  # more than 65,279 sections: the real numbers are in section 0
        _, _, _, _, _, size, link, _, _, _ = _SHDR.unpack(_slice(data, shoff, _SHDR.size, "section header 0"))
        shnum = shnum or size
        shstrndx = link if shstrndx == SHN_XINDEX else shstrndx
    return kind, shoff, shnum, shstrndx


def _read_sections(data: bytes) -> tuple[list[Section], int]:
    kind, shoff, shnum, shstrndx = _header(data)
    table = _slice(data, shoff, shnum * _SHDR.size, "the section header table")
    rows = list(_SHDR.iter_unpack(table))
    # Contents are copied: sections that share bytes would make a small file large.
    if sum(row[5] for row in rows if row[1] not in (0, SHT_NOBITS)) > len(data):
        raise _malformed("its sections overlap")
    if kind == ET_REL and sum(row[5] for row in rows if row[1] == SHT_NOBITS) >= MAX_ZEROED:
        raise _malformed(f"it has {MAX_ZEROED >> 20} MiB of zeroed data or more")
    if shstrndx >= len(rows):
        raise _malformed("the section name table does not exist")
    names = _slice(data, rows[shstrndx][4], rows[shstrndx][5], "the section name table")
    sections = []
    for name, type_, flags, address, offset, size, link, info, align, entsize in rows:
        size = size if type_ else 0  # of section 0 it may be the number of sections
        empty = type_ in (0, SHT_NOBITS)
        content = b"" if empty else _slice(data, offset, size, "a section")
        sections.append(
            Section(_text(names, name), type_, flags, content, size, align, entsize, link, info, address)
        )
    return sections, kind


def _extended_indices(sections: list[Section], symtab: int) -> bytes:
    """Contents of the SHT_SYMTAB_SHNDX section (type 18) that belongs to ``symtab``."""
    return next((s.data for s in sections if s.type == 18 and s.link == symtab), b"")


def _check_extent(section: Section, value: int, size: int) -> None:
    """Symbols of an object count from the start of their section."""
    if value + size > section.size:
        raise _malformed("a symbol reaches past the end of its section")


def _read_symbols(sections: list[Section], kind: int) -> list[Symbol]:
    for number, section in enumerate(sections):
        if section.type != SHT_SYMTAB:
            continue
        if section.link >= len(sections) or len(section.data) % _SYM.size:
            raise _malformed("the symbol table is not usable")
        names, wide = sections[section.link].data, _extended_indices(sections, number)
        symbols = []
        for index, (name, info, other, shndx, value, size) in enumerate(_SYM.iter_unpack(section.data)):
            if shndx == SHN_XINDEX:
                shndx = int.from_bytes(_slice(wide, index * 4, 4, "an extended section index"), "little")
            if shndx >= len(sections) and not SHN_LORESERVE <= shndx < SHN_XINDEX:
                raise _malformed("a symbol names a section that does not exist")
            if kind == ET_REL and SHN_UNDEF < shndx < len(sections):
                _check_extent(sections[shndx], value, size)
            symbols.append(Symbol(_text(names, name), value, size, info & 15, info >> 4, shndx, other & 3))
        return symbols
    return []


def _attach_relocations(sections: list[Section], symbols: int) -> None:
    for section in sections:
        if section.type != SHT_RELA:
            continue
        if section.info >= len(sections) or len(section.data) % _RELA.size:
            raise _malformed("a relocation section is not usable")
        target = sections[section.info]
        for offset, info, addend in _RELA.iter_unpack(section.data):
            kind, symbol = info & 0xFFFFFFFF, info >> 32
            if symbol >= symbols or offset + FIELD_SIZE.get(kind, 0) > target.size:
                raise _malformed("a relocation points outside its section or symbol table")
            # R_X86_64_NONE: objtool blanks out what it replaced. Allocated ones are the kernel's to apply.
            if kind and not section.flags & SHF_ALLOC:
                target.relocations.append(Relocation(offset, kind, symbol, addend))
        target.relocations.sort()


def read_object(data: bytes) -> ObjectFile:
    """The file as a value. Raises ``Refused`` (OBJECT_FORMAT) when it is not well formed."""
    sections, kind = _read_sections(data)
    symbols = _read_symbols(sections, kind)
    if kind == ET_REL:
        _attach_relocations(sections, len(symbols))
    return ObjectFile(sections, symbols, kind)


class _Strings:
    """A string table under construction."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self._offsets: dict[str, int] = {"": 0}

    def add(self, text: str) -> int:
        if text not in self._offsets:
            self._offsets[text] = len(self.data)
            self.data += text.encode("latin-1") + b"\0"
        return self._offsets[text]


def _order_symbols(symbols: list[Symbol]) -> tuple[list[Symbol], list[int], int]:
    """Locals first, as ELF demands: (sorted, old index -> new index, number of locals)."""
    order = sorted(range(len(symbols)), key=lambda i: (i != 0, symbols[i].binding != STB_LOCAL))
    new = [0] * len(symbols)
    for position, old in enumerate(order):
        new[old] = position
    first_global = sum(1 for symbol in symbols if symbol.binding == STB_LOCAL)
    return [symbols[i] for i in order], new, first_global


def _symbol_table(symbols: list[Symbol], strings: _Strings) -> bytes:
    return b"".join(
        _SYM.pack(strings.add(s.name), s.binding << 4 | s.kind, s.visibility, s.section, s.value, s.size)
        for s in symbols
    )


def _relocation_table(relocations: list[Relocation], renumber: list[int]) -> bytes:
    return b"".join(_RELA.pack(r.offset, renumber[r.symbol] << 32 | r.type, r.addend) for r in relocations)


class LivepatchRelocations(NamedTuple):
    """Relocations that the kernel applies when ``object`` is patched; ``section`` counts the sections from
    1.
    """

    object: str
    section: int
    relocations: list[Relocation]


def write_object(
    sections: list[Section], symbols: list[Symbol], livepatch: Sequence[LivepatchRelocations] = ()
) -> bytes:
    """A relocatable file of ``sections`` (without null, symbol, string and relocation sections: those are
    made here).

    Symbols' section numbers count ``sections`` from 1; symbols[0] is the null symbol. A section's ``link`` is
    written as it is, so only links among ``sections`` themselves (SHF_LINK_ORDER) are allowed.
    """
    ordered, renumber, first_global = _order_symbols(symbols)
    names, strings = _Strings(), _Strings()
    out = [Section("", 0, 0, b"", 0, 0), *sections]
    symtab = len(out) + sum(1 for s in sections if s.relocations) + len(livepatch)
    for number, section in enumerate(sections, 1):
        if section.relocations:
            table = _relocation_table(section.relocations, renumber)
            out.append(
                Section(
                    ".rela" + section.name, SHT_RELA, SHF_INFO_LINK, table, len(table), 8, 24, symtab, number
                )
            )
    for object_, number, relocations in livepatch:
        table = _relocation_table(relocations, renumber)
        name = f".klp.rela.{object_}.{sections[number - 1].name}"
        flags = SHF_INFO_LINK | SHF_ALLOC | SHF_RELA_LIVEPATCH
        out.append(Section(name, SHT_RELA, flags, table, len(table), 8, 24, symtab, number))
    table = _symbol_table(ordered, strings)
    out.append(Section(".symtab", SHT_SYMTAB, 0, table, len(table), 8, _SYM.size, symtab + 1, first_global))
    out.append(Section(".strtab", SHT_STRTAB, 0, bytes(strings.data), len(strings.data)))
    out.append(Section(".shstrtab", SHT_STRTAB, 0, b"", 0))
    for section in out:
        names.add(section.name)
    out[-1].data, out[-1].size = bytes(names.data), len(names.data)
    return _layout(out, names)


def _layout(sections: list[Section], names: _Strings) -> bytes:
    image = bytearray(_EHDR.size)
    headers = []
    for section in sections:
        align = max(section.align, 1)
        if section.type not in (0, SHT_NOBITS):
            image += bytes(-len(image) % align)
        offset = len(image) if section.type else 0
        image += section.data
        headers.append(
            _SHDR.pack(
                names.add(section.name),
                section.type,
                section.flags,
                section.address,
                offset,
                section.size,
                section.link,
                section.info,
                section.align,
                section.entsize,
            )
        )
    image += bytes(-len(image) % 8)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    count = len(sections)
    _EHDR.pack_into(
        image,
        0,
        ident,
        ET_REL,
        EM_X86_64,
        1,
        0,
        0,
        len(image),
        0,
        _EHDR.size,
        0,
        0,
        _SHDR.size,
        count,
        count - 1,
    )
    return bytes(image) + b"".join(headers)


def build_id(notes: bytes) -> Optional[str]:
    """The GNU build-id (hex) in the contents of a note section, or None."""
    position = 0
    while position + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, position)
        name = position + 12
        content = name + (name_size + 3 & ~3)
        if content + size > len(notes):
            return None
        if kind == 3 and notes[name : name + name_size] == b"GNU\0":
            return notes[content : content + size].hex()
        position = content + (size + 3 & ~3)
    return None


def file_build_id(file: ObjectFile) -> Optional[str]:
    """The GNU build-id of a module or kernel image, from whichever note section holds it."""
    return next((b for s in file.sections if s.type == SHT_NOTE and (b := build_id(s.data))), None)
