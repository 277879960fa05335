"""Go to a level and see whether the host is as well as before: move, then health, then what policy says."""

from __future__ import annotations

import contextlib
import dataclasses

from livepatch_core.errors import LivepatchError
from livepatch_core.host import armed, health, move, probes, soak
from livepatch_core.host.context import Host
from livepatch_core.host.lock import exclusive
from livepatch_core.host.move import Wish
from livepatch_core.host.outcome import Outcome
from livepatch_core.host.probes import Log, Sample
from livepatch_core.kernel import kmsg
from livepatch_core.words import CheckVerdict


def apply(host: Host, wish: Wish) -> Outcome:
    """As host/move.py, and health after it. Raises LivepatchError for whatever is refused or fails.

    One lock from before the first sample to the end of the revert that a failed probe asks for: no other act
    can come between what is judged and what is reverted. A level that is loaded stays armed until its soak
    has ended (soak.py).
    """
    with exclusive(host.settings.lock_file, "apply", test=wish.test):
        return move.locked(host, wish) if wish.test else _watched(host, wish)


def _watched(host: Host, wish: Wish) -> Outcome:
    before = health.sample(host, probes.UNREAD)
    earlier = armed.read_armed(host)
    with contextlib.ExitStack() as stack:
        tail = _open_tail(host, stack)
        outcome = move.locked(host, wish)
        found = armed.read_armed(host)
        # What was replaced is armed again where the load that replaced it had died before it began.
        before_it = (earlier, earlier.replaced) if earlier else ()
        if found is None or found.load in {one.load for one in before_it if one}:
            return outcome
        before, log = _logs(host, before, tail)
    try:
        soak.begin(host, found, before)  # also of one that is still in transition: it may end by itself
    except LivepatchError as problem:  # the level is in force: that the disk is full is said beside it
        return dataclasses.replace(outcome, details={**outcome.details, "health_error": problem.message})
    new = outcome.changes.get("level", {}).get("new")
    if outcome.result is not True or not new:
        return outcome
    seen = health.judge(before, health.sample(host, log))
    if seen.verdict is CheckVerdict.FAIL:
        return soak.unhealthy(host, found.name, new, outcome.changes["level"]["old"], seen, outcome)
    return dataclasses.replace(outcome, details={**outcome.details, "health": seen.document()})


def _open_tail(host: Host, stack: contextlib.ExitStack) -> kmsg.Tail | None:
    """The log from now on: reading all of it twice costs more than everything else that apply does."""
    try:
        return stack.enter_context(kmsg.Tail(host.roots))
    except OSError:
        return None


def _logs(host: Host, before: Sample, tail: kmsg.Tail | None) -> tuple[Sample, Log]:
    """The sample from before the move with the log as it was then, and the log now."""
    if tail is None:
        return before, probes.UNREAD
    try:
        records = tail.drain()
    except OSError:
        return before, probes.UNREAD
    if tail.lost:
        return before, probes.read_log(host)  # inconclusive: what was overwritten cannot be judged
    last = records[-1].sequence if records else probes.read_log(host)[0]
    first = records[0].sequence - 1 if records else last
    return dataclasses.replace(before, last=first), (last, probes.faults_in(records))
