"""What is unpacked here against what pyelftools says of the same file."""

from __future__ import annotations

import io

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from livepatch_core.errors import LivepatchError
from livepatch_core.modulefile.elf import Elf
from livepatch_core.modulefile.livepatch_symbols import read_imports
from tests.unit.modulefile.images import NAMES, image, number, relocation_at, replaced


@pytest.mark.parametrize("name", NAMES)
def test_sections_symbols_and_relocations(name: str) -> None:
    data = image(name)
    elf, reference = Elf(data), ELFFile(io.BytesIO(data))
    sections = list(reference.iter_sections())
    assert [section.name for section in elf.sections] == [section.name for section in sections]
    for ours, theirs in zip(elf.sections, sections):
        assert elf.data(ours) == (b"" if ours.type == "SHT_NOBITS" else theirs.data())
        assert (ours.size, ours.flags, ours.link) == (
            theirs["sh_size"],
            theirs["sh_flags"],
            theirs["sh_link"],
        )
        if isinstance(theirs, RelocationSection):
            assert [(offset, *entry) for offset, entry in elf.relocations(ours)] == [
                (entry["r_offset"], entry["r_info_sym"], entry["r_info_type"], entry["r_addend"])
                for entry in theirs.iter_relocations()
            ]
    symbols = list(reference.get_section_by_name(".symtab").iter_symbols())
    named = [(elf.symbol_name(symbol), symbol.value, symbol.size) for symbol in elf.symbols]
    assert [(text or "", value, size) for text, value, size in named] == [
        (symbol.name if symbol["st_name"] else "", symbol["st_value"], symbol["st_size"])
        for symbol in symbols
    ]
    undefined = {symbol.name for symbol in symbols if symbol["st_shndx"] == "SHN_UNDEF" and symbol.name}
    assert set(read_imports(elf)) == undefined


def test_a_place_that_is_relocated_twice_is_refused() -> None:
    data = image("lp_one-6.1")
    elf = Elf(replaced(data, relocation_at(data, ".data", 8), number(0)))
    section = elf.by_name[".data"]
    with pytest.raises(LivepatchError, match="relocated twice"):
        elf.relocations_of(section)
