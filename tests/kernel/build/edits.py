"""Diffs made from edits of the kernel's own source, so that no kernel text is kept here but the lines that
change.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

Edits = Mapping[str, Sequence[tuple[str, str]]]


def diff(source: Path, edits: Edits) -> str:
    """For each file, replace the first occurrence of each old text, which must exist, by the new one."""
    whole = ""
    for path, changes in edits.items():
        old = (source / path).read_text(encoding="utf-8", errors="surrogateescape")
        new = old
        for before, after in changes:
            assert before in new, f"{path} has no {before!r}"
            new = new.replace(before, after, 1)
        lines = [text.splitlines(keepends=True) for text in (old, new)]
        whole += "".join(difflib.unified_diff(*lines, f"a/{path}", f"b/{path}"))
    return whole


def comment(source: Path, path: str) -> str:
    """A diff that changes nothing: a comment at the end of the file."""
    text = (source / path).read_text(encoding="utf-8", errors="surrogateescape")
    lines = text.splitlines(keepends=True)
    new = [*lines, "/* the same again */\n"]
    return "".join(difflib.unified_diff(lines, new, f"a/{path}", f"b/{path}"))
