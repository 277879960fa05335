"""A kernel object as it will lie in memory: bytes by address, symbols by name and by address, in kallsyms
order.

vmlinux is read at its link addresses. A module file is laid out at invented addresses and relocated there, so
that both are searched and decoded by the same code; symbols that a module imports get invented addresses,
too.
"""

from __future__ import annotations

import marshal
import os
import struct
import sys
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from livepatch_core.build.kallsyms import KernelSymbol, read_kallsyms
from livepatch_core.build.objectfile import (
    FIELD_SIZE,
    PC_RELATIVE,
    SHF_EXECINSTR,
    SHN_LIVEPATCH,
    SHN_LORESERVE,
    SHN_UNDEF,
    SHT_NOBITS,
    STB_LOCAL,
    STB_WEAK,
    STT_SECTION,
    ObjectFile,
    Relocation,
    file_build_id,
    read_object,
)
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.unit import base_name

MASK = (1 << 64) - 1
HIDDEN = "$t."  # before names that kallsyms shall pass over: cover.py
_MODULE_BASE = 0xFFFFFFFFC0000000  # where x86-64 maps modules; only the distances matter
_IMPORT_BASE = 0xFFFFFFFFE0000000


@dataclass
class Image:
    """``name``: "vmlinux" or a module's name. ``late``: names that are gone once a module has started (its
    __init); the kernel's own keep their names, see ``freed``.
    """

    name: str
    build_id: str
    regions: list[tuple[int, bytes]]
    symbols: list[KernelSymbol]
    imports: Mapping[str, int] = field(default_factory=dict)
    late: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.regions.sort(key=lambda region: region[0])
        self._starts = [start for start, _ in self.regions]
        self._by_name: dict[str, list[int]] = defaultdict(list)
        self._letters: dict[str, str] = defaultdict(str)  # in the order of _by_name
        self._by_base: dict[str, list[KernelSymbol]] = defaultdict(list)
        self._by_address: dict[int, list[str]] = defaultdict(list)
        for symbol in self.symbols:
            self._by_name[symbol.name].append(symbol.address)
            self._letters[symbol.name] += symbol.letter
            self._by_address[symbol.address].append(symbol.name)
            if "." in symbol.name or symbol.name.startswith("__UNIQUE_ID_"):
                self._by_base[base_name(symbol.name)].append(symbol)
        begin, end = self.addresses("__init_begin"), self.addresses("__init_end")
        self._freed = (begin[0], end[0]) if begin and end else (0, 0)
        self._import_names = {address: name for name, address in self.imports.items()}

    def read(self, address: int, size: int) -> bytes:
        """The bytes at ``address``; shorter or empty where nothing is mapped."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return b""
        start, data = self.regions[index]
        return data[address - start : address - start + size]

    def addresses(self, name: str) -> list[int]:
        """All addresses of a name, in kallsyms order."""
        return self._by_name.get(name, [])

    def linked(self, name: str, *, local: bool) -> list[int]:
        """The addresses of a name that one file keeps to itself (``local``) or that all share. Of a per-CPU
        variable (``A``) that is not known.
        """
        places = zip(self._letters.get(name, ""), self.addresses(name))
        return [address for letter, address in places if letter.islower() == local or letter == "A"]

    def weak(self, name: str) -> list[int]:
        """The addresses at which a name is a weak default that nothing overrides."""
        return [a for letter, a in zip(self._letters.get(name, ""), self.addresses(name)) if letter in "WV"]

    def similar(self, name: str) -> list[int]:
        """Addresses of names that differ from ``name`` in compiler-made numbers only."""
        return [symbol.address for symbol in self._by_base.get(base_name(name), ())]

    def names_at(self, address: int) -> list[str]:
        return self._by_address.get(address, [])

    def freed(self, address: int) -> bool:
        """Whether the kernel gives this memory away once it has started (its __init code and data)."""
        return self._freed[0] <= address < self._freed[1]

    def may_be(self, name: str, address: int) -> bool:
        """Whether a symbol that is not the referring file's own can lie at ``address``; yes where the name is
        not known here at all.
        """
        known = [*self.linked(name, local=False), *([self.imports[name]] if name in self.imports else [])]
        return not known or address in known

    def import_at(self, address: int) -> Optional[str]:
        """The imported symbol that an invented address stands for (modules only)."""
        return self._import_names.get(address)

    def position(self, name: str, address: int) -> Optional[tuple[int, int]]:
        """(position counted from 1 among equal names, how many there are), as the kernel counts
        ``sympos``.
        """
        places = self.addresses(name)
        return (places.index(address) + 1, len(places)) if address in places else None


def kernel_image(elf: bytes) -> Image:
    """vmlinux as an image. Raises ``Refused`` (KERNEL_IMAGE, OBJECT_FORMAT)."""
    file = read_object(elf)
    text = file.section(".text")
    identity = file_build_id(file)
    if text is None or identity is None:
        raise Refused(
            Refusal.KERNEL_IMAGE,
            "The image has no .text section or no build-id.",
            remedy="Give the target's vmlinuz.",
        )
    regions = [
        (s.address, s.data) for s in file.sections if s.allocated and s.address and s.type != SHT_NOBITS
    ]
    return Image("vmlinux", identity, regions, read_kallsyms(elf, text.address))


def keep(image: Image, path: Path) -> None:
    """Write an unpacked kernel image for ``read_kept``: marshal is what reads 90,000 symbols in
    milliseconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    rows = [tuple(symbol) for symbol in image.symbols]
    scratch.write_bytes(marshal.dumps((sys.version_info[:2], image.build_id, image.regions, rows)))
    os.replace(scratch, path)


