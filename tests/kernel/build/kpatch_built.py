"""A live patch for lab_busy, made by the programs of kpatch-build (Debian 13's package) in the order in which
its script calls them for a module outside the kernel's tree. The script itself wants the kernel's source and
a vmlinux with debug information, neither of which these programs read for such a module.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.kpatch_package import SUITE, lay_out
from lab import apt, cache, host, kbuild
from lab.kernels import Kernel
from tests.kernel.livepatches import SOURCES

TARGET = "lab_busy"
NAME = "kpatch-lab-busy"
SECTIONS = "-ffunction-sections -fdata-sections"


def tools() -> Path:
    """The package's files, fetched once, signature checked by apt."""
    inputs = {"suite": SUITE, "package": "kpatch-build", "layout": 1}
    return cache.artefact("kpatch-build", inputs, _fetch, "kpatch-build of Debian 13") / "root"


def build(kernel: Kernel) -> tuple[Path, Path]:
    """The target module, and the live patch for it: where it says old, new."""
    text = (SOURCES / f"{TARGET}.c").read_text()
    inputs = {"kernel": kernel.version, "tools": str(tools()), "source": text, "layout": 1}
    place = cache.artefact("kpatch-built", inputs, lambda into: _make(kernel, text, into), NAME)
    return place / f"plain/{TARGET}.ko", place / f"patch/{NAME}.ko"


def _fetch(into: Path) -> None:
    environment = lay_out(into / "apt")
    host.run(["apt-get", "-q", "update", "--error-on=any"], env=environment)
    host.run(["apt-get", "-q", "download", "kpatch-build"], env=environment, cwd=into)
    (package,) = into.glob("kpatch-build_*.deb")
    apt.unpack(package, into / "root")
    package.unlink()
    shutil.rmtree(into / "apt")


def _make(kernel: Kernel, text: str, into: Path) -> None:
    tree, programs = kbuild.headers(kernel), tools() / "usr/lib/kpatch"
    new = text.replace('"old\\n"', '"new\\n"')
    for name, source, flags in (("plain", text, ""), ("orig", text, SECTIONS), ("patched", new, SECTIONS)):
        _compile(tree, into / name, source, flags)
    symbols = host.run(["readelf", "-s", "--wide", into / f"plain/{TARGET}.ko"])
    (into / "symtab").write_bytes(symbols)
    versions = (tree / "Module.symvers").read_text()
    (into / "symvers").write_text((into / "plain/Module.symvers").read_text() + versions)
    objects = [into / f"{name}/{TARGET}.o" for name in ("orig", "patched")]
    name, patch = NAME.replace("-", "_"), into / "patch"
    shutil.copytree(tools() / "usr/share/kpatch/patch", patch)
    changed = patch / "output.o"
    given = [TARGET, into / "symtab", into / "symvers", name, changed]
    host.run([programs / "create-diff-object", *objects, *given])
    (patch / ".output.o.cmd").touch()
    environment = {
        "KPATCH_BUILD": str(tree),
        "KPATCH_NAME": NAME,
        "KCFLAGS": f"-I{patch}",
        "CFLAGS_MODULE": "-DKLP_REPLACE_ENABLE=true",
    }
    host.run(["make", "-s"], env={**environment, "PWD": str(patch)}, cwd=patch)
    linked = (patch / f"{NAME}.ko").rename(patch / "linked.ko")
    host.run([programs / "create-klp-module", "--no-klp-arch-sections", linked, patch / f"{NAME}.ko"])


def _compile(tree: Path, place: Path, source: str, flags: str) -> None:
    place.mkdir()
    (place / f"{TARGET}.c").write_text(source)
    shutil.copy(SOURCES / "lp.h", place)
    (place / "Kbuild").write_text(kbuild.kbuild_file({TARGET: [f"{TARGET}.c"]}, flags))
    host.run(["make", "-s", "-C", tree, f"M={place}", "modules"])
