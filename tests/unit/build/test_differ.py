"""Which functions count as changed, and what is refused, on small made objects."""

from __future__ import annotations

import pytest

from livepatch_core.build.case import Difference
from livepatch_core.build.differ import difference
from livepatch_core.build.objectfile import (
    R_64,
    R_PC32,
    STB_GLOBAL,
    STB_LOCAL,
    STT_NOTYPE,
    STT_SECTION,
    Relocation,
    Symbol,
)
from livepatch_core.build.refusals import Notice, Refusal, Refused
from tests.unit.build.objects import Source

CALL = b"\xe8\0\0\0\0\xc3"


def compare(before: Source, after: Source, **options: object) -> Difference:
    return difference(before.unit(), after.unit(), **options)  # type: ignore[arg-type]


def two_functions(code: bytes = CALL, callee: str = "helper", **options: object) -> Source:
    source = Source()
    source.function("caller", CALL, calls={1: callee})
    source.function("helper", code, calls={1: "outside"}, **options)  # type: ignore[arg-type]
    return source


def test_equal_units_change_nothing() -> None:
    change = compare(two_functions(), two_functions())
    assert change.changed == []


def test_changed_code_is_replaced_and_its_caller_is_not() -> None:
    change = compare(two_functions(), two_functions(b"\xe8\0\0\0\0\x90"))
    assert change.replaced == ["helper"]


def test_call_of_something_else_is_a_change() -> None:
    change = compare(two_functions(), two_functions(callee="other"))
    assert change.replaced == ["caller"]


def test_string_counts_by_its_content() -> None:
    def unit(text: bytes, pad: bytes = b"") -> Source:
        source = Source()
        source.function("f", b"\xbf\0\0\0\0\xc3")
        if pad:
            source.string(pad)
        source.point("f", 1, source.string(text))
        return source

    assert compare(unit(b"same"), unit(b"same", b"another section before it")).changed == []
    assert compare(unit(b"old"), unit(b"new")).replaced == ["f"]


def test_constant_without_a_name_counts_by_its_content() -> None:
    """The initial values of a local array: the code that copies them is the same."""

    def unit(content: bytes, holds: bytes = b"same") -> Source:
        source = Source()
        source.function("f", b"\xbf\0\0\0\0\xc3")
        source.function("other", b"\xc3")
        number = source.unnamed(content)
        source.point("f", 1, number)
        source.symbols.append(Symbol("", 0, 0, STT_SECTION, STB_LOCAL, source.string(holds)))
        source.sections[number - 1].relocations.append(Relocation(0, R_64, len(source.symbols) - 1, 0))
        return source

    assert compare(unit(bytes(8) + b"\x02\x0e\x80"), unit(bytes(8) + b"\x02\x0e\x80")).changed == []
    assert compare(unit(bytes(8) + b"\x02\x0e\x80"), unit(bytes(8) + b"\x02\x0e\x40")).replaced == ["f"]
    assert compare(unit(bytes(8)), unit(bytes(8), b"other")).replaced == ["f"]
    assert compare(unit(bytes(8)), unit(bytes(9))).replaced == ["f"]


def test_constant_without_a_name_may_refer_to_itself() -> None:
    def unit(content: bytes) -> Source:
        source = Source()
        source.function("f", b"\xbf\0\0\0\0\xc3")
        number = source.unnamed(bytes(8) + content)
        source.point("f", 1, number)
        source.sections[number - 1].relocations.append(Relocation(0, R_64, len(source.symbols) - 1, 8))
        return source

    assert compare(unit(b"a"), unit(b"a")).changed == []
    assert compare(unit(b"a"), unit(b"b")).replaced == ["f"]


def test_line_of_a_warning_is_no_change_and_its_flags_are() -> None:
    def unit(line: int, flags: int) -> Source:
        source = Source()
        source.function("f", CALL, calls={1: "outside"})
        source.record(
            "__bug_table", bytes(8) + line.to_bytes(2, "little") + flags.to_bytes(2, "little"), {0: "f"}
        )
        return source

    assert compare(unit(10, 1), unit(12, 1)).changed == []
    assert compare(unit(10, 1), unit(10, 3)).replaced == ["f"]


def test_untraced_function_promotes_its_callers() -> None:
    change = compare(
        two_functions(traced=False, local=True), two_functions(b"\xe8\0\0\0\0\x90", traced=False, local=True)
    )
    assert (change.replaced, change.copied) == (["caller"], ["helper"])
    assert [w.notice for w in change.warnings] == [Notice.CALLER_PROMOTED]


@pytest.mark.parametrize("visible", [True, False])
def test_untraced_function_that_others_reach_is_refused(visible: bool) -> None:
    def unit(code: bytes) -> Source:
        source = Source()
        taken = {} if visible else {1: "helper"}
        source.function("caller", CALL, takes=taken, calls={1: "helper"} if visible else {})
        source.function("helper", code, traced=False, local=not visible)
        return source

    with pytest.raises(Refused) as caught:
        compare(unit(b"\x90\xc3"), unit(b"\xcc\xc3"))
    assert caught.value.refusal is Refusal.NOTRACE
    assert caught.value.function == "helper"


