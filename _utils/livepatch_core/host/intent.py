"""The act that is under way, part of the host's record before the kernel is touched.

Whoever finds one (the process died in the act) asks the kernel what became of it and finishes the
journal; so each change of the kernel stands there once, whatever moment the process died at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from livepatch_core.host.statefile import known
from livepatch_core.words import Word


class Act(Word):
    """What changes a kernel; each stands in the journal under this word."""

    LOAD = "load"
    DISABLE = "disable"
    REVERSE = "reverse"
    FORCE = "force"


@dataclass(frozen=True)
class Intent:
    """id: unique, also in the journal line. target: what the patch's ``enabled`` is to be in the end.

    before: names of the patches there. began: as Host.timestamp gives it. evidence: what has to be known
    even if the process dies in the act (of force: the stragglers and their stacks). undone: the act is known
    to have begun and to be, or to have been, taken back; afterwards the kernel does not show that any more.
    authority: by what right (approval.authority). clock: when it began by the clock of that boot, which
    nobody sets.
    """

    id: str
    act: Act
    target: bool
    patch: str
    level: int | None
    sha256: str
    before: tuple[str, ...]
    boot_id: str
    began: str
    who: Mapping[str, str]
    reason: str = ""
    evidence: tuple[str, ...] = ()
    undone: bool = False
    authority: Mapping[str, Any] = field(default_factory=dict)
    clock: float | None = None

    def document(self) -> dict[str, Any]:
        plain = {"act": str(self.act), "before": list(self.before), "who": dict(self.who)}
        plain["authority"] = dict(self.authority)
        return {**self.__dict__, **plain, "evidence": list(self.evidence)}


def parse_intent(document: Mapping[str, Any]) -> Intent:
    values = known(Intent, document)
    values.update(act=Act(document["act"]), authority=dict(document.get("authority", {})))
    return Intent(**{**values, **{key: tuple(values.get(key, ())) for key in ("before", "evidence")}})
