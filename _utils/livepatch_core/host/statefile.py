"""Small JSON documents in the host's state directory, each replaced as a whole and durably."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.host.durable import write_atomically
from livepatch_core.words import Kind

SCHEMA = 1


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
        ) from problem


def unreadable(path: Path, problem: Exception) -> LivepatchError:
    return LivepatchError(
        Kind.JOURNAL,
        f"{path} cannot be understood ({problem}); nothing was changed.",
        remedy="Look at the file; move it away if what it says is no longer needed.",
    )
