"""Records about copied functions: jump labels, alternatives, unwind data, bug entries and the like. Copied
with the functions, and read back from the finished module.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Optional

from livepatch_core.build.equality import replacement_length
from livepatch_core.build.image import MASK, Image, section_addresses
from livepatch_core.build.objectfile import SHF_ALLOC, SHF_WRITE, SHT_PROGBITS, ObjectFile, Relocation
from livepatch_core.build.refusals import Notice, Refusal
from livepatch_core.build.special import ORC_ADDRESSES, ORC_RECORD_SIZE, ORC_RECORDS, REPLACEMENT, TABLES
from livepatch_core.build.unit import Entry, Piece, Reference

Records = Mapping[tuple[str, int], Sequence[int]]
_ABSOLUTE = frozenset({".parainstructions", "__mcount_loc"})  # the others hold distances

if TYPE_CHECKING:
    from livepatch_core.build.extract import Extractor


def called_at(site: Entry, holder: Piece) -> Optional[Reference]:
    """What the call that a .call_sites record is about leads to."""
    first = site.references[0]
    at = first.addend if first.target else first.position - holder.start
    return next((r for r in holder.references if r.offset == at + 1 and r.target), None)


def unwind_state(file: ObjectFile, start: int) -> bytes:
    """What the unwind record whose address is at ``start`` of its table says; empty if there is none."""
    records = file.section(ORC_RECORDS)
    at = start // TABLES[ORC_ADDRESSES].stride * ORC_RECORD_SIZE
    return records.data[at : at + ORC_RECORD_SIZE] if records else b""


class RecordCopier:
    """Copies the records of the functions that ``extractor`` copies."""

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor

    def copy(self, entry: Entry, holder: Piece) -> None:
        """Copy one record of a copied function, or leave it out with a warning."""
        table = TABLES[entry.table]
        if not table.keep or self._drop(entry, holder):
            return
        section = self.extractor.unit.file.sections[entry.section]
        flags = section.flags & (SHF_ALLOC | SHF_WRITE)
        number = self.extractor.out.section(entry.table, SHT_PROGBITS, flags, section.align)
        start = self.extractor.out.append(number, section.data[entry.start : entry.start + entry.size])
        if entry.table == ORC_ADDRESSES:
            self._copy_orc(entry)
        for reference in entry.references:
            self._emit_record(number, start, entry, reference, holder)

    def _emit_record(
        self, number: int, start: int, entry: Entry, reference: Reference, holder: Piece
    ) -> None:
        if not reference.target and self.extractor.unit.file.sections[reference.section].name == REPLACEMENT:
            self._check_replacement(entry, reference, holder)
            symbol, addend = self.extractor.chunk(
                reference, holder, reference.position, replacement_length(self.extractor.unit, entry)
            )
        elif not reference.target or self.extractor.unit.pieces.get(reference.target) is not holder:
            symbol, addend = self.extractor.target(reference, False, holder)
        else:  # a record is about the new copy, never about the original
            symbol, addend = self.extractor.place(holder)[0], reference.addend
        self.extractor.out.relocate(
            number, Relocation(start + reference.offset, reference.type, symbol, addend)
        )

    def _check_replacement(self, entry: Entry, reference: Reference, holder: Piece) -> None:
        """Alternatives are applied before a module's own livepatch relocations: such a call would be patched
        wrongly.
        """
        length = replacement_length(self.extractor.unit, entry)
        for inner in self.extractor.unit.references_in(reference.section, reference.position, length):
            if inner.target and self._key_owner(inner, holder) not in ("vmlinux", ""):
                raise self.extractor.refuse(
                    Refusal.MODULE_ALTERNATIVE,
                    holder.name,
                    f"An alternative instruction of it refers to {inner.target} in a module.",
                    "Avoid it.",
                )

    def _copy_orc(self, entry: Entry) -> None:
        file = self.extractor.unit.file
        records = file.section(ORC_RECORDS)
        if records is None:
            raise self.extractor.refuse(
                Refusal.SECTION_UNKNOWN,
                entry.table,
                "Unwind addresses without unwind records.",
                "Report this diff.",
            )
        number = self.extractor.out.section(ORC_RECORDS, SHT_PROGBITS, SHF_ALLOC, records.align)
        self.extractor.out.append(number, unwind_state(file, entry.start))

    def _key_owner(self, reference: Reference, holder: Piece) -> str:
        """The object that holds what a record's key refers to; "" for something in the new module itself."""
        piece = self.extractor.unit.pieces.get(reference.target)
        if piece is not None and piece.name not in self.extractor.change.partner:
            return ""
        if piece is None and reference.target in self.extractor.provided:
            return ""
        if piece is not None and (
            piece.name in self.extractor.included or piece.name in self.extractor.change.renewed
        ):
            return ""
        if piece is None:
            self.extractor.check_moved(reference.target, holder)
        name = self.extractor.change.partner[piece.name] if piece is not None else reference.target
        original = self.extractor.change.original.pieces.get(name)
        if original is not None and not original.weak:
            return self.extractor.resolver.owner  # this unit defines it; no address is needed to know
        self.extractor.outside(name, reference.target, holder)
        return self.extractor.result.externals[reference.target].owner

    def _called_later(self, entry: Entry, holder: Piece) -> bool:
        """Whether a call leads into a module. With retbleed=stuff the kernel has calls go by the padding of
        what they lead to before it applies the relocations for modules (callthunks_patch_module_calls): such
        a call still leads to the next instruction, and the kernel warns of what is before that.
        """
        called = called_at(entry, holder)
        return called is not None and self._key_owner(called, holder) not in ("vmlinux", "")

    def _drop(self, entry: Entry, holder: Piece) -> bool:
        """Whether a record must be left out: its key lies in a module, and modules' livepatch relocations
        come too late for it.
        """
        if entry.table == ".call_sites":
            return self._called_later(entry, holder)
        if entry.table not in ("__jump_table", ".static_call_sites"):
            return False
        key = entry.references[-1]
        owner = self._key_owner(key, holder) if key.target else ""
        if owner in ("vmlinux", ""):
            return False
        if entry.table == ".static_call_sites":
            self.extractor.change.warn(
                Notice.STATIC_CALL_INDIRECT,
                holder.name,
                f"{holder.name} calls {key.target} through its trampoline, not directly.",
            )
            return True
        if key.target.startswith("__tracepoint_"):
            self.extractor.change.warn(
                Notice.TRACEPOINT_DROPPED,
                holder.name,
                f"The trace event {key.target[13:]} stays silent in the new {holder.name}.",
            )
            return True
        piece = self.extractor.unit.pieces.get(key.target)
        if piece is not None and self.extractor.unit.section_of(piece).name == "__dyndbg":
            self.extractor.change.warn(
                Notice.DEBUG_SITE_DROPPED,
                holder.name,
                f"A debug message of {holder.name} can no longer be switched on.",
            )
            return True
        raise self.extractor.refuse(
            Refusal.MODULE_STATIC_KEY,
            holder.name,
            f"It tests the static key {key.target} of the module {owner}, which cannot be followed in a live "
            f"patch.",
            "Use static_key_enabled() in the patched function.",
        )


def read_records(file: ObjectFile, module: Image) -> Records:
    """Where the module's records about code are, by table and by the address that they are about."""
    found: dict[tuple[str, int], list[int]] = defaultdict(list)
    for number, base in section_addresses(file).items():
        section = file.sections[number]
        table = TABLES.get(section.name)
        if table is None or not section.size:
            continue
        wide = section.name in _ABSOLUTE
        for start, _ in table.spans(section, ""):
            raw = module.read(base + start, 8 if wide else 4)
            value = int.from_bytes(raw, "little", signed=not wide)
            found[section.name, value if wide else (base + start + value) & MASK].append(base + start)
    return found


def read_states(file: ObjectFile) -> dict[int, bytes]:
    """The module's unwind states, by where the addresses that they are about stand."""
    bases = {file.sections[number].name: base for number, base in section_addresses(file).items()}
    places = file.section(ORC_ADDRESSES)
    spans = TABLES[ORC_ADDRESSES].spans(places, "") if places else []
    return {bases[ORC_ADDRESSES] + start: unwind_state(file, start) for start, _ in spans}
