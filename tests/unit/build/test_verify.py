"""New code that is read back: what lies beside a function is compared as the function itself is."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import pytest

from livepatch_core.build import records, verify
from livepatch_core.build.differ import difference
from livepatch_core.build.extract import extract
from livepatch_core.build.image import Image, KernelSymbol, livepatch_image
from livepatch_core.build.locate import Proof
from livepatch_core.build.objectfile import R_PC32, ObjectFile, Section, read_object
from livepatch_core.build.refusals import Refused
from livepatch_core.build.resolve import Resolver
from livepatch_core.build.special import ORC_ADDRESSES
from tests.unit.build.objects import Source

PLACE = 0xFFFFFFFFC0001000
THUNK = "__x86_return_thunk"


def written(code: bytes, *, recorded: bool) -> Source:
    source = Source()
    source.function("f", code + b"\xe9" + bytes(4), calls={1: "f.cold", len(code) + 1: THUNK})
    source.function("f.cold", b"\x0f\x0b\xe9" + bytes(4), calls={3: "f"}, traced=False)
    if recorded:
        source.record(".return_sites", bytes(4), {0: "f"})
        source._later[-1] = (*source._later[-1][:4], len(code))
    source.record(ORC_ADDRESSES, bytes(4), {0: "f"})
    source.sections.append(Section(".orc_unwind", 1, 2, b"unwind", 6, 1))
    source.point("f", 8, source.unnamed(b"constants"))
    return source


CODE = b"\xe9" + bytes(11)


def read_back(spoil: Callable[[ObjectFile], None], *, recorded: bool = True, owner: str = "vmlinux") -> None:
    sides = [written(code, recorded=recorded).unit() for code in (CODE, CODE + b"\x90")]
    change = difference(*sides)
    symbols = [KernelSymbol("f", "t", PLACE), KernelSymbol(THUNK, "T", PLACE + 64)]
    images = {name: Image(name, "id", [(PLACE, b"\x90" * 128)], symbols) for name in ("vmlinux", owner)}
    image = images[owner]
    resolver = Resolver("fs/x.c", owner, images.__getitem__, lambda name: frozenset({"vmlinux"}), {})
    proof = Proof(image, {"f": PLACE, THUNK: PLACE + 64})
    unit = extract(change, proof, resolver, 0)
    file = read_object(unit.object)
    spoil(file)
    known = {external.symbol: PLACE + 64 for external in unit.externals.values()}
    module = livepatch_image("m", file, known)
    reader = verify._Reader(
        change, unit, proof, module, known, records.read_states(file), verify.parts_of(file, 0)
    )
    verify.check_fields(file)
    reader.check(records.read_records(file, module))


def flip(name: str, at: int) -> Callable[[ObjectFile], None]:
    def spoil(file: ObjectFile) -> None:
        one = next(s for s in file.sections if re.fullmatch(name, s.name))
        data = bytearray(one.data)
        data[at] ^= 1
        one.data = bytes(data)

    return spoil


def late_field(file: ObjectFile) -> None:
    """A field in use, which the kernel would fill when the module that it refers to is there."""
    number = next(n for n, s in enumerate(file.sections) if s.data == b"constants")
    relocation = struct.pack("<QQq", 0, R_PC32, 0)
    file.sections.append(Section(".klp.rela.m..rodata", 4, 2, relocation, 24, 8, info=number))


def without(name: str) -> Callable[[ObjectFile], None]:
    def spoil(file: ObjectFile) -> None:
        one = next(s for s in file.sections if s.name == name)
        one.name, one.flags = ".comment", 0

    return spoil


@pytest.mark.parametrize("owner", ["vmlinux", "nfsd"])
def test_what_is_right_passes(owner: str) -> None:
    read_back(lambda file: None, owner=owner)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (flip(r".*\.f\.cold", 0), "f.cold is not in it as it was compiled"),
        (flip(r"\.orc_unwind", 2), r"its \.orc_unwind_ip has no right record for f"),
        (flip(r"\.rodata\.0\..*", 0), r"the \.rodata of f is not as it was compiled"),
        (flip(r".*\.0\.f", 1), "is not zero before it is relocated"),
        (late_field, "is not zero before it is relocated"),
        (without("__mcount_loc"), "its __mcount_loc has no right record for f"),
    ],
)
@pytest.mark.parametrize("owner", ["vmlinux", "nfsd"])
def test_what_was_spoiled_is_found(spoil: Callable[[ObjectFile], None], why: str, owner: str) -> None:
    with pytest.raises(Refused, match=why):
        read_back(spoil, owner=owner)


def test_return_without_a_record_is_found() -> None:
    """objtool may have given up on the object."""
    with pytest.raises(Refused, match=r"the return at f\+0xd has no record"):
        read_back(lambda file: None, recorded=False)
