"""The tables of modules made by the kernel's own klp-build (6.19 and newer).

``.init.klp_objects`` holds ``klp_object_ext`` {char *name; klp_func_ext *funcs; klp_callbacks callbacks;
unsigned int nr_funcs}, ``.init.klp_funcs`` holds ``klp_func_ext`` {char *old_name; void *new_func; unsigned
long sympos} (include/linux/livepatch_external.h); the module's init code makes the kernel's structures of
them.
"""

from __future__ import annotations

import struct

from livepatch_core.modulefile.model import Function, PatchedObject
from livepatch_core.modulefile.pointers import Extent, Pointers
from livepatch_core.modulefile.refusal import refusal

OBJECTS = ".init.klp_objects"
FUNCS = ".init.klp_funcs"
OBJECT_SIZE = 64
FUNC_SIZE = 24
CALLBACKS = {16: "pre_patch", 24: "post_patch", 32: "pre_unpatch", 40: "post_unpatch"}
NR_FUNCS = 56


def read_klp_build_tables(pointers: Pointers) -> tuple[PatchedObject, ...]:
    """The patched objects in file order."""
    functions = _functions(pointers)
    taken = 0
    objects: list[PatchedObject] = []
    for entry in _entries(pointers, OBJECTS, OBJECT_SIZE):
        start, count = _range(pointers, entry)
        if start + count > len(functions):
            raise refusal(f"an entry of its {OBJECTS} section claims functions that are not there")
        objects.append(_object(pointers, entry, functions[start : start + count]))
        taken += count
    if taken != len(functions):
        raise refusal(f"its {OBJECTS} section accounts for {taken} of {len(functions)} functions")
    return tuple(objects)


def _functions(pointers: Pointers) -> tuple[Function, ...]:
    functions: list[Function] = []
    for entry in _entries(pointers, FUNCS, FUNC_SIZE):
        if set(entry.pointers) != {0, 8}:
            raise refusal(f"the layout of its {FUNCS} section is not one that is known")
        pointers.check_code(entry.pointers[8])
        functions.append(Function(pointers.string(entry.pointers[0]), pointers.word(entry, 16)))
    return tuple(functions)


def _range(pointers: Pointers, entry: Extent) -> tuple[int, int]:
    """Which functions belong to an object: number of the first, and how many."""
    funcs = pointers.elf.by_name.get(FUNCS)
    if 8 not in entry.pointers or set(entry.pointers) - {0, 8, *CALLBACKS} or not entry.zero(48, NR_FUNCS):
        raise refusal(f"the layout of its {OBJECTS} section is not one that is known")
    place = pointers.target(entry.pointers[8])
    (count,) = struct.unpack_from(pointers.elf.order + "I", entry.data, NR_FUNCS)
    if funcs is None or place.section != funcs.index or place.offset < 0 or place.offset % FUNC_SIZE:
        raise refusal(f"an entry of its {OBJECTS} section does not point into {FUNCS}")
    return place.offset // FUNC_SIZE, count


def _object(pointers: Pointers, entry: Extent, functions: tuple[Function, ...]) -> PatchedObject:
    name = pointers.string(entry.pointers[0]) if 0 in entry.pointers else "vmlinux"
    callbacks = tuple(callback for at, callback in CALLBACKS.items() if at in entry.pointers)
    return PatchedObject(name, functions, callbacks)


def _entries(pointers: Pointers, name: str, size: int) -> list[Extent]:
    section = pointers.elf.by_name.get(name)
    if section is None:
        return []
    table = pointers.whole(section, name)
    # Each entry has a pointer at least: no table is larger than its relocations allow.
    if table.size % size or table.size // size > len(table.pointers) or len(table.data) != table.size:
        raise refusal(f"the layout of its {name} section is not one that is known")
    return table.entries(size)
