"""Headers that a compiler only finds when the whole kernel is built, and the programs that write some.

With ``M=`` kbuild looks for headers neither in a directory's own part of the build directory nor where a
Makefile's ``-I$(src)`` points in the source tree (scripts/Makefile.lib does both without KBUILD_EXTMOD only).
What has to be looked for in addition stands in the Makefiles. Kbuild writes generated headers into the build
directory by itself; two of the programs for that are in no headers package and are compiled from the same
source tree, patched or not.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from livepatch_core.build import tree
from livepatch_core.build.commands import run
from livepatch_core.build.refusals import Refusal, Refused

# gen_crc32table.c includes "../include/generated/autoconf.h" beside itself, as a build in the tree has it.
HOST_FLAGS = "-I{objects}/lib"
# Source directories that a Makefile adds, and headers (or sources that are included) that it has made.
_OWN = re.compile(r"-I *\$\(src\)([\w./-]*)")
_MADE = re.compile(r"\$\(obj\)/[\w.%-]+\.[ch]\b")


@dataclass(frozen=True)
class _Program:
    """A program that a Makefile which ``named`` occurs in needs, by its place in the build directory."""

    place: str
    named: re.Pattern[str]
    includes: tuple[str, ...]  # as its own Makefile says


_PROGRAMS = (
    _Program(
        "scripts/selinux/genheaders/genheaders",
        re.compile(r"scripts/selinux/genheaders/genheaders\b"),
        ("include/uapi", "include", "security/selinux/include"),
    ),
    _Program("scripts/asn1_compiler", re.compile(r"\$\(obj\)/[\w.-]+\.asn1\.[ch]\b"), ("include",)),
)


def _makefiles(source: Path, path: str) -> Iterator[tuple[str, str]]:
    """(directory, text without comments) of every Makefile above a source file, nearest first."""
    directory = posixpath.dirname(path)
    while directory:
        for name in ("Kbuild", "Makefile"):
            makefile = source / directory / name
            if makefile.is_file():
                text = makefile.read_text(encoding="utf-8", errors="replace")
                yield directory, re.sub(r"#.*", "", text)
        directory = posixpath.dirname(directory)


def prepare(source: Path, objects: Path, path: str, compiler: str) -> str:
    """Put the programs that write headers of ``path`` into the build directory ``objects``; the compiler's
    flags for where its headers lie besides, "" if nowhere. Raises ``Refused`` (TOOLCHAIN).

    A Makefile also speaks of objects in the directories below it, and its ``subdir-ccflags-y`` of all that is
    there. Looked through after every other directory, these only give what would not be found at all.
    """
    found: dict[Path, None] = {}
    for directory, text in _makefiles(source, path):
        found.update((source / posixpath.normpath(directory + m[1]), None) for m in _OWN.finditer(text))
        if _MADE.search(text):
            found[objects / directory] = None
        for program in _PROGRAMS:
            if program.named.search(text) and not (objects / program.place).exists():
                _compile(source, objects, program, compiler)
    return "".join(f" -idirafter {one}" for one in found)


def _compile(source: Path, objects: Path, program: _Program, compiler: str) -> None:
    place = objects / program.place
    for parent in reversed(place.relative_to(objects).parents[:-1]):
        tree.open_directory(objects / parent)  # it may be a link into the kbuild tree, which is only read
    place.parent.mkdir(parents=True, exist_ok=True)
    includes = [f"-I{source / include}" for include in program.includes]
    done = run([compiler, *includes, "-o", str(place), str(source / f"{program.place}.c")], cwd=objects)
    if done.status:
        raise Refused(
            Refusal.TOOLCHAIN,
            f"The program that writes headers does not compile: {done.err.strip()[:300]}",
            file=f"{program.place}.c",
            remedy="Install the C library's headers (libc6-dev) on the builder.",
        )
