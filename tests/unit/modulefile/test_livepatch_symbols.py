from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.errors import LivepatchError
from livepatch_core.modulefile.livepatch_symbols import parse_section, parse_symbol
from livepatch_core.modulefile.read import read_module
from tests.unit.modulefile.images import image, number, replaced, symbol_at

objects = st.from_regex(r"[a-z0-9_-]{1,55}", fullmatch=True)
symbols = st.from_regex(r"[A-Za-z_.$][A-Za-z0-9_.$]{0,60}", fullmatch=True)


@given(objects, symbols, st.integers(0, 999_999_999))
def test_symbol_names(owner: str, name: str, position: int) -> None:
    assert parse_symbol(f".klp.sym.{owner}.{name},{position}") == (owner, name, position)


@given(objects, symbols)
def test_section_names(owner: str, section: str) -> None:
    assert parse_section(f".klp.rela.{owner}.{section}") == owner


@pytest.mark.parametrize(
    "name",
    [
        "printk",
        ".klp.sym.",
        ".klp.sym.vmlinux.printk",
        ".klp.sym.vmlinux.printk,",
        ".klp.sym.vmlinux.printk,x",
        ".klp.sym.vmlinux.printk,-1",
        ".klp.sym.vmlinux.,1",
        ".klp.sym..printk,1",
        ".klp.sym.vmlinux.a,b,1",
        ".klp.sym.vmlinux.printk,1\n",
        ".klp.sym.vmlinux.printk,99999999999999999999",
    ],
)
def test_symbols_the_kernel_would_refuse(name: str) -> None:
    with pytest.raises(LivepatchError):
        parse_symbol(name)


@pytest.mark.parametrize("name", [".rela.text", ".klp.rela.", ".klp.rela.vmlinux", ".klp.rela..text"])
def test_sections_the_kernel_would_refuse(name: str) -> None:
    with pytest.raises(LivepatchError):
        parse_section(name)


def test_a_livepatch_relocation_of_an_ordinary_symbol_is_refused() -> None:
    data = image("lp_full-6.1")
    at = symbol_at(data, ".klp.sym.vmlinux.nr_files,0")
    with pytest.raises(LivepatchError, match="not marked as a livepatch symbol"):
        read_module(replaced(data, at + 6, number(0, 2)))
