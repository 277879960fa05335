"""Rolling back: first the approvals, for all at once, then the hosts, a round at a time. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from livepatch_core.rollout.answers import is_heard_first
from livepatch_core.rollout.fleet import Verb
from livepatch_core.rollout.limits import next_back
from livepatch_core.rollout.model import Grant
from livepatch_core.rollout.obeyed import named
from livepatch_core.rollout.records import Type
from livepatch_core.rollout.state import State
from livepatch_core.rollout.states import Place, Standing
from livepatch_core.rollout.steps import Rest, Step, Withdraw, Write
from livepatch_core.words import Kind

NAMED = 5  # hosts in a sentence
LAST = (Place.LOST, Place.UNREACHABLE)  # silent ones would hold up a round of those who answer


def begin(state: State) -> Write:
    """Every host that this rollout approved, of this lap or of all: also those that do not answer, which
    come down when they are back."""
    wanted = state.back_wanted
    assert wanted is not None
    names = [name for name in concerned(state, wanted.scope, wanted.laps) if name not in wanted.keep]
    open_ = may_have_left(state)
    doubt = [name for name in names if name in open_]
    landed = {name for name in names if has_landed(state, name) and name not in doubt}
    body: dict[str, Any] = {"scope": wanted.scope, "block": wanted.block, "why": wanted.why}
    if landed:
        body["stay"] = sorted(landed)
    if doubt:
        body["doubt"] = doubt
    return Write(Type.BACK, {**body, "hosts": [name for name in names if name not in landed]})


def concerned(state: State, scope: str, laps: Collection[int] = ()) -> list[str]:
    """Whom a rollback is about. ``wave``: these laps, or the newest one in which any was approved; the one
    that has begun need have nobody yet."""
    approved = {name: host for name, host in state.hosts.items() if host.forward_rev}
    wanted = laps or {max((host.lap for host in approved.values()), default=-1)}
    return [
        name
        for name, host in approved.items()
        if (scope == "all" or host.lap in wanted) and host.place is not Place.ROLLED_BACK
    ]


def may_have_left(state: State) -> set[str]:
    """Hosts of which nobody knows yet whether they were told to start another kernel."""
    return {
        name
        for job in state.jobs.values()
        if (job.verb is Verb.LEAVE and job.doubtful) or job.purpose == "doubt"
        for name in job.pending
        if state.hosts[name].restarts and state.hosts[name].place is Place.APPROVED
    }


def has_landed(state: State, name: str) -> bool:
    """Whether it runs another kernel already, which it keeps."""
    return state.hosts[name].arrived and not is_heard_first(state, name)


def advance(state: State) -> Step | Rest:
    if not state.back_approved:
        return approval(state, [name for name in state.recalled if state.hosts[name].document < 0])
    if state.round is not None and state.blocked:  # what arrivals add is seen between the rounds
        return Rest("the end of this round of the rollback")
    if levels := _to_block(state):
        return Write(Type.BLOCK, {"act": f"{state.id}/block/{len(state.withheld)}", "levels": levels})
    if state.round is not None:
        return Rest("the end of this round of the rollback")
    recalled = [name for name in state.recalled if state.hosts[name].place is Place.RECALLED]
    if recalled:
        order = {name: index for index, name in enumerate(state.hosts)}
        recalled.sort(key=lambda name: (state.hosts[name].was in LAST, order[name]))
        return Write(
            Type.ROUND, {"round": state.rounds + 1, "back": True, "hosts": next_back(state, recalled)}
        )
    if state.in_flight():
        return Rest(f"{state.in_flight()} hosts in flight")
    if state.blocking:
        return Rest("the catalog")
    away = [name for name in state.strays if state.is_stray(name)]
    if away:
        return Rest(f"{len(away)} hosts that did not come back from their restart")
    return Write(Type.ENDED, _end(state))


def _never_back(state: State) -> list[str]:
    """Whatever the scope: after the end nobody asks them any more."""
    return [name for name in state.strays if state.hosts[name].place is Place.LOST]


def approval(state: State, names: Collection[str]) -> Withdraw:
    """One approval for all of a kernel build that go back to the same level; the first of those that these
    hosts need."""
    wanted = frozenset(names)
    groups: dict[tuple[int, str], list[str]] = {}
    for name, host in state.hosts.items():
        if name in wanted:
            groups.setdefault((host.before, host.build), []).append(name)
    (level, build), names = next(iter(sorted(groups.items())))
    return Withdraw(tuple(names), build, level)


def ways_back(state: State, build: str, level: int) -> list[Grant]:
    """The level and those below it that might be approved, the highest first. Any kernel build can go back to
    0; of one that no plan knew there is nothing else."""
    levels = state.plan.back.get(build, {})
    return [*(levels[one] for one in sorted(levels, reverse=True) if 0 < one <= level), Grant(0, None)]


def _to_block(state: State) -> list[list[Any]]:
    """What is not blocked yet, in the order of levels: at first all that was granted, as hosts may meet it
    until they are back; later what has shown since. A version before has blocked all at once."""
    if not state.block_wanted or state.blocking or (state.blocked and not state.withheld):
        return []
    left = {
        level: [build for build in builds if (level, build) not in state.withheld]
        for level, builds in withdrawn(state).items()
    }
    return [[level, builds] for level, builds in left.items() if builds]


def withdrawn(state: State) -> dict[int, list[str]]:
    """What a rollback blocks, by level: each kernel build's own (of ``newest`` there are several), and what
    hosts that keep another kernel, or may, were given with that. Level 0 cannot be bad."""
    granted = set(state.plan.grants.items())
    for name in (*state.recalled, *state.stayed):
        host = state.hosts[name]
        if host.arrived or name in state.strays:
            granted.update(state.plan.arrivals.get(host.kernel, {}).items())
    levels = sorted({grant.level for _, grant in granted} - {0})
    return {one: sorted(build for build, grant in granted if grant.level == one) for one in levels}


def _end(state: State) -> dict[str, str]:
    places = [state.hosts[name].place for name in (*state.recalled, *state.stayed)]
    bad = {place: places.count(place) for place in (Place.ROLLBACK_FAILED, Place.NEEDS_REBOOT, Place.LOST)}
    said = ", ".join(f"{count} {place}" for place, count in bad.items() if count)
    back = f"{state.cause}; {places.count(Place.ROLLED_BACK)} of {len(places)} hosts are back"
    stuck = bad[Place.ROLLBACK_FAILED] or bad[Place.NEEDS_REBOOT]
    standing = Standing.ROLLBACK_FAILED if stuck else Standing.ROLLED_BACK
    reason = f"{back}, {said}" if said else back
    reason += "".join(f"; {why}" for why in state.lower)
    if state.kept:
        reason += f"; {len(state.kept)} are approved for another level since ({named(state.kept)})"
    failed = state.at({Place.ROLLBACK_FAILED})
    if frozen := [name for name in failed if state.hosts[name].kind == Kind.FROZEN]:
        reason += f"; {_first(frozen)} are frozen and were not told: unfreeze them and roll back again"
    if never := _never_back(state):
        reason += f"; {_first(never)} did not come back: run livepatch_restart.finish there once that answers"
    return {"state": str(standing), "reason": reason}


def _first(names: Sequence[str]) -> str:
    return f"{', '.join(names[:NAMED])}{' and others' if len(names) > NAMED else ''}"
