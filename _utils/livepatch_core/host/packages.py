"""Which package of the distribution a file came with: dpkg's own files are read, rpm is asked.

dpkg's database is text of a documented form (dpkg-query(1), deb-md5sums(5)). That of rpm has had three
formats, which only rpm knows. Both say what the file's content was when the package was installed: one that
was changed since is not the package's any more.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from livepatch_core.host.programs import QUESTION_SECONDS, Run, Said, run
from livepatch_core.kernel.modules import canonical, module_file
from livepatch_core.kernel.roots import Roots

# Where kpatch's own script keeps modules for a kernel, and where packages put them for it.
KPATCH = ("var/lib/kpatch", "usr/lib/kpatch")
SUFFIXES = (".ko", ".ko.xz", ".ko.gz", ".ko.zst")
FORMAT = "%{NAME}\\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\\n[%{FILEDIGESTS} %{FILENAMES}\\n]"
# By the length of the digest in hex: rpm uses SHA-256 since 4.6, MD5 before.
DIGESTS = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}


@dataclass(frozen=True)
class Package:
    """version: as the package manager writes it, with the epoch where it has one."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def module_files(roots: Roots, release: str, name: str) -> Iterator[Path]:
    """The files that a module of that name can have been loaded from: modprobe's, and those of kpatch."""
    try:
        found = module_file(roots, release, name)
    except OSError:  # no modules.dep
        found = None
    if found is not None:
        yield found
    for place in KPATCH:
        directory = roots.root / place / release
        listed = sorted(directory.iterdir()) if directory.is_dir() else []
        yield from (path for path in listed if _is_module(path.name, name))


def owner(roots: Roots, path: Path, data: bytes, ask: Run = run) -> Package | None:
    """The package that brought the file with this content; None where no package manager knows it so.

    Raises LivepatchError (internal) when rpm hangs.
    """
    return _by_dpkg(roots, path, data) or _by_rpm(roots, path, data, ask)


def _is_module(file: str, name: str) -> bool:
    stem = next((file[: -len(suffix)] for suffix in SUFFIXES if file.endswith(suffix)), None)
    return stem is not None and canonical(stem) == canonical(name)


# -- dpkg ----------------------------------------------------------------------------------------------------


def _by_dpkg(roots: Roots, path: Path, data: bytes) -> Package | None:
    directory = roots.root / "var/lib/dpkg"
    wanted = _names(roots, path)
    try:
        listings = sorted((directory / "info").glob("*.list"))
        found = next((one for one in listings if wanted & set(one.read_bytes().splitlines())), None)
        if found is None:
            return None
        sums = found.with_suffix(".md5sums").read_text(encoding="utf-8", errors="surrogateescape")
        status = (directory / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:  # no dpkg, or no sums of this package: then nothing is known of the file's content
        return None
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    named = {os.fsencode(f"/{line[34:]}") for line in sums.splitlines() if line[:32] == digest}
    return installed(status, found.stem) if named & wanted else None


def _names(roots: Roots, path: Path) -> set[bytes]:
    """The file as a package may call it: /lib is a link to /usr/lib on most systems, packages say either."""
    name = "/" + str(path.relative_to(roots.root))
    other = name.removeprefix("/usr") if name.startswith("/usr/lib/") else f"/usr{name}"
    return {os.fsencode(name), os.fsencode(other)}


def installed(status: str, package: str) -> Package | None:
    """The package in the text of dpkg's status file, if it is installed. package: with :architecture where
    dpkg keeps it under that name. Pure."""
    name, _, machine = package.partition(":")
    for stanza in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Package") != name or (machine and fields.get("Architecture") != machine):
            continue
        if fields.get("Status", "").split()[-1:] == ["installed"] and "Version" in fields:
            return Package(name, fields["Version"])
    return None


# -- rpm -----------------------------------------------------------------------------------------------------


def _by_rpm(roots: Roots, path: Path, data: bytes, ask: Run) -> Package | None:
    for name in sorted(_names(roots, path)):
        said = ask(("rpm", "-qf", "--queryformat", FORMAT, os.fsdecode(name)), QUESTION_SECONDS)
        if said is None:  # there is no rpm here
            return None
        found = queried(said, os.fsdecode(name), data)
        if found is not None:
            return found
    return None


def queried(said: Said, name: str, data: bytes) -> Package | None:
    """The package in rpm's answer to FORMAT, if the file is in it with this content. Pure."""
    heading, _, files = said.out.partition("\n")
    package, tab, version = heading.partition("\t")
    if said.status != 0 or not tab:
        return None
    for line in files.splitlines():
        digest, _, file = line.partition(" ")
        method = DIGESTS.get(len(digest))
        if file == name and method and hashlib.new(method, data, usedforsecurity=False).hexdigest() == digest:
            return Package(package, version)
    return None
