"""What the files of the kernel's own modules say: those that modprobe would load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from livepatch_core.errors import LivepatchError
from livepatch_core.kernel.modules import module_file
from livepatch_core.kernel.roots import Roots
from livepatch_core.modulefile.elf import SHN_UNDEF, Elf
from livepatch_core.modulefile.facts import read_build_id
from livepatch_core.modulefile.reading import decompress

VERMAGIC = b"\0vermagic="


@dataclass(frozen=True)
class Installed:
    """One module's file. counts: how often each name that was asked for is defined in it.

    error: why the file could not be read; build_id and counts say nothing then.
    """

    path: Path
    build_id: str | None
    counts: dict[str, int]
    error: str = ""


def find(roots: Roots, release: str, name: str, functions: list[str]) -> Installed | None:
    """The file behind module ``name``, with ``functions`` counted in it; None when none is installed."""
    path: Path | None = roots.lib_modules / release
    try:
        path = module_file(roots, release, name)
        if path is None:
            return None
        elf = Elf(decompress(path.read_bytes())[0])
    except (OSError, LivepatchError) as problem:
        return Installed(path or roots.lib_modules, None, {}, str(problem))
    defined = [elf.symbol_name(symbol) for symbol in elf.symbols if symbol.section != SHN_UNDEF]
    return Installed(path, read_build_id(elf), {one: defined.count(one) for one in functions})


def vermagic_flags(roots: Roots, release: str) -> str | None:
    """The flags in the vermagic of the kernel's own modules (``SMP preempt mod_unload modversions``).

    Any module of the kernel has them; the first that depmod lists is read. None when there is none.
    """
    directory = roots.lib_modules / release
    try:
        with (directory / "modules.dep").open(encoding="utf-8", errors="replace") as listing:
            first = listing.readline().partition(":")[0]
        image = decompress((directory / first).read_bytes())[0] if first else b""
    except (OSError, LivepatchError):
        return None
    start = image.find(VERMAGIC)
    if start < 0:
        return None
    text = image[start + len(VERMAGIC) : image.index(b"\0", start + 1)].decode("utf-8", "replace")
    return " ".join(text.split()[1:])
