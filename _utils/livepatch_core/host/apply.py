"""Go to a level and see whether the host is as well as before: move, then health, then what policy says."""

from __future__ import annotations

import dataclasses

from livepatch_core.errors import LivepatchError
from livepatch_core.host import armed, health, move, soak
from livepatch_core.host.context import Host
from livepatch_core.host.move import Wish
from livepatch_core.host.outcome import Outcome
from livepatch_core.words import CheckVerdict


def apply(host: Host, wish: Wish) -> Outcome:
    """As host/move.py, and health after it. Raises LivepatchError for whatever is refused or fails.

    A level that is loaded stays armed until its soak has ended (soak.py).
    """
    if wish.test:
        return move.move(host, wish)
    before = health.sample(host)
    outcome = move.move(host, wish)
    new = outcome.changes.get("level", {}).get("new")
    found = armed.read_armed(host)
    if outcome.result is not True or not new or found is None:
        return outcome
    try:
        health.remember(host, found.sha256, before)
    except LivepatchError as problem:  # the level is in force: that the disk is full is said beside it
        return dataclasses.replace(outcome, details={**outcome.details, "health_error": problem.message})
    seen = health.judge(before, health.sample(host))
    if seen.verdict is CheckVerdict.FAIL:
        return soak.unhealthy(host, found.name, new, outcome.changes["level"]["old"], seen)
    return dataclasses.replace(outcome, details={**outcome.details, "health": seen.document()})
