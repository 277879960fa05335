"""The case of one translation unit: its two versions, what is known of them, and the verdict as far as it is
found. Each rule looks at it from a room of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from livepatch_core.build.correlate import correlate
from livepatch_core.build.equality import Comparer
from livepatch_core.build.refusals import Notice, Refusal, Refused, Warning_
from livepatch_core.build.special import EXIT, INIT
from livepatch_core.build.unit import Unit


@dataclass
class Difference:
    """The verdict on one unit; names are those of the patched side.

    ``replaced``: functions whose original is redirected. ``copied``: changed functions that cannot be
    redirected and are reached through promoted callers. ``renewed``: paired constants that get a new copy.
    ``partner``: patched name -> original name.
    """

    original: Unit
    patched: Unit
    partner: Mapping[str, str]
    replaced: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    renewed: list[str] = field(default_factory=list)
    promoted: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    warnings: list[Warning_] = field(default_factory=list)

    @property
    def path(self) -> str:
        return self.patched.path

    @property
    def changed(self) -> list[str]:
        return [*self.replaced, *self.copied]

    def warn(self, notice: Notice, subject: str, text: str) -> None:
        self.warnings.append(Warning_(notice, self.path, subject, text))


def cold_parent(name: str) -> str | None:
    """The function that a ``.cold`` part was split from."""
    return name.removesuffix(".cold") if name.endswith(".cold") else None


class Case:
    """``accept`` holds the author's words: subject -> why it is safe. ``changed``: the paired functions whose
    new code has to be reached, as far as they are known.
    """

    def __init__(self, original: Unit, patched: Unit, accept: Mapping[str, str]) -> None:
        self.original, self.patched, self.accept = original, patched, accept
        self.found = correlate(original, patched)
        self.result = Difference(original, patched, self.found.partner)
        self.comparer = Comparer(original, patched, self.found.partner)
        self.changed: dict[str, None] = {}

    def refuse(self, refusal: Refusal, name: str, text: str, remedy: str) -> Refused:
        return Refused(refusal, text, file=self.patched.path, function=name, remedy=remedy)

    def promote(self, name: str, notice: Notice, why: str) -> None:
        """Have a function replaced that is the same before and after, and say so."""
        if name in self.changed or name not in self.found.partner:
            return
        self.changed[name] = None
        self.result.promoted.append(name)
        self.result.warn(notice, name, f"{name} is replaced although its own code did not change: {why}.")

    def _sections(self, name: str) -> list[str]:
        """Where a paired piece lies, before and after."""
        original = self.original.pieces[self.found.partner[name]]
        return [
            self.original.section_of(original).name,
            self.patched.section_of(self.patched.pieces[name]).name,
        ]

    def runs_once(self, name: str) -> bool:
        """Whether it is code or data of the start or the exit, which cannot be replaced."""
        found = name in self.found.partner and self._sections(name)
        return any(p.search(section) for p in (INIT, EXIT) for section in found or ())

    def past(self, name: str, what: str) -> None:
        """Code of the start or the exit that was not changed, and of which new code would do something else:
        what has run has run, what is yet to run is for the author to judge.
        """
        if any(EXIT.search(section) for section in self._sections(name)):
            self.init_touched(name)
        else:
            text = f"{name} belongs to the start, which is over: it {what}, and that is left as it is."
            self.result.warn(Notice.INIT_PAST, name, text)

    def init_touched(self, name: str) -> None:
        """Refuses a change of what runs once, unless its author accepts that it has no effect."""
        why = self.accept.get(f"init:{name}")
        if why is None:
            raise self.refuse(
                Refusal.INIT_CODE,
                name,
                "The patch changes code or data that ran once at start (__init) or runs once at exit; "
                "the running kernel will not run it again.",
                f"Leave it out of the diff, or accept 'init:{name}' with the reason why the fix works "
                f"without it.",
            )
        self.result.warn(
            Notice.INIT_ACCEPTED,
            name,
            f"The change of {name} has no effect in a running kernel; accepted: {why}",
        )
