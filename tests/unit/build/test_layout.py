"""Which changes of types count as another layout, on type information made on the spot."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import pytest

from livepatch_core.build.layout import changed_layouts, kept_variables, same_signatures
from livepatch_core.build.objectfile import SHT_PROGBITS, Section
from livepatch_core.build.refusals import Refused
from livepatch_core.build.unit import Unit
from tests.unit.build.objects import Source

Members = Sequence[tuple[str, int, int]]  # name, number of the type, offset in bits


class Types:
    """BTF under construction (Documentation/bpf/btf.rst); each method gives the number of the new type."""

    def __init__(self) -> None:
        self._text, self._types, self._count = b"\0", b"", 0
        self.int, self.long = self._add(1, "int", 4, extra=bytes(4)), self._add(1, "long", 8, extra=bytes(4))

    def _name(self, name: str) -> int:
        place = len(self._text)
        self._text += name.encode() + b"\0"
        return place if name else 0

    def _add(self, kind: int, name: str, value: int, count: int = 0, extra: bytes = b"") -> int:
        self._types += struct.pack("<III", self._name(name), kind << 24 | count, value) + extra
        self._count += 1
        return self._count

    def struct(self, name: str, size: int, members: Members) -> int:
        fields = [struct.pack("<III", self._name(n), number, offset) for n, number, offset in members]
        return self._add(4, name, size, len(fields), b"".join(fields))

    def enum(self, name: str, values: Mapping[str, int]) -> int:
        fields = [struct.pack("<Ii", self._name(n), value) for n, value in values.items()]
        return self._add(6, name, 4, len(fields), b"".join(fields))

    def pointer(self, number: int) -> int:
        return self._add(2, "", number)

    def function(self, returns: int, given: Sequence[int]) -> int:
        parameters = b"".join(struct.pack("<II", 0, number) for number in given)
        return self._add(13, "", returns, len(given), parameters)

    def typedef(self, name: str, number: int) -> int:
        return self._add(8, name, number)

    def constant(self, number: int) -> int:
        return self._add(10, "", number)

    def array(self, number: int, count: int) -> int:
        return self._add(3, "", 0, extra=struct.pack("<III", number, self.int, count))

    def forward(self, name: str) -> int:
        return self._add(7, name, 0)

    def defined(self, name: str, function: int) -> int:
        return self._add(12, name, function)

    def variable(self, name: str, number: int) -> int:
        return self._add(14, name, number, extra=bytes(4))

    def bytes(self) -> bytes:
        size = len(self._types)
        return (
            struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, size, size, len(self._text))
            + self._types
            + self._text
        )


def two(types: Types, names: Sequence[str], tag: str = "") -> int:
    """A struct of two ints, in the order of ``names``."""
    return types.struct(tag, 8, [(names[0], types.int, 0), (names[1], types.int, 32)])


def changed(kind: str, before: Sequence[str], after: Sequence[str]) -> list[str]:
    return list(changed_layouts(holding(kind, before), holding(kind, after)))


def holding(kind: str, names: Sequence[str]) -> bytes:
    types = Types()
    types.struct("pad" if names[0] == "a" else "other_pad", 0, [])  # numbers and names move about
    if kind == "tag":
        two(types, names, "node")
    elif kind == "typedef":
        types.typedef("Node", types.constant(two(types, names)))
    elif kind == "member":
        types.struct("outer", 12, [("", two(types, names), 0), ("k", types.int, 64)])
    elif kind == "pointer":
        types.struct("outer", 8, [("table", types.pointer(two(types, names)), 0)])
    elif kind == "variable":
        types.variable("state", types.pointer(two(types, names)))
    elif kind == "member behind a typedef":
        types.struct("outer", 8, [("node", types.typedef("Node", two(types, names)), 0)])
    return types.bytes()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("tag", "struct node"),
        ("typedef", "Node"),
        ("member", "struct outer"),
        ("pointer", "struct outer"),
        ("variable", "state"),
        ("member behind a typedef", "Node"),
    ],
)
def test_members_that_change_places(kind: str, name: str) -> None:
    assert changed(kind, ["a", "b"], ["b", "a"]) == [name]
    assert changed(kind, ["a", "b"], ["a", "b"]) == []


def enums(before: Sequence[str], after: Sequence[str], name: str = "step") -> list[str]:
    def unit(values: Sequence[str]) -> bytes:
        types = Types()
        number = types.enum("" if name == "typedef" else name, {n: v for v, n in enumerate(values)})
        if name == "typedef":
            types.typedef("step_t", number)
        return types.bytes()

    return list(changed_layouts(unit(before), unit(after)))


@pytest.mark.parametrize(
    ("name", "label"), [("step", "enum step"), ("", "enum of NEW"), ("typedef", "step_t")]
)
def test_value_that_is_moved_counts_whatever_the_enum_is_called(name: str, label: str) -> None:
    assert enums(["NEW", "BUSY", "DONE"], ["NEW", "HELD", "BUSY", "DONE"], name) == [label]
    assert enums(["NEW", "BUSY"], ["NEW", "BUSY", "DONE"], name) == []


def test_value_before_the_last_moves_the_last() -> None:
    """As legacy_fs_param, which a context holds."""
    assert enums(["UNSET", "MONOLITHIC", "INDIVIDUAL"], ["UNSET", "MONOLITHIC", "BINARY", "INDIVIDUAL"]) != []


@pytest.mark.parametrize("last", ["STEP_MAX", "__STEP_MAX", "NR_STEPS", "MAX_STEPS", "NUM_STEPS", "STEP_CNT"])
def test_count_at_the_end_may_grow(last: str) -> None:
    assert enums(["A", "B", last], ["A", "B", "C", last]) == []


def test_name_like_a_count_in_the_middle_is_a_value() -> None:
    assert enums(["MAX_RATE", "B", "C", "D"], ["A", "MAX_RATE", "E", "F"]) == ["enum step"]


def test_highest_value_by_another_name_may_grow() -> None:
    """The kernel writes NAME_MAX = __NAME_MAX - 1."""

    def unit(values: Sequence[str]) -> bytes:
        types = Types()
        numbers = {name: value for value, name in enumerate([*values, "__STEP_MAX"])}
        types.enum("", {**numbers, "STEP_MAX": len(values) - 1})
        return types.bytes()

    assert changed_layouts(unit(["A", "B"]), unit(["A", "B", "C"])) == {}


def test_constant_that_an_enum_is_written_for_is_no_layout() -> None:
    def unit(value: int) -> bytes:
        types = Types()
        types.enum("", {"RETRIES": value})
        return types.bytes()

    assert changed_layouts(unit(3), unit(5)) == {}


def test_type_that_refers_to_itself_without_end_is_refused() -> None:
    types = Types()
    types.struct("node", 8, [("next", 4, 0)])
    types.pointer(5)
    types.struct("", 8, [("next", 4, 0)])
    with pytest.raises(Refused):
        changed_layouts(types.bytes(), Types().bytes())


def test_arguments_of_a_function_pointer_are_layout() -> None:
    """What was registered before is called with the new ones."""

    def unit(*given: str) -> bytes:
        types = Types()
        number = types.function(types.int, [getattr(types, one) for one in given])
        types.struct("ops", 8, [("call", types.pointer(number), 0)])
        return types.bytes()

    assert list(changed_layouts(unit("int"), unit("int", "long"))) == ["struct ops"]
    assert list(changed_layouts(unit("int"), unit("long"))) == ["struct ops"]
    assert changed_layouts(unit("int", "long"), unit("int", "long")) == {}


def pointing(target: str, holder: str = "member") -> bytes:
    """A unit in which something points to ``target``; "old" and "new" are structs with different layouts,
    "gone" and "come" exist on one side only.
    """
    types = Types()
    old, new = two(types, ["a", "b"], "old"), two(types, ["b", "a"], "new")
    one = {
        "old": lambda: old,
        "new": lambda: new,
        "twin": lambda: two(types, ["a", "b"], "twin"),
        "forward": lambda: types.forward("opaque"),
        "void": lambda: 0,
        "int": lambda: types.int,
        "long": lambda: types.long,
        "counter": lambda: types.typedef("atomic_t", types.struct("", 4, [("counter", types.int, 0)])),
        "gone": lambda: two(types, ["a", "b"], "gone"),
        "come": lambda: two(types, ["b", "a"], "come"),
        "unlike": lambda: two(types, ["x", "y"], "unlike"),
        "pointer to old": lambda: types.pointer(old),
        "pointer to new": lambda: types.pointer(new),
        "function": lambda: types.function(types.int, [types.pointer(old)]),
        "other function": lambda: types.function(types.int, [types.pointer(new)]),
    }[target]()
    number = types.pointer(one)
    if holder == "member":
        types.struct("outer", 8, [("table", number, 0)])
    elif holder == "variable":
        types.variable("state", number)
    else:
        types.defined("work", types.function(types.int, [types.int, number]))
    return types.bytes()


ALIKE = [
    ("old", "twin"),  # another name only
    ("old", "void"),
    ("void", "old"),
    ("old", "forward"),
    ("forward", "new"),
    ("int", "counter"),
    ("function", "function"),
]
UNLIKE = [
    ("old", "new"),
    ("int", "long"),
    ("old", "int"),
    ("pointer to old", "pointer to new"),
    ("old", "counter"),
    ("function", "other function"),
    ("function", "void"),
    ("gone", "unlike"),
]


@pytest.mark.parametrize(("holder", "name"), [("member", "struct outer"), ("variable", "state")])
@pytest.mark.parametrize(("before", "after"), [*ALIKE, *UNLIKE])
def test_what_something_points_to(holder: str, name: str, before: str, after: str) -> None:
    units = pointing(before, holder), pointing(after, holder)
    refused = [name] if (before, after) in UNLIKE else []
    assert list(changed_layouts(*units, frozenset({"state"}))) == refused


@pytest.mark.parametrize("holder", ["member", "variable", "argument"])
def test_another_layout_under_another_name(holder: str) -> None:
    """As struct loop_worker, which only functions of drivers/block/loop.c take."""
    found = changed_layouts(pointing("gone", holder), pointing("come", holder), frozenset({"state"}))
    assert found == {"struct gone": "it is struct come in the patch, and its members change (a, b)"}
    assert changed_layouts(pointing("gone", holder), pointing("twin", holder), frozenset({"state"})) == {}


@pytest.mark.parametrize(("before", "after"), [("old", "new"), ("gone", "unlike"), ("gone", "old")])
def test_function_may_take_something_else(before: str, after: str) -> None:
    assert changed_layouts(pointing(before, "argument"), pointing(after, "argument")) == {}


def test_another_name_all_along_a_list() -> None:
    def unit(name: str, size: int) -> bytes:
        types = Types()
        node = types.pointer(types.long + 2)
        types.struct(name, size, [("next", node, 0), ("value", types.int, 64)])
        types.variable("head", node)
        return types.bytes()

    def found(name: str, size: int) -> list[str]:
        return list(changed_layouts(unit("node", 16), unit(name, size), frozenset({"head"})))

    assert found("knot", 16) == []
    assert found("knot", 24) == ["struct node"]


def test_two_lists_with_the_same_layout() -> None:
    """Both types are there before and after, so neither is the other under another name."""

    def unit(pointee: int, second: str = "value") -> bytes:
        types = Types()
        first = types.long + 1
        for n, name in enumerate((second, "value")):
            assert types.pointer(first + 2 * n + 1) == first + 2 * n
            types.struct(f"node{n}", 16, [("next", first + 2 * n, 0), (name, types.int, 64)])
        types.variable("head", first + 2 * pointee)
        return types.bytes()

    assert changed_layouts(unit(0), unit(1), frozenset({"head"})) == {}
    staying = frozenset({"head"})
    assert list(changed_layouts(unit(0, "other"), unit(1, "other"), staying)) == ["head"]


def variable(kind: str) -> bytes:
    types = Types()
    raw = types.struct("raw_lock", 4, [("value", types.int, 0)])
    numbers = {
        "int": lambda: types.int,
        "counter": lambda: types.typedef("atomic_t", types.struct("", 4, [("counter", types.int, 0)])),
        "lock": lambda: types.struct("lock", 4, [("raw", raw, 0)]),
        "raw lock": lambda: raw,
        "ints": lambda: types.array(types.int, 4),
        "ints somewhere": lambda: types.array(types.int, 0),
        "longs": lambda: types.array(types.long, 2),
        "pairs": lambda: types.array(two(types, ["a", "b"]), 2),
        "pair": lambda: two(types, ["a", "b"], "pair"),
        "nameless pair": lambda: two(types, ["a", "b"]),
        "long": lambda: types.long,
    }
    types.variable("state", numbers[kind]())
    return types.bytes()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("int", "counter"),
        ("counter", "int"),
        ("lock", "raw lock"),
        ("ints", "ints somewhere"),
        ("pair", "nameless pair"),
    ],
)
def test_variable_that_holds_the_same(before: str, after: str) -> None:
    assert changed_layouts(variable(before), variable(after), frozenset({"state"})) == {}


@pytest.mark.parametrize(
    ("before", "after"), [("ints", "longs"), ("ints", "pairs"), ("long", "pair"), ("longs", "ints somewhere")]
)
def test_variable_of_another_type(before: str, after: str) -> None:
    units = variable(before), variable(after)
    assert changed_layouts(*units, frozenset({"state"})) == {"state": "it is a variable of another type"}
    assert changed_layouts(*units) == {}  # its size changes or it is another one: not a question of types


def test_type_that_holds_itself_without_end_is_refused() -> None:
    types = Types()
    types.variable("state", types.struct("endless", 4, [("", types.long + 1, 0)]))
    with pytest.raises(Refused):
        changed_layouts(variable("int"), types.bytes(), frozenset({"state"}))


def test_types_that_only_point_to_each_other() -> None:
    def unit(chosen: int) -> bytes:
        types = Types()
        first = types.long + 1
        for n, other in enumerate((1, 0, 3, 2)):  # a pointer to the other, and the struct around it
            types.struct(f"side{n}", 8, [(f"other_of_{n}", types.pointer(first + 2 * other + 1), 0)])
        types.variable("state", first + 2 * chosen + 1)
        return types.bytes()

    assert changed_layouts(unit(0), unit(2), frozenset({"state"})) == {}


def test_variables_whose_contents_go_on_being_used() -> None:
    def unit(size: int = 4) -> Unit:
        source = Source()
        source.function("function", b"\xc3")
        source.data("count", bytes(size))
        source.data("name", b"name", section=".rodata.name")
        source.data("start", bytes(4), section=".init.data")
        source.data("each.1", bytes(4), section=".bss.each.1")
        source.data("cpu", bytes(4), section=".data..percpu")
        return source.unit()

    assert kept_variables(unit(), unit()) == {"count", "cpu"}
    assert kept_variables(unit(), unit(8)) == {"cpu"}


def test_functions_with_the_same_signature() -> None:
    """A clone of gcc's has a name that no type is known by."""

    def unit(given: int, name: str = "f", returns: int = 0) -> Unit:
        types = Types()
        kinds = [types.int, types.long, types.pointer(types.forward("a")), types.pointer(types.forward("b"))]
        types.defined(name, types.function(returns, [kinds[given]]))
        source = Source()
        source.function("f", b"\xc3")
        source.sections.append(Section(".BTF", SHT_PROGBITS, 0, types.bytes(), len(types.bytes()), 1))
        return source.unit()

    before = unit(0)
    assert same_signatures(before, unit(0)) == {"f"}
    assert same_signatures(before, unit(1)) == frozenset()
    assert same_signatures(before, unit(0, "g")) == frozenset()
    assert same_signatures(before, unit(0, returns=1)) == frozenset()
    assert same_signatures(unit(2), unit(3)) == frozenset()
    assert same_signatures(before, Source().unit()) == frozenset()


def families(links: int, wide: int, target: str) -> bytes:
    """Two families of structs, each of which points to the one before it, and something that points into one
    of them.
    """
    types = Types()
    last = {}
    for family, kind in (("a", types.int), ("b", types.long)):
        inner = kind
        for number in range(links):
            below = types.pointer(inner) if number else inner
            fields = [(f"x{n}", below, 64 * n) for n in range(wide)]
            inner = types.struct(f"{family}{number}", 8 * wide, fields)
        last[family] = inner
    types.struct("holder", 8, [("q", types.pointer(last[target]), 0)])
    return types.bytes()


@pytest.mark.parametrize(("links", "wide"), [(150, 1), (40, 2)])
def test_chains_of_types_end(links: int, wide: int) -> None:
    """Deeper than Python's stack, or with more ways through them than there is time."""
    before, after = families(links, wide, "a"), families(links, wide, "b")
    assert list(changed_layouts(before, after)) == ["struct holder"]
    assert changed_layouts(before, families(links, wide, "a")) == {}
