"""Which installed kernel carries which fix, by what the catalog says in ``kernels.yaml``.

    schema: 1
    fixes:
      CVE-2026-1: [6.1.0-57, 6.12.117+deb12]

A release carries the fix if it is one of those named, or newer than one of them in the same line (6.1, 6.12);
flavours do not count. Of lines that are not named nothing is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from livepatch_core.errors import LivepatchError
from livepatch_core.kexec.order import compare, line_of, split
from livepatch_core.words import Kind

FILE = "kernels.yaml"
MAX_BYTES = 4 * 1024 * 1024


def parse(data: bytes | None) -> dict[str, tuple[str, ...]]:
    """CVE -> releases that brought the fix; {} where the catalog has no such file.

    Raises LivepatchError (catalog) for a file that is there and cannot be understood.
    """
    if data is None:
        return {}
    if len(data) > MAX_BYTES:
        raise _problem(f"it is larger than {MAX_BYTES} bytes")
    try:
        document = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as problem:
        raise _problem(str(problem)) from problem
    if not isinstance(document, Mapping) or document.get("schema") != 1:
        raise _problem("it has no schema: 1")
    fixes = document.get("fixes", {})
    if not isinstance(fixes, Mapping):
        raise _problem("fixes is no mapping")
    return {_text(cve): _releases(cve, releases) for cve, releases in fixes.items()}


def carried(release: str, fixes: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The fixes that this release has. Pure."""
    return sorted(cve for cve, since in fixes.items() if any(_has(release, first) for first in since))


def _has(release: str, first: str) -> bool:
    if line_of(release) != line_of(first):
        return False
    return compare(split(release)[0], split(first)[0]) >= 0


def _releases(cve: Any, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise _problem(f"{cve} names no list of releases")
    return tuple(_text(one) for one in value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _problem(f"{value!r} is no text (quote it)")
    return value


def _problem(what: str) -> LivepatchError:
    return LivepatchError(
        Kind.CATALOG,
        f"The catalog's {FILE} cannot be used: {what}. Nothing was changed.",
        remedy="Correct it at its source.",
    )
