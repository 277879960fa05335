"""Changed functions that ftrace cannot redirect: their new code has to be reached through their callers."""

from __future__ import annotations

from livepatch_core.build.case import Case, cold_parent
from livepatch_core.build.refusals import Notice, Refusal, Refused
from livepatch_core.build.special import is_record, is_unknown
from livepatch_core.build.unit import Piece, Unit


def is_traced(piece: Piece) -> bool:
    """Whether ftrace can redirect it: the compiler recorded its __fentry__ call."""
    return any(entry.table == "__mcount_loc" for entry in piece.entries)


def split(case: Case) -> None:
    """Sort the changed functions into those that can be redirected and those whose callers must be."""
    pending = list(case.changed)
    while pending:
        name = pending.pop(0)
        other = case.original.pieces[case.found.partner[name]]
        if is_traced(other):
            case.result.replaced.append(name)
            continue
        callers = _callers(case, name)
        if all(case.runs_once(caller) for caller in callers):
            case.init_touched(name)
            continue
        case.result.copied.append(name)
        for caller in callers:
            if case.runs_once(caller):
                case.past(caller, f"calls the old {name}")
                continue
            before = len(case.changed)
            case.promote(
                caller, Notice.CALLER_PROMOTED, f"{name} cannot be traced and is only reached through it"
            )
            if len(case.changed) > before:
                pending.append(caller)


def _callers(case: Case, name: str) -> list[str]:
    """The functions that call an untraceable one, in both versions; refuses any other use of it."""
    piece, other = case.patched.pieces[name], case.original.pieces[case.found.partner[name]]
    if not (piece.local and other.local):
        raise _refused(case, name, "other files can call it")
    callers: dict[str, None] = {}
    for unit, target in ((case.patched, piece), (case.original, other)):
        for user in unit.distinct():
            uses = [r for r in unit.mentions(user) if unit.pieces.get(r.target) is target]
            if not uses or user is target:
                continue
            if not user.function or not all(r.branch for r in uses):
                section = unit.section_of(user).name
                if is_record(section) and not is_unknown(section):
                    continue
                raise _refused(case, name, f"{user.name} takes its address")
            caller = _whole(case, unit, user)
            if caller is not None and caller != name:
                callers[caller] = None
        if not callers:  # of the patched side, which comes first
            raise _refused(case, name, "no code calls it by its name (assembler may compute where it lies)")
    return list(callers)


def _whole(case: Case, unit: Unit, piece: Piece) -> str | None:
    """What the patched side calls a function, or the one that a piece is the out-of-line part of."""
    name = unit.pieces.get(cold_parent(piece.name) or "", piece).name
    if unit is case.patched:
        return name
    return next((mine for mine, other in case.found.partner.items() if other == name), None)


def _refused(case: Case, name: str, why: str) -> Refused:
    return case.refuse(
        Refusal.NOTRACE,
        name,
        f"The function cannot be traced (notrace, noinstr or inline), so it cannot be redirected, and {why}.",
        "Make the change in its callers.",
    )
