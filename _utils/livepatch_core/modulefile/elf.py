"""The ELF of a relocatable object: sections, symbols, relocations, each checked against the size of the file.

pyelftools reads the file's header and names the types of sections. The tables (sections, symbols,
relocations) are unpacked with ``struct``: one entry takes pyelftools about 20 us, which under software
emulation is seconds for a module. Every count and offset comes from the file, so each is bounded before it is
used: a hostile file costs a refusal, never memory or time.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import NamedTuple

from livepatch_core.errors import LivepatchError
from livepatch_core.modulefile.refusal import refusal
from livepatch_core.words import Kind

try:
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile
    from elftools.elf.enums import ENUM_SH_TYPE_BASE
except ImportError as _error:  # status works without it; whoever reads a module file is told
    _missing, ENUM_SH_TYPE_BASE = str(_error), {}
else:
    _missing = ""

MACHINES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64", "EM_PPC64": "ppc64le", "EM_S390": "s390x"}
# The relocation type "64-bit absolute address" in each processor's ELF supplement.
POINTER = {"x86_64": 1, "aarch64": 257, "ppc64le": 38, "s390x": 22}

SHF_WRITE = 0x1
SHF_ALLOC = 0x2
SHF_EXECINSTR = 0x4
SHF_RELA_LIVEPATCH = 0x00100000  # include/uapi/linux/elf.h
SHN_UNDEF = 0
SHN_LORESERVE = 0xFF00
SHN_LIVEPATCH = 0xFF20  # include/uapi/linux/elf.h
STT_OBJECT = 1

SECTION_TYPES = {value: name for name, value in ENUM_SH_TYPE_BASE.items() if name.startswith("SHT_")}

EHDR_SIZE = 64
SHDR_SIZE = 64
MAX_SECTIONS = 16384  # a module built with -ffunction-sections has some hundreds
MAX_SYMBOLS = 1 << 19  # amdgpu, the largest in a stock kernel, has about 60,000
MAX_RELOCATIONS = 1 << 18  # unpacked from one file, all sections together
MAX_NAME = 1024  # the kernel's limit for a symbol is 512 (KSYM_NAME_LEN)
# Of all symbols that are asked for: names may overlap in the file, so its size does not bound them.
MAX_SYMBOL_NAMES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Section:
    """One section header; ``type`` is the name (``SHT_RELA``) or the number where it has none."""

    index: int
    name: str
    type: str | int
    flags: int
    offset: int
    size: int
    link: int
    info: int


class SectionHeader(NamedTuple):
    """One entry of the section table, in the order of the file's fields (``Elf64_Shdr``)."""

    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class Symbol(NamedTuple):
    """One symbol, in the order of the file's fields; ``section`` is an index, or a reserved number.

    A tuple, not a dataclass: modules have thousands, and this makes each in a third of the time.
    """

    name_offset: int
    info: int
    other: int
    section: int
    value: int
    size: int

    @property
    def type(self) -> int:
        return self.info & 0xF


class Relocation(NamedTuple):
    """An entry of a RELA table; ``symbol`` is an index."""

    symbol: int
    type: int
    addend: int