def test_untraced_function_that_nothing_calls_by_name_is_refused() -> None:
    """As the entries of a table of code whose addresses assembler computes (setcc in KVM's emulator)."""

    def unit(code: bytes) -> Source:
        source = two_functions()
        source.function("setnle", code, traced=False, local=True, section=".text")
        return source

    with pytest.raises(Refused) as caught:
        compare(unit(b"\x90\xc3"), unit(b"\xcc\xc3"))
    assert (caught.value.refusal, caught.value.function) == (Refusal.NOTRACE, "setnle")
    assert compare(unit(b"\x90\xc3"), unit(b"\x90\xc3")).changed == []


NOP, NOPS = b"\x90", b"\x0f\x1f\x44\x00\x00"


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        (b"\x31\xf6\xc3", b"\x31\xff\xc3", False),
        (b"\x31\xf6\xc3", b"\x31\xf6\xf6\xc3", False),
        (b"\x31\xf6\xc3", b"\xc3", False),
        (b"\x31\xf6\xc3" + NOP, b"\x31\xf6\xc3" + NOPS + NOP, True),  # what follows begins elsewhere
        (NOPS, NOP, True),
        (b"", NOPS, True),
    ],
)
@pytest.mark.parametrize("label", ["kvm_fastop_exception", ""])
def test_code_outside_of_functions_is_compared(label: str, before: bytes, after: bytes, same: bool) -> None:
    def unit(code: bytes) -> Source:
        source = two_functions()
        source.function("first", b"\xc3" + code, section=".text", traced=False)
        number = source.symbols[-1].section
        source.symbols[-1] = source.symbols[-1]._replace(size=1)
        if label:
            source.symbols.append(Symbol(label, 1, 0, STT_NOTYPE, STB_GLOBAL, number))
        return source

    if same:
        assert compare(unit(before), unit(after)).changed == []
        return
    with pytest.raises(Refused) as caught:
        compare(unit(before), unit(after))
    assert (caught.value.refusal, caught.value.function) == (Refusal.NOTRACE, label or "first")


def test_changed_start_code_is_refused_unless_accepted() -> None:
    def unit(code: bytes) -> Source:
        source = two_functions(b"\xe8\0\0\0\0" + code)
        source.function("start", code, section=".init.text")
        return source

    with pytest.raises(Refused) as caught:
        compare(unit(b"\x90"), unit(b"\xcc"))
    assert (caught.value.refusal, caught.value.function) == (Refusal.INIT_CODE, "start")
    change = compare(unit(b"\x90"), unit(b"\xcc"), accept={"init:start": "it only prints"})
    assert change.replaced == ["helper"]
    assert "it only prints" in change.warnings[0].text


@pytest.mark.parametrize("section", [".data.value", ".data..read_mostly", ".data..percpu"])
def test_changed_variable_is_refused(section: str) -> None:
    def unit(value: int) -> Source:
        source = two_functions()
        source.data("value", value.to_bytes(4, "little"), section=section)
        return source

    with pytest.raises(Refused) as caught:
        compare(unit(1), unit(2))
    assert (caught.value.refusal, caught.value.function) == (Refusal.DATA_CHANGED, "value")


MOVES = [
    (".bss.value", ".data..percpu"),
    (".data..percpu", ".bss.value"),
    (".data..ro_after_init", ".data.value"),
    (".rodata.value", ".data.value"),
    (".rodata.value", ".bss.value"),
    (".init.data", ".bss.value"),
    (".exit.data", ".bss.value"),
    (".bss.value", ".bss..page_aligned"),
    (".bss..decrypted", ".bss.value"),
]


@pytest.mark.parametrize(("before", "after"), MOVES)
def test_variable_in_another_kind_of_memory_is_refused(before: str, after: str) -> None:
    """Its bytes are equal, and new code would reach the running kernel's in the wrong way."""

    def unit(section: str) -> Source:
        source = two_functions()
        source.data("value", bytes(4), section=section)
        return source

    with pytest.raises(Refused) as caught:
        compare(unit(before), unit(after))
    assert (caught.value.refusal, caught.value.function) == (Refusal.DATA_CHANGED, "value")
    assert "another kind of memory" in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (".bss.value", ".data.value"),
        (".data.value", ".data..read_mostly"),
        (".data..cacheline_aligned", ".bss.value"),
        (".data..percpu", ".data..percpu..read_mostly"),
        (".data.value", ".data..ro_after_init"),
        (".data.value", ".rodata.value"),
        (".data.value", ".init.data"),
    ],
)
def test_variable_in_memory_that_does_as_well_is_no_change(before: str, after: str) -> None:
    def unit(section: str) -> Source:
        source = two_functions()
        source.data("value", bytes(4), section=section)
        return source

    assert compare(unit(before), unit(after)).changed == []


def test_constant_of_start_code_gets_a_new_copy() -> None:
    """The running kernel's is freed."""
    change = compare(constants(b"same", section=".init.rodata"), constants(b"same"))
    assert (change.replaced, change.renewed) == (["reader"], ["table"])


