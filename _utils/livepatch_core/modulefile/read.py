"""Reading a whole module file: one pass over bytes that are already in memory."""

from __future__ import annotations

import hashlib

from livepatch_core.modulefile.elf import Elf
from livepatch_core.modulefile.facts import (
    first,
    read_build_id,
    read_built_for,
    read_modinfo,
    read_name,
    read_versions,
)
from livepatch_core.modulefile.klp_build_tables import OBJECTS, read_klp_build_tables
from livepatch_core.modulefile.kpatch_tables import FUNCS, read_kpatch_tables
from livepatch_core.modulefile.livepatch_symbols import read_imports, read_klp_symbols
from livepatch_core.modulefile.model import Maker, ModuleFile, PatchedObject, State
from livepatch_core.modulefile.pointers import Pointers
from livepatch_core.modulefile.reading import decompress
from livepatch_core.modulefile.refusal import refusal
from livepatch_core.modulefile.signature import read_signature
from livepatch_core.modulefile.static_tables import read_static_tables


def payload(data: bytes) -> bytes:
    """What goes to the kernel: the decompressed image, its appended signature included."""
    return decompress(data)[0]


def read_module(data: bytes) -> ModuleFile:
    """Everything a module file says, from its bytes as stored.

    Raises LivepatchError(MODULE_FORMAT) for anything that is not wholly understood.
    """
    return read_with_payload(data)[0]


def read_with_payload(data: bytes) -> tuple[ModuleFile, bytes]:
    """``read_module`` and ``payload`` in one, decompressing once."""
    image, compression = decompress(data)
    elf = Elf(image)
    modinfo = read_modinfo(elf)
    vermagic = first(modinfo, "vermagic")
    if not vermagic:
        raise refusal("it does not say for which kernel it was made (no vermagic)")
    livepatch = first(modinfo, "livepatch") is not None  # the kernel looks for the key only
    built_for = read_built_for(modinfo)
    maker, objects, replace, states = _tables(elf, built_for) if livepatch else (None, (), None, ())
    klp_symbols = read_klp_symbols(elf)
    imports = read_imports(elf)
    used = {*imports, *(symbol.name for symbol in klp_symbols)}
    module = ModuleFile(
        name=read_name(elf, modinfo),
        livepatch=livepatch,
        machine=elf.machine,
        vermagic=vermagic,
        release=vermagic.split(" ", 1)[0],
        depends=tuple(word for word in (first(modinfo, "depends") or "").split(",") if word),
        modinfo=modinfo,
        build_id=read_build_id(elf),
        built_for=built_for,
        built_for_release=first(modinfo, "built_for_release"),
        objects=objects,
        replace=replace,
        states=states,
        klp_symbols=klp_symbols,
        imports=imports,
        versions=read_versions(elf),
        shadow=any(name.startswith("klp_shadow_") for name in used),
        signature=read_signature(image),
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        compression=compression,
        maker=maker,
        proven=frozenset(value for key, value in modinfo if key == "positions") & set(built_for),
    )
    return module, image


def _tables(
    elf: Elf, built_for: dict[str, str]
) -> tuple[Maker, tuple[PatchedObject, ...], bool | None, tuple[State, ...]]:
    """Who laid out the livepatch tables, the objects, whether it replaces, the system states."""
    pointers = Pointers(elf)
    if FUNCS in elf.by_name and OBJECTS in elf.by_name:
        raise refusal("it has the tables of kpatch and of klp-build")
    if FUNCS in elf.by_name:
        maker, objects = Maker.KPATCH, read_kpatch_tables(pointers)
    elif OBJECTS in elf.by_name:
        maker, objects = Maker.KLP_BUILD, read_klp_build_tables(pointers)
    else:
        tables = read_static_tables(pointers)
        return Maker.OURS if built_for else Maker.HAND, tables.objects, tables.replace, tables.states
    if not objects:
        raise refusal("it says livepatch, but patches no function")
    return maker, objects, None, ()
