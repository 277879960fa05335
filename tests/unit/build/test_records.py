"""Records whose key the patched module itself defines: left out without a look at any address."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from livepatch_core.build.builder import _check_unwinding
from livepatch_core.build.compile import _has_unwind_tables
from livepatch_core.build.differ import difference
from livepatch_core.build.extract import Extracted, extract
from livepatch_core.build.image import Image, KernelSymbol
from livepatch_core.build.locate import Proof
from livepatch_core.build.objectfile import (
    R_PC32,
    SHF_ALLOC,
    SHF_EXECINSTR,
    STB_GLOBAL,
    STT_FUNC,
    Symbol,
    read_object,
)
from livepatch_core.build.refusals import Notice, Refusal, Refused
from livepatch_core.build.resolve import Resolver
from livepatch_core.build.special import ORC_ADDRESSES, ORC_RECORDS
from tests.unit.build.objects import Source

PLACE = 0xFFFFFFFFC0001000


def unit(code: bytes, key: str, section: str) -> Source:
    source = Source()
    source.function("f", code)
    source.data(key, bytes(56), section=section)
    source.record("__jump_table", bytes(16), {0: "f", 4: "f", 8: key})
    return source


def unknown(name: str) -> Image:
    raise AssertionError(f"the image of {name} is not needed")


def extracted(key: str, section: str, owner: str) -> tuple[Extracted, list[Notice]]:
    change = difference(unit(b"\x90\xc3", key, section).unit(), unit(b"\xcc\xc3", key, section).unit())
    image = Image(owner, "id", [(PLACE, b"\x90\xc3")], [KernelSymbol("f", "t", PLACE)])
    images: Callable[[str], Image] = unknown
    resolver = Resolver("fs/x.c", owner, images, lambda name: frozenset(), {})
    result = extract(change, Proof(image, {"f": PLACE}), resolver, 0)
    return result, [warning.notice for warning in change.warnings]


def test_debug_site_whose_key_only_a_record_names_is_dropped() -> None:
    result, notices = extracted("__UNIQUE_ID_ddebug5.3", "__dyndbg", "btrfs")
    assert notices == [Notice.DEBUG_SITE_DROPPED]
    assert result.externals == {}


def test_own_static_key_of_a_module_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        extracted("fast_path", ".data.fast_path", "kvm")
    assert caught.value.refusal is Refusal.MODULE_STATIC_KEY
    assert "of the module kvm" in caught.value.message


def calling(code: bytes) -> Source:
    source = Source()
    source.function("f", code, calls={1: "helper"})
    source.function("helper", b"\x90\x90\xc3")
    source.record(".call_sites", bytes(4), {0: "f"})
    return source


@pytest.mark.parametrize(("owner", "kept"), [("vmlinux", True), ("kvm", False)])
def test_call_into_a_module_has_no_record(owner: str, kept: bool) -> None:
    """The kernel follows these records before it applies the relocations for modules."""
    call = b"\xe8\0\0\0\0"
    change = difference(calling(call + b"\xc3").unit(), calling(call + b"\x90\xc3").unit())
    symbols = [KernelSymbol("f", "t", PLACE), KernelSymbol("helper", "t", PLACE + 64)]
    image = Image(owner, "id", [(PLACE, b"\x90" * 128)], symbols)
    resolver = Resolver("fs/x.c", owner, lambda name: image, lambda name: frozenset({owner}), {})
    proof = Proof(image, {"f": PLACE, "helper": PLACE + 64})
    result = extract(change, proof, resolver, 0)
    assert [external.owner for external in result.externals.values()] == [owner]
    assert (read_object(result.object).section(".call_sites") is not None) == kept


def unwound(code: bytes) -> Source:
    """Two functions in one section as objtool describes them: no record where the state stays the same."""
    source = Source()
    text = source._section(".sched.text", SHF_ALLOC | SHF_EXECINSTR, code + b"\x90\xc3")
    for name, start, size in (("first", 0, len(code)), ("second", len(code), 2)):
        source.symbols.append(Symbol(name, start, size, STT_FUNC, STB_GLOBAL, text))
    source.record("__mcount_loc", bytes(8), {0: "second"}, wide=True)
    source.record(ORC_ADDRESSES, bytes(12), {0: "first", 4: "first", 8: "second"})
    source._later = [
        row[:4] + ({4: 1, 8: 1}.get(row[1], 0),) if row[2] == R_PC32 else row for row in source._later
    ]
    source._section(ORC_RECORDS, SHF_ALLOC, b"start_pushedpop...")
    return source


def test_function_has_the_unwind_state_in_which_the_code_before_it_ends() -> None:
    second = unwound(b"\x55\xc3").unit().pieces["second"]
    states = [e for e in second.entries if e.table == ORC_ADDRESSES]
    places = {
        e.references[0].addend if e.references[0].target else e.references[0].position - second.start: e.start
        for e in states
    }
    assert places == {1: 8, 0: 4}, "at its start the state after the push in the other"


def test_state_at_the_start_goes_along() -> None:
    before, after = unwound(b"\x55\xc3"), unwound(b"\x55\xc3")
    after.sections[0].data = b"\x55\xc3\xcc\xc3"
    change = difference(before.unit(), after.unit())
    image = Image("vmlinux", "id", [(PLACE, b"\x90\xc3")], [KernelSymbol("second", "t", PLACE)])
    resolver = Resolver("fs/x.c", "vmlinux", unknown, lambda name: frozenset(), {})
    file = read_object(extract(change, Proof(image, {"second": PLACE}), resolver, 0).object)
    addresses, records = file.section(ORC_ADDRESSES), file.section(ORC_RECORDS)
    assert addresses is not None and records is not None
    assert sorted((r.addend, records.data[r.offset // 4 * 6 :][:6]) for r in addresses.relocations) == [
        (0, b"pushed"),
        (1, b"pop..."),
    ]


def test_code_that_objtool_did_not_finish_has_no_unwind_tables() -> None:
    """A file of a module, say, whose static calls it takes for the kernel's: it says so, and exits with 0."""
    config = "CONFIG_UNWINDER_ORC=y\n"
    bare, empty = Source(), Source()
    bare.function("f", b"\xc3")
    empty.data("d", bytes(4))
    assert _has_unwind_tables(unwound(b"\x55\xc3").file(), config)
    assert not _has_unwind_tables(bare.file(), config)
    assert _has_unwind_tables(bare.file(), "CONFIG_UNWINDER_FRAME_POINTER=y\n")
    assert _has_unwind_tables(empty.file(), config)


