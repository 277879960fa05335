"""A compiled translation unit seen as pieces: one for each function and variable, with what it refers to.

The compiler gave each its own section (tree-wide attributes such as ``__sched`` or ``__percpu`` still gather
several), and the assembler stand-in made every reference name its symbol, so cutting needs no instruction
decoder.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

from livepatch_core.build import assembler
from livepatch_core.build.objectfile import (
    FIELD_SIZE,
    PC_RELATIVE,
    R_PLT32,
    SHF_MERGE,
    SHF_STRINGS,
    SHN_COMMON,
    SHN_LORESERVE,
    SHN_UNDEF,
    SHT_NOBITS,
    STB_GLOBAL,
    STB_WEAK,
    STT_FUNC,
    STT_SECTION,
    ObjectFile,
    Relocation,
    Section,
    Symbol,
)
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.special import EXIT, IGNORED, INIT, ORC_ADDRESSES, TABLES, Table

REPORT = "Report this with the diff: the builder does not know what to do with it."


class Reference(NamedTuple):
    """A relocation seen from the piece that holds it.

    ``offset`` counts from the piece's start. ``target`` is the name of a piece or of an undefined symbol; for
    contents without a symbol (strings, constants, jump targets) it is "" and ``section`` and ``position`` say
    where in the object.
    """

    offset: int
    type: int
    target: str
    addend: int
    section: int
    position: int

    @property
    def branch(self) -> bool:
        """A direct call or jump, not an address that is taken."""
        return self.type == R_PLT32


@dataclass
class Piece:
    """One symbol's bytes. ``local``: the name is not visible outside of the unit."""

    name: str
    function: bool
    local: bool
    weak: bool
    section: int
    start: int
    size: int
    aliases: tuple[str, ...] = ()
    references: list[Reference] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)


class Entry(NamedTuple):
    """One record of a special section that belongs to a function (special.py)."""

    table: str
    section: int
    start: int
    size: int
    references: tuple[Reference, ...]


_FAR = 1 << 64
_SUFFIX = re.compile(r"\.\d+")
_COUNTED = re.compile(r"^(__UNIQUE_ID_\w*?)\d+$")
# Sections of variables that are written at any time and differ in speed only (linux/cache.h).
_WRITTEN = re.compile(
    r"^\.ref\.data(\.|$)|^\.(data|bss)(\.[^.].*)?$|^\.data\.\.(read_mostly|(cacheline|shared)_aligned)$"
)
_PER_CPU = re.compile(r"^\.data\.\.percpu")


def base_name(name: str) -> str:
    """A name without the numbers that compiler and preprocessor put in.

    ``count.12`` -> ``count``, ``foo.isra.0`` -> ``foo.isra``, ``__UNIQUE_ID_ddebug123`` (__COUNTER__) ->
    ``__UNIQUE_ID_ddebug``.
    """
    return _COUNTED.sub(r"\1", _SUFFIX.sub("", name))


def is_numbered(name: str) -> bool:
    """Whether equality of this name on two sides means nothing."""
    return base_name(name) != name


