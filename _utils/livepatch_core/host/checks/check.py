"""A preflight check: a question with a name, and its answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.words import CheckVerdict, Kind


@dataclass(frozen=True)
class Check:
    """An answer. kind: what a refusal by it counts as. decides: an inconclusive answer refuses too."""

    name: str
    verdict: CheckVerdict
    kind: Kind
    reason: str
    remedy: str = ""
    decides: bool = False

    @property
    def refuses(self) -> bool:
        unclear = self.verdict is CheckVerdict.INCONCLUSIVE
        return self.verdict is CheckVerdict.FAIL or (unclear and self.decides)

    def document(self) -> dict[str, Any]:
        return {key: str(value) for key, value in asdict(self).items() if key != "decides" and value != ""}


@dataclass(frozen=True)
class Question:
    """What is asked, by name; each method is one way to answer."""

    name: str
    kind: Kind

    def passed(self, reason: str) -> Check:
        return Check(self.name, CheckVerdict.PASS, self.kind, reason)

    def failed(self, reason: str, remedy: str) -> Check:
        return Check(self.name, CheckVerdict.FAIL, self.kind, reason, remedy)

    def warned(self, reason: str, remedy: str = "") -> Check:
        return Check(self.name, CheckVerdict.WARN, self.kind, reason, remedy)

    def undecided(self, reason: str, remedy: str) -> Check:
        """It could not be read, and soundness rests on it: refuses."""
        return Check(self.name, CheckVerdict.INCONCLUSIVE, self.kind, reason, remedy, decides=True)

    def unread(self, reason: str, remedy: str = "") -> Check:
        """It could not be read, and the kernel itself will judge it: said, but does not refuse."""
        return Check(self.name, CheckVerdict.INCONCLUSIVE, self.kind, reason, remedy)


def named(overrides: Iterable[str], overridable: frozenset[str]) -> frozenset[str]:
    """The checks to override; raises LivepatchError (argument) for one that cannot be."""
    given = frozenset(overrides)
    if given - overridable:
        raise LivepatchError(
            Kind.ARGUMENT,
            f"There is nothing to override by the name of {', '.join(sorted(given - overridable))}; "
            "nothing was changed.",
            remedy=f"These can be overridden: {', '.join(sorted(overridable))}.",
        )
    return given
