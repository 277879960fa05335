"""Figures of a benchmark: what was measured several times, and how it is printed."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Seconds, one for each run."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        """Least, median and greatest in milliseconds."""
        least, most = min(self.seconds), max(self.seconds)
        return " ".join(f"{value * 1e3:9.1f}" for value in (least, self.median, most))


def spread(seconds: Iterable[float]) -> Spread:
    return Spread(tuple(seconds))


def difference(whole: Spread, part: Spread) -> Spread:
    """Run by run, what is left of the whole without the part."""
    return Spread(tuple(one - other for one, other in zip(whole.seconds, part.seconds)))


def table(head: str, rows: Sequence[tuple[str, Spread]]) -> str:
    """A line for each row: its name, then least, median and greatest in milliseconds."""
    titles = f"{head:34} {'min':>9} {'median':>9} {'max':>9}"
    return "\n".join([titles, *(f"{name:34} {values}" for name, values in rows)])
