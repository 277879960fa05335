"""Records that take effect when the kernel or a module starts.

What a patch adds or changes among them comes too late. What it takes away stays in force: that is for the
author to know, and does no harm by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from livepatch_core.build.case import Case, cold_parent
from livepatch_core.build.equality import Comparer, masked
from livepatch_core.build.objectfile import FIELD_SIZE
from livepatch_core.build.refusals import Notice, Refusal
from livepatch_core.build.special import is_unknown, registration
from livepatch_core.build.unit import Piece, Unit

_MODINFO = ".modinfo"
_NAMES_OF_EXPORTS = "__ksymtab_strings"
# The builder writes these itself, for what the new code needs (kmod.py).
_OWN_MODINFO = b"import_ns="


class _RecordChange(NamedTuple):
    """``what``: ``adds`` or ``changes``; ``name`` is a record's or the section's."""

    section: str
    name: str
    what: str


def check(case: Case) -> None:
    """Refuses what comes too late; warns of what stays in force."""
    found = _changed_record(case.original, case.patched, case.comparer)
    if found is not None:
        raise case.refuse(
            registration(found.section) or Refusal.NEW_REGISTRATION,
            found.name,
            f"The patch {found.what} a record that only takes effect when the kernel or module starts.",
            "Leave the declaration as it is in the live patch; keep the code that does not need it.",
        )
    for section, names in _records_left(case.original, case.patched, case.comparer).items():
        text = f"The patch takes away {names} ({section}); what that registered at the start stays in force."
        case.result.warn(Notice.DECLARATION_KEPT, names, text)
    modinfo = _changed_modinfo(case.original, case.patched)
    if modinfo:
        text = f"What is said of the module stays as it is; the patch would have it {', '.join(modinfo)}."
        case.result.warn(Notice.DECLARATION_KEPT, ".modinfo", text)


def check_unknown(case: Case) -> None:
    """Refuses changed code that records of an unknown kind are about: places inside of it that the kernel
    finds by them when it starts (runtime constants, since 6.11).
    """
    for number, section in enumerate(case.patched.file.sections):
        if not (section.allocated and is_unknown(section.name)):
            continue
        for reference in case.patched.references_in(number, 0, section.size):
            piece = case.patched.piece_at(reference.section, reference.position)
            names = {piece.name, cold_parent(piece.name)} if piece and not reference.target else set()
            if piece is not None and names & {*case.result.changed}:
                raise case.refuse(
                    Refusal.SECTION_UNKNOWN,
                    piece.name,
                    f"The kernel finds places in its code by {section.name}, which the builder has no "
                    f"rule for.",
                    "Report this diff.",
                )


def _contents(unit: Unit) -> dict[str, bytes]:
    """What registers something, by section, without what is relocated."""
    found: dict[str, bytes] = {}
    for section in unit.file.sections:
        if section.allocated and registration(section.name) is not None:
            spans = [(r.offset, r.offset + FIELD_SIZE.get(r.type, 0)) for r in section.relocations]
            found[section.name] = found.get(section.name, b"") + masked(section.data, spans)
    return found


def _records(unit: Unit) -> Iterator[tuple[str, Piece]]:
    for piece in unit.distinct():
        section = unit.section_of(piece).name
        if registration(section) is not None:
            yield section, piece


def _changed_record(original: Unit, patched: Unit, comparer: Comparer) -> _RecordChange | None:
    """The first record that a patch adds or changes."""
    before = _contents(original)
    for name, contents in _contents(patched).items():
        known = before.get(name, b"")
        if len(contents) > len(known) or (len(contents) == len(known) and contents != known):
            return _RecordChange(name, name, "adds" if len(contents) > len(known) else "changes")
    left = _unpaired(original, comparer)
    for section, piece in _records(patched):
        partner = comparer.partner.get(piece.name)
        others = left.get(section, []) if partner is None else [original.pieces[partner]]
        equal = next((other for other in others if comparer.data_equal(piece, other)), None)
        if equal is None:
            return _RecordChange(section, piece.name, "changes")
        if partner is None:
            others.remove(equal)
    return None


def _unpaired(original: Unit, comparer: Comparer) -> dict[str, list[Piece]]:
    """Records that have no partner by name, which may have the line number in it, by section."""
    taken, found = set(comparer.partner.values()), dict[str, list[Piece]]()
    for section, piece in _records(original):
        if piece.name not in taken:
            found.setdefault(section, []).append(piece)
    return found


def _records_left(original: Unit, patched: Unit, comparer: Comparer) -> dict[str, str]:
    """Sections whose records a patch takes away -> the names of these."""
    before, after = _contents(original), _contents(patched)
    gone = [name for name, known in before.items() if len(known) > len(after.get(name, b""))]
    names = _unpaired(original, comparer)
    return {
        name: ", ".join(piece.name for piece in names.get(name, [])) or "records"
        for name in gone
        if name != _NAMES_OF_EXPORTS  # each belongs to a record in another section
    }


def _changed_modinfo(original: Unit, patched: Unit) -> list[str]:
    """What is said of a module (aliases, descriptions of parameters) in one version only."""
    before, after = _modinfo(original), _modinfo(patched)
    return [f"without {text!r}" for text in sorted(before - after)] + [
        f"with {text!r}" for text in sorted(after - before)
    ]


def _modinfo(unit: Unit) -> set[str]:
    data = b"\0".join(section.data for section in unit.file.sections if section.name == _MODINFO)
    texts = {text for text in data.split(b"\0") if text and not text.startswith(_OWN_MODINFO)}
    return {text.decode("utf-8", "replace") for text in texts}
