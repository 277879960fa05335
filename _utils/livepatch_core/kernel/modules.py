"""The modules that are loaded, and the files that modprobe would load."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from livepatch_core.kernel import notes
from livepatch_core.kernel.attributes import read_bytes
from livepatch_core.kernel.roots import Roots


@dataclass(frozen=True)
class Module:
    """A loaded module. state: ``live``, ``coming``, ``going`` or ``unknown``. taint: letters such as
    ``OE``."""

    name: str
    state: str
    taint: str


# /proc/modules (kernel/module/procfs.c) -> the words of sysfs' initstate, which are also modinfo's.
_STATES = {"Live": "live", "Loading": "coming", "Unloading": "going"}


def canonical(name: str) -> str:
    """The kernel's spelling of a module name: ``-`` and ``_`` are one character to modprobe, ``_`` in the
    kernel."""
    return name.replace("-", "_")


def parse_modules(text: str) -> dict[str, Module]:
    """``/proc/modules``: ``name size refcount users state address (taint)``; lines of another shape are
    left out."""
    found = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 5:
            continue
        name, _size, _refcount, _users, state = fields[:5]
        letters = fields[-1].strip("()+-") if fields[-1].startswith("(") else ""
        found[name] = Module(name, _STATES.get(state, "unknown"), letters)
    return found


def read_modules(roots: Roots) -> dict[str, Module]:
    """All loaded modules by name from one file. {} on a kernel without modules."""
    try:
        text = (roots.proc / "modules").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    return parse_modules(text)


def module_build_id(roots: Roots, name: str) -> str | None:
    """The build-id of the module *as loaded*, hex: what is on disk may have been replaced since."""
    data = read_bytes(_directory(roots, name) / "notes/.note.gnu.build-id")
    return None if data is None else notes.build_id(data)


def is_loaded(roots: Roots, name: str) -> bool:
    """Whether it is loaded in whatever state. Built-in code with parameters has a directory too, but no
    initstate."""
    return read_bytes(_directory(roots, name) / "initstate") is not None


def module_file(roots: Roots, release: str, name: str) -> Path | None:
    """The file that modprobe would load for this name; None if there is none, or the code is built in.

    depmod has already resolved which of several files wins (updates/, extra/, depmod.d). Raises OSError when
    modules.dep cannot be read: then nothing is known about any module.
    """
    directory = roots.lib_modules / release
    listed = file_in(directory.joinpath("modules.dep").read_text(encoding="utf-8", errors="replace"), name)
    return None if listed is None else directory / listed


def file_in(listing: str, name: str) -> str | None:
    """The path of a module in the text of modules.dep (``path.ko.xz: needs ...``) or modules.builtin
    (``path.ko``)."""
    spelling = re.escape(canonical(name)).replace("_", "[-_]")
    found = re.search(rf"^(?:[^\s:]*/)?{spelling}\.ko(?:\.\w+)?(?=:|$)", listing, re.MULTILINE)
    return found.group() if found else None


def _directory(roots: Roots, name: str) -> Path:
    return roots.sys / "module" / canonical(name)
