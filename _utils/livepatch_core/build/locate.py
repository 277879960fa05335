"""The proof: where the original unit's functions lie in the target image, byte for byte, and what they refer
to there.

This is Ksplice's run-pre matching done at build time. A function matches at an address if every byte outside
of relocated fields is equal and every relocated field makes sense: strings and constants have the same
contents, jumps land where they should. The fields of matched functions then *give* the address of everything
the unit refers to; nothing is looked up by name alone that a reference can prove.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

from livepatch_core.build.image import MASK, Image
from livepatch_core.build.objectfile import FIELD_SIZE, PC_RELATIVE, R_32S
from livepatch_core.build.special import AUXILIARY
from livepatch_core.build.unit import Piece, Reference, Unit


@dataclass
class Proof:
    """``functions``: where each function of the unit was found. ``several``: functions that match at more
    than one address.

    ``evidence``: for every symbol that a matched function refers to, the addresses decoded from its fields
    (one, if all agree).
    """

    image: Image
    functions: dict[str, int] = field(default_factory=dict)
    several: dict[str, tuple[int, ...]] = field(default_factory=dict)
    evidence: dict[str, frozenset[int]] = field(default_factory=dict)

    def addresses(self, name: str, *, local: bool) -> Optional[frozenset[int]]:
        """Where a symbol of the unit, or one that it refers to, lies; of a ``local`` one all places where it
        may. None: nothing says it.
        """
        if name in self.functions:
            return frozenset({self.functions[name]})
        several = frozenset(self.several[name]) if local and name in self.several else None
        return self.evidence.get(name, several)


def decode(image: Image, address: int, reference: Reference) -> Optional[int]:
    """The value of symbol + addend in the field of a matched reference, or None outside of the image."""
    place = address + reference.offset
    size = FIELD_SIZE[reference.type]
    raw = image.read(place, size)
    if len(raw) < size:
        return None
    signed = size == 4 and (reference.type in PC_RELATIVE or reference.type == R_32S)
    value = int.from_bytes(raw, "little", signed=signed)
    return (value + place if reference.type in PC_RELATIVE else value) & MASK


class Field(NamedTuple):
    """Where a reference's field is in the image: bytes from the function's start; ``short``: one byte
    wide.
    """

    offset: int
    short: bool


def _short_jump(opcode: bytes, seen: bytes) -> int:
    """Bytes of a jump's opcode that the image replaced by a one-byte opcode with an 8-bit distance; 0 if not.

    The kernel's own objects hold all functions of a unit in one section, where the assembler could shorten a
    jump to a near neighbour; with a section for each function it cannot.
    """
    if opcode[-1:] == b"\xe9" and seen[:1] == b"\xeb":
        return 1
    if opcode[:1] == b"\x0f" and seen[:1] and opcode[1] == seen[0] + 0x10 and 0x70 <= seen[0] <= 0x7F:
        return 2
    return 0


def fit(seen: bytes, data: bytes, references: list[Reference]) -> Optional[list[Field]]:
    """The place of every field if all bytes of ``data`` outside of fields are in ``seen``, else None."""
    fields, position, shift = [], 0, 0
    for reference in references:
        head = 0
        if reference.branch and reference.addend == -4:
            opcode = data[max(position, reference.offset - 2) : reference.offset]
            head = _short_jump(opcode, seen[reference.offset - 1 + shift :]) or _short_jump(
                opcode, seen[reference.offset - 2 + shift :]
            )
        plain = reference.offset - head
        if seen[position + shift : plain + shift] != data[position:plain]:
            return None
        fields.append(Field(plain + shift + (1 if head else 0), bool(head)))
        position = reference.offset + FIELD_SIZE[reference.type]
        shift -= head + 2 if head else 0  # opcode and 4 bytes became 2 bytes
    rest = data[position:]
    return fields if seen[position + shift : position + shift + len(rest)] == rest else None


def _value(image: Image, address: int, reference: Reference, place: Field) -> Optional[int]:
    """What a matched field says, short jumps included."""
    if not place.short:
        return decode(image, address, reference._replace(offset=place.offset))
    raw = image.read(address + place.offset, 1)
    after = address + place.offset + 1
    return (after + int.from_bytes(raw, "little", signed=True) + reference.addend) & MASK


class _Locator:
    def __init__(self, unit: Unit, image: Image) -> None:
        self.unit, self.image = unit, image
        self.matches: dict[str, list[int]] = {}
        self.found: dict[str, int] = {}
        self.evidence: dict[str, set[int]] = defaultdict(set)

    def run(self) -> Proof:
        for piece in self.unit.functions():
            self.matches[piece.name] = [
                a for a in self._candidates(piece) if self._matches(piece, a) is not None
            ]
        for name, places in self.matches.items():
            if len(places) == 1:
                self._accept(name, places[0])
        while self._settle():
            pass
        several = {n: tuple(p) for n, p in self.matches.items() if len(p) > 1 and n not in self.found}
        return Proof(
            self.image, dict(self.found), several, {n: frozenset(a) for n, a in self.evidence.items()}
        )

    def _candidates(self, piece: Piece) -> list[int]:
        if piece.weak:  # what overrides it has the same name and, where both do nothing, the same code
            return self.image.weak(piece.name)
        places = [a for name in (piece.name, *piece.aliases) for a in self.image.addresses(name)]
        places += self.image.similar(piece.name)
        return list(dict.fromkeys(places))

    def _matches(self, piece: Piece, address: int) -> Optional[list[tuple[str, int]]]:
        """What the references of a function say if it lies at ``address``, or None if it does not."""
        data = self.unit.data_of(piece)
        fields = fit(self.image.read(address, len(data)), data, piece.references) if data else None
        if fields is None:
            return None
        said = []
        for reference, place in zip(piece.references, fields):
            value = _value(self.image, address, reference, place)
            if value is None:
                return None
            if reference.target:
                meant = (value - reference.addend) & MASK
                if reference.target not in self.unit.pieces and not self.image.may_be(
                    reference.target, meant
                ):
                    return None
                said.append((reference.target, meant))
                continue
            claim = self._unnamed(piece, address, reference, value)
            if claim is None:
                return None
            said += claim
        return said

    def _unnamed(
        self, piece: Piece, address: int, reference: Reference, value: int
    ) -> Optional[list[tuple[str, int]]]:
        """Check a reference to something without a name; what it says about another piece, or None if it is
        wrong.
        """
        end = 4 if reference.type in PC_RELATIVE else 0  # functions only: unit.Unit.reference
        target = (value + end) & MASK
        text = self.unit.text_at(reference)
        if text is not None:
            return [] if self.image.read(target, len(text)) == text else None
        if self.unit.file.sections[reference.section].name == AUXILIARY:
            return []
        other = self.unit.piece_at(reference.section, reference.position)
        if other is None and reference.position:
            other = self.unit.piece_at(reference.section, reference.position - 1)
        if other is None:
            return []
        start = (target - (reference.position - other.start)) & MASK
        if other is piece:
            return [] if start == address else None
        return [(other.name, start)]

    def _accept(self, name: str, address: int) -> None:
        piece = self.unit.pieces[name]
        self.found[name] = address
        for target, value in self._matches(piece, address) or ():
            known = self.unit.pieces.get(target)
            self.evidence[known.name if known else target].add(value)

    def _settle(self) -> bool:
        """Settle functions that match at several addresses; whether any was."""
        progress = False
        for name, places in self.matches.items():
            if name in self.found or len(places) < 2:
                continue
            pointed = self.evidence.get(name, set()) & set(places)
            chosen = pointed if pointed else self._between(name, places)
            if len(chosen) == 1:
                self._accept(name, chosen.pop())
                progress = True
        return progress

    def _between(self, name: str, places: list[int]) -> set[int]:
        """Those places that lie among this unit's own functions.

        The linker keeps the text of one object file together, so what lies between two of its functions is
        its own.
        """
        kind = _text_kind(self.unit, self.unit.pieces[name])
        ours = [a for n, a in self.found.items() if _text_kind(self.unit, self.unit.pieces[n]) == kind]
        if len(ours) < 2:
            return set()
        return {place for place in places if min(ours) < place < max(ours)}


def _text_kind(unit: Unit, piece: Piece) -> str:
    """Which of an object's text sections a function went to: the linker gathers each kind apart."""
    section = unit.section_of(piece).name
    if not section.startswith(".text."):
        return section
    head = section.split(".")[2]
    return head if head in ("unlikely", "hot", "startup", "exit") and section.count(".") > 2 else "text"


def locate(unit: Unit, image: Image) -> Proof:
    """Find the functions of an original unit in the image of the object that it belongs to."""
    return _Locator(unit, image).run()
