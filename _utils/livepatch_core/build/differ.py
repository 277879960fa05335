"""What a patch changes in one translation unit, function by function, and whether a live patch may do so."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from livepatch_core.build import aliases, contents, gone, registrations, statics, unnamed, untraced
from livepatch_core.build.case import Case, Difference, cold_parent
from livepatch_core.build.unit import Unit


def difference(
    original: Unit, patched: Unit, *, accept: Mapping[str, str] | None = None, forced: Iterable[str] = ()
) -> Difference:
    """Compare two versions of a unit. Raises ``Refused`` for what a live patch cannot change.

    ``forced``: functions that count as changed even if they are equal (to exercise the extraction).
    """
    case = Case(original, patched, accept or {})
    registrations.check(case)
    constants = contents.changed_constants(case)
    _compare_functions(case, frozenset(forced))
    unnamed.check(case)
    _check_init(case)
    contents.renew(case, constants)
    _join_cold(case)
    untraced.split(case)
    aliases.check(case)
    gone.report(case)
    statics.check(case)
    registrations.check_unknown(case)
    return case.result


def _compare_functions(case: Case, forced: Collection[str]) -> None:
    for piece in case.patched.functions():
        partner = case.found.partner.get(piece.name)
        if partner is None or case.patched.section_of(piece).name == ".static_call.text":
            continue
        other = case.original.pieces[partner]
        if piece.name in forced or not case.comparer.functions_equal(piece, other):
            case.changed[piece.name] = None


def _check_init(case: Case) -> None:
    for name in list(case.changed):
        if case.runs_once(name):
            case.init_touched(name)
            del case.changed[name]


def _join_cold(case: Case) -> None:
    """A function and its out-of-line part are one."""
    for name in list(case.changed):
        parent = cold_parent(name)
        if parent is not None and parent in case.patched.pieces and parent not in case.changed:
            case.changed[case.patched.pieces[parent].name] = None
    for name in list(case.changed):
        if cold_parent(name) is not None:
            del case.changed[name]  # extraction follows the jump into it