class Elf:
    """A relocatable 64-bit object for one of MACHINES. Raises LivepatchError(MODULE_FORMAT) for anything
    else.
    """

    def __init__(self, image: bytes) -> None:
        self.image = image
        file = _open(image)
        self.order = "<" if file.little_endian else ">"
        self.machine = _machine(file["e_machine"], self.order)
        self.sections = self._sections(file)
        self.by_name = {section.name: section for section in reversed(self.sections)}
        self._tables = self._relocation_tables()
        self._budget = MAX_RELOCATIONS
        self._name_budget = MAX_SYMBOL_NAMES
        self._symtab = self._only("SHT_SYMTAB")
        self._names = self._section(self._symtab.link, "SHT_STRTAB")
        self.symbols = self._symbols()

    def data(self, section: Section) -> bytes:
        """The bytes of a section; none for one that takes no space in the file (``.bss``)."""
        if section.type == "SHT_NOBITS":
            return b""
        return self.image[section.offset : section.offset + section.size]

    def string(self, section: Section, offset: int) -> str:
        """The NUL-terminated string at ``offset`` of a section."""
        if section.type == "SHT_NOBITS" or not 0 <= offset < section.size:
            raise refusal(f"a string lies outside of section {section.name or section.index}")
        start = section.offset + offset
        end = self.image.find(b"\0", start, min(start + MAX_NAME, section.offset + section.size))
        if end < 0:
            raise refusal(f"a string in section {section.name or section.index} has no end")
        return self.image[start:end].decode("utf-8", "backslashreplace")

    def symbol_name(self, symbol: Symbol) -> str:
        name = self.string(self._names, symbol.name_offset)
        self._name_budget -= len(name)
        if self._name_budget < 0:
            raise refusal(f"its symbols' names have more than {MAX_SYMBOL_NAMES // 1024 // 1024} MiB")
        return name

    def relocations(self, table: Section) -> list[tuple[int, Relocation]]:
        """The entries of a RELA table, each with its offset in the section it applies to."""
        if table.link != self._symtab.index:
            raise refusal(f"section {table.name} refers to another symbol table")
        self._budget -= self._count(table, 24)
        if self._budget < 0:
            raise refusal(f"it has more than {MAX_RELOCATIONS} relocations")
        limit = len(self.symbols)
        entries = [
            (offset, Relocation(info >> 32, info & 0xFFFFFFFF, addend))
            for offset, info, addend in struct.iter_unpack(self.order + "QQq", self.data(table))
        ]
        if any(relocation.symbol >= limit for _, relocation in entries):
            raise refusal(f"a relocation in section {table.name} refers to a symbol that does not exist")
        return entries

    def relocations_of(self, section: Section) -> dict[int, Relocation]:
        """The ordinary (not livepatch) relocations that apply to ``section``, by offset."""
        tables = self._tables.get(section.index, [])
        if len(tables) > 1:
            raise refusal(f"section {section.name} has {len(tables)} relocation tables")
        entries = self.relocations(tables[0]) if tables else []
        found = dict(entries)
        if len(found) != len(entries):
            raise refusal(f"section {section.name} has a place that is relocated twice")
        if found and max(found) >= section.size:
            raise refusal(f"section {section.name} has a relocation beyond its end")
        return found

    def _relocation_tables(self) -> dict[int, list[Section]]:
        """The ordinary relocation tables by the section they apply to."""
        tables: dict[int, list[Section]] = {}
        for section in self.sections:
            if section.type == "SHT_RELA" and not section.flags & SHF_RELA_LIVEPATCH:
                tables.setdefault(section.info, []).append(section)
        return tables

    def _sections(self, file: ELFFile) -> tuple[Section, ...]:
        count, offset, size = file["e_shnum"], file["e_shoff"], file["e_shentsize"]
        names = file["e_shstrndx"]
        if not 0 < count <= MAX_SECTIONS or size != SHDR_SIZE:
            raise refusal(f"its header announces {count} sections of {size} bytes")
        if offset < EHDR_SIZE or offset + count * SHDR_SIZE > len(self.image):
            raise refusal("its section table lies outside of the file: the file is truncated or damaged")
        if names >= count:
            raise refusal("it has no table of section names")
        raw = [
            SectionHeader._make(fields)
            for fields in struct.iter_unpack(
                self.order + "IIQQQQIIQQ", self.image[offset : offset + count * SHDR_SIZE]
            )
        ]
        limit = len(self.image)
        table = _section(names, "", raw[names], limit)
        return tuple(_section(n, self.string(table, raw[n].name), raw[n], limit) for n in range(count))

    def _only(self, kind: str) -> Section:
        found = [section for section in self.sections if section.type == kind]
        if len(found) != 1:
            raise refusal(f"it has {len(found)} symbol tables where a module has one")
        return found[0]

    def _section(self, index: int, kind: str) -> Section:
        if not 0 < index < len(self.sections) or self.sections[index].type != kind:
            raise refusal(f"section {index} is not the string table it should be")
        return self.sections[index]

    def _count(self, section: Section, size: int) -> int:
        if section.size % size:
            raise refusal(f"section {section.name} does not hold whole entries of {size} bytes")
        return section.size // size

    def _symbols(self) -> list[Symbol]:
        if self._count(self._symtab, 24) > MAX_SYMBOLS:
            raise refusal(f"it has more than {MAX_SYMBOLS} symbols")
        return list(map(Symbol._make, struct.iter_unpack(self.order + "IBBHQQ", self.data(self._symtab))))


def _open(image: bytes) -> ELFFile:
    if _missing:
        raise LivepatchError(
            Kind.DEPENDENCY,
            f"Module files cannot be read here: pyelftools is missing ({_missing}); nothing was changed.",
            remedy="Install it into Salt's own Python: salt-pip install pyelftools.",
        )
    if not image.startswith(b"\x7fELF"):
        raise refusal("it is not an ELF object")
    if len(image) < EHDR_SIZE:
        raise refusal("it ends within the ELF header: the file is truncated")
    try:
        file = ELFFile(io.BytesIO(image))
    except ELFError as error:
        raise refusal(f"its ELF header is damaged ({error})") from error
    if file.elfclass != 64 or file["e_type"] != "ET_REL":
        raise refusal("it is not a 64-bit relocatable object, which every module is")
    return file


def _machine(value: str | int, order: str) -> str:
    machine = MACHINES.get(str(value))
    if machine is None or (order == ">") != (machine == "s390x"):
        raise refusal(f"it is for a processor ({value}) on which live patches are not known here")
    return machine


def _section(index: int, name: str, header: SectionHeader, limit: int) -> Section:
    section = Section(
        index,
        name,
        SECTION_TYPES.get(header.type, header.type),
        header.flags,
        header.offset,
        header.size,
        header.link,
        header.info,
    )
    if section.type not in ("SHT_NOBITS", "SHT_NULL") and section.offset + section.size > limit:
        raise refusal(f"section {index} lies outside of the file: the file is truncated or damaged")
    return section
