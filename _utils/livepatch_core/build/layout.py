"""Whether a patch changes the layout of a data structure: the compiler's own type information, before and
after.

The running kernel's objects were made with the old layout; code with another one reads them wrongly, and no
comparison of code can see that. gcc writes every type of a unit as BTF (``-gbtf``,
Documentation/bpf/btf.rst), which is cheap to read and does not change the code.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Optional, Union

from livepatch_core.build.refusals import Refusal, Refused

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF = 1, 2, 3, 4, 5, 6, 7, 8
_MODIFIERS = frozenset({8, 9, 10, 11, 18})  # typedef, volatile, const, restrict, type tag
_FUNC, _FUNC_PROTO, _VAR, _DATASEC, _FLOAT, _DECL_TAG, _ENUM64 = 12, 13, 14, 15, 16, 17, 19
# Bytes after the 12 of struct btf_type: fixed, and for each of its vlen members.
_EXTRA = {
    _INT: (4, 0),
    _ARRAY: (12, 0),
    _STRUCT: (0, 12),
    _UNION: (0, 12),
    _ENUM: (0, 8),
    _FUNC_PROTO: (0, 8),
    _VAR: (4, 0),
    _DATASEC: (0, 12),
    _DECL_TAG: (4, 0),
    _ENUM64: (0, 12),
}
_WORDS = {_STRUCT: "struct", _UNION: "union", _ENUM: "enum", _ENUM64: "enum"}
_DEEPEST = 64

Shape = Union[str, tuple[object, ...]]


class _Type(NamedTuple):
    kind: int
    name: str
    flag: bool
    value: int  # size in bytes, or the number of the type it refers to
    extra: bytes


class Member(NamedTuple):
    """``offset`` in bits; ``bits`` is 0 for anything but a bit-field."""

    name: str
    offset: int
    bits: int
    shape: Shape


@dataclass(frozen=True)
class Aggregate:
    """A struct or union with its size in bytes, or an enum (offset = value)."""

    word: str
    name: str
    size: int
    members: tuple[Member, ...]


def _bad() -> Refused:
    return Refused(
        Refusal.OBJECT_FORMAT, "The compiler's type information cannot be read.", remedy="Report this diff."
    )


def _read_types(btf: bytes) -> list[_Type]:
    if len(btf) < 24:
        raise _bad()
    magic, _version, _flags, header, type_at, type_size, text_at, text_size = struct.unpack_from(
        "<HBBIIIII", btf
    )
    types_start, text = header + type_at, btf[header + text_at : header + text_at + text_size]
    if magic != 0xEB9F or types_start + type_size > len(btf):
        raise _bad()
    position, end, types = types_start, types_start + type_size, [_Type(0, "void", False, 0, b"")]
    while position + 12 <= end:
        name_at, info, value = struct.unpack_from("<III", btf, position)
        kind, count = info >> 24 & 0x1F, info & 0xFFFF
        fixed, each = _EXTRA.get(kind, (0, 0))
        extra = btf[position + 12 : position + 12 + fixed + each * count]
        name = text[name_at : text.find(b"\0", name_at)].decode("latin-1") if name_at < len(text) else ""
        types.append(_Type(kind, name, bool(info >> 31), value, extra))
        position += 12 + len(extra)
    return types


class _Shapes:
    """What a member looks like in memory, without names that do not matter."""

    def __init__(self, types: list[_Type]) -> None:
        self.types = types

    def _type(self, number: int) -> _Type:
        if number >= len(self.types):
            raise _bad()
        return self.types[number]

    def plain(self, number: int) -> _Type:
        """The type below typedefs and qualifiers."""
        for _ in range(_DEEPEST):
            found = self._type(number)
            if found.kind not in _MODIFIERS:
                return found
            number = found.value
        raise _bad()

    def shape(self, number: int, depth: int = 0) -> Shape:
        found = self.plain(number)
        if depth > _DEEPEST:
            raise _bad()
        if found.kind == _PTR:
            return "pointer"
        if found.kind == _ARRAY:
            element, _, count = struct.unpack("<III", found.extra)
            return ("array", count, self.shape(element, depth + 1))
        if found.kind in (_STRUCT, _UNION):
            if found.name:
                return f"{_WORDS[found.kind]} {found.name}"
            return (_WORDS[found.kind], found.value, self.members(found, depth + 1))
        if found.kind in (_INT, _ENUM, _ENUM64, _FLOAT):
            return ("number", found.value)
        return ("other", found.kind)

    def members(self, found: _Type, depth: int = 0) -> tuple[Member, ...]:
        members = []
        for name_at, number, offset in struct.iter_unpack("<III", found.extra):
            bits = offset >> 24 if found.flag else 0
            place = offset & 0xFFFFFF if found.flag else offset
            members.append((name_at, number, place, bits))
        return tuple(Member(str(n), o, b, self.shape(t, depth)) for n, t, o, b in members)


def read_aggregates(btf: bytes) -> dict[str, Aggregate]:
    """Every named struct, union and enum of a unit by its C name (``struct foo``).

    A name that a unit defines twice (in two functions) is left out: which is which cannot be told.
    """
    types = _read_types(btf)
    header, text_at = struct.unpack_from("<4xI8xI", btf)
    text = btf[header + text_at :]

    def name(offset: int) -> str:
        return text[offset : text.find(b"\0", offset)].decode("latin-1") if offset < len(text) else ""

    shapes, twice = _Shapes(types), set()
    found: dict[str, Aggregate] = {}
    for item in types:
        if item.kind not in _WORDS or not item.name:
            continue
        label = f"{_WORDS[item.kind]} {item.name}"
        members = _enumerators(item, name) if item.kind in (_ENUM, _ENUM64) else shapes.members(item)
        members = (
            tuple(m._replace(name=name(int(m.name))) for m in members)
            if item.kind in (_STRUCT, _UNION)
            else members
        )
        twice |= {label} & found.keys()
        found[label] = Aggregate(_WORDS[item.kind], item.name, item.value, members)
    return {label: aggregate for label, aggregate in found.items() if label not in twice}


def _enumerators(item: _Type, name: Callable[[int], str]) -> tuple[Member, ...]:
    if item.kind == _ENUM:
        return tuple(Member(name(n), v, 0, "value") for n, v in struct.iter_unpack("<Ii", item.extra))
    return tuple(
        Member(name(n), hi << 32 | lo, 0, "value") for n, lo, hi in struct.iter_unpack("<III", item.extra)
    )


def _enum_change(before: Aggregate, after: Aggregate) -> Optional[str]:
    """New values may be added; old ones must keep theirs, but for the last, which counts the others."""
    old, new = {m.name: m.offset for m in before.members}, {m.name: m.offset for m in after.members}
    last = max(old.values(), default=0)
    changed = [n for n, v in old.items() if n in new and new[n] != v and v != last]
    return f"{changed[0]} changes its value" if changed else None


def _change(before: Aggregate, after: Aggregate) -> Optional[str]:
    if before.word == "enum":
        return _enum_change(before, after)
    if before.size != after.size:
        return f"its size changes from {before.size} to {after.size} bytes"
    if before.members == after.members:
        return None
    old, new = set(before.members), set(after.members)
    names = sorted({m.name for m in old ^ new} - {""})
    return f"its members change ({', '.join(names[:5]) or 'unnamed ones'})"


def _anonymous_names(members: tuple[Member, ...]) -> tuple[Member, ...]:
    return tuple(m._replace(shape=_without_names(m.shape)) for m in members)


def _without_names(shape: object) -> Shape:
    """An anonymous member's inner names are string offsets, which mean nothing in another unit."""
    if isinstance(shape, Member):
        return ("member", shape.offset, shape.bits, _without_names(shape.shape))
    if isinstance(shape, tuple):
        return tuple(_without_names(part) for part in shape)
    return shape if isinstance(shape, str) else ("number", shape)


def changed_layouts(before: bytes, after: bytes) -> dict[str, str]:
    """C name -> what changes, for every type that both units define and lay out differently."""
    if before == after:
        return {}
    old, new = read_aggregates(before), read_aggregates(after)
    found: dict[str, str] = {}
    for label in old.keys() & new.keys():
        one, other = old[label], new[label]
        pair = [Aggregate(a.word, a.name, a.size, _anonymous_names(a.members)) for a in (one, other)]
        why = _change(*pair)
        if why is not None:
            found[label] = why
    return dict(sorted(found.items()))