def constants(
    content: bytes, *, local: bool = True, holds: dict[int, str] | None = None, section: str = ".rodata.table"
) -> Source:
    source = Source()
    source.function("reader", b"\x48\x8b\x05\0\0\0\0\xc3", takes={3: "table"})
    source.function("callback", CALL, calls={1: "outside"}, local=True)
    source.data("table", content, section=section, local=local, holds=holds)
    return source


def test_changed_constant_promotes_its_readers() -> None:
    change = compare(constants(b"old!"), constants(b"new!"))
    assert (change.replaced, change.renewed) == (["reader"], ["table"])


def once(content: bytes, section: str, *, also: str = "") -> Source:
    """A constant that code of the start or the exit reads as well; ``also``: what a new table holds."""
    source = constants(content)
    source.function("once", b"\x48\x8b\x05\0\0\0\0\xc3", takes={3: "table"}, section=section)
    if also:
        source.data("new_table", bytes(8), section=".rodata.new_table", holds={0: also})
    return source


def test_start_code_that_read_a_changed_constant_is_left_as_it_is() -> None:
    """As zone_names[], which free_area_init() prints."""
    change = compare(once(b"old!", ".init.text"), once(b"new!", ".init.text", also="table"))
    assert (change.replaced, change.renewed) == (["reader"], ["table"])
    assert (Notice.INIT_PAST, "once") in [(w.notice, w.subject) for w in change.warnings]


def test_exit_code_that_will_read_a_changed_constant_is_refused_unless_accepted() -> None:
    with pytest.raises(Refused) as caught:
        compare(once(b"old!", ".exit.text"), once(b"new!", ".exit.text"))
    assert (caught.value.refusal, caught.value.function) == (Refusal.INIT_CODE, "once")
    accept = {"init:once": "it only prints"}
    change = compare(once(b"old!", ".exit.text"), once(b"new!", ".exit.text"), accept=accept)
    assert (change.replaced, change.renewed) == (["reader"], ["table"])


@pytest.mark.parametrize("others", [True, False])
def test_start_code_that_called_an_untraced_function_is_left_as_it_is(others: bool) -> None:
    def unit(code: bytes) -> Source:
        source = two_functions(code, traced=False, local=True) if others else Source()
        if not others:
            source.function("helper", code, traced=False, local=True)
        source.function("start", CALL, calls={1: "helper"}, section=".init.text")
        return source

    if others:
        change = compare(unit(CALL), unit(CALL[:5] + b"\x90"))
        assert (change.replaced, change.copied) == (["caller"], ["helper"])
        return
    with pytest.raises(Refused) as caught:
        compare(unit(CALL), unit(CALL[:5] + b"\x90"))
    assert (caught.value.refusal, caught.value.function) == (Refusal.INIT_CODE, "helper")


def through_an_array(content: bytes, name: str, code: bytes = b"\xc3") -> Source:
    """A function that copies a local array, which has no name and holds an address."""
    source = Source()
    source.function("check", b"\xbf\0\0\0\0\xc3")
    source.function("helper", code, traced=False, local=True)
    source.data("table", content, section=".rodata.table")
    number = source.unnamed(bytes(16))
    source.point("check", 1, number)
    target = next(n for n, symbol in enumerate(source.symbols) if symbol.name == name)
    source.sections[number - 1].relocations.append(Relocation(8, R_64, target, 0))
    return source


def test_changed_constant_promotes_who_reads_it_through_a_local_array() -> None:
    change = compare(through_an_array(b"old!", "table"), through_an_array(b"new!", "table"))
    assert (change.replaced, change.renewed) == (["check"], ["table"])


def test_untraced_function_in_a_local_array_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        compare(through_an_array(b"", "helper", b"\x90\xc3"), through_an_array(b"", "helper", b"\xcc\xc3"))
    assert (caught.value.refusal, caught.value.function) == (Refusal.NOTRACE, "helper")
    assert "check takes its address" in str(caught.value)


def test_changed_constant_that_others_see_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        compare(constants(b"old!", local=False), constants(b"new!", local=False))
    assert caught.value.refusal is Refusal.CONSTANT_CHANGED


def test_changed_table_of_functions_is_refused() -> None:
    holds = {0: "callback"}
    with pytest.raises(Refused) as caught:
        compare(constants(bytes(8) + b"a", holds=holds), constants(bytes(8) + b"b", holds=holds))
    assert caught.value.refusal is Refusal.CONSTANT_CHANGED
    assert "callback" in str(caught.value)


def statics(names: list[str], code: bytes = b"", size: int = 4) -> Source:
    source = Source()
    body = b"".join(b"\x48\x8b\x05\0\0\0\0" for _ in names) + code + b"\xc3"
    source.function("f", body, takes={3 + 7 * n: name for n, name in enumerate(names)})
    for name in names:
        source.data(name, bytes(size), section=f".bss.{name}")
    return source


def test_numbered_statics_of_a_changed_function_are_refused() -> None:
    """As when two calls are swapped that are inlined: the order of mention tells nothing."""
    with pytest.raises(Refused) as caught:
        compare(statics(["seen.1", "seen.2"]), statics(["seen.7", "seen.9"], b"\x90"))
    assert caught.value.refusal is Refusal.STATIC_AMBIGUOUS
    with pytest.raises(Refused) as caught:  # the same length, and another code
        compare(statics(["seen.1", "seen.2"], b"\x90"), statics(["seen.1", "seen.2"], b"\xcc"))
    assert caught.value.refusal is Refusal.STATIC_AMBIGUOUS


