"""Which symbol of the patched unit is which symbol of the original.

Plain names speak for themselves. Numbered ones (static locals, ``.isra.0`` clones) are paired by base name
where it is unique, else by the order in which functions that are already paired refer to them. For
*functions* any one-to-one pairing is sound, because each original is redirected to its partner and the
compiler made the patched callers for exactly those partners. For *writable variables* a wrong pair would mix
up state, and their order means nothing: the compiler numbers them anew, and a patch may swap two calls that
are inlined. What is not certain is not paired (differ.py refuses it).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from livepatch_core.build.equality import Comparer
from livepatch_core.build.unit import Piece, Reference, Unit, base_name, is_numbered

# Variables whose only state is "this was said already" or a print budget: a fresh copy repeats a message,
# nothing else. (DO_ONCE_LITE() with __already_done is for messages only. Not so DO_ONCE() with ___done and
# ___once_key, which makes secrets: a fresh one would make a secret that is in use once more.)
ONCE = re.compile(
    r"^(__already_done|__warned|__print_once|_rs|__once|__UNIQUE_ID_ddebug|__func__|__PRETTY_FUNCTION__)$"
)
# Names of places for trace events (tracepoint_string()): pointers that nothing writes, in writable memory.
LABELS = "__tracepoint_str"
DEBUG_MESSAGES = "__dyndbg"


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
        kept = any(_holds_state(patched, p) for p in mine) and any(_holds_state(original, p) for p in others)
        if function or (len(mine) == len(others) == 1 and not kept):
            for piece, other in zip(mine, others):
                found.partner[piece.name] = other.name


def _mentioned(unit: Unit, piece: Piece, wanted: Callable[[str], bool]) -> list[str]:
    """Distinct named targets of a function (and of its records), in order of first mention."""
    references: list[Reference] = [*piece.references]
    for entry in piece.entries:
        references += entry.references
    names = (unit.pieces[r.target].name for r in references if r.target in unit.pieces)
    return list(dict.fromkeys(name for name in names if wanted(name)))


def _pair_mentions(original: Unit, patched: Unit, found: Correlation, function: str) -> None:
    """Pair what both versions of one function mention, group by group, in order, but for variables that hold
    state.
    """
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
        state = [a for a, b in alike if _both_hold_state(original, patched, a, b)]
        if len(names) == len(others) == len(alike) and not state:
            found.partner.update(alike)


def _pair_labels(original: Unit, patched: Unit, found: Correlation) -> None:
    """Labels of trace events by their content, so that a reader of the trace still knows them."""
    comparer = Comparer(original, patched, found.partner)
    left, taken = [p for p in original.distinct() if _is_label(original, p)], found.taken()
    left = [p for p in left if p.name not in taken]
    for piece in patched.distinct():
        if _is_label(patched, piece) and piece.name not in found.partner:
            other = next((o for o in left if comparer.data_equal(piece, o)), None)
            if other is not None:
                found.partner[piece.name] = other.name
                left.remove(other)


def _is_label(unit: Unit, piece: Piece) -> bool:
    return unit.section_of(piece).name == LABELS


def _part_renewed(original: Unit, patched: Unit, found: Correlation) -> None:
    """A print budget or a label with other contents is another one: what the running kernel has in it is no
    loss.
    """
    comparer = Comparer(original, patched, found.partner)
    for mine, other in list(found.partner.items()):
        ours, theirs = patched.pieces[mine], original.pieces[other]
        writable = patched.section_of(ours).writable and original.section_of(theirs).writable
        expendable = writable and _harmless(patched, mine) and _harmless(original, other)
        if not ours.function and expendable and not comparer.data_equal(ours, theirs):
            del found.partner[mine]


class _Supposing(Comparer):
    """Equality of pieces under whatever one-to-one pairing of same-named variables makes them equal."""

    def __init__(self, original: Unit, patched: Unit, found: Correlation) -> None:
        super().__init__(original, patched, found.partner)
        self.found = found
        self.supposed: dict[str, str] = {}

    def pairs(self, name: str) -> dict[str, str]:
        """The pairs that are supposed where the two versions of a piece are then equal."""
        self.supposed = {}
        self.forget()
        pieces = self.patched.pieces[name], self.original.pieces[self.partner[name]]
        equal = self.functions_equal if pieces[0].function else self.data_equal
        return self.supposed if equal(*pieces) else {}

    def paired(self, mine: str, other: str) -> bool:
        if super().paired(mine, other):
            return True
        ours, theirs = self.patched.pieces.get(mine), self.original.pieces.get(other)
        if ours is None or theirs is None or base_name(ours.name) != base_name(theirs.name):
            return False
        settled = ours.name in self.partner or theirs.name in self.found.taken()
        if settled or not _both_hold_state(self.original, self.patched, ours.name, theirs.name):
            return False
        known = self.supposed.setdefault(ours.name, theirs.name) == theirs.name
        return known and list(self.supposed.values()).count(theirs.name) == 1


class _State:
    """Pairs the variables that hold state and whose names say nothing, where that is certain."""

    def __init__(self, original: Unit, patched: Unit, found: Correlation) -> None:
        self.original, self.patched, self.found = original, patched, found
        self.stems = [_mentions_by_stem(unit) for unit in (patched, original)]

    def run(self) -> None:
        # Variables too: a table holds the addresses of others (compound literals).
        holders = [p.name for p in self.patched.distinct() if p.name in self.found.partner]
        supposing = _Supposing(self.original, self.patched, self.found)
        self._pair_only_ones()  # first: two calls that are inlined may be swapped and the code be the same
        before = -1
        while self._open() and before != len(self.found.partner):
            before = len(self.found.partner)
            for name in holders:
                self.found.partner.update(supposing.pairs(name))
            self._pair_only_ones()
        for mine, others in self._open():
            self._pair_sizes(mine, others)
        for mine, others in self._open():
            self._pair_one(mine, others)
        for mine, others in self._open():
            self.found.unsettled.update(dict.fromkeys(mine, tuple(others)))

    def _open(self) -> list[tuple[list[str], list[str]]]:
        """Names that are not paired yet, of each base name that both versions have such of."""
        ours, theirs, taken = _groups(self.patched), _groups(self.original), self.found.taken()
        groups = []
        for key, pieces in ours.items():
            mine = [p.name for p in pieces if p.name not in self.found.partner]
            others = [p.name for p in theirs.get(key, ()) if p.name not in taken]
            mine = [name for name in mine if _holds_state(self.patched, self.patched.pieces[name])]
            others = [name for name in others if _holds_state(self.original, self.original.pieces[name])]
            if mine and others:
                groups.append((mine, others))
        return groups

    def _pair_only_ones(self) -> None:
        """A function that mentions one of a name before and after mentions the same one."""
        for mine, others in self._open():
            said: dict[str, set[str]] = defaultdict(set)
            for stem, names in self.stems[0].items():
                new, old = names & set(mine), self.stems[1].get(stem, set()) & set(others)
                if len(new) == len(old) == 1:
                    said[new.pop()] |= old
            told = [name for names in said.values() for name in names]
            for name, names in said.items():
                if len(names) == 1 and told.count(*names) == 1:
                    self.found.partner[name] = names.pop()

    def _pair_sizes(self, mine: list[str], others: list[str]) -> None:
        """Those that only one on each side can be, by size and kind of memory."""
        new, old = _by_form(self.patched, mine), _by_form(self.original, others)
        for form, names in new.items():
            self._pair_one(names, old.get(form, []))

    def _pair_one(self, mine: list[str], others: list[str]) -> None:
        if len(mine) == len(others) == 1 and not self._elsewhere(mine[0], others[0]):
            self.found.partner[mine[0]] = others[0]

    def _elsewhere(self, mine: str, other: str) -> bool:
        """Whether two variables belong to functions that have nothing in common: each is in both versions,
        and mentions it in one only. (A helper that is inlined on one side only has a name there or none.)
        """
        new, old = (
            {stem for stem, names in side.items() if name in names}
            for side, name in zip(self.stems, (mine, other))
        )
        both = self.stems[0].keys() & self.stems[1].keys()
        return bool(new and old) and not new & old and new | old <= both


def _mentions_by_stem(unit: Unit) -> dict[str, set[str]]:
    """Function -> all variables that it and its parts (``.cold``, ``.part.0``) mention."""
    found: dict[str, set[str]] = defaultdict(set)
    for piece in unit.functions():
        found[piece.name.split(".")[0]].update(_mentioned(unit, piece, lambda n: not unit.pieces[n].function))
    return found


def _by_form(unit: Unit, names: Iterable[str]) -> dict[tuple[int, str], list[str]]:
    found: dict[tuple[int, str], list[str]] = defaultdict(list)
    for name in names:
        found[_form(unit, name)].append(name)
    return found


def _form(unit: Unit, name: str) -> tuple[int, str]:
    piece = unit.pieces[name]
    return piece.size, unit.storage_of(piece)


def correlate(original: Unit, patched: Unit) -> Correlation:
    """The pairing of all pieces."""
    found = Correlation()
    _pair_plain(original, patched, found)
    _pair_groups(original, patched, found)
    functions = [p.name for p in patched.functions() if p.name in found.partner]
    alike = [name for name in functions if _same_shape(original, patched, name, found.partner[name])]
    for name in alike:  # where nothing was inserted the order says most
        _pair_mentions(original, patched, found, name)
    _pair_labels(original, patched, found)
    for name in functions:
        _pair_mentions(original, patched, found, name)
    _State(original, patched, found).run()
    _part_renewed(original, patched, found)
    return found


def _same_shape(original: Unit, patched: Unit, name: str, partner: str) -> bool:
    mine, other = patched.pieces[name], original.pieces[partner]
    return mine.size == other.size and len(mine.references) == len(other.references)


def _harmless(unit: Unit, name: str) -> bool:
    """Whether a fresh copy of a variable loses nothing: read-only, empty (lock classes), the flag of a
    message or a label.
    """
    piece = unit.pieces[name]
    section = unit.section_of(piece)
    said = section.name in (LABELS, DEBUG_MESSAGES) or bool(ONCE.match(base_name(name)))
    return not section.writable or piece.size == 0 or said


def _holds_state(unit: Unit, piece: Piece) -> bool:
    return not piece.function and not _harmless(unit, piece.name)


def _both_hold_state(original: Unit, patched: Unit, mine: str, other: str) -> bool:
    return _holds_state(patched, patched.pieces[mine]) and _holds_state(original, original.pieces[other])


def lost_variables(original: Unit, found: Correlation, functions: Iterable[str]) -> list[str]:
    """Variables with state that a changed or vanished function (original names) mentioned and nothing is
    paired with any more.
    """
    taken, lost = found.taken(), []
    for function in functions:
        names = _mentioned(original, original.pieces[function], lambda n: n not in taken)
        lost += [name for name in names if _holds_state(original, original.pieces[name])]
    return list(dict.fromkeys(lost))


def stands_in(original: Unit, patched: Unit, found: Correlation, lost: str) -> str | None:
    """The new variable, if any, that a function mentions in place of a lost one and that could be the same
    under another name: of its size and in memory of its kind.
    """
    form = _form(original, lost)
    before = _mentions_by_stem(original)
    for stem, names in _mentions_by_stem(patched).items():
        for name in sorted(names - found.partner.keys()) if lost in before.get(stem, ()) else ():
            if _holds_state(patched, patched.pieces[name]) and _form(patched, name) == form:
                return name
    return None
