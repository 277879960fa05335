"""Livepatch tables that are plain C variables: hand-written modules, and those this project builds.

The layouts are those of include/linux/livepatch.h. Only the first, "external" fields of each structure are
ever set in a file; the rest is zero and its size differs between kernel versions and configurations. So the
tool of the trade here is the symbol that gives a table's size together with the offsets at which it has
pointers:

* ``klp_func``    {char *old_name; void *new_func; unsigned long old_sympos; ...}
* ``klp_object``  {char *name; klp_func *funcs; 4 callbacks; bool; ...}
* ``klp_state``   {unsigned long id; unsigned int version; void *data}
* ``klp_patch``   {module *mod; klp_object *objs; klp_state *states; bool replace; ...}, where kernels
  before 5.5 have no ``states`` and so ``replace`` in its place

Arrays end with an all-zero entry. What does not fit exactly is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from livepatch_core.errors import LivepatchError
from livepatch_core.modulefile.elf import (
    POINTER,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    Elf,
    Relocation,
    Section,
)
from livepatch_core.modulefile.model import Function, PatchedObject, State
from livepatch_core.modulefile.pointers import Extent, Place, Pointers
from livepatch_core.modulefile.refusal import refusal

CALLBACKS = {16: "pre_patch", 24: "post_patch", 32: "pre_unpatch", 40: "post_unpatch"}
FUNC_FIELDS = 24  # bytes of klp_func that a file may set
OBJECT_FIELDS = 56  # and of klp_object
PATCH_FIELDS = 32  # and of klp_patch
STATE_SIZE = 24
MAX_STRIDE = 4096
MAX_STATES = 1024


@dataclass(frozen=True)
class StaticTables:
    """What the tables of one ``klp_patch`` say."""

    objects: tuple[PatchedObject, ...]
    replace: bool
    states: tuple[State, ...]


def read_static_tables(pointers: Pointers) -> StaticTables:
    """The tables of the module's only ``klp_patch``.

    Other variables can begin with a pointer to the module and one to data as well; a candidate that does
    not read as a ``klp_patch`` all the way down is not one. If none does, the first one's refusal says why.
    """
    candidates = [place for section in _writable(pointers.elf) for place in _candidates(pointers, section)]
    read: list[StaticTables] = []
    refused: list[LivepatchError] = []
    for place in candidates:
        try:
            read.append(_read_patch(pointers, place))
        except LivepatchError as error:
            refused.append(error)
    if len(read) == 1:
        return read[0]
    if refused and not read:
        raise refused[0]
    raise refusal(f"it says livepatch, but {len(read)} tables of patched functions were found in it")


def _writable(elf: Elf) -> list[Section]:
    """Where a klp_patch can be: the kernel writes to it."""
    return [
        section
        for section in elf.sections
        if section.flags & SHF_WRITE and section.flags & SHF_ALLOC and not section.flags & SHF_EXECINSTR
    ]


def _candidates(pointers: Pointers, section: Section) -> list[Place]:
    found, order = pointers.relocations(section)
    elf = pointers.elf
    modules = {number for number in {found[at].symbol for at in order} if _is_this_module(elf, number)}
    return [
        Place(section.index, at)
        for at in order
        if found[at].symbol in modules
        and found[at].addend == 0
        and at + 8 in found
        and found[at + 8].type == POINTER[elf.machine]
        and _leads_to_data(pointers, Place(section.index, at + 8))
    ]


def _is_this_module(elf: Elf, number: int) -> bool:
    return elf.symbol_name(elf.symbols[number]) == "__this_module"


def _leads_to_data(pointers: Pointers, place: Place) -> bool:
    elf = pointers.elf
    found, _ = pointers.relocations(elf.sections[place.section])
    target = elf.symbols[found[place.offset].symbol].section
    return target < len(elf.sections) and bool(elf.sections[target].flags & SHF_WRITE)


def _read_patch(pointers: Pointers, place: Place) -> StaticTables:
    patch = pointers.variable(place, "klp_patch")
    unknown = set(patch.pointers) - {0, 8, 16}
    if unknown or patch.size < PATCH_FIELDS or not patch.zero(PATCH_FIELDS, patch.size):
        raise refusal("the layout of its klp_patch is not one that is known")
    states = _states(pointers, patch.pointers[16]) if 16 in patch.pointers else ()
    return StaticTables(_objects(pointers, pointers.target(patch.pointers[8])), _replace(patch), states)


def _replace(patch: Extent) -> bool:
    """``replace`` follows ``states``, or stands in its place where the kernel has none."""
    if 16 in patch.pointers or not any(patch.data[16:24]):
        field, rest = patch.data[24], patch.data[25:32]
    else:
        field, rest = patch.data[16], patch.data[17:32]
    if field > 1 or any(rest):
        raise refusal("the layout of its klp_patch is not one that is known")
    return bool(field)


def _objects(pointers: Pointers, place: Place) -> tuple[PatchedObject, ...]:
    table = pointers.variable(place, "klp_object")
    entries = table.entries(_object_stride(table))[:-1]
    objects = tuple(_object(pointers, entry) for entry in entries)
    if len({size for _, size in objects} - {0}) > 1:
        raise refusal("its klp_func tables have entries of different sizes")
    return tuple(patched for patched, _ in objects)


def _object_stride(table: Extent) -> int:
    """The size of one entry: the only one at which every entry but the last, which is zero, has functions."""
    fits = [
        table.size // count
        for count in range(2, len(table.pointers) + 2)
        if table.size % (8 * count) == 0
        and OBJECT_FIELDS <= table.size // count <= MAX_STRIDE
        and _object_stride_fits(table, table.size // count, count)
    ]
    if len(fits) != 1:
        raise refusal("the layout of its klp_object table is not one that is known")
    return fits[0]


def _object_stride_fits(table: Extent, stride: int, count: int) -> bool:
    allowed = {0, 8, *CALLBACKS}
    return (
        all(number * stride + 8 in table.pointers for number in range(count - 1))
        and all(at // stride < count - 1 and at % stride in allowed for at in table.pointers)
        and not table.data[(count - 1) * stride :].strip(b"\0")
    )


def _object(pointers: Pointers, entry: Extent) -> tuple[PatchedObject, int]:
    """One object, and the size of the entries of its function table (0 where it patches none)."""
    if not entry.zero(OBJECT_FIELDS, entry.size):
        raise refusal("the layout of its klp_object table is not one that is known")
    name = pointers.string(entry.pointers[0]) if 0 in entry.pointers else "vmlinux"
    for at in CALLBACKS:
        if at in entry.pointers:
            pointers.check_code(entry.pointers[at])
    functions, stride = _functions(pointers, pointers.target(entry.pointers[8]))
    callbacks = tuple(callback for at, callback in CALLBACKS.items() if at in entry.pointers)
    return PatchedObject(name, functions, callbacks), stride


def _functions(pointers: Pointers, place: Place) -> tuple[tuple[Function, ...], int]:
    """The functions of one table, and the size of its entries.

    An entry has exactly two pointers, so their number gives the number of entries, and the table's size
    that of each.
    """
    table = pointers.variable(place, "klp_func")
    count = len(table.pointers) // 2
    if count == 0 and table.zero(0, table.size):
        return (), 0
    stride, rest = divmod(table.size, count + 1)
    if rest or stride % 8 or not FUNC_FIELDS <= stride <= MAX_STRIDE or len(table.pointers) % 2:
        raise refusal("the layout of its klp_func table is not one that is known")
    *entries, last = table.entries(stride)
    if not last.zero(0, stride) or any(set(entry.pointers) != {0, 8} for entry in entries):
        raise refusal("the layout of its klp_func table is not one that is known")
    return tuple(_function(pointers, entry) for entry in entries), stride


def _function(pointers: Pointers, entry: Extent) -> Function:
    if not entry.zero(FUNC_FIELDS, entry.size):
        raise refusal("the layout of its klp_func table is not one that is known")
    pointers.check_code(entry.pointers[8])
    return Function(pointers.string(entry.pointers[0]), pointers.word(entry, 16))


def _states(pointers: Pointers, pointer: Relocation) -> tuple[State, ...]:
    table = pointers.variable(pointers.target(pointer), "klp_state")
    unknown = any(at % STATE_SIZE != 16 for at in table.pointers)  # only ``data`` may point somewhere
    if unknown or not 0 < len(table.data) <= MAX_STATES * STATE_SIZE or len(table.data) % STATE_SIZE:
        raise refusal("the layout of its klp_state table is not one that is known")
    fields = list(struct.iter_unpack(pointers.elf.order + "QI12x", table.data))
    states = tuple(State(number, version) for number, version in fields[:-1])
    if fields[-1] != (0, 0) or any(state.id == 0 for state in states):
        raise refusal("its klp_state table does not end with an empty entry")
    return states
