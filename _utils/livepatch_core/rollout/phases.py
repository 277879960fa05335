"""A running rollout between its rounds: window, dispatch, soak, gates, the next wave, late hosts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Any, Optional

from livepatch_core.rollout import inquiries
from livepatch_core.rollout.clock import Now
from livepatch_core.rollout.limits import next_round
from livepatch_core.rollout.model import CANARY, When
from livepatch_core.rollout.records import Type
from livepatch_core.rollout.state import State
from livepatch_core.rollout.states import ABSENTEES, NOT_THERE, WELL, Phase, Place, Standing
from livepatch_core.rollout.steps import Batch, CheckRelease, Rest, Step, Write, batches
from livepatch_core.rollout.windows import Opening, open_at

NAMED = 3  # strata in a sentence; the journal has them all


def advance(state: State, now: Now) -> Step | Rest:
    """No round is open."""
    if state.phase is None:
        return _enter(state, 0) if state.plan.waves else _late_or_end(state, now)
    return {
        Phase.WINDOW: _window,
        Phase.DISPATCH: _dispatch,
        Phase.SOAK: _soak,
        Phase.GATE: _gate,
        Phase.LATE: _late,
    }[state.phase](state, now)


def wave_name(state: State, lap: Optional[int] = None) -> str:
    """For people: waves count from 1, the canaries are the first."""
    lap = state.lap if lap is None else lap
    number = len(state.plan.waves)
    return f"wave {lap + 1} of {number}" if lap < number else "late hosts"


def opening(state: State, epoch: float) -> Opening:
    options = state.plan.options
    return open_at(options.windows, options.blackouts, datetime.fromtimestamp(epoch, timezone.utc))


def _enter(state: State, lap: int) -> Write:
    return Write(
        Type.PHASE, {"phase": str(Phase.WINDOW), "wave": min(lap, len(state.plan.waves)), "lap": lap}
    )


def _to(state: State, phase: Phase) -> Write:
    return Write(Type.PHASE, {"phase": str(phase), "wave": state.wave, "lap": state.lap})


def _window(state: State, now: Now) -> Step | Rest:
    if state.plan.testing and state.lap > 0 and not state.released:
        return CheckRelease()
    return _inside(state, now) or _to(state, Phase.DISPATCH)


def _inside(state: State, now: Now) -> Optional[Rest]:
    """None where a wave may begin now."""
    found = opening(state, now.epoch)
    if found.open:
        return None
    when = found.next_open.timestamp() if found.next_open is not None else None
    return Rest(f"{wave_name(state)} may begin: it is {found.reason}", epoch=when)


def _dispatch(state: State, now: Now) -> Step | Rest:
    """A blackout stops every round; a window that has closed stops no wave that began in it. One that was
    paused before its first round has not begun."""
    if not state.queue:
        return _after_dispatch(state)
    outside = None if any(state.laps.get(state.lap, {}).values()) else _inside(state, now)
    if outside is not None:
        return outside
    options = state.plan.options
    if options.blackouts:
        found = open_at((), options.blackouts, datetime.fromtimestamp(now.epoch, timezone.utc))
        if not found.open:
            when = found.next_open.timestamp() if found.next_open is not None else None
            return Rest(f"the next round: it is {found.reason}", epoch=when)
    chosen = next_round(state)
    if not chosen:
        reason = (
            f"{len(state.queue)} hosts of {wave_name(state)} wait, and hosts that failed hold every place of "
            "their domains: retry, skip or roll back those"
        )
        return Write(Type.PAUSED, {"reason": reason})
    body: dict[str, Any] = {"round": state.rounds + 1}
    if again := [name for name in chosen if name in state.strays]:
        body["strays"] = again
    return Write(Type.ROUND, body, tuple(_by_method(state, chosen)))


def _by_method(state: State, names: Iterable[str]) -> Iterator[Batch]:
    """What a host is asked first depends on how it moves, and to which kernel."""
    groups: dict[tuple[bool, str], list[str]] = {}
    for name in names:
        host = state.hosts[name]
        groups.setdefault((host.restarts, host.placing.kernel), []).append(name)
    for group in groups.values():
        yield from batches(group)


def _after_dispatch(state: State) -> Step:
    if state.full or state.promoted or not state.well:
        return _to(state, Phase.GATE)
    return _to(state, Phase.SOAK if state.soak > 0 else Phase.GATE)


def _soak(state: State, now: Now) -> Step | Rest:
    """Over when it is, and when a look that began after its end has found all well."""
    end = state.phase_t + state.soak
    if state.full or state.promoted or not state.well:
        return _to(state, Phase.GATE)
    if any(job.purpose == "soak" for job in state.jobs.values()) or state.inquiry is not None:
        return Rest(f"the end of the soak of {wave_name(state)}", end)
    if state.inquired_t < state.looked_t and inquiries.names_for(state, When.SOAK):
        return Write(Type.INQUIRY, {"when": str(When.SOAK)})
    if state.looked_t >= end:
        return _to(state, Phase.GATE)
    due = min(state.next_look, end) if now.t < end else end
    if now.t >= end:
        return _look_at_all(state)
    if now.t >= due:
        return Write(Type.LOOK, {"purpose": "soak"}, batches(state.well), counted=True)
    return Rest(f"the end of the soak of {wave_name(state)}, looks at its hosts before", due)


def _look_at_all(state: State) -> Write:
    """Those of earlier waves too: what was well when its wave was over need not be for good."""
    return Write(
        Type.LOOK, {"purpose": "soak", "all": True}, batches(state.at({Place.HEALTHY})), counted=True
    )


def _gate(state: State, now: Now) -> Step | Rest:
    if state.inquiry is not None:
        return Rest(f"the gates of {wave_name(state)}")
    over = state.promoted or not inquiries.names_for(state, When.WAVE)
    if not over and state.inquired_t < state.phase_t:
        return Write(Type.INQUIRY, {"when": str(When.WAVE)})
    if state.lap + 1 < len(state.plan.waves):
        return _unproven(state) or _enter(state, state.lap + 1)
    return _late_or_end(state, now)


def _unproven(state: State) -> Optional[Write]:
    """No wave follows canaries that have shown nothing, until a person who was told says so."""
    missing = _without_canary(state) - state.unproven if state.lap == CANARY else frozenset()
    if not missing:
        return None
    again = "retry the canaries, or " if set(state.retriable()) & set(state.plan.waves[CANARY]) else ""
    parted = [one.partition("/") for one in sorted(missing)]
    named = "; ".join(f"kernel build {build}, role {role or '(none)'}" for build, _, role in parted[:NAMED])
    reason = (
        f"no canary of {named}{' and others' if len(parted) > NAMED else ''} is healthy, and hosts like those"
        f" are in the later waves: {again}resume to go on without them"
    )
    return Write(Type.PAUSED, {"reason": reason, "unproven": sorted(missing)})


def _without_canary(state: State) -> frozenset[str]:
    """Strata of the later waves of which no canary is well. Those to which the plan gave none, as it said
    itself, only where no canary is well at all."""
    canaries = [state.hosts[name] for name in state.plan.waves[CANARY]]
    proven = {one.placing.stratum for one in canaries if one.place in WELL}
    waiting = (host.placing for host in state.hosts.values() if host.place is Place.PENDING)
    later = frozenset(one.stratum for one in waiting if one.wave is not None and one.wave != CANARY)
    return later & {one.placing.stratum for one in canaries} - proven if proven else later


def _late_or_end(state: State, now: Now) -> Step | Rest:
    waits = (
        state.catches_up and any(state.counts[one] for one in ABSENTEES) and state.plan.options.late_for > 0
    )
    if state.ready or (waits and not _late_is_over(state, now)):
        return Write(Type.PHASE, {"phase": str(Phase.LATE), "wave": len(state.plan.waves), "lap": state.lap})
    return _end(state)


def _late_is_over(state: State, now: Now) -> bool:
    return state.late_t is not None and now.t >= state.late_t + state.plan.options.late_for


def _late(state: State, now: Now) -> Step | Rest:
    """Ask those who were not there; who answers goes as a lap of its own, soak and gates included."""
    if any(job.purpose == "late" for job in state.jobs.values()):
        return Rest("answers of late hosts")
    if state.ready:
        return _enter(state, max(state.lap + 1, len(state.plan.waves)))
    missing = state.at(ABSENTEES) if state.catches_up else []
    if not missing or _late_is_over(state, now):
        return _end(state)
    if now.t >= state.next_look:
        return Write(Type.LOOK, {"purpose": "late"}, batches(missing))
    end = (state.late_t or 0.0) + state.plan.options.late_for
    return Rest(f"late hosts, {len(missing)} of them", min(state.next_look, end))


def _end(state: State) -> Step | Rest:
    """Not while one that came back late is being verified and undrained: nobody would ask it any more. And
    not before all were looked at since the last wave or the waiting for late hosts was over."""
    if state.in_flight():
        return Rest(f"{state.in_flight()} hosts in flight")
    if any(job.purpose == "soak" for job in state.jobs.values()):
        return Rest("the last look at all healthy hosts")
    if state.counts[Place.HEALTHY] and not state.all_seen:
        return _look_at_all(state)
    return Write(Type.ENDED, _completed(state))


def _completed(state: State) -> dict[str, str]:
    left = {str(place): state.counts[place] for place in Place if place in NOT_THERE and state.counts[place]}
    if not left:
        return {"state": str(Standing.COMPLETED), "reason": "every eligible host is at its level"}
    said = ", ".join(f"{count} {place}" for place, count in left.items())
    return {"state": str(Standing.EXCEPTIONS), "reason": f"all waves are through; {said}"}