def test_numbered_statics_of_an_unchanged_function_pair_by_order() -> None:
    change = compare(statics(["seen.1", "seen.2"]), statics(["seen.9", "seen.7"]))
    assert (change.partner["seen.9"], change.partner["seen.7"]) == ("seen.1", "seen.2")
    assert change.replaced == []


def test_print_budgets_of_a_changed_function_need_no_certain_pair() -> None:
    change = compare(statics(["_rs.1", "_rs.2"]), statics(["_rs.7", "_rs.9"], b"\x90"))
    assert change.replaced == ["f"]


def labels(names: dict[str, bytes], code: bytes = b"") -> Source:
    """A function that mentions labels of trace events: pointers to strings."""
    source = Source()
    takes = {3 + 7 * n: name for n, name in enumerate(names)}
    source.function("f", b"\x48\x8b\x05\0\0\0\0" * len(names) + code + b"\xc3", takes=takes)
    for name, text in names.items():
        source.data(name, bytes(8), section="__tracepoint_str")
        source.point(name, 0, source.string(text))
    return source


def test_labels_of_trace_events_pair_by_content() -> None:
    """As in rxrpc, which has dozens of ``___tp_str``; a new one is a new one."""
    change = compare(
        labels({"___tp_str.1": b"a", "___tp_str.2": b"b"}),
        labels({"___tp_str.1": b"new", "___tp_str.2": b"b", "___tp_str.3": b"a"}),
    )
    assert change.replaced == ["f"]
    assert {k: v for k, v in change.partner.items() if k != "f"} == {
        "___tp_str.2": "___tp_str.2",
        "___tp_str.3": "___tp_str.1",
    }


def test_a_label_with_another_text_is_a_new_one() -> None:
    change = compare(labels({"___tp_str.1": b"a"}), labels({"___tp_str.1": b"b"}))
    assert change.replaced == ["f"]
    assert set(change.partner) == {"f"}


def test_print_budget_with_another_limit_is_a_new_one() -> None:
    """As in efivarfs: the running kernel's goes on limiting what is not replaced."""

    def unit(name: str, burst: bytes, code: bytes = b"\xc3") -> Source:
        source = Source()
        source.function("f", b"\x48\x8b\x05\0\0\0\0" + code, takes={3: name})
        source.data(name, bytes(4) + burst, section=f".data.{name}")
        return source

    change = compare(unit("_rs.1", b"\5"), unit("_rs.2", b"\x0a"))
    assert change.replaced == ["f"]
    assert set(change.partner) == {"f"}


def test_numbered_statics_of_different_sizes_pair_by_size() -> None:
    def unit(names: list[str], code: bytes = b"") -> Source:
        source = statics([], code)
        for name, size in zip(names, (4, 64)):
            source.data(name, bytes(size), section=f".bss.{name}")
            source.function(f"inlined.{name}", CALL, takes={1: name})
        source.function(
            "g", b"".join([b"\x48\x8b\x05\0\0\0\0"] * 2) + code, takes={3: names[1], 10: names[0]}
        )
        return source

    change = compare(unit(["seen.1", "seen.2"]), unit(["seen.8", "seen.7"], b"\x90"))
    assert (change.partner["seen.8"], change.partner["seen.7"]) == ("seen.1", "seen.2")


def readers(uses: dict[str, list[str]], changed: str = "", section: str = "") -> Source:
    """Functions, and which of the (equally large) static variables each mentions."""
    source = Source()
    for function, names in uses.items():
        code = b"".join(b"\x48\x8b\x05\0\0\0\0" for _ in names) + (
            b"\x90" if function in changed else b"\xc3"
        )
        source.function(function, code, takes={3 + 7 * n: name for n, name in enumerate(names)})
    for name in sorted({name for names in uses.values() for name in names}):
        source.data(name, bytes(4), section=section or f".bss.{name}")
    return source


@pytest.mark.parametrize("name", ["___done", "___once_key"])
def test_what_is_done_once_may_be_a_secret(name: str) -> None:
    """A second net_get_random_once() in inet_ehashfn(): as a new one the first would give the hashes of all
    established connections another secret. In a function of its own it is a new one.
    """
    before = readers({"f": [f"{name}.1"]}, section=".data.once")
    with pytest.raises(Refused) as caught:
        compare(before, readers({"f": [f"{name}.1", f"{name}.2"]}, section=".data.once"))
    assert caught.value.refusal is Refusal.STATIC_AMBIGUOUS
    after = readers({"f": [f"{name}.2"], "more": [f"{name}.1"]}, section=".data.once")
    assert compare(before, after).partner == {"f": "f", f"{name}.2": f"{name}.1"}


def test_what_is_said_once_may_be_said_again() -> None:
    said = "__already_done"
    change = compare(readers({"f": [f"{said}.1"]}), readers({"f": [f"{said}.1", f"{said}.2"]}))
    assert change.replaced == ["f"]


