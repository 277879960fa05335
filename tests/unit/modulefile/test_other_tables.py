"""The tables of kpatch and klp-build (stand-ins, see data/modulefile/src): what does not fit is refused."""

from __future__ import annotations

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.modulefile.read import read_module
from tests.unit.modulefile.images import header_at, image, number, relocation_at, replaced, section_at

KPATCH = image("standin_kpatch")
KLP_BUILD = image("standin_klp_build")


def refused(data: bytes) -> str:
    with pytest.raises(LivepatchError) as caught:
        read_module(data)
    return caught.value.message


@pytest.mark.parametrize("size", [160, 184])
def test_kpatch_functions_of_another_layout(size: int) -> None:
    damaged = replaced(KPATCH, header_at(KPATCH, ".kpatch.funcs") + 32, number(size))
    message = refused(damaged)
    assert ".kpatch.funcs section is not one that is known" in message or "beyond its end" in message


@pytest.mark.parametrize("size", [0, 8, 56, 112])
def test_kpatch_functions_cut_off(size: int) -> None:
    """Fewer functions than relocations: must not read as a smaller patch."""
    damaged = replaced(KPATCH, header_at(KPATCH, ".kpatch.funcs") + 32, number(size))
    assert "beyond its end" in refused(damaged)


@pytest.mark.parametrize("offset", [8, 16, 32])
def test_kpatch_pointer_in_another_place(offset: int) -> None:
    at = relocation_at(KPATCH, ".kpatch.funcs", 40)
    assert "is not one that is known" in refused(replaced(KPATCH, at, number(offset)))


def test_kpatch_callback_of_another_layout() -> None:
    at = section_at(KPATCH, ".kpatch.callbacks.pre_patch") + 16
    assert "is not one that is known" in refused(replaced(KPATCH, at, b"\x01"))


def test_kpatch_function_that_is_data() -> None:
    at = relocation_at(KPATCH, ".kpatch.funcs", 0)
    strings = relocation_at(KPATCH, ".kpatch.funcs", 48)
    damaged = replaced(KPATCH, at + 8, KPATCH[strings + 8 : strings + 16])
    assert "does not lead to code" in refused(damaged)


@pytest.mark.parametrize("count", [0, 1, 3, 2**32 - 1])
def test_klp_build_count_that_does_not_add_up(count: int) -> None:
    at = section_at(KLP_BUILD, ".init.klp_objects") + 56
    message = refused(replaced(KLP_BUILD, at, number(count, 4)))
    assert "accounts for" in message or "claims functions that are not there" in message


def test_klp_build_field_that_is_not_known() -> None:
    at = section_at(KLP_BUILD, ".init.klp_objects") + 48
    assert "is not one that is known" in refused(replaced(KLP_BUILD, at, b"\x01"))


def test_klp_build_function_that_is_data() -> None:
    name, function = (relocation_at(KLP_BUILD, ".init.klp_funcs", at) + 8 for at in (0, 8))
    damaged = replaced(KLP_BUILD, function, KLP_BUILD[name : name + 8])
    assert "does not lead to code" in refused(damaged)


@pytest.mark.parametrize("addend", [1, 24 * 3, 2**63 - 1])
def test_klp_build_functions_elsewhere(addend: int) -> None:
    at = relocation_at(KLP_BUILD, ".init.klp_objects", 8) + 16
    message = refused(replaced(KLP_BUILD, at, number(addend)))
    assert "does not point into" in message or "claims functions that are not there" in message


@pytest.mark.parametrize("offset", [8, 64 + 8])
def test_klp_build_objects_of_another_layout(offset: int) -> None:
    """A proposed kernel has no callbacks there: a pointer moves to where none is known."""
    at = relocation_at(KLP_BUILD, ".init.klp_objects", offset)
    assert "is not one that is known" in refused(replaced(KLP_BUILD, at, number(offset + 40)))


@pytest.mark.parametrize("size", [64, 72, 120])
def test_klp_build_objects_cut_off(size: int) -> None:
    damaged = replaced(KLP_BUILD, header_at(KLP_BUILD, ".init.klp_objects") + 32, number(size))
    message = refused(damaged)
    assert "beyond its end" in message or "is not one that is known" in message


def test_tables_of_both() -> None:
    renamed = replaced(KLP_BUILD, KLP_BUILD.index(b".init.klp_funcs\0"), b".kpatch.funcs\0\0\0")
    assert "tables of kpatch and of klp-build" in refused(renamed)