class Unit:
    """The pieces of one object file. ``path`` is the source file, for messages."""

    def __init__(self, path: str, file: ObjectFile) -> None:
        self.path = path
        self.file = file
        listed = file.section(assembler.LOCALS_SECTION)
        self.locals = assembler.local_names(listed.data) if listed else frozenset()
        self.pieces: dict[str, Piece] = {}
        self._starts: dict[int, list[tuple[int, int, str]]] = {}
        self._cut()
        self._refer()
        self._attach_entries()

    # cutting

    def _cut(self) -> None:
        heads: dict[tuple[int, int], list[Symbol]] = {}
        for symbol in self.file.symbols:
            if symbol.section == SHN_COMMON:
                raise Refused(
                    Refusal.SECTION_UNKNOWN,
                    "A common symbol.",
                    file=self.path,
                    function=symbol.name,
                    remedy=REPORT,
                )
            if self._heads_piece(symbol):
                heads.setdefault((symbol.section, symbol.value), []).append(symbol)
        for (section, start), symbols in sorted(heads.items()):
            self._add_piece(section, start, symbols)
        for spans in self._starts.values():
            spans.sort()

    def _heads_piece(self, symbol: Symbol) -> bool:
        if symbol.section == SHN_UNDEF or symbol.section >= SHN_LORESERVE or symbol.kind == STT_SECTION:
            return False
        section = self.file.sections[symbol.section]
        merged = section.flags & SHF_MERGE
        return (
            section.allocated
            and not merged
            and bool(symbol.name)
            and not symbol.name.startswith((".L", "__pfx_"))
        )

    def _add_piece(self, section: int, start: int, symbols: list[Symbol]) -> None:
        symbols.sort(key=lambda s: (s.name in self.locals, s.name))
        # The real name of a function is the one that is not an alias made by SYSCALL_DEFINE: any will do, all
        # are kept.
        first = symbols[0]
        size = max(symbol.size for symbol in symbols)
        piece = Piece(
            first.name,
            any(s.kind == STT_FUNC for s in symbols),
            first.name in self.locals or first.binding not in (STB_GLOBAL, STB_WEAK),
            first.binding == STB_WEAK,
            section,
            start,
            size,
            tuple(s.name for s in symbols[1:]),
        )
        for symbol in symbols:
            self.pieces[symbol.name] = piece
        self._starts.setdefault(section, []).append((start, start + size, first.name))

    # references

    def piece_at(self, section: int, position: int) -> Optional[Piece]:
        """The piece that covers a place in a section."""
        spans = self._starts.get(section, [])
        index = bisect_right(spans, (position, _FAR, "")) - 1
        if index < 0:
            return None
        start, end, name = spans[index]
        return self.pieces[name] if position < end or position == start else None

    def distinct(self) -> Iterator[Piece]:
        """Every piece once (aliases share one)."""
        for name, piece in self.pieces.items():
            if name == piece.name:
                yield piece

    def functions(self) -> Iterator[Piece]:
        return (piece for piece in self.distinct() if piece.function)

    def data_of(self, piece: Piece) -> bytes:
        """The piece's bytes; NOBITS reads as zeros."""
        section = self.file.sections[piece.section]
        if section.type == SHT_NOBITS:
            return bytes(piece.size)
        return section.data[piece.start : piece.start + piece.size]

    def section_of(self, piece: Piece) -> Section:
        return self.file.sections[piece.section]

    def storage_of(self, piece: Piece) -> str:
        """What kind of memory a variable is in: ``written``, ``read-only``, ``per CPU``, ``start``, ``exit``;
        the section's name where that alone says it (``.data..ro_after_init``).
        """
        section = self.section_of(piece)
        for kind, pattern in (("start", INIT), ("exit", EXIT), ("per CPU", _PER_CPU), ("written", _WRITTEN)):
            if pattern.search(section.name):
                return kind
        return "read-only" if section.name.startswith(".rodata") and not section.writable else section.name

    def reference(self, relocation: Relocation, base: int, executable: bool) -> Reference:
        """A relocation as a reference; ``base`` is where its holder starts."""
        if relocation.type not in FIELD_SIZE:
            raise Refused(
                Refusal.RELOCATION_UNKNOWN,
                f"Relocation type {relocation.type} is not known.",
                file=self.path,
                remedy=REPORT,
            )
        symbol = self.file.symbols[relocation.symbol]
        offset = relocation.offset - base
        unnamed = symbol.kind == STT_SECTION or symbol.name not in self.pieces
        if symbol.section == SHN_UNDEF or (not unnamed):
            return Reference(offset, relocation.type, symbol.name, relocation.addend, 0, 0)
        if symbol.section >= SHN_LORESERVE:
            raise Refused(
                Refusal.RELOCATION_UNKNOWN,
                f"A reference to the absolute symbol {symbol.name}.",
                file=self.path,
                remedy=REPORT,
            )
        # In code a PC-relative field ends 4 bytes before the next instruction; trailing immediates would
        # shift this, so it is used to compare and to find a piece, never to compute an address.
        end = 4 if executable and relocation.type in PC_RELATIVE else 0
        position = symbol.value + relocation.addend + end
        return Reference(offset, relocation.type, "", relocation.addend, symbol.section, position)

    def references_in(self, section: int, start: int, size: int) -> list[Reference]:
        holder = self.file.sections[section]
        first = bisect_left(holder.relocations, (start,))
        last = bisect_left(holder.relocations, (start + size,))
        return [self.reference(r, start, holder.executable) for r in holder.relocations[first:last]]

    def mentions(self, piece: Piece) -> list[Reference]:
        """What a piece refers to, itself or by contents without a name: the initial values of a local array
        may be addresses. Where one of those ends cannot be seen, so all of their section counts.
        """
        found, whole = list(piece.references), set[int]()
        for reference in found:  # which grows
            if reference.section not in whole and self._is_unnamed(reference):
                whole.add(reference.section)
                found += self.references_in(reference.section, 0, self.file.sections[reference.section].size)
        return found

    def _is_unnamed(self, reference: Reference) -> bool:
        section = self.file.sections[reference.section]
        if reference.target or section.executable or section.flags & (SHF_MERGE | SHF_STRINGS):
            return False
        ends = max(reference.position - 1, 0)
        return all(self.piece_at(reference.section, place) is None for place in (reference.position, ends))

    def _refer(self) -> None:
        for number, section in enumerate(self.file.sections):
            if not section.relocations or number not in self._starts:
                continue
            for relocation in section.relocations:
                piece = self.piece_at(number, relocation.offset)
                if piece is not None:
                    piece.references.append(self.reference(relocation, piece.start, section.executable))

    # special sections

    def _attach_entries(self) -> None:
        for number, section in enumerate(self.file.sections):
            table = TABLES.get(section.name)
            if table is None or not section.size:
                continue
            for start, size in table.spans(section, self.path):
                references = tuple(self.references_in(number, start, size))
                owner = self._owner(references)
                if owner is not None:
                    owner.entries.append(Entry(section.name, number, start, size, references))
            if table.name == ORC_ADDRESSES:
                self._attach_first_states(number, table)

    def _attach_first_states(self, number: int, table: Table) -> None:
        """objtool writes an unwind record where the state changes. A function that begins in the state in
        which the code before it ends, or its own padding (--prefix), has none at its start: it gets that one.
        """
        known: dict[int, dict[int, Entry]] = {}  # by section and position
        for start, size in table.spans(self.file.sections[number], self.path):
            for reference in self.references_in(number, start, size)[:1]:
                piece = self.pieces.get(reference.target)
                section = piece.section if piece else reference.section
                position = piece.start + reference.addend if piece else reference.position
                here = reference._replace(target="", section=section, position=position)
                known.setdefault(section, {})[position] = Entry(table.name, number, start, size, (here,))
        positions = {section: sorted(states) for section, states in known.items()}
        for piece in self.functions():
            before = positions.get(piece.section, [])
            index = bisect_right(before, piece.start) - 1
            if index >= 0 and before[index] < piece.start:
                state = known[piece.section][before[index]]
                here = state.references[0]._replace(position=piece.start)
                piece.entries.append(state._replace(references=(here,)))

    def _owner(self, references: tuple[Reference, ...]) -> Optional[Piece]:
        """The function that an entry is about: where its first relocation points."""
        if not references:
            return None
        first = references[0]
        piece = (
            self.pieces.get(first.target) if first.target else self.piece_at(first.section, first.position)
        )
        if piece is None and first.section:
            piece = self._before(first.section, first.position)
        return piece if piece is not None and piece.function else None

    def _before(self, section: int, position: int) -> Optional[Piece]:
        """The last piece that starts at or before a place: an address one past the end of a function belongs
        to it.
        """
        piece = self.piece_at(section, position - 1) if position else None
        return piece if piece is not None and position <= piece.start + piece.size else None

    # contents without a name

    def text_at(self, reference: Reference) -> Optional[bytes]:
        """The string or constant that an unnamed reference points to; None when it points at neither."""
        section = self.file.sections[reference.section]
        if section.flags & SHF_STRINGS:
            end = section.data.find(b"\0", reference.position)
            return section.data[reference.position : end + 1]
        if section.flags & SHF_MERGE:
            return section.data[reference.position : reference.position + max(section.entsize, 1)]
        return None

    def is_ignored(self, section: Section) -> bool:
        return bool(IGNORED.search(section.name))