@pytest.mark.parametrize(("section", "lost"), [("__dyndbg", []), ("", ["descriptor"])])
def test_descriptor_is_a_debug_message_only_where_those_are(section: str, lost: list[str]) -> None:
    before, after = readers({"f": ["descriptor"]}, section=section), readers({"f": []})
    assert [w.subject for w in compare(before, after).warnings] == lost


def test_unchanged_function_settles_what_a_changed_one_mentions() -> None:
    """In f the two have changed places; g, which is the same, says which is which."""
    before = readers({"f": ["seen.1", "seen.2"], "g": ["seen.2"]})
    change = compare(before, readers({"f": ["seen.1", "seen.2"], "g": ["seen.1"]}, changed="f"))
    assert (change.partner["seen.1"], change.partner["seen.2"]) == ("seen.2", "seen.1")
    assert change.replaced == ["f"]


def test_functions_that_mention_one_settle_what_an_equal_one_mentions() -> None:
    """Two inlined helpers with the same code, and their calls swapped: f is the same bytes."""
    before = readers({"f": ["seen.1", "seen.2"], "q": ["seen.1"], "r": ["seen.2"]})
    change = compare(before, readers({"f": ["seen.1", "seen.2"], "q": ["seen.2"], "r": ["seen.1"]}))
    assert (change.partner["seen.1"], change.partner["seen.2"]) == ("seen.2", "seen.1")
    assert change.replaced == ["f"]


def test_literals_that_only_a_table_holds_are_paired_by_it() -> None:
    def unit(names: list[str], code: bytes = b"") -> Source:
        source = statics([], code)
        for name in names:
            source.data(name, bytes(4), section=f".data.{name}")
        source.data("table", bytes(16), section=".data.table", holds={0: names[0], 8: names[1]})
        return source

    change = compare(unit(["literal.1", "literal.2"]), unit(["literal.4", "literal.3"], b"\x90"))
    assert (change.partner["literal.4"], change.partner["literal.3"]) == ("literal.1", "literal.2")
    assert change.replaced == ["f"]


def test_each_changed_function_keeps_its_only_static() -> None:
    before = readers({"f": ["seen.1"], "g": ["seen.2"], "g.cold": ["seen.2"]})
    change = compare(before, readers({"f": ["seen.2"], "g": ["seen.1"], "g.cold": ["seen.1"]}, changed="fg"))
    assert (change.partner["seen.1"], change.partner["seen.2"]) == ("seen.2", "seen.1")


def test_static_that_goes_here_and_one_that_comes_there_are_not_paired_by_name() -> None:
    before = readers({"f": ["seen.1"], "g": []})
    with pytest.raises(Refused) as caught:
        compare(before, readers({"f": [], "g": ["seen.1"]}))
    assert (caught.value.refusal, caught.value.function) == (Refusal.STATIC_AMBIGUOUS, "seen.1")


@pytest.mark.parametrize("inlined", ["before", "after"])
def test_static_of_a_helper_is_one_whether_it_is_inlined_or_not(inlined: str) -> None:
    inside, outside = {"f": ["seen.1"]}, {"f": [], "helper": ["seen.4"]}
    sides = (inside, outside) if inlined == "before" else (outside, inside)
    change = compare(readers(sides[0]), readers(sides[1]))
    assert set(change.partner.items()) & {("seen.4", "seen.1"), ("seen.1", "seen.4")}


def test_static_that_moves_into_the_cold_part_is_no_other_one() -> None:
    """Only all parts of a function together tell which variables it has."""
    before = readers({"f": ["seen.1"], "f.cold": ["seen.2"]})
    with pytest.raises(Refused) as caught:
        compare(before, readers({"f": ["seen.1"], "f.cold": ["seen.2"]}, changed="f.cold"))
    assert caught.value.refusal is Refusal.STATIC_AMBIGUOUS


def test_numbered_static_that_could_be_several_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        compare(statics(["seen.1", "seen.2"]), statics(["seen.7", "seen.8", "seen.9"]))
    assert caught.value.refusal is Refusal.STATIC_AMBIGUOUS


def test_empty_statics_need_no_partner() -> None:
    change = compare(statics(["key.1", "key.2"], size=0), statics(["key.7", "key.8", "key.9"], size=0))
    assert change.replaced == ["f"]


def test_lost_static_is_a_warning() -> None:
    change = compare(statics(["seen.1", "kept.2"]), statics(["kept.5"]))
    assert [(w.notice, w.subject) for w in change.warnings] == [(Notice.STATIC_LOST, "seen.1")]


def test_static_of_a_function_that_is_gone_is_lost_too() -> None:
    """As in kernel/futex/core.c: get_object_id() and its static counter give way to others."""

    def unit(helper: str, counter: str) -> Source:
        source = Source()
        source.data(counter, bytes(8))
        source.function(helper, CALL, takes={1: counter}, local=True)
        source.function("f", CALL, calls={1: helper})
        return source

    change = compare(unit("object_id", "last.0"), unit("inode_number", "i_seq.0"))
    assert [(w.notice, w.subject) for w in change.warnings] == [
        (Notice.FUNCTION_GONE, "object_id"),
        (Notice.STATIC_LOST, "last.0"),
    ]


