"""Livepatch relocation sections and symbols (Documentation/livepatch/module-elf-format.rst).

``.klp.rela.<object>.<section>`` and ``.klp.sym.<object>.<symbol>,<position>``. The kernel reads the object
up to the first dot (module names have none, symbols such as ``f.isra.0`` and sections such as ``.text.f``
have) and the symbol up to the comma, and refuses the module where that fails; so does this.
"""

from __future__ import annotations

import re

from livepatch_core.modulefile.elf import SHF_RELA_LIVEPATCH, SHN_LIVEPATCH, SHN_UNDEF, Elf, Section, Symbol
from livepatch_core.modulefile.model import KlpSymbol
from livepatch_core.modulefile.refusal import refusal

SECTION = re.compile(r"\.klp\.rela\.([^.]{1,63})\.(.+)")
SYMBOL = re.compile(r"\.klp\.sym\.([^.]{1,63})\.([^,]{1,511}),([0-9]{1,9})")


def parse_symbol(name: str) -> tuple[str, str, int]:
    """Object, symbol and position of a livepatch symbol's name."""
    match = SYMBOL.fullmatch(name)
    if match is None:
        raise refusal(f"its livepatch symbol {name!r} is not of the form .klp.sym.object.symbol,position")
    return match.group(1), match.group(2), int(match.group(3))


def parse_section(name: str) -> str:
    """The object of a livepatch relocation section's name."""
    match = SECTION.fullmatch(name)
    if match is None:
        raise refusal(
            f"its livepatch relocation section {name!r} is not of the form .klp.rela.object.section"
        )
    return match.group(1)


def read_klp_symbols(elf: Elf) -> tuple[KlpSymbol, ...]:
    """Each livepatch symbol once for each object whose relocations use it, sorted."""
    found: set[KlpSymbol] = set()
    for section in elf.sections:
        if section.type == "SHT_RELA" and section.flags & SHF_RELA_LIVEPATCH:
            found |= _symbols_of(elf, section)
    return tuple(sorted(found))


def _symbols_of(elf: Elf, section: Section) -> set[KlpSymbol]:
    owner = parse_section(section.name)
    used = {relocation.symbol for _, relocation in elf.relocations(section)}
    names = (_livepatch_name(elf, section, elf.symbols[number]) for number in used)
    return {KlpSymbol(owner, *parse_symbol(name)) for name in names}


def _livepatch_name(elf: Elf, section: Section, symbol: Symbol) -> str:
    name = elf.symbol_name(symbol)
    if symbol.section != SHN_LIVEPATCH:
        raise refusal(f"{name!r} in its section {section.name} is not marked as a livepatch symbol")
    return name


def read_imports(elf: Elf) -> tuple[str, ...]:
    """Undefined symbols other than livepatch ones, sorted: what must be exported by the kernel or by a
    module.
    """
    names = {elf.symbol_name(symbol) for symbol in elf.symbols[1:] if symbol.section == SHN_UNDEF}
    return tuple(sorted(names - {""}))
