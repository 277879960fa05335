"""Reading the finished module back, as the kernel will, and holding it against what was meant.

The module is laid out and relocated, livepatch symbols included. Then every copied function is compared with
the compiler's output byte for byte, and every one of its references is decoded and must lead to the proven
address of the original, to the new copy, or to the same text.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NoReturn, Protocol

from livepatch_core.build import tables
from livepatch_core.build.case import Difference
from livepatch_core.build.cover import text_of, uncovered
from livepatch_core.build.equality import auxiliary_span, replacement_length
from livepatch_core.build.exports import Export
from livepatch_core.build.extract import Extracted
from livepatch_core.build.hooks import declared_hooks
from livepatch_core.build.image import MASK, Image, livepatch_image, section_addresses
from livepatch_core.build.kmod import Manifest
from livepatch_core.build.locate import Proof, decode
from livepatch_core.build.objectfile import (
    FIELD_SIZE,
    PC_RELATIVE,
    SHN_LIVEPATCH,
    SHN_UNDEF,
    ObjectFile,
    read_object,
)
from livepatch_core.build.records import Records, called_at, read_records, read_states, unwind_state
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.resolve import PREFIX
from livepatch_core.build.special import AUXILIARY, ORC_ADDRESSES, REPLACEMENT, TABLES
from livepatch_core.build.unit import Entry, Piece, Reference

LEFT_OUT = frozenset({"__jump_table", ".static_call_sites", ".call_sites"})  # records.py: whose key is late
RETURN_THUNK = "__x86_return_thunk"  # a jump to it is what the kernel's mitigations rewrite (apply_returns)
_JUMP = 0xE9
_SYMBOL = re.compile(r"^\.klp\.sym\.([^.]+)\.([^,]+),(\d+)$")


def _fail(why: str) -> NoReturn:
    raise Refused(
        Refusal.VERIFY,
        f"The finished module was read back and is wrong: {why}.",
        remedy="Do not use it; report this diff.",
    )


def modinfo(file: ObjectFile) -> list[tuple[str, str]]:
    """The fields of ``.modinfo`` in order."""
    section = file.section(".modinfo")
    fields = section.data.split(b"\0") if section else []
    return [
        (k.decode(), v.decode("utf-8", "replace")) for k, _, v in (f.partition(b"=") for f in fields if f)
    ]


def check_information(file: ObjectFile, manifest: Manifest, vermagic: str) -> None:
    """The module says what it must: livepatch, vermagic as the kernel's own modules, what it was built
    for.
    """
    fields = modinfo(file)
    for wanted in (
        ("livepatch", "Y"),
        ("name", manifest.name),
        ("built_for_release", manifest.release),
        *(("built_for", f"{k}:{v}") for k, v in manifest.built_for.items()),
        *(("positions", k) for k in manifest.built_for),
    ):
        if wanted not in fields:
            _fail(f"it lacks {wanted[0]}={wanted[1]}")
    said = dict(fields).get("vermagic", "")
    if not said.startswith(manifest.release + " ") or (vermagic and said != vermagic):
        _fail(f"its vermagic is {said!r}, the kernel's modules have {vermagic!r}")


def check_versions(file: ObjectFile, exports: Mapping[str, Export]) -> None:
    """Every import is an export of the kernel itself, with that CRC. struct modversion_info is a long and
    char[56].
    """
    section = file.section("__versions")
    known = {}
    for at in range(0, section.size if section else 0, 64):
        crc, name = struct.unpack_from("<Q56s", section.data if section else b"", at)
        known[name.split(b"\0")[0].decode()] = crc
    for symbol in file.symbols:
        if symbol.section != SHN_UNDEF or not symbol.name:
            continue
        export = exports.get(symbol.name)
        if export is None or export.owner != "vmlinux":
            _fail(f"it imports {symbol.name}, which the kernel itself does not export")
        if known.get(symbol.name) != export.crc:
            _fail(f"its version of {symbol.name} is not the kernel's")


def livepatch_addresses(file: ObjectFile, image_of: Callable[[str], Image]) -> dict[str, int]:
    """The address of every livepatch symbol, found as the kernel finds it."""
    addresses = {}
    for symbol in file.symbols:
        if symbol.section != SHN_LIVEPATCH:
            if symbol.name.startswith(PREFIX):
                _fail(f"{symbol.name} is not marked as a livepatch symbol")
            continue
        match = _SYMBOL.match(symbol.name)
        places = image_of(match[1]).addresses(match[2]) if match else []
        position = int(match[3]) if match else 0
        if not places or (position == 0 and len(places) > 1) or position > len(places):
            _fail(f"the kernel cannot find {symbol.name}")
        addresses[symbol.name] = places[max(position - 1, 0)]
    return addresses


class _Reader:
    """Compares one unit's copied functions with the module's image."""

    def __init__(
        self,
        change: Difference,
        unit: Extracted,
        proof: Proof,
        module: Image,
        foreign: Mapping[str, int],
        states: Mapping[int, bytes],
        parts: Sequence[range],
    ) -> None:
        self.seen: set[tuple[int, int, int, int]] = set()  # what lies beside the functions and was compared
        self.change, self.unit, self.proof, self.module, self.foreign = change, unit, proof, module, foreign
        self.states, self.parts = states, parts
        self.starts: dict[str, list[int]] = {}
        self.hooks = {kind: change.patched.pieces[n] for kind, n in declared_hooks(change.patched).items()}
        self.aliases = {piece.name: alias for kind, piece in self.hooks.items() for alias in unit.hooks[kind]}
        self.aliases.update({function.source_name: function.alias for function in unit.functions})

    def place(self, piece: Piece) -> int:
        """Where a copied piece is in the module."""
        return self.places(piece)[0]

    def places(self, piece: Piece) -> list[int]:
        """The same; a name may be there twice where units share a section: equal per-CPU variables."""
        if piece.name not in self.starts:
            self.starts[piece.name] = self._find(piece)
        return self.starts[piece.name]

    def _find(self, piece: Piece) -> list[int]:
        alias = self.aliases.get(piece.name)
        places = self.module.addresses(alias or piece.name)
        if not self.change.patched.section_of(piece).name.startswith((".data..percpu", "__dyndbg")):
            places = [place for place in places if any(place in part for part in self.parts)]
        data = self.change.patched.data_of(piece)
        fitting = [p for p in places if _equal(self.module.read(p, len(data)), data, piece.references)]
        if not fitting:
            _fail(f"{piece.name} is not in it as it was compiled")
        return fitting

    def rows(self) -> Iterator[tables.Row]:
        """The replacements that the module must register, by where the originals were proven to be."""
        for function in self.unit.functions:
            original = self.proof.functions[self.change.partner[function.source_name]]
            found = self.proof.image.position(function.old_name, original)
            if found is None:
                _fail(f"{function.old_name} is not where it was proven")
            position, count = found
            new = self.place(self.change.patched.pieces[function.source_name])
            yield tables.Row(function.old_name, 0 if count == 1 else position, new)

    def callbacks(self) -> list[tuple[str, int]]:
        return [(kind, self.place(piece)) for kind, piece in self.hooks.items()]

    def check(self, records: Records) -> None:
        pieces = self.change.patched.pieces
        pending = [*self.change.changed, *self.unit.new]
        checked: set[str] = set()
        while pending:
            for name in pending:
                self._check_piece(pieces[name], records)
            checked.update(pending)
            # What these refer to in the module: constants with a new copy, out-of-line parts.
            pending = [name for name in self.starts if name not in checked]

    def _check_piece(self, piece: Piece, records: Records) -> None:
        for reference in piece.references:
            self._check_reference(piece, self.place(piece), reference)
        for entry in piece.entries:
            if TABLES[entry.table].keep:
                self._check_entry(piece, entry, records)
        self._check_returns(piece, records)

    def _check_returns(self, piece: Piece, records: Records) -> None:
        """Every jump to the return thunk has its record, without which it stays one for good."""
        data = self.change.patched.data_of(piece)
        for reference in piece.references:
            jump = reference.branch and reference.offset > 0 and data[reference.offset - 1] == _JUMP
            if not jump or reference.target != RETURN_THUNK:
                continue
            if (".return_sites", self.place(piece) + reference.offset - 1) not in records:
                _fail(f"the return at {piece.name}+{reference.offset - 1:#x} has no record")

    def _check_entry(self, piece: Piece, entry: Entry, records: Records) -> None:
        """The module has this record about the new copy, or it was left out because its key is in a
        module.
        """
        first = entry.references[0]
        offset = first.addend if first.target else first.position - piece.start
        found = records.get((entry.table, self.place(piece) + offset), [])
        if any(self._entry_fits(piece, entry, address) for address in found):
            return
        key = called_at(entry, piece) if entry.table == ".call_sites" else entry.references[-1]
        if found or key is None or entry.table not in LEFT_OUT or self._key_owner(key.target) == "vmlinux":
            _fail(f"its {entry.table} has no right record for {piece.name}+{offset:#x}")

    def _key_owner(self, key: str) -> str:
        """The object in which what a record names already exists; "vmlinux" also when that is not known."""
        external = self.unit.externals.get(key)
        if external is not None:
            return external.owner
        piece = self.change.patched.pieces.get(key)
        ours = piece is not None and piece.name in self.change.partner
        return self.unit.owner if ours else "vmlinux"

    def _entry_fits(self, piece: Piece, entry: Entry, address: int) -> bool:
        patched = self.change.patched
        data = patched.file.sections[entry.section].data[entry.start : entry.start + entry.size]
        if not _equal(self.module.read(address, entry.size), data, entry.references):
            return False
        if entry.table == ORC_ADDRESSES and self.states.get(address) != unwind_state(
            patched.file, entry.start
        ):
            return False
        for reference in entry.references[1:]:
            value = decode(self.module, address, reference)
            if value is None:
                return False
            if not reference.target and patched.file.sections[reference.section].name == REPLACEMENT:
                length = replacement_length(patched, entry)
                self._check_beside(piece, (reference.section, reference.position, length), value)
            elif not self._leads(piece, reference, value, 0):
                return False
        return True

    def _check_beside(self, piece: Piece, span: tuple[int, int, int], address: int) -> None:
        """What lies beside a function: (section, start, size) as compiled against what is at ``address``."""
        if (*span, address) in self.seen:
            return
        self.seen.add((*span, address))
        patched = self.change.patched
        section = patched.file.sections[span[0]]
        references = patched.references_in(*span)
        data = section.data[span[1] : span[1] + span[2]]
        if not _equal(self.module.read(address, span[2]), data, references):
            _fail(f"the {section.name} of {piece.name} is not as it was compiled")
        for reference in references:
            value = decode(self.module, address, reference)
            end = 4 if section.executable and reference.type in PC_RELATIVE else 0
            if value is None or not self._leads(piece, reference, value, end):
                _fail(f"the {section.name} of {piece.name} does not lead where it should")

    def _check_reference(self, piece: Piece, address: int, reference: Reference) -> None:
        value = decode(self.module, address, reference)
        if value is None:
            _fail(f"{piece.name}+{reference.offset:#x} lies outside of it")
        code = self.change.patched.section_of(piece).executable
        if not self._leads(piece, reference, value, 4 if code and reference.type in PC_RELATIVE else 0):
            aim = reference.target or repr(self.change.patched.text_at(reference) or "its place")[:40]
            _fail(f"{piece.name}+{reference.offset:#x} does not lead to {aim}")

    def _leads(self, piece: Piece, reference: Reference, value: int, end: int) -> bool:
        """Whether a reference of ``piece``, or of what lies beside it, leads where it should. ``end``: how
        far behind the field the instruction counts from.
        """
        if reference.target:
            return (value - reference.addend) & MASK in self._expected(reference)
        patched = self.change.patched
        target = (value + end) & MASK
        text = patched.text_at(reference)
        if text is not None:
            return self.module.read(target, len(text)) == text
        section, position = patched.file.sections[reference.section], reference.position
        if section.name in (AUXILIARY, REPLACEMENT):
            self._check_beside(piece, (reference.section, *auxiliary_span(patched, reference)), target)
            return True
        inside = patched.piece_at(reference.section, position)
        if inside is None and position:
            inside = patched.piece_at(reference.section, position - 1)
        if inside is not None:
            return any(target - place == position - inside.start for place in self.places(inside))
        # Constants without a name: all of their section was copied.
        self._check_beside(piece, (reference.section, 0, section.size), target - position)
        return True

    def _expected(self, reference: Reference) -> set[int]:
        """Addresses that a named reference may lead to."""
        piece = self.change.patched.pieces.get(reference.target)
        partner = self.change.partner.get(piece.name) if piece else None
        copied = piece is not None and (partner is None or piece.name in self.change.renewed)
        if piece is not None and (copied or (reference.branch and piece.name in self.change.changed)):
            return set(self.places(piece))
        if piece is not None and piece.name.endswith(".cold"):
            return set(self.places(piece)) if reference.branch else set()
        name = partner or reference.target
        external = self.unit.externals.get(reference.target)
        if external is not None and external.owner not in ("vmlinux", self.unit.owner):
            return {self.foreign[external.symbol]}
        if name in self.proof.functions:
            return {self.proof.functions[name]}
        if name in self.proof.evidence:
            return {self._meant(address) for address in self.proof.evidence[name]}
        if external is None:  # provided by another unit of this module
            return set(self.module.addresses(reference.target))
        return (
            {self.foreign[external.symbol]}
            if external.symbol in self.foreign
            else set(self.proof.image.addresses(name))
        )

    def _meant(self, address: int) -> int:
        """Of an export whose name the kernel has twice a module's image has an invented address."""
        imported = self.proof.image.import_at(address)
        return address if imported is None else self.foreign.get(imported, address)


