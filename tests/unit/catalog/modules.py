"""Livepatch modules to publish: small, made by hand, each recording the kernel build it is for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from livepatch_core.catalog.author import Author
from livepatch_core.catalog.entry import Publication, parse_fixes
from livepatch_core.catalog.publish import publish
from livepatch_core.catalog.settings import Master
from livepatch_core.modulefile.model import Function, PatchedObject
from tests.unit.modulefile.handmade import Layout, Writer

RELEASE = "6.1.0-56-amd64"
BUILD = "00112233445566778899aabbccddeeff00112233"
OTHER_BUILD = "ff112233445566778899aabbccddeeff00112233"
BY = Author("alice", "a test", "2026-11-24T10:00:00Z")


class Recording(Writer):
    """Its modinfo also says what it was built for."""

    built_for = ""
    release = RELEASE

    def _file(self, machine: int, sections: list[tuple[str, int, int, bytes, int, int]]) -> bytes:
        def changed(name: str, data: bytes) -> bytes:
            if name != ".modinfo":
                return data
            record = f"built_for=vmlinux:{self.built_for}\0".encode() if self.built_for else b""
            return data.replace(b"9.9.9", self.release.encode()) + record

        return super()._file(machine, [(s[0], s[1], s[2], changed(s[0], s[3]), s[4], s[5]) for s in sections])


def module(
    name: str = "livepatch_1",
    functions: Sequence[str] = ("f",),
    built_for: str = BUILD,
    release: str = RELEASE,
    replace: bool = True,
) -> bytes:
    """The bytes of a module that patches functions of vmlinux."""
    writer = Recording(Layout())
    writer.built_for, writer.release = built_for, release
    writer.patch((PatchedObject("vmlinux", tuple(Function(one, 0) for one in functions)),), replace, ())
    return writer.elf(name)


def master_in(directory: Path, **options: Any) -> Master:
    return Master(directory / "state", "root", None, directory / "served", **options)


def published(master: Master, number: int = 1, **options: Any) -> dict[str, Any]:
    """Publish ``livepatch_<number>``; each level patches what the one below it does, and one more."""
    functions = [f"f{one}" for one in range(1, number + 1)]
    options.setdefault("fixes", parse_fixes(f"CVE-2026-{1000 + number}"))
    return publish(
        master, module(f"livepatch_{number}", functions), Publication(author=BY, level=number, **options)
    )
