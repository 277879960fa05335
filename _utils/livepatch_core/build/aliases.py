"""Several names of one function: a redirect is for every name of an address.

So a changed function must have the same names before and after: gcc makes one of two equal functions, and of
an alias a function of its own.
"""

from __future__ import annotations

from livepatch_core.build.case import Case
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.unit import Piece, Unit, is_numbered


def check(case: Case) -> None:
    """Raises ``Refused`` (SYMBOL_AMBIGUOUS) where names that were one function are several, or the other way
    round, and one of them changes.
    """
    changed = set(case.result.changed)
    sharers: dict[str, list[str]] = {}
    for piece in case.patched.functions():
        for other in _originals(case.original, piece):
            sharers.setdefault(other.name, []).append(piece.name)
    for names in sharers.values():
        if len(names) > 1 and not changed.isdisjoint(names):
            raise _shared(case, names, "one function in the running kernel and several in the patch")
    for piece in case.patched.functions():
        others = _originals(case.original, piece)
        if len(others) < 2:
            continue
        if piece.name in changed or not all(case.comparer.functions_equal(piece, o) for o in others):
            names = [other.name for other in others]
            raise _shared(case, names, "several functions in the running kernel and one in the patch")


def _originals(original: Unit, piece: Piece) -> list[Piece]:
    """The original functions that have any of a function's names; one, but for aliases."""
    names = [name for name in (piece.name, *piece.aliases) if not is_numbered(name)]
    found = (original.pieces.get(name) for name in names)
    return list({other.name: other for other in found if other is not None and other.function}.values())


def _shared(case: Case, names: list[str], what: str) -> Refused:
    return case.refuse(
        Refusal.SYMBOL_AMBIGUOUS,
        names[0],
        f"{' and '.join(names)} are {what}; a redirect would send callers of one to the other.",
        "Make the change in their callers.",
    )