def worker(name: str, code: bytes) -> Source:
    """A work item's function that calls another one, and who sets it up."""
    source = Source()
    source.function("queue", CALL, takes={1: name})
    source.function(name, CALL, calls={1: "process.isra.0"}, local=True)
    source.function("process.isra.0", code, local=True)
    return source


def test_callback_that_is_gone_and_calls_new_code_is_refused_unless_accepted() -> None:
    """As in loop.c: work items hold the address of loop_workfn()."""
    sides = worker("loop_workfn", b"\x90\xc3"), worker("loop_worker_fn", b"\xcc\xc3")
    with pytest.raises(Refused) as caught:
        compare(*sides)
    assert (caught.value.refusal, caught.value.function) == (Refusal.CALLBACK_GONE, "loop_workfn")
    assert "process.isra.0" in str(caught.value)
    sides = worker("loop_workfn", b"\x90\xc3"), worker("loop_worker_fn", b"\xcc\xc3")
    change = compare(*sides, accept={"gone:loop_workfn": "the queue is drained before"})
    gone = [w.text for w in change.warnings if w.notice is Notice.FUNCTION_GONE]
    assert len(gone) == 1 and "the queue is drained before" in gone[0]


@pytest.mark.parametrize("table", ["___ksymtab+old_api", ".export_symbol"])
def test_export_that_is_gone_and_calls_new_code_is_refused(table: str) -> None:
    """Since 6.4 the table is made by modpost, from what lies in .export_symbol."""

    def exported(name: str, code: bytes) -> Source:
        source = Source()
        source.function(name, CALL, calls={1: "helper"})
        source.function("helper", code)
        if name == "old_api":
            source.record(table, bytes(8), {0: name}, wide=True)
        return source

    with pytest.raises(Refused) as caught:
        compare(exported("old_api", b"\x90\xc3"), exported("new_api", b"\xcc\xc3"))
    assert (caught.value.refusal, caught.value.function) == (Refusal.CALLBACK_GONE, "old_api")


JUMP = b"\xe9" + CALL[1:]


def system_call(enter: bytes, code: bytes) -> Source:
    """What is replaced, an inline function that gcc left out of line, and what that calls."""
    source = Source()
    source.function("enter", enter + code, calls={1: "inner"})
    source.function("inner", CALL + code, calls={1: "process.isra.0"}, local=True, traced=False)
    source.function("process.isra.0", code, local=True)
    return source


def test_task_in_old_code_that_nothing_holds_back_is_refused_unless_accepted() -> None:
    """A task that sleeps below a jump has no replaced function on its stack, so it goes over."""
    with pytest.raises(Refused) as caught:
        compare(system_call(JUMP, b"\x90\xc3"), system_call(CALL, b"\xcc\xc3"))
    assert (caught.value.refusal, caught.value.function) == (Refusal.CALLBACK_GONE, "inner")
    assert "process.isra.0" in str(caught.value)
    sides = system_call(JUMP, b"\x90\xc3"), system_call(CALL, b"\xcc\xc3")
    change = compare(*sides, accept={"gone:inner": "nobody sleeps there"})
    assert [w.text for w in change.warnings if w.notice is Notice.OLD_CODE_ACCEPTED][0].endswith(
        "nobody sleeps there"
    )


def test_caller_on_the_stack_holds_a_task_back() -> None:
    assert compare(system_call(CALL, b"\x90\xc3"), system_call(JUMP, b"\xcc\xc3")).copied == ["inner"]


def test_callback_that_is_gone_and_calls_what_is_as_it_was_is_a_warning() -> None:
    change = compare(worker("loop_workfn", b"\xc3"), worker("loop_worker_fn", b"\xc3"))
    assert [(w.notice, w.subject) for w in change.warnings] == [(Notice.FUNCTION_GONE, "loop_workfn")]


@pytest.mark.parametrize("between", ["gone", "untraced"])
def test_callback_that_is_gone_may_reach_new_code_through_what_stays_old(between: str) -> None:
    def unit(name: str, step: str, code: bytes) -> Source:
        source = Source()
        source.function("queue", CALL, takes={1: name})
        source.function(name, CALL, calls={1: step})
        source.function(step, CALL[:5] + code, calls={1: "process"}, traced=between == "gone", local=True)
        source.function("process", code)
        return source

    after = "step" if between == "untraced" else "other_step"
    with pytest.raises(Refused) as caught:
        compare(unit("old_fn", "step", b"\x90"), unit("new_fn", after, b"\xcc"))
    assert (caught.value.refusal, caught.value.function) == (Refusal.CALLBACK_GONE, "old_fn")


@pytest.mark.parametrize("section", ["_kprobe_blacklist", "__mcount_loc"])
def test_gone_function_that_is_only_called_needs_no_reason(section: str) -> None:
    """Its callers are gone or replaced with it."""

    def unit(name: str, code: bytes) -> Source:
        source = Source()
        source.function("f", CALL, calls={1: name})
        source.function(name, CALL, calls={1: "process"}, local=True, traced=False)
        source.function("process", code)
        source.record(section, bytes(8), {0: "f"}, wide=True)
        if name == "old":
            source.record(section, bytes(8), {0: name}, wide=True)
        return source

    assert compare(unit("old", b"\x90"), unit("new", b"\xcc")).gone == ["old"]


