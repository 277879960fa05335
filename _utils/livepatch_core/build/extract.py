"""The new code of one unit as a relocatable object: changed and new functions, what is new beside them, and
their records.

References become one of: the new copy; a livepatch symbol or export for what exists already; a copied string
or constant. A *pointer* to a changed function stays a pointer to the original, which the kernel redirects:
only so do old and new pointers compare equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Optional

from livepatch_core.build.case import Difference, cold_parent
from livepatch_core.build.cover import text_of
from livepatch_core.build.equality import auxiliary_span
from livepatch_core.build.hooks import declared_hooks
from livepatch_core.build.locate import Proof
from livepatch_core.build.objectfile import (
    PC_RELATIVE,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_MERGE,
    SHF_STRINGS,
    SHF_WRITE,
    SHT_NOBITS,
    SHT_PROGBITS,
    STB_GLOBAL,
    STB_LOCAL,
    STT_FUNC,
    STT_OBJECT,
    Relocation,
    Section,
    Symbol,
)
from livepatch_core.build.output import Output
from livepatch_core.build.records import RecordCopier
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.resolve import External, Resolver
from livepatch_core.build.special import (
    AUXILIARY,
    INIT,
    REPLACEMENT,
    registration,
)
from livepatch_core.build.unit import Piece, Reference, Unit

ALIAS = "__livepatch_new_"
HOOK_ALIAS = "__livepatch_hook_"
_READ_ONLY = re.compile(r"^\.rodata")
_PLAIN_DATA = re.compile(r"^\.(data|bss|ref\.data)(\.|$)")


@dataclass(frozen=True)
class NewFunction:
    """A replacement: the original's kallsyms name and position, the global alias of the new code."""

    old_name: str
    position: int
    alias: str
    source_name: str


@dataclass
class Extracted:
    """One unit's contribution. ``wanted``: undefined names that another patched unit must provide."""

    path: str
    owner: str
    object: bytes
    functions: list[NewFunction] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    externals: dict[str, External] = field(default_factory=dict)
    wanted: frozenset[str] = frozenset()
    hooks: dict[str, list[str]] = field(default_factory=dict)  # kind -> global aliases
    number: int = 0  # of the unit, in the names of its symbols and sections


