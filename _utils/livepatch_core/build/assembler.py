"""The assembler stand-in: makes every symbol of a compiler's output global before the real assembler sees it.

gas then emits a relocation against the symbol for every reference, instead of ``section + offset``, and
nothing has to decode instructions to learn what ``cmpb $0, .data.once+3(%rip)`` refers to. Code bytes do not
change. The declarations come first: gas marks a call as a call (R_X86_64_PLT32, not PC32) only if it knows by
then that the called function is global (need_plt32_p in tc-i386.c). A second name that the compiler gave to
one of two equal functions (``.set``) has no type of its own in the text and counts, too, and so does what the
kernel's own assembler text declares as local (the lists of BTF ids). Which symbols were local is written to a
section of its own, LOCALS_SECTION, that never reaches a module.

A local variable that the compiler leaves to the assembler to place (``.local`` and ``.comm``, where a
Makefile takes back -fdata-sections as that of init/ does) gets the section that it would have had: made
global and nothing else it would be a common symbol, which has no place.
"""

from __future__ import annotations

import sys
from pathlib import Path

LOCALS_SECTION = ".livepatch.locals"

_SCRIPT = """#!{python} -IS
import os, re, sys
arguments = sys.argv[1:]
sources = [a for a in arguments if a.endswith(".s")]
if sources:
    with open(sources[-1], "rb") as file:
        text = file.read()
    typed = re.findall({typed!r}, text, re.M)
    typed += re.findall({local!r}, text, re.M)
    known = set(typed)
    typed += [name for name, other in re.findall({equal!r}, text, re.M) if other in known]
    shared = set(re.findall({shared!r}, text, re.M))
    local = [n for n in dict.fromkeys(typed) if n not in shared]
    demoted = re.sub({local!r}, b"", text, flags=re.M)
    def placed(found):
        if found[1] not in local:
            return found[0]
        return {storage!r} % {{b"name": found[1], b"size": found[2], b"align": found[3] or b"1"}}
    demoted = re.sub({common!r}, placed, demoted, flags=re.M)
    names = b"".join(b'.globl "%s"\\n' % n for n in local)
    listed = b"".join(b'.asciz "%s"\\n' % n for n in local)
    with open(sources[-1], "wb") as file:
        file.write(names + demoted + b'.pushsection {section},"e",@progbits\\n' + listed + b".popsection\\n")
os.execv({assembler!r}, ["as", *arguments])
"""


def script(assembler: str) -> str:
    """The text of the program that is installed under the name ``as`` for the compiler to find (``-B``)."""
    return _SCRIPT.format(
        python=sys.executable,
        typed=rb"^\s*\.type\s+([A-Za-z_.$][\w.$]*)\s*,",
        equal=rb"^\s*\.set\s+([A-Za-z_$][\w.$]*)\s*,\s*([A-Za-z_.$][\w.$]*)\s*$",
        shared=rb"^\s*\.(?:globl|global|weak)\s+([A-Za-z_.$][\w.$]*)",
        local=rb"^[ \t]*\.local[ \t]+([A-Za-z_.$][\w.$]*)[ \t]*;?[ \t]*$",
        common=rb"^[ \t]*\.comm[ \t]+([A-Za-z_.$][\w.$]*)[ \t]*,[ \t]*(\d+)[ \t]*(?:,[ \t]*(\d+))?[ \t]*$",
        storage=b'.pushsection .bss.%(name)s,"aw",@nobits\n.balign %(align)s\n.type %(name)s,@object\n'
        b".size %(name)s,%(size)s\n%(name)s: .zero %(size)s\n.popsection",
        section=LOCALS_SECTION,
        assembler=assembler,
    )


def install(directory: Path, assembler: str) -> None:
    """Write the stand-in into ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "as"
    path.write_text(script(assembler), encoding="utf-8")
    path.chmod(0o755)


def local_names(contents: bytes) -> frozenset[str]:
    """The names in a LOCALS_SECTION."""
    return frozenset(name.decode("latin-1") for name in contents.split(b"\0") if name)
