"""The tables that kpatch keeps in its modules; its init code makes the kernel's structures of them.

``.kpatch.funcs``: entries of seven words: new address, new size, old address, old size, symbol position,
name, object. ``.kpatch.callbacks.<which>``: entries of two words: function, object. Older linker scripts
end a section with one zero word (kpatch, kmod/patch/kpatch-patch.h and kpatch.lds.S).
"""

from __future__ import annotations

from livepatch_core.modulefile.model import Function, PatchedObject
from livepatch_core.modulefile.pointers import Extent, Pointers
from livepatch_core.modulefile.refusal import refusal

FUNCS = ".kpatch.funcs"
CALLBACKS = ("pre_patch", "post_patch", "pre_unpatch", "post_unpatch")
FUNC_SIZE = 56
CALLBACK_SIZE = 16


def read_kpatch_tables(pointers: Pointers) -> tuple[PatchedObject, ...]:
    """The patched objects, in the order in which the tables first name them."""
    functions: dict[str, list[Function]] = {}
    callbacks: dict[str, list[str]] = {}
    for entry in _entries(pointers, FUNCS, FUNC_SIZE, {0, 40, 48}):
        pointers.check_code(entry.pointers[0])
        function = Function(pointers.string(entry.pointers[40]), pointers.word(entry, 32))
        functions.setdefault(pointers.string(entry.pointers[48]), []).append(function)
    for callback in CALLBACKS:
        for entry in _entries(pointers, f".kpatch.callbacks.{callback}", CALLBACK_SIZE, {0, 8}):
            pointers.check_code(entry.pointers[0])
            callbacks.setdefault(pointers.string(entry.pointers[8]), []).append(callback)
    return tuple(
        PatchedObject(name, tuple(functions.get(name, ())), tuple(callbacks.get(name, ())))
        for name in {**functions, **callbacks}
    )


def _entries(pointers: Pointers, name: str, size: int, fields: set[int]) -> list[Extent]:
    """The entries of one section, each with pointers at exactly ``fields``; none where there is no such
    section.
    """
    section = pointers.elf.by_name.get(name)
    if section is None:
        return []
    table = pointers.whole(section, name)
    count, rest = divmod(len(table.pointers), len(fields))
    tail = table.size - count * size
    if rest or tail not in (0, 8) or not table.zero(count * size, table.size):
        raise refusal(f"the layout of its {name} section is not one that is known")
    entries = table.entries(size)[:count]
    if any(set(entry.pointers) != fields for entry in entries):
        raise refusal(f"the layout of its {name} section is not one that is known")
    return entries
