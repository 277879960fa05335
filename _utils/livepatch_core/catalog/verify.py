"""Whether the catalog keeps its promises: every module is there, whole, and says what the entry says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from livepatch_core.catalog import rewrite, signature
from livepatch_core.catalog.entry import fields_of, missing
from livepatch_core.catalog.model import LevelStatus
from livepatch_core.catalog.settings import Master
from livepatch_core.catalog.shelf import CATALOG_FILE, Shelves, Standing, is_notice, read_shelves, releases
from livepatch_core.errors import LivepatchError
from livepatch_core.modulefile.read import read_module


@dataclass(frozen=True)
class Finding:
    """warning: untidy, but no host is harmed by it."""

    release: str
    build_id: str
    level: int | None
    text: str
    warning: bool = False

    def document(self) -> dict[str, Any]:
        found = {"release": self.release, "kernel_build": self.build_id, "level": self.level}
        return {key: value for key, value in found.items() if value} | {"problem": self.text}


def verify(master: Master, release: str | None = None) -> tuple[int, list[Finding]]:
    """How many levels were looked at, and what is wrong with them. Changes nothing, takes no lock."""
    count, findings = 0, []
    for name in [release] if release is not None else releases(master):
        try:
            shelves = read_shelves(master, name)
            standings = list(shelves.standings())
        except LivepatchError as problem:
            findings.append(Finding(name, "", None, problem.message))
            continue
        count += len(standings)
        findings += _release(master, shelves, standings)
    return count, findings


def module_problems(one: Standing) -> list[str]:
    """What is wrong with the module of one level: file, digest, truth."""
    path = one.directory / one.level.module
    try:
        data = path.read_bytes()
    except OSError as problem:
        return [f"its module {path} cannot be read ({problem.strerror})"]
    actual = hashlib.sha256(data).hexdigest()
    if actual != one.level.sha256:
        return [f"its module {path} has SHA-256 {actual}, the catalog says {one.level.sha256}"]
    try:
        said = fields_of(read_module(data))
    except LivepatchError as problem:
        return [f"its module {path} cannot be understood: {problem.message}"]
    written = rewrite.texts(one.entry)
    return [
        f"its entry says {key}: {written[key]}, its module says {value}"
        for key, value in said.items()
        if key in written and written[key] != rewrite.texts(rewrite.node_of(value))
    ]


def _release(master: Master, shelves: Shelves, standings: list[Standing]) -> Iterator[Finding]:
    for one in standings:
        if not is_notice(one.entry):
            for text in module_problems(one):
                yield _finding(one, text)
        yield from _signature(master, one)
    builds = {one.build_id for one in standings}
    for build_id in sorted(builds):
        yield from order([one for one in standings if one.build_id == build_id])
    for shelf in (shelves.served, shelves.withheld):
        named = {one.level.module for one in standings if one.directory == shelf.directory}
        for path in sorted(shelf.directory.iterdir()) if shelf.directory.is_dir() else ():
            if path.name not in named | {CATALOG_FILE}:
                yield Finding(shelf.release, "", None, f"no level names the file {path}", warning=True)


def order(levels: list[Standing]) -> Iterator[Finding]:
    """Each level against the highest below it, without those that are blocked: what is blocked need not be
    kept, and takes nothing away."""
    lower = None
    for one in sorted(levels, key=lambda standing: standing.level.number):
        if lower is not None and not rewrite.get(one.entry, "loss"):
            lost = missing(lower.level, one.level.functions, one.level.fixes)
            if lost and one.status is not LevelStatus.BLOCKED:
                names = ", ".join(lost)
                yield _finding(
                    one, f"it lacks what level {lower.level.number} has, and does not say why: {names}"
                )
        if one.level.replace is False:
            yield _finding(one, "it does not replace the levels below it (not cumulative)", warning=True)
        if one.status is not LevelStatus.BLOCKED:
            lower = one


def _signature(master: Master, one: Standing) -> Iterable[Finding]:
    if master.sign_key is None:
        return
    try:
        key = signature.read_private_key(master.sign_key).public_key()
        signature.check_node(one.entry, one.release, one.build_id, one.level.number, key)
    except LivepatchError as problem:
        unsigned_block = one.status is LevelStatus.BLOCKED and rewrite.get(one.entry, "signature") is None
        yield _finding(one, problem.message, warning=unsigned_block)


def _finding(one: Standing, text: str, warning: bool = False) -> Finding:
    return Finding(one.release, one.build_id, one.level.number, text, warning)
