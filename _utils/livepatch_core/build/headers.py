"""Which source files a header change reaches.

The graph follows ``#include`` lines textually and takes more rather than less; what the compiler really read
is known afterwards (compile.Compiled.dependencies) and decides.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Optional

from livepatch_core.build.commands import run
from livepatch_core.build.refusals import Refusal, Refused

_TOPS = (
    "arch/x86",
    "block",
    "certs",
    "crypto",
    "drivers",
    "fs",
    "include",
    "init",
    "io_uring",
    "ipc",
    "kernel",
    "lib",
    "mm",
    "net",
    "rust",
    "security",
    "sound",
    "virt",
)
_EDITION = 2  # of what a cached graph holds: another one with every change of the rules below
_SEARCH = ("include/", "arch/x86/include/", "include/uapi/", "arch/x86/include/uapi/")
_LINE = re.compile(r'^(?:\./)?([^:]+):\s*#\s*include\s*([<"])([^>"]+)[>"]')
_PATTERN = r'^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"][^>"]+[>"]'


def parse_includes(text: str) -> list[tuple[str, str, bool]]:
    """(including file, included name, in quotes) from ``grep -rEo`` output."""
    matches = (_LINE.match(line) for line in text.split("\n"))
    return [(m[1], m[3], m[2] == '"') for m in matches if m]


class Graph:
    """included file -> files that include it."""

    def __init__(self, includers: Mapping[str, Iterable[str]]) -> None:
        self.includers = includers

    def reached(self, path: str, ending: str = ".c") -> list[str]:
        """Every source file that includes ``path``, directly or not; a ``.c`` that is itself included counts
        as a header.
        """
        seen, pending, found = {path}, [path], set()
        while pending:
            for user in self.includers.get(pending.pop(), ()):
                if user in seen:
                    continue
                seen.add(user)
                pending.append(user)
                if user.endswith(ending):
                    found.add(user)
        return sorted(found)


def resolve(includes: Iterable[tuple[str, str, bool]], files: Iterable[str]) -> Graph:
    """The graph from all include lines and all source files."""
    known = frozenset(files)
    by_name: dict[str, list[str]] = defaultdict(list)
    for path in known:
        by_name[posixpath.basename(path)].append(path)
    includers: dict[str, set[str]] = defaultdict(set)
    for user, name, quoted in includes:
        for target in _targets(user, name, quoted, known, by_name):
            includers[target].add(user)
    return Graph({target: sorted(users) for target, users in includers.items()})


def _targets(
    user: str, name: str, quoted: bool, known: frozenset[str], by_name: Mapping[str, list[str]]
) -> list[str]:
    beside = posixpath.normpath(posixpath.join(posixpath.dirname(user), name))
    if quoted and beside in known:
        return [beside]
    found = [prefix + name for prefix in _SEARCH if prefix + name in known]
    if name.startswith("asm/"):  # a generated asm/x.h includes asm-generic/x.h
        generic = (f"{prefix}asm-generic/{name[4:]}" for prefix in _SEARCH)
        found += [path for path in generic if path in known]
    if not found:
        tail = "/" + re.sub(r"^(\.\./)+", "", name)
        found = [path for path in by_name.get(posixpath.basename(name), ()) if path.endswith(tail)]
    return found


def graph_file(cache: Path, version: str) -> Path:
    """Where the graph of a version of the source is kept."""
    return cache / f"include-graphs/{version}.{_EDITION}.json"


def read_graph(source: Path, cache: Optional[Path]) -> Graph:
    """The graph of a source tree, kept in ``cache`` (a file) if one is given."""
    if cache is not None and cache.exists():
        return Graph(json.loads(cache.read_text(encoding="utf-8")))
    tops = [top for top in _TOPS if (source / top).is_dir()]
    lines = run(["grep", "-rEo", *(f"--include=*.{e}" for e in "chS"), _PATTERN, *tops], cwd=source).out
    files = run(["find", *tops, "-name", "*.[chS]"], cwd=source).out.split("\n")
    graph = resolve(parse_includes(lines), files)
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        scratch = cache.with_name(f".{cache.name}.{os.getpid()}")
        scratch.write_text(json.dumps(graph.includers), encoding="utf-8")
        os.replace(scratch, cache)
    return graph


def check_fan_out(header: str, units: list[str], limit: int) -> None:
    if len(units) > limit:
        raise Refused(
            Refusal.FAN_OUT,
            f"{len(units)} source files of this configuration include it; the limit is {limit}.",
            file=header,
            remedy=f"Move the change into the files that need it, or raise fan_out to {len(units)} and "
            f"allow about {len(units)} s.",
            users=len(units),
        )