def test_variable_under_another_name_is_refused_unless_accepted() -> None:
    before, after = statics(["aio_nr_lock", "aio_nr"]), statics(["aio_count_lock", "aio_nr"])
    with pytest.raises(Refused) as caught:
        compare(before, after)
    assert (caught.value.refusal, caught.value.function) == (Refusal.STATIC_AMBIGUOUS, "aio_nr_lock")
    assert "aio_count_lock" in str(caught.value)
    before, after = statics(["aio_nr_lock", "aio_nr"]), statics(["aio_count_lock", "aio_nr"])
    change = compare(before, after, accept={"static:aio_nr_lock": "nothing takes it yet"})
    assert [(w.notice, w.subject) for w in change.warnings] == [(Notice.STATIC_LOST, "aio_nr_lock")]
    assert "nothing takes it yet" in change.warnings[0].text


def test_variable_that_goes_is_a_warning_whatever_its_name() -> None:
    change = compare(statics(["total", "kept"]), statics(["kept"]))
    assert [(w.notice, w.subject) for w in change.warnings] == [(Notice.STATIC_LOST, "total")]


@pytest.mark.parametrize(("size", "section"), [(8, ".bss.fresh"), (4, ".data..percpu"), (4, ".rodata.fresh")])
def test_variable_that_cannot_be_the_old_one_is_new(size: int, section: str) -> None:
    after = statics(["kept"])
    after.function("g", CALL, takes={1: "fresh"})
    after.data("fresh", bytes(size), section=section)
    before = statics(["kept"])
    before.function("g", CALL, takes={1: "total"})
    before.data("total", bytes(4), section=".bss.total")
    change = compare(before, after)
    assert [(w.notice, w.subject) for w in change.warnings] == [(Notice.STATIC_LOST, "total")]


@pytest.mark.parametrize(
    ("section", "refusal"),
    [
        ("___ksymtab+new", Refusal.NEW_EXPORT),
        ("__param", Refusal.NEW_PARAMETER),
        (".initcall6.init", Refusal.NEW_INITCALL),
        ("__tracepoints", Refusal.NEW_TRACEPOINT),
        (".pci_fixup_final", Refusal.NEW_REGISTRATION),
        ("___srcu_struct_ptrs", Refusal.NEW_REGISTRATION),  # the loader makes them ready for use
        (".init.setup", Refusal.NEW_REGISTRATION),
        ("__table_of_something", Refusal.NEW_REGISTRATION),
    ],
)
def test_new_registration_is_refused(section: str, refusal: Refusal) -> None:
    after = two_functions(b"\xe8\0\0\0\0\x90")
    after.data("fresh", bytes(8), section=section)
    with pytest.raises(Refused) as caught:
        compare(two_functions(), after)
    assert caught.value.refusal is refusal


@pytest.mark.parametrize(
    "section",
    [".data.fresh", ".bss..page_aligned", ".data..ro_after_init", ".data..percpu", ".rodata.fresh",
     ".ref.data", ".init.data", ".init.rodata", ".data.once", "__tracepoint_str", "__dyndbg", ".modinfo"],
)  # fmt: skip
def test_new_variable_that_nothing_walks_is_none(section: str) -> None:
    after = two_functions(b"\xe8\0\0\0\0\x90")
    after.data("fresh", bytes(8), section=section)
    assert compare(two_functions(), after).replaced == ["helper"]


def test_records_of_an_unknown_kind_about_changed_code_are_refused() -> None:
    """As runtime constants, which the kernel writes into the code when it starts."""

    def unit(code: bytes) -> Source:
        source = two_functions(b"\xe8\0\0\0\0" + code)
        source.record("runtime_shift_d_hash_shift", bytes(4), {})
        text = next(s.section for s in source.symbols if s.name == "helper")
        source.symbols.append(Symbol("", 0, 0, STT_SECTION, STB_LOCAL, text))
        source.sections[-1].relocations.append(Relocation(0, R_PC32, len(source.symbols) - 1, 3))
        return source

    assert compare(unit(b"\x90"), unit(b"\x90")).changed == []
    with pytest.raises(Refused) as caught:
        compare(unit(b"\x90"), unit(b"\xcc"))
    assert (caught.value.refusal, caught.value.function) == (Refusal.SECTION_UNKNOWN, "helper")


@pytest.mark.parametrize(("permissions", "variable"), [(b"\x80\x01", "disable_numa"), (b"\x24\x01", "other")])
def test_registration_that_changes_is_refused(permissions: bytes, variable: str) -> None:
    """As long as before: the kernel made its file when it started."""

    def unit(permissions: bytes, variable: str, code: bytes) -> Source:
        source = two_functions(b"\xe8\0\0\0\0" + code)
        source.data("__param_disable_numa", bytes(8) + permissions, section="__param", holds={0: variable})
        return source

    with pytest.raises(Refused) as caught:
        compare(unit(b"\x24\x01", "disable_numa", b"\x90"), unit(permissions, variable, b"\xcc"))
    assert caught.value.refusal is Refusal.NEW_PARAMETER
    change = compare(unit(b"\x24\x01", "other", b"\x90"), unit(b"\x24\x01", "other", b"\xcc"))
    assert change.replaced == ["helper"]