def _equal(seen: bytes, data: bytes, references: Sequence[Reference]) -> bool:
    left, right = bytearray(seen), bytearray(data)
    for reference in references:
        blank = slice(reference.offset, reference.offset + FIELD_SIZE[reference.type])
        left[blank] = right[blank] = bytes(FIELD_SIZE[reference.type])
    return left == right


def parts_of(file: ObjectFile, number: int) -> list[range]:
    """Where the code and the data of one unit are in the module."""
    own = (text_of(number), *(f".{kind}.{number}." for kind in ("rodata", "data", "bss")))
    return [
        range(base, base + file.sections[index].size)
        for index, base in section_addresses(file).items()
        if file.sections[index].name.startswith(own)
    ]


def check_fields(file: ObjectFile) -> None:
    """What is to be relocated is zero: the kernel does not load a module otherwise."""
    for section in file.sections:
        fields = [(section, one.offset, one.type) for one in section.relocations if section.allocated]
        if section.name.startswith(".klp.rela."):
            late = struct.iter_unpack("<QQq", section.data)
            fields = [(file.sections[section.info], at, info & 0xFFFFFFFF) for at, info, _ in late]
        for holder, at, kind in fields:
            if any(holder.data[at : at + FIELD_SIZE.get(kind, 0)]):
                _fail(f"a field of {holder.name} is not zero before it is relocated")


