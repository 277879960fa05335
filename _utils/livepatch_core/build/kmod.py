"""From extracted objects to a finished module: the table of replacements in C, kbuild, and the livepatch
conversion.

Kbuild links and checks as for any module. Afterwards undefined ``.klp.sym.*`` symbols become SHN_LIVEPATCH
and their relocations move to ``.klp.rela.*`` sections (Documentation/livepatch/module-elf-format.rst). That
must come after the last link, which would merge those sections away.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from livepatch_core.build import cover
from livepatch_core.build.commands import run
from livepatch_core.build.compile import Bench, is_delayed, make_command, run_objtool
from livepatch_core.build.extract import Extracted, NewFunction
from livepatch_core.build.hooks import CALLBACKS
from livepatch_core.build.objectfile import (
    SHN_LIVEPATCH,
    SHN_LORESERVE,
    SHN_UNDEF,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    LivepatchRelocations,
    ObjectFile,
    Relocation,
    Section,
    read_object,
    write_object,
)
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.resolve import PREFIX

_NAME = re.compile(r"^[a-z][a-z0-9_]{0,54}$")  # MODULE_NAME_LEN is 56 on 64-bit kernels
# modpost names ten unresolved symbols and counts the rest; verify.check_versions() holds all imports against
# the exports.
_EXPECTED_WARNING = re.compile(
    r'^WARNING: modpost: ("\.klp\.sym\.[^"]*" \[.*\] undefined!|suppressed \d+ unresolved symbol warnings.*)$'
)
_SHF_LINK_ORDER = 0x80


@dataclass(frozen=True)
class Manifest:
    """What the module says about itself. ``built_for``: build-id by object; ``states``: klp system states
    (id, version).
    """

    name: str
    release: str
    built_for: Mapping[str, str]
    replace: bool = True
    states: Sequence[tuple[int, int]] = ()
    level: int = 0
    namespaces: Sequence[str] = ()


def check_name(name: str) -> None:
    if not _NAME.match(name):
        raise Refused(
            Refusal.ARGUMENT,
            f"{name!r} cannot be a module name.",
            remedy="Use at most 55 of a-z, 0-9 and _, beginning with a letter.",
        )


def _functions_table(index: int, functions: Sequence[NewFunction]) -> str:
    rows = [
        f'\t{{ .old_name = "{f.old_name}", .new_func = {f.alias}, .old_sympos = {f.position} }},'
        for f in functions
    ]
    externs = [f"extern char {f.alias}[];" for f in functions]
    return "\n".join([*externs, f"static struct klp_func functions_{index}[] = {{", *rows, "\t{ }", "};", ""])


def _callbacks(hooks: Mapping[str, list[str]]) -> tuple[str, str]:
    """(declarations, initializer) for one object's callbacks."""
    declarations, fields = [], []
    for kind in CALLBACKS:
        for function in hooks.get(kind, ()):
            returns = "int" if kind == "pre_patch" else "void"
            declarations.append(f"extern {returns} {function}(struct klp_object *object);")
            fields.append(f".{kind} = {function}")
    text = f", .callbacks = {{ {', '.join(fields)} }}" if fields else ""
    return "".join(f"{d}\n" for d in declarations), text


def main_source(manifest: Manifest, units: Sequence[Extracted]) -> str:
    """The C file that registers everything. Objects come in a fixed order: vmlinux, then modules by name."""
    owners = sorted({unit.owner for unit in units}, key=lambda owner: (owner != "vmlinux", owner))
    parts, objects = [], []
    for index, owner in enumerate(owners):
        functions = [f for unit in units if unit.owner == owner for f in unit.functions]
        hooks: dict[str, list[str]] = defaultdict(list)
        for unit in units:
            for kind, names in unit.hooks.items() if unit.owner == owner else ():
                hooks[kind] += names
        declarations, callbacks = _callbacks(hooks)
        parts.append(declarations + _functions_table(index, functions))
        name = "NULL" if owner == "vmlinux" else f'"{owner}"'
        objects.append(f"\t{{ .name = {name}, .funcs = functions_{index}{callbacks} }},")
    states = "".join(f"\t{{ .id = {id_}UL, .version = {version}U }},\n" for id_, version in manifest.states)
    fields = ".mod = THIS_MODULE, .objs = objects, .replace = " + ("true" if manifest.replace else "false")
    if states:
        parts.append(f"static struct klp_state states[] = {{\n{states}\t{{ }}\n}};\n")
        fields += ", .states = states"
    notes = [
        ("built_for_release", manifest.release),
        *(("built_for", f"{k}:{v}") for k, v in manifest.built_for.items()),
        # The host need not count names again in an object of that very build: verify.py has read them back.
        *(("positions", k) for k in manifest.built_for),
    ]
    if manifest.level:
        notes.append(("level", str(manifest.level)))
    info = "".join(f'MODULE_INFO({key}, "{value}");\n' for key, value in notes)
    imports = "".join(f"MODULE_IMPORT_NS({n});\n" for n in manifest.namespaces)
    return (
        "#include <linux/module.h>\n#include <linux/livepatch.h>\n\n"
        + "\n".join(parts)
        + "\nstatic struct klp_object objects[] = {\n"
        + "\n".join(objects)
        + "\n\t{ }\n};\n\n"
        + f"static struct klp_patch patch = {{ {fields} }};\n\n"
        + "static int __init livepatch_start(void)\n{\n\treturn klp_enable_patch(&patch);\n}\n\n"
        + "static void __exit livepatch_stop(void)\n{\n}\n\n"
        + "module_init(livepatch_start);\nmodule_exit(livepatch_stop);\n"
        + 'MODULE_DESCRIPTION("kernel live patch");\nMODULE_LICENSE("GPL");\nMODULE_INFO(livepatch, "Y");\n'
        + info
        + imports
    )


