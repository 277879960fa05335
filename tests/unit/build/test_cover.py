"""Code of a module behind what it replaces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.build.cover import HIDDEN, hidden, link_order, text_of, uncovered
from livepatch_core.build.objectfile import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHT_PROGBITS,
    STB_GLOBAL,
    STB_LOCAL,
    STT_FUNC,
    ObjectFile,
    Section,
    Symbol,
    read_object,
    write_object,
)

CODE = b"\x90" * 32
NEW = {"new_0": "vmlinux", "new_1": "ext4"}


def module(*parts: tuple[str, str, int]) -> ObjectFile:
    """A module of sections with one symbol each: (section, symbol, where it stands)."""
    sections = [
        Section(name, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, CODE, len(CODE), 16) for name, _, _ in parts
    ]
    symbols = [Symbol("", 0, 0, 0, STB_LOCAL, 0)]
    for number, (_, name, value) in enumerate(parts, 1):
        binding = STB_GLOBAL if name in NEW else STB_LOCAL
        symbols += [Symbol(name, value, 16, STT_FUNC, binding, number)] if name else []
    return read_object(write_object(sections, symbols))


def test_only_what_is_replaced_keeps_its_name() -> None:
    file = module((".text.0.f", "new_0", 0), (".text.0.g", "g", 0), (".exit.text", "cleanup_module", 0))
    names = [symbol.name for symbol in hidden(file, {"new_0"}) if symbol.kind == STT_FUNC]
    assert sorted(names) == [f"{HIDDEN}g", "cleanup_module", "new_0"]


def test_code_behind_a_replaced_function_of_its_object_is_covered() -> None:
    owners = {0: "vmlinux", 1: "ext4"}
    good = module((".text.0.f", "new_0", 0), (".text.0.g", f"{HIDDEN}g", 0), (".text.1.h", "new_1", 16))
    assert uncovered(good, owners, NEW) == []
    assert uncovered(module((".text.0.f", "new_0", 0), (".text.0.g", "g", 0)), owners, NEW) == [
        ".text.0.g+0x0 behind g"
    ]
    first = module((".text.0.g", f"{HIDDEN}g", 0), (".text.0.f", "new_0", 0))
    assert uncovered(first, owners, NEW) == [".text.0.g+0x0 behind nothing"]
    foreign = module((".text.1.h", "new_1", 0), (".text.0.g", f"{HIDDEN}g", 0), (".text.0.f", "new_0", 0))
    assert uncovered(foreign, owners, NEW) == [".text.0.g+0x0 behind new_1"]
    alone = {"new_1": "ext4"}
    assert uncovered(module((".text.1.h", "new_1", 0), (".text.0.g", "", 0)), owners, alone) == []


def test_a_function_ends_where_any_listed_symbol_stands() -> None:
    """Also one of code that nobody runs there: it would end the range in which the kernel looks."""
    parts = (".text.0.f", "new_0", 0), (".exit.text", "cleanup_module", 0), (".text.0.g", f"{HIDDEN}g", 0)
    assert uncovered(module(*parts), {0: "vmlinux"}, NEW) == [".text.0.g+0x0 behind cleanup_module"]
    assert uncovered(module(parts[1], parts[0], parts[2]), {0: "vmlinux"}, NEW) == []


def test_code_beside_alternatives_is_none_to_sleep_in() -> None:
    parts = [".altinstr_replacement", ".altinstr_aux", ".init.text", ".text.0.f", ".altinstr_aux"]
    file = module(*((name, "new_0" if name == ".text.0.f" else "", 0) for name in parts))
    assert uncovered(file, {0: "vmlinux"}, NEW) == []


@given(st.lists(st.tuples(st.sampled_from(["vmlinux", "ext4", "kvm", "zram"]), st.booleans()), max_size=8))
def test_what_is_linked_in_that_order_is_covered_if_it_can_be(units: list[tuple[str, bool]]) -> None:
    order = link_order(units)
    assert sorted(order) == list(range(len(units)))
    acting = {owner for owner, acts in units if acts}
    replaced = {f"new_{number}": owner for number, (owner, acts) in enumerate(units) if acts}
    parts = [
        (f"{text_of(number)}{name}", name if name in replaced else f"{HIDDEN}{name}", 0)
        for number in order
        for name in ([f"new_{number}"] if units[number][1] else []) + ["beside"]
    ]
    found = uncovered(module(*parts), {number: owner for number, (owner, _) in enumerate(units)}, replaced)
    hopeless = (
        {owner for owner, _ in units} - acting if len(acting - {"vmlinux"}) == len(acting) > 1 else set()
    )
    if acting:
        assert {units[int(one.split(".")[2])][0] for one in found} == hopeless
    else:
        assert len(found) == len(units)