def registering(targets: dict[str, str], code: bytes, section: str = ".initcall6.init") -> Source:
    """Records and the functions that they name."""
    source = two_functions(b"\xe8\0\0\0\0" + code)
    for name, target in targets.items():
        source.data(name, bytes(8), section=section, holds={0: target})
    return source


@pytest.mark.parametrize("names", [("__initcall__1_fn6", "__initcall__2_fn6"), ("same", "same")])
def test_registration_of_another_function_is_refused_whatever_its_name(names: tuple[str, str]) -> None:
    with pytest.raises(Refused) as caught:
        compare(registering({names[0]: "first"}, b"\x90"), registering({names[1]: "second"}, b"\xcc"))
    assert (caught.value.refusal, caught.value.function) == (Refusal.NEW_INITCALL, names[1])


def test_registration_whose_name_has_another_number_is_the_same() -> None:
    before = registering({"__initcall__1_a6": "a", "__initcall__2_b6": "b"}, b"\x90")
    change = compare(before, registering({"__initcall__4_b6": "b", "__initcall__3_a6": "a"}, b"\xcc"))
    assert (change.replaced, change.warnings) == (["helper"], [])


def test_registration_that_is_taken_away_is_a_warning() -> None:
    before = registering({"__param_kept": "kept", "__param_max_part": "max_part"}, b"\x90", "__param")
    change = compare(before, registering({"__param_kept": "kept"}, b"\xcc", "__param"))
    assert [(w.notice, w.subject) for w in change.warnings] == [(Notice.DECLARATION_KEPT, "__param_max_part")]
    with pytest.raises(Refused):  # the other one is no longer what it was
        compare(
            registering({"__param_kept": "kept", "__param_max_part": "max_part"}, b"\x90", "__param"),
            registering({"__param_kept": "max_part"}, b"\xcc", "__param"),
        )


def test_change_of_what_is_said_of_a_module_is_a_warning() -> None:
    def unit(texts: bytes, code: bytes) -> Source:
        source = two_functions(b"\xe8\0\0\0\0" + code)
        source.data("words", texts, section=".modinfo")
        return source

    change = compare(
        unit(b"alias=a\0alias=b\0", b"\x90"), unit(b"alias=b\0alias=c\0import_ns=CRYPTO\0", b"\xcc")
    )
    assert [(w.notice, w.subject) for w in change.warnings] == [(Notice.DECLARATION_KEPT, ".modinfo")]
    assert "without 'alias=a', with 'alias=c'." in change.warnings[0].text
    assert compare(unit(b"x=1\0", b"\x90"), unit(b"x=1\0", b"\xcc")).warnings == []


def test_cold_part_counts_for_its_function() -> None:
    def unit(code: bytes) -> Source:
        source = Source()
        source.function("f", b"\xe9\0\0\0\0\xc3", calls={1: "f.cold"})
        source.function("f.cold", code, traced=False, local=True, section=".text.unlikely.f.cold")
        return source

    assert compare(unit(b"\x0f\x0b"), unit(b"\x90\x0b")).replaced == ["f"]


def pair(up: bytes, down: bytes | None) -> Source:
    """Two functions; without the second's own code they are one."""
    source = Source()
    source.function("up", up)
    if down is None:
        source.alias("down", "up")
    else:
        source.function("down", down)
    return source


@pytest.mark.parametrize("changed", ["up", "down"])
def test_names_of_one_function_that_are_told_apart_are_refused(changed: str) -> None:
    after = pair(b"\xcc\xc3", b"\x90\xc3") if changed == "up" else pair(b"\x90\xc3", b"\xcc\xc3")
    with pytest.raises(Refused) as caught:
        compare(pair(b"\x90\xc3", None), after)
    assert caught.value.refusal is Refusal.SYMBOL_AMBIGUOUS
    assert "down" in str(caught.value) and "up" in str(caught.value)


def test_function_that_becomes_another_name_of_one_is_refused() -> None:
    """Only one of the two could be redirected."""
    with pytest.raises(Refused) as caught:
        compare(pair(b"\x90\xc3", b"\xcc\xc3"), pair(b"\x90\xc3", None))
    assert caught.value.refusal is Refusal.SYMBOL_AMBIGUOUS


def test_names_that_the_compiler_joins_or_parts_without_a_change_are_none() -> None:
    assert compare(pair(b"\xc3", b"\xc3"), pair(b"\xc3", None)).changed == []
    assert compare(pair(b"\xc3", None), pair(b"\xc3", b"\xc3")).changed == []


def test_function_of_two_names_is_replaced() -> None:
    assert len(compare(pair(b"\x90\xc3", None), pair(b"\xcc\xc3", None)).replaced) == 1


def test_forced_function_is_replaced_although_equal() -> None:
    assert compare(two_functions(), two_functions(), forced=["caller"]).replaced == ["caller"]
