"""Functions that a patch takes away and that the running kernel may call all the same: it holds their address
in a timer, a work item or a list of callbacks, or other modules use the export.

Such a function stays as it is. What it calls is redirected nevertheless. That is as with any caller that is
not replaced, unless the new function takes other parameters: as the source has it, or as gcc has made them
for a function of the file (``.isra.0``), which its author cannot see.

A changed function that cannot be redirected (untraced.py) is another one that may go on: a task that sleeps
in its old code does not go over to the new code as long as a replaced caller is on its stack, and there is
none where that jumped (``__x64_sys_x`` to ``__do_sys_x``).
"""

from __future__ import annotations

from collections.abc import Collection

from livepatch_core.build.case import Case, cold_parent
from livepatch_core.build.layout import same_signatures
from livepatch_core.build.refusals import Notice, Refusal
from livepatch_core.build.special import IGNORED, INIT, TABLES, listed
from livepatch_core.build.unit import Piece, Unit

_CALL = 0xE8  # the opcode of a call with a 32-bit distance
# Says that a function must not be probed or may be made to fail, or runs once and is over: no calls.
_NO_USERS = ("_kprobe_blacklist", "_error_injection_whitelist")


def report(case: Case) -> None:
    """Lists and warns of vanished functions; raises ``Refused`` (CALLBACK_GONE), see above."""
    partners = case.found.taken()
    for piece in case.original.functions():
        if piece.name not in partners and cold_parent(piece.name) is None:
            case.result.gone.append(piece.name)
    if not (case.result.gone or case.result.copied):
        return
    replaced, copied = (
        [case.found.partner[n] for n in names] for names in (case.result.replaced, case.result.copied)
    )
    alike = same_signatures(case.original, case.patched)
    unlike = [name for name in replaced if name not in alike]
    for name in _jumped_to(case.original, replaced, copied):
        target = _first(case.original, case.original.pieces[name], {*case.result.gone, *copied}, unlike)
        if target is not None:
            _asleep(case, name, target)
    reached = _reached_by_old_code(case.original, case.result.gone, unlike, copied)
    for name in case.result.gone:
        _gone(case, name, reached.get(name))


def _gone(case: Case, name: str, target: str | None) -> None:
    """``target``: the new function that its old code may reach."""
    text = f"{name} no longer exists in the patched file; its old code stays in the kernel"
    if target is not None:
        why = _accepted(
            case,
            name,
            f"The patch takes the function away, but the running kernel may hold its address (a timer, a "
            f"work item, an export), and its old code would call the new {target}.",
            f"Keep a function of that name, or accept 'gone:{name}' with the reason why nothing calls it "
            f"any more, or why it may call the new {target}.",
        )
        text += f"; accepted: {why}"
    case.result.warn(Notice.FUNCTION_GONE, name, text if target is not None else f"{text}.")


def _asleep(case: Case, name: str, target: str) -> None:
    """The same of a function that stays, and in which a task may be."""
    why = _accepted(
        case,
        name,
        f"The function cannot be traced, and what is replaced jumps to it: a task that sleeps in its old "
        f"code has nothing on its stack that holds it back, and would call the new {target}, which may take "
        f"other parameters.",
        f"Give the new {target} another name, or accept 'gone:{name}' with the reason why nobody sleeps "
        f"there, or why it may call the new {target}.",
    )
    text = f"A task may sleep in the old code of {name} and call the new {target}; accepted: {why}"
    case.result.warn(Notice.OLD_CODE_ACCEPTED, name, text)


def _accepted(case: Case, name: str, message: str, remedy: str) -> str:
    """The author's reason why old code may meet the new one; without it the refusal."""
    why = case.accept.get(f"gone:{name}")
    if why is None:
        raise case.refuse(Refusal.CALLBACK_GONE, name, message, remedy)
    return why


def _jumped_to(original: Unit, replaced: Collection[str], copied: Collection[str]) -> list[str]:
    """Of the changed functions that cannot be redirected those that a replaced one leaves its frame for."""
    found: dict[str, None] = {}
    for user in original.functions():
        if (cold_parent(user.name) or user.name) not in replaced:
            continue
        code = original.data_of(user)
        for reference in user.references:
            target = original.pieces.get(reference.target)
            jumps = reference.branch and code[reference.offset - 1] != _CALL
            if jumps and target is not None and target.name in copied:
                found[target.name] = None
    return list(found)


def _reached_by_old_code(original: Unit, gone: Collection[str], redirected: Collection[str],
                        left: Collection[str]) -> dict[str, str]:  # fmt: skip
    """Vanished functions that may still be called -> the redirected function that their old code reaches.

    All names are the original's. ``redirected``: of these only those that may take other parameters.
    ``left``: changed functions that cannot be redirected; old callers go on using the old code of these.
    """
    taken = _taken(original)
    found = {}
    for name in gone:
        piece = original.pieces[name]
        if piece.name in taken and not INIT.search(original.section_of(piece).name):
            target = _first(original, piece, {*gone, *left}, redirected)
            if target is not None:
                found[name] = target
    return found


def _taken(unit: Unit) -> frozenset[str]:
    """Functions whose address something holds, or that the kernel calls when the module goes."""
    found = {piece.name for piece in unit.functions() if "cleanup_module" in (piece.name, *piece.aliases)}
    for number, section in enumerate(unit.file.sections):
        # What is ignored may register something all the same: exports, from 6.4 on (.export_symbol).
        ignored = IGNORED.search(section.name) and listed(section.name) is None
        if not section.allocated or ignored or section.name in (*TABLES, *_NO_USERS):
            continue
        for reference in unit.references_in(number, 0, section.size):
            piece = unit.pieces.get(reference.target)
            if piece is not None and piece.function and not reference.branch:
                found.add(piece.name)
    return frozenset(found)


def _first(unit: Unit, piece: Piece, through: Collection[str], wanted: Collection[str]) -> str | None:
    """A wanted function that a piece refers to, itself, by its out-of-line part or through others."""
    seen, pending = set(), [piece]
    while pending:
        one = pending.pop(0)
        seen.add(one.name)
        for reference in one.references:
            target = unit.pieces.get(reference.target)
            if target is None or not target.function or target.name in seen:
                continue
            if target.name in wanted:
                return target.name
            if target.name in through or target.name.endswith(".cold"):
                pending.append(target)
    return None