def link_module(bench: Bench, directory: Path, manifest: Manifest, units: Sequence[Extracted]) -> bytes:
    """The linked module before its conversion. Raises ``Refused`` (MODPOST) for any complaint that is not
    about livepatch symbols.
    """
    directory.mkdir()
    (directory / "main.c").write_text(main_source(manifest, units), encoding="utf-8")
    names = [f"unit{number}" for number in range(len(units))]
    for name, unit in zip(names, units):
        (directory / f"{name}.o").write_bytes(unit.object)
        (directory / f".{name}.o.cmd").write_text("", encoding="utf-8")
    config = (bench.objects / ".config").read_text(encoding="utf-8")
    order = cover.link_order([(unit.owner, bool(unit.functions)) for unit in units])
    objects = " ".join(f"{name}.o" for name in ("main", *(names[number] for number in order)))
    (directory / "Kbuild").write_text(
        f"obj-m := {manifest.name}.o\n{manifest.name}-y := {objects}\n", encoding="utf-8"
    )
    options = [
        "KBUILD_MODPOST_WARN=1",
        "CONFIG_DEBUG_INFO_BTF_MODULES=",
        f"KCFLAGS=-g0 -fmacro-prefix-map={directory}/=",
    ]
    if is_delayed(config):
        _compile_main(bench, directory, config, options)
        # Every object has been through objtool; over the linked whole it would find its own work and
        # complain.
        options.append("objtool=true")
    done = run(make_command(bench, str(directory), [*options, "modules"]), cwd=directory)
    result = directory / f"{manifest.name}.ko"
    complaints = [line for line in done.err.split("\n") if line.strip() and not _EXPECTED_WARNING.match(line)]
    if complaints or not result.exists():
        raise Refused(
            Refusal.MODPOST,
            "Linking the module was refused: " + ("; ".join(complaints[:5]) or done.out.strip()[-300:]),
            remedy="Report this diff.",
        )
    return result.read_bytes()


def _compile_main(bench: Bench, directory: Path, config: str, options: Sequence[str]) -> None:
    """main.o with objtool over it alone: its return thunks must be annotated, or the kernel warns when the
    module goes.
    """
    done = run(make_command(bench, str(directory), [*options, "main.o"]), cwd=directory)
    if not (directory / "main.o").exists():
        raise Refused(
            Refusal.MODPOST,
            f"The module's table did not compile: {done.err.strip()[:300]}",
            remedy="Report this diff.",
        )
    run_objtool(bench, directory / "main.o", "main.c", config, modular=True)


def _split_relocations(
    file: ObjectFile, owner_of: Mapping[str, str]
) -> list[tuple[str, Section, list[Relocation]]]:
    """Take the livepatch relocations out of every section: (object that must be patched for them, section,
    relocations).

    The kernel applies vmlinux symbols at load from ``.klp.rela.vmlinux``; a module's relocation section may
    not name a vmlinux symbol (klp_resolve_symbols).
    """
    moved = []
    for section in file.sections:
        plain, by_owner = [], defaultdict(list)
        for relocation in section.relocations:
            name = file.symbols[relocation.symbol].name
            if name.startswith(PREFIX) and file.symbols[relocation.symbol].section == SHN_UNDEF:
                by_owner[owner_of[name]].append(relocation)
            else:
                plain.append(relocation)
        section.relocations = plain
        moved += [(owner, section, relocations) for owner, relocations in sorted(by_owner.items())]
    return moved


def patched_object(units: Sequence[Extracted]) -> dict[str, str]:
    """For every livepatch symbol, the object in whose relocation section it goes: its own one if that is
    patched as well, which then is loaded whenever code that needs the symbol is; else the one of that code.
    """
    patched = {"vmlinux", *(unit.owner for unit in units)}
    owners: dict[str, str] = {}
    for unit in units:
        for external in unit.externals.values():
            if not external.livepatch:
                continue
            owner = external.owner if external.owner in patched else unit.owner
            if owners.setdefault(external.symbol, owner) != owner:
                raise Refused(
                    Refusal.SYMBOL_AMBIGUOUS,
                    f"Both {owner} and {owners[external.symbol]} need it, and either may be loaded "
                    f"without the other.",
                    file=unit.path,
                    function=external.name,
                    remedy=f"Avoid the reference, or patch {external.owner} as well.",
                )
    return owners


def convert(module: bytes, units: Sequence[Extracted]) -> bytes:
    """A linked module as a livepatch module."""
    file = read_object(module)
    moved = _split_relocations(file, patched_object(units))
    kept = [n for n, s in enumerate(file.sections) if n and s.type not in (SHT_RELA, SHT_SYMTAB, SHT_STRTAB)]
    number = {old: new for new, old in enumerate(kept, 1)}
    sections = [file.sections[old] for old in kept]
    for section in sections:
        section.link = number.get(section.link, 0) if section.flags & _SHF_LINK_ORDER else 0
    symbols = []
    for symbol in cover.hidden(file, {f.alias for unit in units for f in unit.functions}):
        if symbol.section == SHN_UNDEF and symbol.name.startswith(PREFIX):
            symbols.append(symbol._replace(section=SHN_LIVEPATCH))
        elif SHN_UNDEF < symbol.section < SHN_LORESERVE:
            symbols.append(symbol._replace(section=number[symbol.section]))
        else:
            symbols.append(symbol)
    position = {id(section): n for n, section in enumerate(sections, 1)}
    return write_object(sections, symbols, [LivepatchRelocations(o, position[id(s)], r) for o, s, r in moved])
