"""Module.symvers: which symbols the kernel and its modules export, with their CRCs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Export(NamedTuple):
    """``owner``: "vmlinux" or a module's name. ``namespace``: "" or what an importer must name."""

    name: str
    crc: int
    owner: str
    namespace: str


def parse_symvers(text: str) -> Mapping[str, Export]:
    """Exports by name. Lines are ``crc, name, owner, kind, namespace`` separated by tabs; others are
    skipped.
    """
    exports = {}
    for line in text.split("\n"):
        fields = line.split("\t")
        if len(fields) >= 4:
            owner = fields[2].rpartition("/")[2].replace("-", "_")
            exports[fields[1]] = Export(
                fields[1], int(fields[0], 16), owner, fields[4] if len(fields) > 4 else ""
            )
    return exports
