"""The one way in which reading a module file fails."""

from __future__ import annotations

from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind

REMEDY = "Fetch or build the file again and compare its sha256 with the one that was published."


def refusal(why: str, *, remedy: str = REMEDY, **evidence: Any) -> LivepatchError:
    """The error for a file that is no module, is damaged, or has a layout that is not understood.

    ``why`` completes "This module file was refused: ...". Nothing is ever guessed: a field that cannot be
    read for certain refuses the whole file.
    """
    return LivepatchError(
        Kind.MODULE_FORMAT,
        f"This module file was refused: {why}. Nothing was loaded.",
        remedy=remedy,
        **evidence,
    )
