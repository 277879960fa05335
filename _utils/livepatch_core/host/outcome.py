"""What an act reports: one document, the same keys for every act, ready for any outputter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind


@dataclass(frozen=True)
class Outcome:
    """result: True done or nothing to do, False refused or failed, None predicted (test=True).

    comment: the sentence for people. kind: why it was refused or failed; None on success.
    changes: {what: {"old", "new"}}; empty exactly when the kernel was not changed (or would not be).
    details: what else is worth saying (checks, stragglers, journal head ...), plain data.
    """

    result: bool | None
    comment: str
    kind: Kind | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Plain data. A prediction says ``test``: a ``result`` of None would be a failed job to Salt, whose
        minion takes whatever is not true for failure (salt/minion.py, _thread_return)."""
        shown: dict[str, Any] = {
            "result": self.result is not False,
            "comment": self.comment,
            "changes": dict(self.changes),
        }
        if self.result is None:
            shown["test"] = True
        if self.kind is not None:
            shown["kind"] = str(self.kind)
        return {**shown, **self.details}


def refused(error: LivepatchError) -> Outcome:
    """The outcome of an act that an error ended before the kernel was changed, or that says what it is."""
    return Outcome(
        False, str(error), error.kind, error.evidence.get("changes", {}), _without_changes(error.evidence)
    )


def _without_changes(evidence: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in evidence.items() if key != "changes"}


def changes(
    old_level: int | None, new_level: int | None, old: tuple[str, ...], new: tuple[str, ...]
) -> dict[str, Any]:
    """What an act changed, or a prediction of it; empty when nothing did."""
    changed: dict[str, Any] = {}
    if old_level != new_level:
        changed["level"] = {"old": old_level, "new": new_level}
    if sorted(old) != sorted(new):
        changed["patches"] = {"old": sorted(old), "new": sorted(new)}
    return changed


def joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The changes of two acts, one after the other, as of one: what is again as it was is none."""
    changed = {**first, **second}
    for what in first.keys() & second.keys():
        changed[what] = {"old": first[what]["old"], "new": second[what]["new"]}
    return {what: one for what, one in changed.items() if one["old"] != one["new"]}
