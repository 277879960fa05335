"""Code that no function covers: what file-scope assembler writes behind a label without a type or a size.

It cannot be taken apart or redirected, so it has to be the same before and after.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from livepatch_core.build.case import Case
from livepatch_core.build.equality import masked, reference_spans
from livepatch_core.build.refusals import Refusal
from livepatch_core.build.special import AUXILIARY, INIT, REPLACEMENT
from livepatch_core.build.unit import Reference, Unit

# What compiler and assembler fill gaps with: nop in all its lengths, int3.
_FILLED = re.compile(
    rb"(.*?)(?:\x66|\x2e|\x90|\xcc|\x0f\x1f(?:\x00|\x40.|\x44..|\x80....|\x84.....))*", re.DOTALL
)

Code = tuple[bytes, list[Reference]]


def _gaps(unit: Unit) -> Iterator[tuple[tuple[str, str], Code]]:
    """((section, label at or before the start), code) between the functions of each section of code."""
    heads: dict[int, list[tuple[int, int, str]]] = {}
    for piece in unit.distinct():
        heads.setdefault(piece.section, []).append((piece.start, piece.start + piece.size, piece.name))
    for number, section in enumerate(unit.file.sections):
        name = section.name
        if not section.executable or name in (AUXILIARY, REPLACEMENT) or INIT.search(name):
            continue
        label, place = "", 0
        for start, end, following in [*sorted(heads.get(number, [])), (section.size, section.size, "")]:
            yield (name, label), _code(unit, number, place, max(start, place))
            label, place = following, max(place, end)


def _code(unit: Unit, section: int, start: int, end: int) -> Code:
    """The code of a range, without the filling at its end, which depends on what comes next."""
    references = unit.references_in(section, start, end - start)
    data = masked(unit.file.sections[section].data[start:end], reference_spans(references))
    found = _FILLED.fullmatch(data)
    return (found[1] if found else data), references


def check(case: Case) -> None:
    """Raises ``Refused`` (NOTRACE) where both versions have code outside of functions, and not equally."""
    before = dict(_gaps(case.original))
    for (section, label), (code, references) in _gaps(case.patched):
        known = before.get((section, label))
        if known is None:
            continue
        if code != known[0] or not case.comparer.references_equal(references, known[1], (None, None)):
            raise case.refuse(
                Refusal.NOTRACE,
                label or section,
                "The patch changes assembler code there that is no function of its own, so it cannot be "
                "redirected.",
                "Make the change in C code.",
            )
