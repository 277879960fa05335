"""Thresholds and domains: has a number been exceeded, and who may go now. Pure."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence
from typing import Any, Optional

from livepatch_core.rollout.arithmetic import share
from livepatch_core.rollout.model import Limit
from livepatch_core.rollout.state import State
from livepatch_core.rollout.states import COUNTED, Counter

LONGEST = 100_000  # no round is larger; parallel 0 means no limit of its own


def exceeded(state: State) -> Optional[dict[str, Any]]:
    """The first threshold that is exceeded, as the record says it; None while all hold."""
    if state.gate_failed:
        reason = f"gate {state.gate_failed} failed: {state.gate_reason}"
        return _trip(state, Counter.GATE, "wave", state.lap, 1, 0, reason, [state.lap], state.gate_failed)
    for counter, place in COUNTED.items():
        for scope, lap, number, limit in _scopes(state, counter):
            allowed = max(limit, state.acknowledged.get((counter, scope, lap), 0))
            if number > allowed:
                reason = f"{number} hosts {place}, allowed are {allowed} in {_words(scope)}"
                return _trip(state, counter, scope, lap, number, allowed, reason, _grown(state, place))
    return None


def _scopes(state: State, counter: Counter) -> list[tuple[str, int, int, int]]:
    """scope, lap, number, limit."""
    limits, place = state.plan.limits[counter], COUNTED[counter]
    found = [("total", -1, state.counts[place], int(limits["total"]))]
    if state.lap >= 0 and limits["wave"]:
        number = state.laps.get(state.lap, Tally())[place]
        found.insert(0, ("wave", state.lap, number, _wave_limit(state, limits["wave"], counter)))
    return found


def _grown(state: State, place: Any) -> list[int]:
    """The laps in which more hosts stand there than when this one began. What a look has found may be heard
    when its wave is over; what was there before was allowed to be."""
    return [
        lap
        for lap, counts in sorted(state.laps.items())
        if counts[place] > state.stood.get(lap, Tally())[place]
    ]


def _wave_limit(state: State, planned: Sequence[int], counter: Counter) -> int:
    """As planned; of late hosts, whose number no plan knows, the last wave's, and no larger a share. But who
    was away once may be so again, and that says nothing of the level: one of three would stop all."""
    limit = int(planned[state.wave_limit_index])
    if not state.in_late or counter is Counter.UNREACHABLE:
        return limit
    waiting = sum(state.hosts[name].lap != state.lap for name in state.queue)
    size = sum(state.laps.get(state.lap, Tally()).values()) + waiting
    amount: Limit = getattr(state.plan.options.thresholds, counter)
    return min(limit, share(amount.wave, size))


def _words(scope: str) -> str:
    return "a wave" if scope == "wave" else "all"


def _trip(
    state: State,
    counter: Counter,
    scope: str,
    lap: int,
    number: int,
    limit: int,
    reason: str,
    grown: list[int],
    gate: str = "",
) -> dict[str, Any]:
    """grown: the laps that it is about. The present one goes back with them: it began because those before
    it were well."""
    body = {"counter": str(counter), "scope": scope, "lap": lap, "number": number, "limit": limit}
    action = state.on_fail(state.lap if state.lap in grown else max(grown, default=state.lap))
    shown = {**body, "laps": sorted({*grown, state.lap}), "action": str(action), "reason": reason}
    return {**shown, "gate": gate} if gate else shown


def next_round(state: State) -> list[str]:
    """Who goes next, in order: as many as the domains and ``parallel`` let go. Failed hosts keep their place.
    All of one method, live ones first: a bad live patch is not to wait for somebody's drain before it can be
    taken back."""
    return _next_of(state, restarts=False) or _next_of(state, restarts=True)


def _next_of(state: State, *, restarts: bool) -> list[str]:
    room = state.plan.options.parallel or LONGEST
    taken: Tally[str] = Tally()
    chosen: list[str] = []
    for name in state.queue:
        host = state.hosts[name]
        domain = host.placing.domain
        if host.restarts is restarts and state.occupied[domain] + taken[domain] < domain_limit(state, domain):
            taken[domain] += 1
            chosen.append(name)
            if len(chosen) == room:
                break
    return chosen


def next_back(state: State, names: list[str]) -> list[str]:
    """Who goes back next: failed hosts hold no place here, or nobody could be brought back from a bad
    level."""
    room = state.plan.options.parallel or LONGEST
    taken: Tally[str] = Tally()
    chosen: list[str] = []
    for name in names:
        domain = state.hosts[name].placing.domain
        if len(chosen) < room and state.returning[domain] + taken[domain] < domain_limit(state, domain):
            taken[domain] += 1
            chosen.append(name)
    return chosen


def domain_limit(state: State, domain: str) -> int:
    return int(state.plan.domain_limits.get(domain, 1))