class Extractor:
    """Copies the closure of the changed functions into an Output."""

    def __init__(
        self,
        change: Difference,
        proof: Proof,
        resolver: Resolver,
        number: int,
        requested: Iterable[str],
        provided: frozenset[str],
    ) -> None:
        self.change, self.proof, self.resolver, self.number = change, proof, resolver, number
        self.unit: Unit = change.patched
        self.requested, self.provided = list(requested), provided
        self.out = Output()
        self.result = Extracted(change.path, resolver.owner, b"", number=number)
        self.placed: dict[str, tuple[int, int]] = {}  # piece -> (symbol, section)
        self.pending: list[Piece] = []
        self.copied_sections: dict[int, int] = {}
        self.chunks: dict[tuple[int, int, int], int] = {}
        self.wanted: set[str] = set()
        self.included: set[str] = set()
        self.records = RecordCopier(self)

    def run(self) -> Extracted:
        replaced = self.change.replaced
        self.included = set(self.change.changed)
        # What is replaced comes first: cover.py.
        for name in [*replaced, *(name for name in self.change.changed if name not in replaced)]:
            self.place(self.unit.pieces[name])
        for name in self.requested:
            self.place(self.unit.pieces[name])
        hooks = declared_hooks(self.unit)
        for name in hooks.values():
            self.place(self.unit.pieces[name])
        while self.pending:
            self._copy(self.pending.pop(0))
        self._name_replacements()
        self._name_hooks(hooks)
        self.result.wanted = frozenset(self.wanted)
        self.result.object = self.out.bytes()
        return self.result

    def refuse(self, refusal: Refusal, name: str, text: str, remedy: str) -> Refused:
        return Refused(refusal, text, file=self.change.path, function=name, remedy=remedy)

    # placing pieces

    def place(self, piece: Piece) -> tuple[int, int]:
        """Reserve the piece's place in the output: (symbol, section)."""
        if piece.name not in self.placed:
            section = self.unit.section_of(piece)
            number, start = self._reserve(piece, section)
            binding = STB_LOCAL if piece.local or piece.name in self.change.partner else STB_GLOBAL
            kind = STT_FUNC if piece.function else STT_OBJECT
            symbol = self.out.symbol(Symbol(piece.name, start, piece.size, kind, binding, number))
            for alias in piece.aliases if binding == STB_GLOBAL else ():
                self.out.symbol(Symbol(alias, start, piece.size, kind, binding, number))
            self.placed[piece.name] = symbol, number
            self.pending.append(piece)
            if piece.name not in self.change.partner:
                self.result.new.append(piece.name)
        return self.placed[piece.name]

    def _reserve(self, piece: Piece, section: Section) -> tuple[int, int]:
        """Copy the bytes; (section number, start)."""
        name, flags, kind = self._home(piece, section)
        number = self.out.section(name, kind, flags, section.align)
        data = self.unit.data_of(piece)
        if piece.function:
            pad = self._padding(piece, section)
            return number, self.out.append(number, pad + data, section.align) + len(pad)
        return number, self.out.append(number, data, max(section.align, 1))

    @staticmethod
    def _padding(piece: Piece, section: Section) -> bytes:
        """Bytes between the section's start and the function: room for call thunks (CONFIG_FUNCTION_PADDING,
        6.2+).
        """
        return section.data[: piece.start] if section.name.startswith(".text.") and piece.start <= 64 else b""

    def _too_late(self, refusal: Refusal, name: str, section: str) -> Refused:
        return self.refuse(
            refusal,
            name,
            f"New code refers to {section}, which only means something when the kernel is made or starts.",
            "Avoid it.",
        )

    def _home(self, piece: Piece, section: Section) -> tuple[str, int, int]:
        """(name, flags, type) of the section that a piece goes to."""
        name = section.name
        refusal = registration(name)
        if refusal is not None or INIT.search(name):
            raise self._too_late(refusal or Refusal.INIT_CODE, piece.name, name)
        if piece.function:
            if name == ".static_call.text":
                raise self.refuse(
                    Refusal.NEW_REGISTRATION,
                    piece.name,
                    "A new static call cannot be added to a running kernel.",
                    "Call the function directly.",
                )
            return f"{text_of(self.number)}{piece.name}", SHF_ALLOC | SHF_EXECINSTR, SHT_PROGBITS
        if name.startswith(".data..percpu"):
            if piece.references:
                raise self.refuse(
                    Refusal.NEW_REGISTRATION,
                    piece.name,
                    "It is a new per-CPU variable that begins with an address, and the kernel relocates no "
                    "per-CPU data of a module: it would begin with zero.",
                    "Set it in a callback (LIVEPATCH_PRE_PATCH).",
                )
            return ".data..percpu", SHF_ALLOC | SHF_WRITE, SHT_PROGBITS
        if name == "__dyndbg":
            return name, SHF_ALLOC | SHF_WRITE, SHT_PROGBITS
        if _READ_ONLY.match(name):
            return f".rodata.{self.number}.{piece.name}", SHF_ALLOC, SHT_PROGBITS
        if _PLAIN_DATA.match(name):
            kind = SHT_NOBITS if section.type == SHT_NOBITS else SHT_PROGBITS
            base = "bss" if kind == SHT_NOBITS else "data"
            return f".{base}.{self.number}.{piece.name}", SHF_ALLOC | SHF_WRITE, kind
        raise self.refuse(
            Refusal.SECTION_UNKNOWN,
            piece.name,
            f"It is new and lies in {name}, which has no known meaning in a live patch.",
            "Report this diff.",
        )

    # copying

    def _copy(self, piece: Piece) -> None:
        symbol, number = self.placed[piece.name]
        start = self.out.symbols[symbol].value
        executable = piece.function
        for reference in piece.references:
            self._emit(number, start, reference, executable, piece)
        for entry in piece.entries:
            self.records.copy(entry, piece)

    def _emit(self, number: int, base: int, reference: Reference, executable: bool, holder: Piece) -> None:
        """Write the relocation for a reference of something copied to ``base`` of a section."""
        symbol, addend = self.target(reference, executable, holder)
        self.out.relocate(number, Relocation(base + reference.offset, reference.type, symbol, addend))

    def target(self, reference: Reference, executable: bool, holder: Piece) -> tuple[int, int]:
        """(symbol, addend) in the output."""
        if reference.target:
            return self._named(reference, holder), reference.addend
        end = 4 if executable and reference.type in PC_RELATIVE else 0
        raw = reference.position - end
        section = self.unit.file.sections[reference.section]
        if section.flags & (SHF_MERGE | SHF_STRINGS):
            return self._whole_section(reference.section), raw
        if section.name in (AUXILIARY, REPLACEMENT):
            return self.chunk(reference, holder, raw)
        piece = self.unit.piece_at(reference.section, reference.position)
        if piece is None and reference.position:
            piece = self.unit.piece_at(reference.section, reference.position - 1)
        if piece is None:
            return self._anonymous(reference.section, holder), raw
        if piece.name not in self.placed and not self._belongs(piece):
            refusal = registration(section.name)
            if refusal is not None:
                raise self._too_late(refusal, holder.name, section.name)
            raise self.refuse(
                Refusal.RELOCATION_UNKNOWN,
                holder.name,
                f"It refers to the inside of {piece.name}.",
                "Report this diff.",
            )
        return self.place(piece)[0], raw - piece.start

    def _belongs(self, piece: Piece) -> bool:
        """Whether a piece that is jumped into goes along: the cold part or parent of an included function, or
        something new.
        """
        parent = cold_parent(piece.name)
        return (
            parent in self.included
            or piece.name not in self.change.partner
            or f"{piece.name}.cold" in self.placed
        )

    def _whole_section(self, index: int) -> int:
        """Copy a section of strings or constants; no longer mergeable, so that offsets into it stay what they
        are.
        """
        if index not in self.copied_sections:
            section = self.unit.file.sections[index]
            number = self.out.section(
                f".rodata.{self.number}.{index}", SHT_PROGBITS, SHF_ALLOC, section.align
            )
            self.out.append(number, section.data)
            self.copied_sections[index] = self.out.section_symbol(number)
        return self.copied_sections[index]

    def _anonymous(self, index: int, holder: Piece) -> int:
        """Copy a read-only section without symbols (constant pools)."""
        section = self.unit.file.sections[index]
        if section.writable or section.executable or not _READ_ONLY.match(section.name):
            raise self.refuse(
                Refusal.RELOCATION_UNKNOWN,
                holder.name,
                f"It refers to unnamed contents of {section.name}.",
                "Report this diff.",
            )
        if index not in self.copied_sections:
            symbol = self._whole_section(index)
            number = self.out.symbols[symbol].section
            for reference in self.unit.references_in(index, 0, section.size):
                self._emit(number, 0, reference, False, holder)
        return self.copied_sections[index]

    def chunk(
        self, reference: Reference, holder: Piece, raw: int, length: Optional[int] = None
    ) -> tuple[int, int]:
        """Copy code that lies beside a function; (section symbol, addend)."""
        section = self.unit.file.sections[reference.section]
        start, size = (
            (reference.position, length) if length is not None else auxiliary_span(self.unit, reference)
        )
        number = self.out.section(section.name, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 1)
        # The size is part of the key: an empty replacement starts where the next one does.
        chunk = (reference.section, start, size)
        if chunk not in self.chunks:
            place = self.out.append(number, section.data[start : start + size])
            self.chunks[chunk] = place
            for inner in self.unit.references_in(reference.section, start, size):
                self._emit(number, place, inner, True, holder)
        return self.out.section_symbol(number), self.chunks[chunk] + raw - start

    # naming

    def _named(self, reference: Reference, holder: Piece) -> int:
        """The output symbol for a named target."""
        piece = self.unit.pieces.get(reference.target)
        if piece is None:
            self.check_moved(reference.target, holder)
            return self.outside(reference.target, reference.target, holder)
        partner = self.change.partner.get(piece.name)
        new_copy = piece.name in self.change.renewed or partner is None
        if piece.name in self.included or cold_parent(piece.name) in self.included:
            new_copy = new_copy or reference.branch
        if new_copy:
            return self.place(piece)[0]
        return self.outside(str(partner), reference.target, holder)

    def check_moved(self, name: str, holder: Piece) -> None:
        """What the patched file only declares is no static of the original file: that one is taken away, and
        another file's takes its place. All that was proven of the name is about the old one.
        """
        old = self.change.original.pieces.get(name)
        if old is not None and old.local:
            raise Refused(
                Refusal.SYMBOL_AMBIGUOUS,
                f"The patch takes the static {name} away from this file, and {holder.name} uses another "
                f"file's of that name; the running kernel has the old one, with what is in it.",
                file=self.change.path,
                function=name,
                remedy="Give it a name of its own where it goes to, or leave it where it is.",
            )

    def outside(self, name: str, written: str, holder: Piece) -> int:
        """A symbol that exists already, or that another patched unit defines."""
        if name in self.provided and name not in self.change.original.pieces:
            self.wanted.add(name)
            return self.out.undefined(name)
        piece = self.change.original.pieces.get(name)
        local = piece is not None and piece.local
        external = self.resolver.resolve(
            written if piece is None else name,
            self.proof.addresses(name, local=local),
            holder.name,
            kept=self._mentioned(name, holder),
            local=local,
        )
        self.result.externals[written] = external
        return self.out.undefined(external.symbol)

    def _mentioned(self, name: str, holder: Piece) -> bool:
        """Whether the original of ``holder``, its out-of-line part included, refers to ``name``."""
        pieces = self.change.original.pieces
        piece = pieces.get(name)
        names = {piece.name, *piece.aliases} if piece else {name}
        whole = cold_parent(holder.name) or holder.name
        before = [pieces.get(self.change.partner.get(part, "")) for part in (whole, f"{whole}.cold")]
        references = [r for p in before if p for r in p.references]
        references += [r for p in before if p for entry in p.entries for r in entry.references]
        return any(r.target in names for r in references)

    def _name_replacements(self) -> None:
        for index, name in enumerate(self.change.replaced):
            piece = self.unit.pieces[name]
            original = self.change.partner[name]
            old_name, position = self._original_name(original)
            alias = f"{ALIAS}{self.number}_{index}"
            self._alias(alias, piece)
            self.result.functions.append(NewFunction(old_name, position, alias, name))

    def _alias(self, alias: str, piece: Piece) -> None:
        symbol = self.out.symbols[self.placed[piece.name][0]]
        self.out.symbol(Symbol(alias, symbol.value, symbol.size, STT_FUNC, STB_GLOBAL, symbol.section))

    def _name_hooks(self, hooks: Mapping[str, str]) -> None:
        for kind, name in hooks.items():
            alias = f"{HOOK_ALIAS}{self.number}_{kind}"
            self._alias(alias, self.unit.pieces[name])
            self.result.hooks[kind] = [alias]

    def _original_name(self, original: str) -> tuple[str, int]:
        """(kallsyms name, sympos) of a proven function."""
        image, address = self.proof.image, self.proof.functions[original]
        piece = self.change.original.pieces[original]
        names = image.names_at(address)
        chosen = next((n for n in names if n == original or n in piece.aliases), None) or names[0]
        place = image.position(chosen, address)
        if place is None or chosen in image.late:
            raise self.refuse(
                Refusal.SYMBOL_AMBIGUOUS,
                original,
                "Its position among equal names is not certain.",
                "Report this diff.",
            )
        return chosen, 0 if place[1] == 1 else place[0]


def extract(
    change: Difference,
    proof: Proof,
    resolver: Resolver,
    number: int,
    *,
    requested: Iterable[str] = (),
    provided: frozenset[str] = frozenset(),
) -> Extracted:
    """The unit's new code. ``requested``: new globals that other units use; ``provided``: new globals of
    other units.
    """
    return Extractor(change, proof, resolver, number, requested, provided).run()
