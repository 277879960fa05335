"""When two pieces of code or data mean the same.

Bytes outside of relocated fields must be equal, and every relocation must mean the same thing: the paired
symbol, the same string, the same constant, the same place in the function. Records in special sections count,
too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from livepatch_core.build.objectfile import FIELD_SIZE
from livepatch_core.build.special import AUXILIARY, REPLACEMENT, TABLES
from livepatch_core.build.unit import Entry, Piece, Reference, Unit, base_name


def masked(data: bytes, spans: Iterable[tuple[int, int]]) -> bytes:
    """``data`` with the given ranges zeroed."""
    copy = bytearray(data)
    for start, end in spans:
        copy[start:end] = bytes(end - start)
    return bytes(copy)


def reference_spans(references: Iterable[Reference]) -> list[tuple[int, int]]:
    return [(r.offset, r.offset + FIELD_SIZE[r.type]) for r in references]


class Comparer:
    """Equality of pieces of two units under a pairing."""

    def __init__(self, original: Unit, patched: Unit, partner: Mapping[str, str]) -> None:
        self.original, self.patched, self.partner = original, patched, partner
        self._whole: dict[tuple[int, int], bool] = {}

    def forget(self) -> None:
        """What was compared under pairs that may be others now."""
        self._whole.clear()

    def paired(self, mine: str, other: str) -> bool:
        """Whether two targets are the same symbol: paired pieces, or undefined symbols of one name."""
        ours, theirs = self.patched.pieces.get(mine), self.original.pieces.get(other)
        if ours is None or theirs is None:
            # A symbol may be defined on one side only (a function that was removed or added).
            return ours is None and theirs is None and mine == other
        return self.partner.get(ours.name) == theirs.name or self._same_constant(ours, theirs)

    def _same_constant(self, ours: Piece, theirs: Piece) -> bool:
        """Unpaired read-only statics (``__func__.7``) are equal when their contents are."""
        if ours.function or theirs.function or base_name(ours.name) != base_name(theirs.name):
            return False
        if self.patched.section_of(ours).writable or self.original.section_of(theirs).writable:
            return False
        return ours.name not in self.partner and self.data_equal(ours, theirs)

    def references_equal(
        self,
        mine: Iterable[Reference],
        theirs: Iterable[Reference],
        holders: tuple[Piece | None, Piece | None],
    ) -> bool:
        mine, theirs = list(mine), list(theirs)
        return len(mine) == len(theirs) and all(
            self._reference_equal(a, b, holders) for a, b in zip(mine, theirs)
        )

    def _reference_equal(
        self, a: Reference, b: Reference, holders: tuple[Piece | None, Piece | None]
    ) -> bool:
        if (a.offset, a.type) != (b.offset, b.type) or bool(a.target) != bool(b.target):
            return False
        if a.target:
            return a.addend == b.addend and self.paired(a.target, b.target)
        return self._place_equal(a, b, holders)

    def _place_equal(self, a: Reference, b: Reference, holders: tuple[Piece | None, Piece | None]) -> bool:
        text = self.patched.text_at(a)
        if text is not None:
            return text == self.original.text_at(b)
        names = self.patched.file.sections[a.section].name, self.original.file.sections[b.section].name
        if names[0] == AUXILIARY == names[1]:
            return self._chunks_equal(a, b, holders)
        ours, theirs = (
            self.patched.piece_at(a.section, a.position),
            self.original.piece_at(b.section, b.position),
        )
        ours = ours or self._end_of(self.patched, a)
        theirs = theirs or self._end_of(self.original, b)
        if ours is None or theirs is None:
            alike = ours is theirs and names[0] == names[1] and a.position == b.position
            return alike and self._sections_equal(a.section, b.section, holders)
        same = self.partner.get(ours.name) == theirs.name
        return same and a.position - ours.start == b.position - theirs.start

    def _sections_equal(self, mine: int, other: int, holders: tuple[Piece | None, Piece | None]) -> bool:
        """Equality of sections that a reference without a name goes into: initial values of local arrays,
        strings with a zero in them. Where one of those ends cannot be seen, so all of them count.
        """
        if (mine, other) not in self._whole:
            self._whole[mine, other] = True  # while it is compared: it may refer to itself
            sizes = self.patched.file.sections[mine].size, self.original.file.sections[other].size
            self._whole[mine, other] = sizes[0] == sizes[1] and self._ranges_equal(
                (mine, 0, sizes[0]), (other, 0, sizes[1]), holders
            )
        return self._whole[mine, other]

    @staticmethod
    def _end_of(unit: Unit, reference: Reference) -> Piece | None:
        return unit.piece_at(reference.section, reference.position - 1) if reference.position else None

    def _chunks_equal(self, a: Reference, b: Reference, holders: tuple[Piece | None, Piece | None]) -> bool:
        mine, theirs = auxiliary_span(self.patched, a), auxiliary_span(self.original, b)
        return self._ranges_equal((a.section, *mine), (b.section, *theirs), holders)

    def _ranges_equal(
        self,
        mine: tuple[int, int, int],
        theirs: tuple[int, int, int],
        holders: tuple[Piece | None, Piece | None],
    ) -> bool:
        """Equality of (section, start, size) ranges of code that lies beside a function."""
        ours, others = self.patched.references_in(*mine), self.original.references_in(*theirs)
        left = self.patched.file.sections[mine[0]].data[mine[1] : mine[1] + mine[2]]
        right = self.original.file.sections[theirs[0]].data[theirs[1] : theirs[1] + theirs[2]]
        if masked(left, reference_spans(ours)) != masked(right, reference_spans(others)):
            return False
        return self.references_equal(ours, others, holders)

    def data_equal(self, ours: Piece, theirs: Piece) -> bool:
        """Equality of bytes and references (not of records)."""
        if ours.size != theirs.size:
            return False
        left, right = self.patched.data_of(ours), self.original.data_of(theirs)
        if masked(left, reference_spans(ours.references)) != masked(
            right, reference_spans(theirs.references)
        ):
            return False
        return self.references_equal(ours.references, theirs.references, (ours, theirs))

    def functions_equal(self, ours: Piece, theirs: Piece) -> bool:
        return self.data_equal(ours, theirs) and self._entries_equal(ours, theirs)

    def _entries_equal(self, ours: Piece, theirs: Piece) -> bool:
        mine, others = _compared(ours), _compared(theirs)
        return len(mine) == len(others) and all(
            self._entry_equal(a, b, (ours, theirs)) for a, b in zip(mine, others)
        )

    def _entry_equal(self, a: Entry, b: Entry, holders: tuple[Piece | None, Piece | None]) -> bool:
        if a.table != b.table:
            return False
        left, right = entry_bytes(self.patched, a), entry_bytes(self.original, b)
        if left != right or len(a.references) != len(b.references):
            return False
        for one, other in zip(a.references, b.references):
            if not one.target and self.patched.file.sections[one.section].name == REPLACEMENT:
                length = replacement_length(self.patched, a)
                if not self._ranges_equal(
                    (one.section, one.position, length), (other.section, other.position, length), holders
                ):
                    return False
            elif not self._reference_equal(one, other, holders):
                return False
        return True


def _compared(piece: Piece) -> list[Entry]:
    return [entry for entry in piece.entries if TABLES[entry.table].compared]


def entry_bytes(unit: Unit, entry: Entry) -> bytes:
    """A record without its relocated fields and what its table does not compare."""
    data = unit.file.sections[entry.section].data[entry.start : entry.start + entry.size]
    return masked(data, [*reference_spans(entry.references), *TABLES[entry.table].masked])


def replacement_length(unit: Unit, entry: Entry) -> int:
    """struct alt_instr ends with the length of its replacement, on 6.1 (12 bytes) and since 6.3 (14)."""
    return unit.file.sections[entry.section].data[entry.start + entry.size - 1]


def auxiliary_span(unit: Unit, reference: Reference) -> tuple[int, int]:
    """(start, size) of the out-of-line chunk of ``static_cpu_has()`` that a jump enters.

    Chunks lie back to back in the order of the functions, each entered at its start only.
    """
    starts = sorted(
        {r.position for s in _code(unit) for r in s if r.section == reference.section and not r.target}
    )
    after = [start for start in starts if start > reference.position]
    end = after[0] if after else unit.file.sections[reference.section].size
    return reference.position, end - reference.position


def _code(unit: Unit) -> Iterable[list[Reference]]:
    return (piece.references for piece in unit.functions())
