"""Whether one livepatch module may be loaded into this kernel: every question has a name and an answer.

Pure: facts in, checks out. What could not be read never passes: it is inconclusive, and where soundness
rests on the answer that refuses the load, unless the operator overrides that check by its name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from livepatch_core.errors import LivepatchError
from livepatch_core.host.checks import file, kernel, takeover
from livepatch_core.host.checks.check import Check, named
from livepatch_core.host.facts import Facts
from livepatch_core.modulefile.model import ModuleFile
from livepatch_core.words import CheckVerdict

OVERRIDABLE = frozenset(
    {file.KERNEL_BUILD.name, file.TARGET_BUILD.name, kernel.STACKS.name, takeover.TAKEOVER.name}
)


@dataclass(frozen=True)
class Subject:
    """What is to be loaded, and what the site demands of it."""

    module: ModuleFile
    require_signature: bool = False


def examine(subject: Subject, facts: Facts, overrides: Iterable[str] = ()) -> tuple[Check, ...]:
    """Every check; the kernel's come first. Raises LivepatchError for an override that does not exist."""
    allowed = named(overrides, OVERRIDABLE)
    checks = [
        *kernel.examine(facts),
        *file.examine(subject.module, facts, subject.require_signature),
        *takeover.examine(subject.module, facts),
    ]
    return tuple(_override(check) if check.name in allowed else check for check in checks)


def refuse(checks: Iterable[Check], name: str) -> None:
    """Raise LivepatchError for the first check that refuses; whatever did not pass is in the evidence."""
    checks = tuple(checks)
    first = refusal(checks)
    if first is not None:
        raise LivepatchError(
            first.kind,
            f"Module {name} was not loaded: {first.reason}; nothing was changed.",
            remedy=first.remedy,
            checks=concerns(checks),
        )


def refusal(checks: Iterable[Check]) -> Check | None:
    """The first check that refuses the load, if one does."""
    return next((check for check in checks if check.refuses), None)


def concerns(checks: Iterable[Check]) -> list[dict[str, str]]:
    """Whatever did not pass, as plain data."""
    return [check.document() for check in checks if check.verdict is not CheckVerdict.PASS]


def _override(check: Check) -> Check:
    """Only ignorance can be overridden; a check that failed stays failed."""
    if check.verdict is not CheckVerdict.INCONCLUSIVE:
        return check
    return replace(check, verdict=CheckVerdict.WARN, reason=f"{check.reason} (overridden by name)", remedy="")