@pytest.mark.parametrize("holds", [{}, {0: "f"}])
def test_new_per_cpu_variable_may_not_begin_with_an_address(holds: dict[int, str]) -> None:
    """The kernel relocates no per-CPU data of a module (it is no part of it: SHF_ALLOC is taken off)."""
    before, after = Source(), Source()
    before.function("f", b"\x90\xc3")
    after.function("f", b"\xe8\0\0\0\0\xc3", takes={1: "slot"})
    after.data("slot", bytes(8), section=".data..percpu", holds=holds)
    change = difference(before.unit(), after.unit())
    image = Image("vmlinux", "id", [(PLACE, b"\x90\xc3")], [KernelSymbol("f", "t", PLACE)])
    resolver = Resolver("fs/x.c", "vmlinux", unknown, lambda name: frozenset(), {})
    proof = Proof(image, {"f": PLACE})
    if not holds:
        assert extract(change, proof, resolver, 0).new == ["slot"]
        return
    with pytest.raises(Refused) as caught:
        extract(change, proof, resolver, 0)
    assert (caught.value.refusal, caught.value.function) == (Refusal.NEW_REGISTRATION, "slot")


def test_patched_file_that_objtool_gave_up_on_is_refused() -> None:
    """Where kbuild itself runs it, for each object, nobody looks at what it left out."""
    bare = Source()
    bare.function("second", b"\xc3")
    _check_unwinding(unwound(b"\x55\xc3").unit(), unwound(b"\x90\xc3").unit())
    _check_unwinding(bare.unit(), bare.unit())
    with pytest.raises(Refused) as caught:
        _check_unwinding(unwound(b"\x55\xc3").unit(), bare.unit())
    assert caught.value.refusal is Refusal.TOOLCHAIN
