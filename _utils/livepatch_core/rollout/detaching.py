"""What Ctrl-C means to a process that drives a rollout in the foreground. Pure, but for the clock."""

from __future__ import annotations

from collections.abc import Callable

from livepatch_core.rollout.clock import Clock
from livepatch_core.words import Word

AGAIN_SECONDS = 10.0  # within which a second one is meant as such


class Answer(Word):
    STAY = "stay"
    LEAVE = "leave"  # an engine takes the rollout over
    EXPLAIN = "explain"  # nobody would take it over: say so
    PAUSE = "pause"  # it was explained, and pressed again


class Presses:
    """Counted by a signal handler, answered by the process in its own time."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._times, self._answered = clock, list[float](), 0

    def press(self) -> None:
        self._times.append(self._clock.monotonic())

    def count(self) -> int:
        return len(self._times)

    def answer(self, engine: Callable[[], bool]) -> Answer:
        """engine: whether one lives that would adopt the rollout; asked only when something was pressed."""
        if not self._times:
            return Answer.STAY
        if engine():
            return Answer.LEAVE
        times, new = self._times, len(self._times) > self._answered
        self._answered = len(times)
        if not new:
            return Answer.STAY
        return Answer.PAUSE if len(times) > 1 and times[-1] - times[-2] < AGAIN_SECONDS else Answer.EXPLAIN
