"""What a patch changes in variables and constants.

A variable has the running kernel's value, so it stays; a constant can get a new copy if all that read the old
one are replaced.
"""

from __future__ import annotations

from livepatch_core.build.case import Case
from livepatch_core.build.refusals import Notice, Refusal, Refused
from livepatch_core.build.special import is_record
from livepatch_core.build.unit import Piece


def serves(before: str, after: str) -> bool:
    """Whether a variable that the running kernel keeps in memory of the kind ``before`` does for new code
    that expects ``after`` (Unit.storage_of).

    What may be written may also be read only; what only start code uses is not used any more.
    """
    read_only = ("read-only", ".data..ro_after_init")
    return before == after or after == "start" or (before == "written" and after in read_only)


def changed_constants(case: Case) -> list[str]:
    """Refuses changed variables; returns the changed constants that may get a new copy."""
    constants = []
    for piece in case.patched.distinct():
        section = case.patched.section_of(piece)
        if piece.function or piece.name not in case.found.partner or is_record(section.name):
            continue
        other = case.original.pieces[case.found.partner[piece.name]]
        before, after = case.original.storage_of(other), case.patched.storage_of(piece)
        equal = case.comparer.data_equal(piece, other)
        if equal and serves(before, after):
            continue
        if after in ("start", "exit") and serves(before, after):
            case.init_touched(piece.name)
        elif not section.writable and not case.original.section_of(other).writable:
            constants.append(piece.name)
        elif before == after or serves(before, after):
            raise case.refuse(
                Refusal.DATA_CHANGED,
                piece.name,
                "The patch changes the size or initial value of a variable that the running kernel "
                "already uses.",
                "Change the value in a callback (LIVEPATCH_POST_PATCH) or add a new variable.",
            )
        else:
            raise case.refuse(
                Refusal.DATA_CHANGED,
                piece.name,
                f"The patch moves a variable that the running kernel already uses to another kind of "
                f"memory ({before} -> {after}); the running kernel's stays where it is.",
                "Add a new variable under another name.",
            )
    return constants


def renew(case: Case, names: list[str]) -> None:
    """Give each changed constant's users the new copy, users of users too, until nothing more changes."""
    pending = list(names)
    while pending:
        name = pending.pop()
        if name in case.result.renewed:
            continue
        piece = case.patched.pieces[name]
        _check_constant(case, piece)
        case.result.renewed.append(name)
        for user in _users(case, name):
            if user.name not in case.found.partner:
                continue  # new code gets the new copy
            if case.runs_once(user.name):
                case.past(user.name, f"uses the old {name}")
            elif user.function:
                case.promote(user.name, Notice.CONSTANT_PROMOTED, f"it uses the changed constant {name}")
            elif case.patched.section_of(user).writable:
                raise _refused(case, name, f"the variable {user.name} holds its address")
            else:
                pending.append(user.name)


def _refused(case: Case, name: str, why: str) -> Refused:
    return case.refuse(
        Refusal.CONSTANT_CHANGED,
        name,
        f"The patch changes a constant that cannot be replaced: {why}.",
        "Change the code that reads it instead.",
    )


def _check_constant(case: Case, piece: Piece) -> None:
    if not piece.local:
        raise _refused(case, piece.name, "other files may use it")
    other = case.original.pieces[case.found.partner[piece.name]]
    references = [(case.patched, r) for r in piece.references] + [
        (case.original, r) for r in other.references
    ]
    for unit, reference in references:
        target = unit.pieces.get(reference.target)
        if (target is not None and target.function) or (reference.target and target is None):
            raise _refused(
                case,
                piece.name,
                f"it holds the address of {reference.target}, and objects in use point to the old table",
            )


def _users(case: Case, name: str) -> list[Piece]:
    names = {name, *case.patched.pieces[name].aliases}
    return [p for p in case.patched.distinct() if any(r.target in names for r in case.patched.mentions(p))]
