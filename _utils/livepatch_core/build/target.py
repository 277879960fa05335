"""What a build is made against: source, headers, tools, image and modules of one kernel build, checked to
belong together.
"""

from __future__ import annotations

import lzma
import re
from dataclasses import dataclass, replace
from pathlib import Path

from livepatch_core.build.commands import run
from livepatch_core.build.refusals import Refusal, Refused

_MODULE_LIMIT = 256 << 20  # bytes, decompressed


@dataclass(frozen=True)
class Target:
    """Where the parts of one kernel build are.

    ``source``: the top of the unpacked source. ``headers``: a directory with ``.config``, ``Module.symvers``
    and the generated headers. ``kbuild``: a directory with ``scripts`` and ``tools/objtool``, built.
    ``image``: vmlinuz or vmlinux. ``modules``: the directory searched for ``.ko`` files. ``version``: of the
    source package, for people.
    """

    release: str
    source: Path
    headers: Path
    kbuild: Path
    image: Path
    modules: Path
    version: str = ""

    def absolute(self) -> Target:
        """The same with absolute paths: the tools run in other directories, and links are made to these."""
        parts = ("source", "headers", "kbuild", "image", "modules")
        return replace(self, **{part: getattr(self, part).absolute() for part in parts})


def config_value(config: str, name: str) -> str:
    """A value out of ``.config`` text: ``y``, ``m``, a quoted string without its quotes, or "" when not
    set.
    """
    match = re.search(rf"^CONFIG_{name}=(.*)$", config, re.MULTILINE)
    return match[1].strip('"') if match else ""


def compiler(target: Target) -> str:
    """The compiler that built the kernel, by CONFIG_CC_VERSION_TEXT. Refuses (TOOLCHAIN) any other version.

    A triplet in the name is tried first, then the plain name, since both are the same program on the native
    machine.
    """
    wanted = config_value((target.headers / ".config").read_text(encoding="utf-8"), "CC_VERSION_TEXT")
    name, _, version = wanted.partition(" ")
    seen = []
    for candidate in dict.fromkeys((name, name.replace("x86_64-linux-gnu-", ""))):
        try:
            banner = run([candidate, "--version"], cwd=target.headers).out.split("\n")[0]
        except Refused:
            continue
        if banner.partition(" ")[2] == version:
            return candidate
        seen.append(banner)
    raise Refused(
        Refusal.TOOLCHAIN,
        f"The kernel was built with {wanted}; found: {', '.join(seen) or 'none'}.",
        remedy=f"Install exactly that version of {name}.",
    )


def source_version(target: Target) -> str:
    """VERSION.PATCHLEVEL.SUBLEVEL of the source tree."""
    text = (target.source / "Makefile").read_text(encoding="utf-8")
    parts = [
        re.search(rf"^{name} = (\d+)$", text, re.MULTILINE) for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL")
    ]
    return ".".join(part[1] if part else "?" for part in parts)


def check_parts(target: Target) -> None:
    """Refuses (SOURCE) parts that are missing or say that they are of another release."""
    for what, path in (
        ("source tree", target.source / "Makefile"),
        ("kernel configuration", target.headers / ".config"),
        ("symbol versions", target.headers / "Module.symvers"),
        ("kernel build scripts", target.kbuild / "scripts"),
        ("kernel image", target.image),
    ):
        if not path.exists():
            raise Refused(
                Refusal.SOURCE,
                f"The {what} is missing: {path}.",
                remedy="Give its path, or let the builder fetch it.",
            )
    said = (target.headers / "include/generated/utsrelease.h").read_text(encoding="utf-8").split('"')[1:2]
    if said != [target.release]:
        raise Refused(
            Refusal.SOURCE,
            f"The headers are of release {said}, not {target.release}.",
            remedy="Give the headers of the target kernel.",
        )


def check_banner(target: Target, image: bytes) -> None:
    """Refuses (SOURCE) an image of another release, or of another upstream version than the source."""
    at = image.find(b"Linux version ")
    banner = image[at : image.find(b"\n", at)].decode("utf-8", "replace") if at >= 0 else ""
    version = source_version(target)
    named = re.search(r"\b\d+\.\d+\.\d+-\d\S*|\b\d+\.\d+\.\d+\b", banner.partition(" #")[2])
    if banner.split(" ")[2:3] != [target.release]:
        raise Refused(
            Refusal.SOURCE,
            f"The image is not of release {target.release}: {banner[:80]!r}.",
            remedy="Give the target's own image.",
        )
    if named and not named[0].startswith(version):
        raise Refused(
            Refusal.SOURCE,
            f"The image was built from {named[0]}, the source tree is {version}.",
            remedy="Give the source of exactly the target kernel.",
        )
    if target.version and target.version not in banner:
        raise Refused(
            Refusal.SOURCE,
            f"The image does not name the source package's version {target.version}: {banner[:160]!r}.",
            remedy="Give the source of exactly the target kernel.",
        )


def module_paths(target: Target) -> dict[str, Path]:
    """Every module file of the kernel by module name (``-`` written ``_``)."""
    found = {}
    for path in sorted(target.modules.rglob("*.ko*")):
        name, _, tail = path.name.partition(".ko")
        if tail in ("", ".xz"):
            found[name.replace("-", "_")] = path
    return found


def read_module_file(path: Path) -> bytes:
    """A module's ELF bytes, decompressed (xz is what Debian uses from 6.12 on). Refuses (SOURCE) damage."""
    data = path.read_bytes()
    if data[:6] == b"\xfd7zXZ\0":
        unpack = lzma.LZMADecompressor()
        try:
            data = unpack.decompress(data, _MODULE_LIMIT)
        except lzma.LZMAError as problem:
            raise _damaged(path, str(problem)) from problem
        if not unpack.eof:
            raise _damaged(path, f"it is cut off, or larger than {_MODULE_LIMIT >> 20} MiB")
    return data


def _damaged(path: Path, why: str) -> Refused:
    return Refused(
        Refusal.SOURCE,
        f"The module {path} cannot be decompressed: {why}.",
        remedy="Install the kernel's package again, or give the target's own modules.",
    )
