"""Several names of one function: a redirect is for every name of an address.

So a changed function must have the same names before and after: gcc makes one of two equal functions, and of
an alias a function of its own.
"""

from __future__ import annotations

from collections.abc import Collection

from livepatch_core.build.equality import Comparer
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.unit import Piece, Unit, is_numbered


def check_aliases(original: Unit, patched: Unit, changed: Collection[str], comparer: Comparer) -> None:
    """Raises ``Refused`` (SYMBOL_AMBIGUOUS) where names that were one function are several, or the other way
    round, and one of them changes.
    """
    sharers: dict[str, list[str]] = {}
    for piece in patched.functions():
        for other in _originals(original, piece):
            sharers.setdefault(other.name, []).append(piece.name)
    for names in sharers.values():
        if len(names) > 1 and not set(names).isdisjoint(changed):
            raise _shared(patched, names, "one function in the running kernel and several in the patch")
    for piece in patched.functions():
        others = _originals(original, piece)
        if len(others) < 2:
            continue
        if piece.name in changed or not all(comparer.functions_equal(piece, o) for o in others):
            names = [other.name for other in others]
            raise _shared(patched, names, "several functions in the running kernel and one in the patch")


def _originals(original: Unit, piece: Piece) -> list[Piece]:
    """The original functions that have any of a function's names; one, but for aliases."""
    names = [name for name in (piece.name, *piece.aliases) if not is_numbered(name)]
    found = (original.pieces.get(name) for name in names)
    return list({other.name: other for other in found if other is not None and other.function}.values())


def _shared(patched: Unit, names: list[str], what: str) -> Refused:
    return Refused(
        Refusal.SYMBOL_AMBIGUOUS,
        f"{' and '.join(names)} are {what}; a redirect would send callers of one to the other.",
        file=patched.path,
        function=names[0],
        remedy="Make the change in their callers.",
    )
