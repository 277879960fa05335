"""The types of a translation unit as the compiler writes them (``gcc -gbtf``, Documentation/bpf/btf.rst):
what its structures, variables and functions look like in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Union

from livepatch_core.build.refusals import Refusal, Refused

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF = 1, 2, 3, 4, 5, 6, 7, 8
_QUALIFIERS = frozenset({9, 10, 11, 18})  # volatile, const, restrict, type tag
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
_ENUMS = frozenset({_ENUM, _ENUM64})
_WORDS = {_STRUCT: "struct", _UNION: "union", _ENUM: "enum", _ENUM64: "enum"}
DEEPEST = 64

# The label of a type that has one; an Aggregate without; or what C makes others of, as a word and its parts.
Shape = Union[str, "Aggregate", tuple[Any, ...]]


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
    """A struct or union with its size in bytes."""

    size: int
    members: tuple[Member, ...]


def unreadable() -> Refused:
    return Refused(
        Refusal.OBJECT_FORMAT, "The compiler's type information cannot be read.", remedy="Report this diff."
    )


def _label(item: _Type, alias: str = "") -> str:
    """What C calls a type: by its tag, or else by the typedef that it is behind."""
    return f"{_WORDS[item.kind]} {item.name}" if item.name else alias


class Types:
    """The types of one unit, read from its section ``.BTF``. Raises ``Refused`` (object-format)."""

    def __init__(self, btf: bytes) -> None:
        if len(btf) < 24:
            raise unreadable()
        magic, _version, _flags, header, type_at, type_size, text_at, text_size = struct.unpack_from(
            "<HBBIIIII", btf
        )
        position = header + type_at
        end = position + type_size
        if magic != 0xEB9F or end > len(btf):
            raise unreadable()
        self._text = btf[header + text_at : header + text_at + text_size]
        self._types = [_Type(0, "void", False, 0, b"")]
        while position + 12 <= end:
            name_at, info, value = struct.unpack_from("<III", btf, position)
            kind, count = info >> 24 & 0x1F, info & 0xFFFF
            fixed, each = _EXTRA.get(kind, (0, 0))
            extra = btf[position + 12 : position + 12 + fixed + each * count]
            self._types.append(_Type(kind, self._name(name_at), bool(info >> 31), value, extra))
            if len(extra) != fixed + each * count:
                raise unreadable()
            position += 12 + len(extra)

    def variables(self) -> dict[str, Shape]:
        return self._of_kind(_VAR)

    def functions(self) -> dict[str, Shape]:
        return self._of_kind(_FUNC)

    def aggregates(self) -> dict[str, Aggregate]:
        """Every struct and union that has a name.

        A name that the unit defines twice (in two functions) is left out: which is which cannot be told.
        """
        found: dict[str, Aggregate] = {}
        twice = set()
        for name, item in self._labelled():
            if item.kind not in _ENUMS:
                twice |= {name} & found.keys()
                found[name] = Aggregate(item.value, self._members(item))
        return {name: aggregate for name, aggregate in found.items() if name not in twice}

    def enums(self) -> Iterator[tuple[str, dict[str, int]]]:
        """What each enum is called, and its values by their names; "" for one that nothing gives a name."""
        for name, item in self._labelled():
            if item.kind in _ENUMS:
                yield name, self._values(item)

    def _plain(self, number: int) -> tuple[_Type, str]:
        """The type below typedefs and qualifiers, and the name of the last typedef."""
        alias = ""
        for _ in range(DEEPEST):
            if number >= len(self._types):
                raise unreadable()
            found = self._types[number]
            if found.kind != _TYPEDEF and found.kind not in _QUALIFIERS:
                return found, alias
            alias = found.name if found.kind == _TYPEDEF else alias
            number = found.value
        raise unreadable()

    def _shape(self, number: int, depth: int = 0) -> Shape:
        found, alias = self._plain(number)
        if depth > DEEPEST:
            raise unreadable()
        if found.kind == _PTR:
            return ("pointer", self._shape(found.value, depth + 1))
        if found.kind == _FUNC_PROTO:
            return self._signature(found, depth + 1)
        if found.kind == _ARRAY:
            element, _, count = struct.unpack("<III", found.extra)
            return ("array", count, self._shape(element, depth + 1))
        if found.kind in (_STRUCT, _UNION):
            name = _label(found, alias)
            return name or Aggregate(found.value, self._members(found, depth + 1))
        if found.kind == _FWD:
            return f"{'union' if found.flag else 'struct'} {found.name}"
        if found.kind in (_INT, _ENUM, _ENUM64, _FLOAT):
            return ("number", found.value)
        return ("other", found.kind)

    def _signature(self, found: _Type, depth: int) -> Shape:
        """What a function returns and takes: one that was registered before is called with it."""
        given = [number for _, number in struct.iter_unpack("<II", found.extra)]
        return ("function", *(self._shape(number, depth) for number in (found.value, *given)))

    def _members(self, found: _Type, depth: int = 0) -> tuple[Member, ...]:
        members = []
        for name_at, number, offset in struct.iter_unpack("<III", found.extra):
            bits = offset >> 24 if found.flag else 0
            place = offset & 0xFFFFFF if found.flag else offset
            members.append(Member(self._name(name_at), place, bits, self._shape(number, depth)))
        return tuple(members)

    def _of_kind(self, kind: int) -> dict[str, Shape]:
        """Shapes of the variables or functions of the unit."""
        return {one.name: self._shape(one.value) for one in self._types if one.kind == kind}

    def _labelled(self) -> Iterator[tuple[str, _Type]]:
        """Every struct, union and enum by its C name (``struct foo``; of one without a name, its typedef or
        variable); "" for an enum that has none of these.
        """
        named = set()
        for item in self._types:
            if item.kind in (_TYPEDEF, _VAR):
                below = self._below(item.value, through=() if item.kind == _TYPEDEF else (_PTR, _ARRAY))
                if self._types[below].kind in _WORDS and not self._types[below].name:
                    named.add(below)
                    yield item.name, self._types[below]
        for number, item in enumerate(self._types):
            if item.kind in _WORDS and (item.name or (item.kind in _ENUMS and number not in named)):
                yield _label(item), item

    def _below(self, number: int, through: Sequence[int]) -> int:
        """The type below qualifiers and the given kinds, but not below typedefs."""
        for _ in range(DEEPEST):
            if number >= len(self._types):
                raise unreadable()
            found = self._types[number]
            if found.kind not in _QUALIFIERS and found.kind not in through:
                return number
            is_array = found.kind == _ARRAY
            number = struct.unpack("<III", found.extra)[0] if is_array else found.value
        raise unreadable()

    def _values(self, item: _Type) -> dict[str, int]:
        if item.kind == _ENUM:
            return {self._name(n): v for n, v in struct.iter_unpack("<Ii", item.extra)}
        return {self._name(n): high << 32 | low for n, low, high in struct.iter_unpack("<III", item.extra)}

    def _name(self, offset: int) -> str:
        text = self._text
        return text[offset : text.find(b"\0", offset)].decode("latin-1") if offset < len(text) else ""
