"""Small JSON documents in the host's state directory, each replaced as a whole and durably."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from livepatch_core.durable import write_atomically
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind

SCHEMA = 1
Types = Mapping[str, "tuple[type, ...]"]
_T = TypeVar("_T")
# What a value of another kind raises where it is used; NaN and infinity are JSON to Python.
MISFITS = (TypeError, KeyError, ValueError, AttributeError)


def read_document(path: Path) -> dict[str, Any]:
    """The document, or {} where there is no such file.

    Raises LivepatchError (journal) when it is there and cannot be understood: what it would have forbidden
    is then not known.
    """
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as problem:
        raise unreadable(path, problem) from problem
    if not isinstance(document, dict):
        raise unreadable(path, ValueError("not a mapping"))
    return document


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Durable before it returns; raises LivepatchError (journal), the file is then old or new."""
    data = json.dumps({**document, "schema": SCHEMA}, sort_keys=True).encode() + b"\n"
    try:
        write_atomically(path, data)
    except OSError as problem:
        raise LivepatchError(
            Kind.JOURNAL,
            f"{path} could not be written ({problem.strerror}); nothing was changed.",
            remedy="Make room, or make its directory writable; then ask again.",
            why=f"{path} could not be written ({problem.strerror})",
        ) from problem


def known(kind: type, document: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``document`` is a field of that dataclass. A key of a newer version says something more, and
    nothing that would change what the others say; a file that has one must not lock a host."""
    return {one.name: document[one.name] for one in dataclasses.fields(kind) if one.name in document}


def typed(value: _T, types: Types) -> _T:
    """``value``, if those of its fields have those types (a bool is no int) and no number is negative.

    Raises ValueError: somebody may have edited the file, and what it says must not decide anything then.
    """
    for name, allowed in types.items():
        given = getattr(value, name)
        number = isinstance(given, (int, float))
        if type(given) not in allowed or (number and not 0 <= given < math.inf):
            raise ValueError(f"{name} is {given!r}")
    return value


def texts(value: Iterable[object]) -> tuple[str, ...]:
    """A list of texts as a tuple; raises ValueError or TypeError."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{value!r} is no list of texts")
    return tuple(value)


def unreadable(path: Path, problem: Exception) -> LivepatchError:
    return LivepatchError(
        Kind.JOURNAL,
        f"{path} cannot be understood ({problem}); nothing was changed.",
        remedy="Look at the file; move it away if what it says is no longer needed.",
    )
