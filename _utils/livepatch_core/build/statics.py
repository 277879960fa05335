"""Static variables of functions that change: the running kernel's are kept, so it must be plain which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from livepatch_core.build.case import Case, cold_parent
from livepatch_core.build.correlate import lost_variables, stands_in
from livepatch_core.build.refusals import Notice, Refusal
from livepatch_core.build.unit import Unit, is_numbered


def check(case: Case) -> None:
    """Raises ``Refused`` (STATIC_AMBIGUOUS) for one that could be several, or that gets another name."""
    used = reachable(case.patched, case.result.changed, case.found.partner)
    for name, others in case.found.unsettled.items():
        if name in used:
            raise case.refuse(
                Refusal.STATIC_AMBIGUOUS,
                name,
                f"It could be any of the running kernel's {', '.join(others)}, and a wrong choice "
                f"would mix up their contents.",
                "Give a new static variable a name of its own; where a function has several of one "
                "name, make the change in its callers.",
            )
    before = [*(case.found.partner[name] for name in case.result.changed), *case.result.gone]
    for name in lost_variables(case.original, case.found, before):
        _lost(case, name)


def _lost(case: Case, name: str) -> None:
    """A variable that the patch takes away: what is in it is left behind. That a static local of another
    name begins anew is what its author wrote; a lock or list of the file under another name is not.
    """
    why = case.accept.get(f"static:{name}")
    other = stands_in(case.original, case.patched, case.found, name)
    if other is not None and why is None and not is_numbered(name):
        raise case.refuse(
            Refusal.STATIC_AMBIGUOUS,
            name,
            f"The patch uses a new variable of the same size, {other}, in its place. If that is the same "
            f"one under another name, what the running kernel has in it would be lost.",
            f"Keep the old name, or accept 'static:{name}' with the reason why {other} may begin anew.",
        )
    text = f"The patched code no longer uses the static variable {name}; its value is left behind"
    case.result.warn(Notice.STATIC_LOST, name, text + (f"; accepted: {why}" if why else "."))


def reachable(unit: Unit, roots: Iterable[str], partner: Mapping[str, str]) -> frozenset[str]:
    """Names that a set of functions refers to, through new pieces but not through paired ones."""
    seen: set[str] = set()
    pending = list(roots)
    while pending:
        name = pending.pop()
        piece = unit.pieces[name]
        if piece.name in seen:
            continue
        seen.add(piece.name)
        if piece.name in partner and name not in roots and cold_parent(piece.name) is None:
            continue
        targets = [r.target for r in unit.mentions(piece)] + [
            r.target for e in piece.entries for r in e.references
        ]
        pending += [target for target in targets if target in unit.pieces]
    return frozenset(seen)