def read_kept(path: Path) -> Optional[Image]:
    """The kernel image that ``keep`` wrote, or None if there is none of this Python's. Only for own files."""
    try:
        content = marshal.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, EOFError):
        return None
    version, identity, regions, rows = content
    if version != sys.version_info[:2]:
        return None
    return Image("vmlinux", identity, regions, [KernelSymbol(*row) for row in rows])


def livepatch_image(name: str, file: ObjectFile, known: Mapping[str, int]) -> Image:
    """A finished livepatch module laid out as the kernel will lay it out; ``known``: addresses of what it
    refers to.
    """
    bases = section_addresses(file)
    addresses, _ = _symbol_addresses(file, bases, known)
    extra: dict[int, list[Relocation]] = defaultdict(list)
    for section in file.sections:
        if section.name.startswith(".klp.rela."):
            for offset, info, addend in struct.iter_unpack("<QQq", section.data):
                extra[section.info].append(Relocation(offset, info & 0xFFFFFFFF, info >> 32, addend))
    regions = []
    for number, base in bases.items():
        section = file.sections[number]
        content = bytes(section.size) if section.type == SHT_NOBITS else section.data
        regions.append((base, _relocated(content, base, [*section.relocations, *extra[number]], addresses)))
    symbols = [
        KernelSymbol(s.name.removeprefix(HIDDEN), "t", a)
        for s, a in zip(file.symbols, addresses)
        if s.name and SHN_UNDEF < s.section < SHN_LORESERVE and s.kind != STT_SECTION
    ]
    return Image(name, file_build_id(file) or "", regions, symbols)


def section_addresses(file: ObjectFile) -> dict[int, int]:
    """An invented address for every allocated section."""
    bases, address = {}, _MODULE_BASE
    for number, section in enumerate(file.sections):
        if section.allocated:
            address = address + max(section.align, 1) - 1 & -max(section.align, 1)
            bases[number] = address
            address += section.size + 64  # a gap, so that an address belongs to one section only
    return bases


def _symbol_addresses(
    file: ObjectFile, bases: Mapping[int, int], known: Mapping[str, int]
) -> tuple[list[int], dict[str, int]]:
    """(address of every symbol by index, imported name -> address)."""
    addresses: list[int] = []
    imports: dict[str, int] = {}
    for symbol in file.symbols:
        if symbol.section in (SHN_UNDEF, SHN_LIVEPATCH) and symbol.name:
            address = known.get(symbol.name)
            imports[symbol.name] = _IMPORT_BASE + 64 * len(imports) if address is None else address
            addresses.append(imports[symbol.name])
        elif symbol.section >= SHN_LORESERVE:
            addresses.append(symbol.value)
        else:
            addresses.append((bases.get(symbol.section, 0) + symbol.value) & MASK)
    return addresses, imports


def _relocated(data: bytes, base: int, relocations: Iterable[Relocation], addresses: list[int]) -> bytes:
    out = bytearray(data)
    for relocation in relocations:
        size = FIELD_SIZE.get(relocation.type)
        if size is None:
            continue
        value = addresses[relocation.symbol] + relocation.addend
        if relocation.type in PC_RELATIVE:
            value -= base + relocation.offset
        struct.pack_into(
            "<Q" if size == 8 else "<I", out, relocation.offset, value & (MASK if size == 8 else 0xFFFFFFFF)
        )
    return bytes(out)


def module_image(name: str, data: bytes, kernel: Image, exported: Iterable[str]) -> Image:
    """A stock module file as an image; imports that ``exported`` lists (the kernel's own) get the kernel's
    addresses.
    """
    file = read_object(data)
    identity = file_build_id(file)
    if identity is None:
        raise Refused(
            Refusal.KERNEL_IMAGE,
            f"The module {name} has no build-id.",
            remedy="Give the target's own module files.",
        )
    known = {n: kernel.addresses(n)[0] for n in exported if len(kernel.addresses(n)) == 1}
    bases = section_addresses(file)
    addresses, imports = _symbol_addresses(file, bases, known)
    regions = []
    for number, base in bases.items():
        section = file.sections[number]
        content = (
            bytes(section.size) if section.type == SHT_NOBITS and section.size < 1 << 24 else section.data
        )
        regions.append((base, _relocated(content, base, section.relocations, addresses)))
    symbols, late = _module_kallsyms(file, addresses)
    return Image(name, identity, regions, symbols, imports, late)


def _module_kallsyms(file: ObjectFile, addresses: list[int]) -> tuple[list[KernelSymbol], frozenset[str]]:
    """The symbols that the kernel keeps of a module (kernel/module/kallsyms.c: is_core_symbol), in file
    order.

    While a module is starting the kernel still counts its __init symbols; a name that exists in both kinds
    has no certain position, so it is reported as late.
    """
    symbols, late = [], set()
    for symbol, address in zip(file.symbols, addresses):
        if (
            symbol.section == SHN_UNDEF
            or symbol.section >= SHN_LORESERVE
            or not symbol.name
            or symbol.kind == STT_SECTION
        ):
            continue
        section = file.sections[symbol.section]
        if not section.allocated:
            continue
        if section.name.startswith(".init"):
            late.add(symbol.name)
            continue
        letter = "t" if section.flags & SHF_EXECINSTR else "d"
        if symbol.binding != STB_LOCAL:
            letter = "W" if symbol.binding == STB_WEAK else letter.upper()
        symbols.append(KernelSymbol(symbol.name, letter, address))
    return symbols, frozenset(late)
