"""Whether a patch changes the layout of a data structure: the compiler's own type information, before and
after.

The running kernel's objects were made with the old layout; code with another one reads them wrongly, and no
comparison of code can see that. gcc writes every type of a unit as BTF (``-gbtf``,
Documentation/bpf/btf.rst), which is cheap to read and does not change the code. It says the types of a file's
variables and of its functions' arguments, but not those of variables inside of functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Optional

from livepatch_core.build.btf import DEEPEST, Aggregate, Member, Shape, Types, unreadable
from livepatch_core.build.refusals import Notice, Refusal, Refused, Warning_
from livepatch_core.build.unit import Unit, is_numbered

_DEEPEST_PAIR = 40  # about eleven calls each, of the thousand that Python allows
_VOID, _BYTE = ("other", 0), ("number", 1)
# Names of a value that only counts the others, at the end of an enum.
_COUNT = re.compile(r"^_*(max|nr|num|n)_|_nr_|_(max|nr|num|count|cnt|last|types|nvals)$", re.IGNORECASE)


class _Enumerator(NamedTuple):
    """``counts``: it only says how many others there are; ``enum``: what that is called."""

    value: int
    counts: bool
    enum: str


def _enumerators(types: Types) -> dict[str, _Enumerator]:
    """Every value of every enum by its name, but for a constant that an enum without a name is for, and for
    names that a unit defines twice.
    """
    found: dict[str, _Enumerator] = {}
    twice = set()
    for enum, values in types.enums():
        last = max(values.values(), default=0)
        for name, value in values.items() if enum or len(values) > 1 else ():
            # NAME_MAX = __NAME_MAX - 1 is the last one's value once more.
            counts = value >= last - 1 and bool(_COUNT.search(name))
            one = _Enumerator(value, counts, enum or f"enum of {next(iter(values))}")
            twice |= {name} if found.setdefault(name, one).value != value else set()
    return {name: one for name, one in found.items() if name not in twice}


def _changed_enums(old: dict[str, _Enumerator], new: dict[str, _Enumerator]) -> dict[str, str]:
    """New values may be added; old ones must keep theirs, but for those that count the others."""
    found: dict[str, str] = {}
    for name, one in old.items():
        other = new.get(name, one)
        if one.value != other.value and not one.counts:
            found.setdefault(one.enum, f"{name} changes its value")
    return found


class _Comparison:
    """The types of two units side by side: by name, and in the places where each is used.

    ``renamed``: a type that only the first has -> the one that seems to be the same in the second.
    """

    def __init__(self, before: Types, after: Types) -> None:
        self.before, self.after = before, after
        self.old, self.new = before.aggregates(), after.aggregates()
        self.renamed: dict[str, str] = {}
        self._supposed: dict[tuple[Shape, Shape], None] = {}
        self._unlike: set[tuple[Shape, Shape]] = set()
        self._depth = 0

    def run(self, staying: frozenset[str]) -> dict[str, str]:
        found = {}
        for name in self.old.keys() & self.new.keys():
            why = self.change(self.old[name], self.new[name])
            if why is not None:
                found[name] = why
        for name, one, other in _both(self.before.variables(), self.after.variables()):
            if name in staying and not self.holds_the_same(_element(one), _element(other)):
                found.setdefault(name, "it is a variable of another type")
        # Another argument is as good; another name of its type says something.
        for _, one, other in _both(self.before.functions(), self.after.functions()):
            for parameters in zip(one[1:], other[1:]):
                self.alike(*parameters)
        compared = 0
        while compared < len(self.renamed):  # comparing them may find more
            name, another = list(self.renamed.items())[compared]
            why = self.change(self.old[name], self.new[another])
            if why is not None:
                found[name] = f"it is {another} in the patch, and {why}"
            compared += 1
        return found

    def change(self, before: Aggregate, after: Aggregate) -> Optional[str]:
        """What is different, or None."""
        if before.size != after.size:
            return f"its size changes from {before.size} to {after.size} bytes"
        old, new = before.members, after.members
        if len(old) == len(new) and all(self._members_alike(*each) for each in zip(old, new)):
            return None
        names = sorted({m.name for m in set(old) ^ set(new)} - {""})
        return f"its members change ({', '.join(names[:5]) or 'unnamed ones'})"

    def _members_alike(self, one: Member, other: Member) -> bool:
        return one[:-1] == other[:-1] and self.alike(one.shape, other.shape)

    def alike(self, one: Shape, other: Shape) -> bool:
        """Whether what was written as the one may be read as the other. Two types of one name are compared by
        themselves.
        """
        if one == other:
            return True
        if not (isinstance(one, str) and isinstance(other, str)):
            return self._same(one, other)
        return self._seems_renamed(one, other) or self._supposing(one, other)

    def _supposing(self, one: Shape, other: Shape) -> bool:
        """Whether two are the same if they are the same where they are found in themselves (lists).

        What is unlike under suppositions is so without them; what is alike holds as long as they do. Types
        that are nested too deeply count as unlike: their author can accept them.
        """
        pair = one, other
        if pair in self._supposed:
            return True
        if pair in self._unlike or self._depth > _DEEPEST_PAIR:
            return False
        before = len(self._supposed)
        self._supposed[pair] = None
        self._depth += 1
        same = self._same(one, other)
        self._depth -= 1
        if not same:
            self._unlike.add(pair)
        if not same or not self._depth:
            for later in list(self._supposed)[before:]:
                del self._supposed[later]
        return same

    def _same(self, one: Shape, other: Shape) -> bool:
        one = self.old.get(one, one) if isinstance(one, str) else one
        other = self.new.get(other, other) if isinstance(other, str) else other
        if isinstance(one, Aggregate) and isinstance(other, Aggregate):
            return self.change(one, other) is None
        if not (isinstance(one, tuple) and isinstance(other, tuple)) or one[0] != other[0]:
            return one == other
        if one[0] == "pointer":
            return self._point_alike(one[1], other[1])
        if one[0] == "array":
            return bool(one[1] == other[1]) and self.alike(one[2], other[2])
        if one[0] == "function":
            return len(one) == len(other) and all(self.alike(*each) for each in zip(one[1:], other[1:]))
        return one == other

    def _point_alike(self, one: Shape, other: Shape) -> bool:
        """Whether a pointer to the one may be followed to the other. Nothing looks into what is not defined,
        and bytes may be anything.
        """
        pair = _core(one, self.old), _core(other, self.new)
        if not any(isinstance(each, tuple) and each[0] == "function" for each in pair):
            if any(each == _VOID or isinstance(each, str) for each in pair):
                return True
            if _BYTE in pair and not all(isinstance(each, tuple) and each[0] == "number" for each in pair):
                return True
        return self.holds_the_same(one, other)

    def holds_the_same(self, one: Shape, other: Shape) -> bool:
        """Whether two are alike, with or without what wraps them: a variable may become an atomic_t."""
        if self.alike(one, other):
            return True
        return self._supposing(_core(one, self.old), _core(other, self.new))

    def _seems_renamed(self, one: str, other: str) -> bool:
        """Whether a type that is gone and one that is new, in its place, have most members' names in
        common.
        """
        if one in self.new or other in self.old or one not in self.old or other not in self.new:
            return False
        old, new = ({m.name for m in each.members} - {""} for each in (self.old[one], self.new[other]))
        if len(old & new) * 2 <= len(old):
            return False
        return self.renamed.setdefault(one, other) == other


def _both(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    return ((name, shape, new[name]) for name, shape in old.items() if name in new)


def _element(shape: Shape) -> Shape:
    """What a variable is made of: of an array the size says how many, and a declaration need not."""
    return shape[2] if isinstance(shape, tuple) and shape[0] == "array" else shape


def _core(shape: Shape, known: Mapping[str, Aggregate]) -> Shape:
    """What is left without names and without what only wraps one member (atomic_t, spinlock_t); the label of
    a type that the unit does not define.
    """
    for _ in range(DEEPEST):
        whole = known.get(shape, shape) if isinstance(shape, str) else shape
        if not isinstance(whole, Aggregate):
            return whole
        only = whole.members[0] if len(whole.members) == 1 else None
        if only is None or only.bits or _size(only.shape, known) != whole.size:
            return whole
        shape = only.shape
    raise unreadable()


def _size(shape: Shape, known: Mapping[str, Aggregate]) -> int:
    """Bytes; 0 where it does not matter."""
    if isinstance(shape, str):
        return known[shape].size if shape in known else 0
    if isinstance(shape, Aggregate):
        return shape.size
    if shape[0] == "array":
        return int(shape[1]) * _size(shape[2], known)
    if shape[0] == "number":
        return int(shape[1])
    return 8 if shape[0] == "pointer" else 0


def changed_layouts(before: bytes, after: bytes, staying: frozenset[str] = frozenset()) -> dict[str, str]:
    """C name -> what changes, for every type that both units define and lay out differently, or that has
    another name as well. An enum without a name is called after its first value.

    ``staying``: variables whose contents the patched unit uses; their types count, too.
    """
    if before == after:
        return {}
    one, other = Types(before), Types(after)
    found = _changed_enums(_enumerators(one), _enumerators(other))
    found.update(_Comparison(one, other).run(staying))
    return dict(sorted(found.items()))


def check_layouts(original: Unit, patched: Unit, accept: Mapping[str, str]) -> list[Warning_]:
    """Raises ``Refused`` (LAYOUT) for a type that changes, unless ``accept`` says why no old object meets new
    code; the warning says so then.
    """
    before, after = original.file.section(".BTF"), patched.file.section(".BTF")
    if before is None or after is None:
        raise Refused(
            Refusal.TOOLCHAIN,
            "The compiler wrote no type information.",
            file=patched.path,
            remedy="Use gcc 12 or newer.",
        )
    warnings = []
    staying = kept_variables(original, patched)
    for name, why in changed_layouts(before.data, after.data, staying).items():
        reason = accept.get(name)
        if reason is None:
            raise Refused(
                Refusal.LAYOUT,
                f"The patch changes a type that objects of the running kernel may have: {why}.",
                file=patched.path,
                function=name,
                remedy=f"Keep the layout (a shadow variable can hold new data), or accept {name!r} "
                f"with the reason why no old object meets new code.",
            )
        text = f"{name}: {why}; accepted: {reason}"
        warnings.append(Warning_(Notice.LAYOUT_ACCEPTED, patched.path, name, text))
    return warnings


def same_signatures(original: Unit, patched: Unit) -> frozenset[str]:
    """The functions that both versions define with the same types of parameters and result. What gcc made of
    one with other parameters (``.isra.0``) has another name and is none of them.
    """
    known = [unit.file.section(".BTF") for unit in (original, patched)]
    old, new = (Types(section.data).functions() if section is not None else {} for section in known)
    return frozenset(name for name, shape in old.items() if new.get(name) == shape)


def kept_variables(original: Unit, patched: Unit) -> frozenset[str]:
    """The variables of a file that stay where they are, with what the running kernel has in them."""
    kept = set()
    for name in original.pieces.keys() & patched.pieces.keys():
        one, other = original.pieces[name], patched.pieces[name]
        storage = {original.storage_of(one), patched.storage_of(other)}
        variable = original.section_of(one).writable and not (one.function or other.function)
        if variable and one.size == other.size and not storage & {"start", "exit"} and not is_numbered(name):
            kept.add(name)
    return frozenset(kept)
