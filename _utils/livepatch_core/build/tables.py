"""The livepatch tables of a finished module, read as the kernel reads them (include/linux/livepatch.h).

Only the first fields of each structure are set in a file; what follows is zero, and its length depends on
the kernel. A table's symbol tells its size, and the number of entries that were meant the size of each.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from livepatch_core.build.hooks import CALLBACKS
from livepatch_core.build.image import Image, section_addresses
from livepatch_core.build.objectfile import SHN_LORESERVE, SHN_UNDEF, ObjectFile

_PATCH, _OBJECT, _FUNCTION, _STATE = 25, 48, 24, 24  # bytes that a file may set
_LONGEST = 512


class Row(NamedTuple):
    """One replacement: the original's name and position, the address of the new code."""

    old_name: str
    position: int
    new: int


class Entry(NamedTuple):
    """One patched object; ``callbacks``: address by kind."""

    name: str
    functions: tuple[Row, ...]
    callbacks: Mapping[str, int]


class Tables(NamedTuple):
    """Everything that the module registers."""

    objects: tuple[Entry, ...]
    states: tuple[tuple[int, int], ...]
    replace: bool


class Unreadable(Exception):
    """A table is not what the kernel expects."""


class _Reader:
    def __init__(self, file: ObjectFile, module: Image) -> None:
        self.module = module
        bases = section_addresses(file)
        self.sizes = {
            (s.name, bases[s.section] + s.value): s.size
            for s in file.symbols
            if SHN_UNDEF < s.section < SHN_LORESERVE and s.section in bases
        }

    def patch(self) -> int:
        """The address of the only klp_patch."""
        own = self.module.addresses("__this_module")
        found = [at for at in self.module.addresses("patch") if own and self.word(at) == own[0]]
        if len(found) != 1:
            raise Unreadable(f"it has {len(found)} klp_patch structures")
        self._rest(found[0], _PATCH, self.sizes["patch", found[0]], "klp_patch")
        return found[0]

    def word(self, address: int) -> int:
        raw = self.module.read(address, 8)
        if len(raw) < 8:
            raise Unreadable("a table points outside of it")
        return int.from_bytes(raw, "little")

    def text(self, address: int) -> str:
        raw, end, _ = self.module.read(address, _LONGEST).partition(b"\0")
        if not end:
            raise Unreadable("a name in a table does not end")
        return raw.decode("utf-8", "replace")

    def _rest(self, address: int, used: int, size: int, what: str) -> None:
        if size < used or self.module.read(address + used, size - used).strip(b"\0"):
            raise Unreadable(f"its {what} has fields that are not known")

    def rows(self, name: str, address: int, count: int, used: int) -> list[int]:
        """Addresses of the ``count`` entries of a table, which an empty one ends."""
        stride, rest = divmod(self.sizes.get((name, address), 0), count + 1)
        if rest or stride < used or stride % 8:
            raise Unreadable(f"its table {name} does not have {count} entries")
        starts = [address + stride * number for number in range(count + 1)]
        if self.module.read(starts[-1], stride) != bytes(stride):
            raise Unreadable(f"its table {name} does not end")
        for start in starts[:-1]:
            self._rest(start, used, stride, name)
        return starts[:-1]

    def object(self, start: int, index: int, count: int) -> Entry:
        name, functions = self.word(start), self.word(start + 8)
        rows = [
            Row(self.text(self.word(at)), self.word(at + 16), self.word(at + 8))
            for at in self.rows(f"functions_{index}", functions, count, _FUNCTION)
        ]
        callbacks = {kind: self.word(start + 16 + 8 * number) for number, kind in enumerate(CALLBACKS)}
        set_ones = {kind: address for kind, address in callbacks.items() if address}
        return Entry(self.text(name) if name else "vmlinux", tuple(rows), set_ones)

    def states(self, address: int, count: int) -> tuple[tuple[int, int], ...]:
        raw = [self.module.read(at, 16) for at in self.rows("states", address, count, _STATE)]
        return tuple(struct.unpack("<QI4x", one) for one in raw)


def read_tables(file: ObjectFile, module: Image, functions: Sequence[int], states: int) -> Tables:
    """The tables, with as many ``functions`` for each object and as many ``states`` as were meant.

    Raises Unreadable for any other number.
    """
    reader = _Reader(file, module)
    patch = reader.patch()
    starts = reader.rows("objects", reader.word(patch + 8), len(functions), _OBJECT)
    objects = [reader.object(start, *each) for start, each in zip(starts, enumerate(functions))]
    declared: Optional[int] = reader.word(patch + 16)
    if bool(declared) != bool(states):
        raise Unreadable("it declares other states")
    said = reader.states(declared, states) if declared else ()
    return Tables(tuple(objects), said, module.read(patch + 24, 1) == b"\1")
