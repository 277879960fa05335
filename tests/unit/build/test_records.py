"""Records whose key the patched module itself defines: left out without a look at any address."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from livepatch_core.build.differ import difference
from livepatch_core.build.extract import Extracted, extract
from livepatch_core.build.image import Image, KernelSymbol
from livepatch_core.build.locate import Proof
from livepatch_core.build.objectfile import read_object
from livepatch_core.build.refusals import Notice, Refusal, Refused
from livepatch_core.build.resolve import Resolver
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
