"""A rollout line by line while it goes on: what ``watch`` shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from livepatch_core.report.timeline import timeline
from livepatch_core.rollout import adoption, status
from livepatch_core.rollout.fleet import Fleet

LOOK_SECONDS = 5.0  # at the journal, while no event comes


def lines(directory: Path, fleet: Fleet, stopped: Callable[[], object]) -> Iterator[str]:
    """Every line there is, then each as it comes; until the rollout has ended or waits for a person, or
    ``stopped``. Reads the journal only, so it disturbs nobody."""
    shown = 0
    while not stopped():
        records = status.story(directory)
        for line in timeline(records[shown:]):
            yield f"{line.at}  {line.text}"
        shown = len(records)
        state = status.read(directory)
        if state.ended or adoption.waits(state):
            return
        fleet.wait(LOOK_SECONDS)