class Target(Protocol):
    """What the check needs to know of the kernel (kernelimages.Kernel)."""

    exports: Mapping[str, Export]

    def image(self, name: str) -> Image: ...

    def vermagic(self) -> str: ...


def verify(
    data: bytes,
    manifest: Manifest,
    parts: Sequence[tuple[Difference, Extracted, Proof]],
    kernel: Target,
) -> None:
    """Raises ``Refused`` (VERIFY) if the module is not exactly what was meant."""
    file = read_object(data)
    check_information(file, manifest, kernel.vermagic())
    check_versions(file, kernel.exports)
    check_fields(file)
    livepatch = livepatch_addresses(file, kernel.image)
    owners = {unit.number: unit.owner for _, unit, _ in parts}
    if bare := uncovered(file, owners, {f.alias: unit.owner for _, unit, _ in parts for f in unit.functions}):
        _fail(f"the kernel would let it go while a task sleeps in {bare[0]}")
    vmlinux = kernel.image("vmlinux")
    imports = [s.name for s in file.symbols if s.section == SHN_UNDEF and vmlinux.addresses(s.name)]
    known = {**{name: vmlinux.addresses(name)[0] for name in imports}, **livepatch}
    module = livepatch_image(manifest.name, file, known)
    records = read_records(file, module)
    states = read_states(file)
    readers = [
        _Reader(change, unit, proof, module, known, states, parts_of(file, unit.number))
        for change, unit, proof in parts
    ]
    for reader in readers:
        reader.check(records)
    check_tables(file, module, manifest, readers)


def check_tables(file: ObjectFile, module: Image, manifest: Manifest, readers: Sequence[_Reader]) -> None:
    """The module registers every replacement, callback and state that was meant, and no other."""
    owners = sorted({one.unit.owner for one in readers}, key=lambda owner: (owner != "vmlinux", owner))
    objects = []
    for owner in owners:
        own = [reader for reader in readers if reader.unit.owner == owner]
        callbacks = [callback for reader in own for callback in reader.callbacks()]
        if len({kind for kind, _ in callbacks}) != len(callbacks):
            _fail(f"{owner} has two callbacks of one kind")
        objects.append(tables.Entry(owner, tuple(r for one in own for r in one.rows()), dict(callbacks)))
    meant = tables.Tables(tuple(objects), tuple(manifest.states), manifest.replace)
    counts = [len(entry.functions) for entry in objects]
    try:
        said = tables.read_tables(file, module, counts, len(manifest.states))
    except tables.Unreadable as problem:
        _fail(str(problem))
    if said != meant:
        _fail(f"its tables say {said}, not {meant}")
