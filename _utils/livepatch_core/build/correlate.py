"""Which symbol of the patched unit is which symbol of the original.

Plain names speak for themselves. Numbered ones (static locals, ``.isra.0`` clones) are paired by base name
where it is unique, else by the order in which functions that are already paired refer to them. For
*functions* any one-to-one pairing is sound, because each original is redirected to its partner and the
compiler made the patched callers for exactly those partners. For *writable variables* a wrong pair would mix
up state, so what is not certain is not paired (differ.py refuses it).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from livepatch_core.build.unit import Piece, Reference, Unit, base_name, is_numbered

# Variables whose only state is "this was said already" or a print budget: a fresh copy repeats a message,
# nothing else.
ONCE = re.compile(
    r"^(__already_done|__warned|__print_once|___done|___once_key|_rs|__once|__UNIQUE_ID_ddebug|descriptor|__func__|__PRETTY_FUNCTION__)$"
)


@dataclass
class Correlation:
    """``partner``: patched name -> original name. ``unsettled``: patched writable variables with more than
    one possible partner.
    """

    partner: dict[str, str] = field(default_factory=dict)
    unsettled: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def taken(self) -> frozenset[str]:
        return frozenset(self.partner.values())


def _groups(unit: Unit) -> dict[tuple[bool, str], list[Piece]]:
    """Numbered pieces by (is a function, base name), in the order of the object file."""
    groups: dict[tuple[bool, str], list[Piece]] = defaultdict(list)
    for piece in unit.distinct():
        groups[(piece.function, base_name(piece.name))].append(piece)
    return groups


def _pair_plain(original: Unit, patched: Unit, found: Correlation) -> None:
    for name, piece in patched.pieces.items():
        other = original.pieces.get(name)
        if other is not None and other.function == piece.function and not is_numbered(name):
            found.partner.setdefault(piece.name, other.name)


def _pair_groups(original: Unit, patched: Unit, found: Correlation) -> None:
    ours, theirs = _groups(patched), _groups(original)
    for (function, base), pieces in ours.items():
        taken = found.taken()
        mine = [p for p in pieces if p.name not in found.partner]
        others = [p for p in theirs.get((function, base), ()) if p.name not in taken]
        if len(mine) == len(others) == 1 or function:
            for piece, other in zip(mine, others):
                found.partner[piece.name] = other.name


def _mentioned(unit: Unit, piece: Piece, wanted: Callable[[str], bool]) -> list[str]:
    """Distinct named targets of a function (and of its records), in order of first mention."""
    references: list[Reference] = [*piece.references]
    for entry in piece.entries:
        references += entry.references
    names = (unit.pieces[r.target].name for r in references if r.target in unit.pieces)
    return list(dict.fromkeys(name for name in names if wanted(name)))


def _pair_mentions(
    original: Unit, patched: Unit, found: Correlation, function: str, *, certain: bool
) -> None:
    """Pair what both versions of one function mention, group by group, in order."""
    taken = found.taken()
    mine: dict[str, list[str]] = defaultdict(list)
    theirs: dict[str, list[str]] = defaultdict(list)
    for name in _mentioned(patched, patched.pieces[function], lambda n: n not in found.partner):
        mine[base_name(name)].append(name)
    for name in _mentioned(original, original.pieces[found.partner[function]], lambda n: n not in taken):
        theirs[base_name(name)].append(name)
    for base, names in mine.items():
        others = theirs.get(base, [])
        alike = [
            (a, b) for a, b in zip(names, others) if patched.pieces[a].function == original.pieces[b].function
        ]
        if len(names) == len(others) == len(alike):
            found.partner.update(alike)
        elif others and not certain:
            for name in names:
                found.unsettled[name] = tuple(others)


def correlate(original: Unit, patched: Unit) -> Correlation:
    """The pairing of all pieces."""
    found = Correlation()
    _pair_plain(original, patched, found)
    _pair_groups(original, patched, found)
    functions = [p.name for p in patched.functions() if p.name in found.partner]
    alike = [name for name in functions if _same_shape(original, patched, name, found.partner[name])]
    for name in alike:  # nothing was inserted: the order of mention is certain
        _pair_mentions(original, patched, found, name, certain=True)
    for name in functions:
        _pair_mentions(original, patched, found, name, certain=False)
    found.unsettled = {
        n: o for n, o in found.unsettled.items() if n not in found.partner and not _harmless(patched, n)
    }
    return found


def _same_shape(original: Unit, patched: Unit, name: str, partner: str) -> bool:
    mine, other = patched.pieces[name], original.pieces[partner]
    return mine.size == other.size and len(mine.references) == len(other.references)


def _harmless(unit: Unit, name: str) -> bool:
    """Whether a fresh copy of a variable loses nothing: read-only, empty (lock classes), or a once-flag."""
    piece = unit.pieces[name]
    section = unit.section_of(piece)
    once = section.name.startswith(".data.once") or bool(ONCE.match(base_name(name)))
    return not section.writable or piece.size == 0 or once


def lost_statics(original: Unit, found: Correlation, functions: Iterable[str]) -> list[str]:
    """Writable numbered variables that a changed or vanished function (original names) mentioned and nothing
    is paired with any more.
    """
    taken, lost = found.taken(), []
    for function in functions:
        for name in _mentioned(
            original, original.pieces[function], lambda n: n not in taken and is_numbered(n)
        ):
            if original.section_of(original.pieces[name]).writable and not _harmless(original, name):
                lost.append(name)
    return list(dict.fromkeys(lost))
