"""Builds small kernel modules for the lab's kernels, with Debian's own headers and compiler."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from lab import apt, cache, host
from lab.errors import BuildFailed
from lab.kernels import Kernel

COMPILER = (
    "gcc-12"  # what Debian 12 builds its kernels with; the headers' own Makefile asks for it by this name
)


def headers(kernel: Kernel) -> Path:
    """The kernel's build directory (what /lib/modules/<release>/build is on a machine that has the headers
    installed).
    """
    inputs = {
        "package": kernel.headers_package,
        "version": kernel.version,
        "root": str(cache.root()),
        "layout": 2,
    }
    place = cache.artefact(
        "headers", inputs, lambda into: _unpack(kernel, into), f"headers of {kernel.release}"
    )
    return place / "usr/src" / kernel.headers_package


def _unpack(kernel: Kernel, into: Path) -> None:
    needed = [
        name for name in apt.depends(kernel.headers_package, kernel.version)
        if re.match(r"linux-(headers|kbuild)-", name)
    ]  # fmt: skip
    for deb in apt.download([f"{kernel.headers_package}={kernel.version}", *needed], into):
        apt.unpack(deb, into)
        deb.unlink()
    build = into / "usr/src" / kernel.headers_package
    # The newer headers bring a vmlinux so that modules get BTF, which needs the program pahole; kbuild goes
    # without if it is absent.
    (build / "vmlinux").unlink(missing_ok=True)
    _relocate(build / "Makefile")


def _relocate(makefile: Path) -> None:
    """Debian's Makefile includes the common one by its installed path; all other links are relative
    already.
    """
    text, count = re.subn(
        r"^include /usr/src/(\S+)/Makefile$",
        r"include $(LAB_HEADERS)/\1/Makefile",
        makefile.read_text(),
        flags=re.M,
    )
    if count != 1:
        raise BuildFailed(
            "the kernel headers' Makefile is not as Debian writes it", text, "see lab/kbuild.py"
        )
    makefile.write_text(
        f"LAB_HEADERS := $(dir $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST))))))\n{text}"
    )


def build_modules(
    kernel: Kernel,
    sources: Mapping[str, str],
    modules: Mapping[str, Iterable[str]] | None = None,
    flags: str = "",
) -> dict[str, Path]:
    """Builds modules in one kbuild run and gives the path of each ``.ko`` by module name.

    `sources` maps file names to text (``.c``, ``.S``, ``.h``); each ``.c`` is a module unless `modules`
    says which files make which module. `flags` go to the compiler. BuildFailed with the compiler's words
    when it fails. Cached by content.
    """
    made_of = (
        {name: sorted(files) for name, files in modules.items()}
        if modules is not None
        else _one_each(sources)
    )
    inputs = {
        "headers": [kernel.release, kernel.version],
        "sources": dict(sources),
        "modules": made_of,
        "flags": flags,
        "compiler": host.run([COMPILER, "--version"]).decode().splitlines()[0],
    }
    tree = headers(kernel)
    what = f"modules for {kernel.release}: {' '.join(made_of)}"
    place = cache.artefact("modules", inputs, lambda into: _make(tree, sources, made_of, flags, into), what)
    return {name: place / f"{name}.ko" for name in made_of}


def build_module(kernel: Kernel, sources: Mapping[str, str], flags: str = "") -> Path:
    """Builds the one module whose ``.c`` file is in `sources`."""
    built = build_modules(kernel, sources, flags=flags)
    if len(built) != 1:
        raise ValueError(f"build_module is for one .c file, there are {sorted(built)}")
    return next(iter(built.values()))


def _one_each(sources: Mapping[str, str]) -> dict[str, list[str]]:
    return {Path(name).stem: [name] for name in sources if name.endswith(".c")}


def kbuild_file(modules: Mapping[str, Iterable[str]], flags: str) -> str:
    """The Kbuild file: what objects make what module."""
    lines = [f"ccflags-y := {flags}"] if flags else []
    for name, files in modules.items():
        objects = [f"{Path(file).stem}.o" for file in files]
        lines.append(f"obj-m += {name}.o")
        if objects != [f"{name}.o"]:
            lines.append(f"{name}-y := {' '.join(objects)}")
    return "\n".join(lines) + "\n"


def _make(
    tree: Path, sources: Mapping[str, str], modules: Mapping[str, Iterable[str]], flags: str, into: Path
) -> None:
    for name, text in sources.items():
        (into / name).write_text(text)
    (into / "Kbuild").write_text(kbuild_file(modules, flags))
    host.run(["make", "-s", f"-j{os.cpu_count() or 1}", "-C", tree, f"M={into}", "modules"])
    for path in into.iterdir():
        if path.suffix in (".o", ".cmd", ".mod") or path.name.endswith(".mod.c") or path.name.startswith("."):
            path.unlink()
