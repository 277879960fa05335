"""From what came back to the record of it. Pure.

Only hosts that a job was sent to, and that have not answered yet, are heard: a return under somebody
else's name, a second one, and one that comes after its deadline change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional

import livepatch_core
from livepatch_core.rollout import gates, outcomes, restarts
from livepatch_core.rollout.fleet import Verb
from livepatch_core.rollout.model import Gate, GateType, way_back
from livepatch_core.rollout.outcomes import Finding, Order
from livepatch_core.rollout.state import Host, Job, State
from livepatch_core.rollout.states import Phase, Place
from livepatch_core.words import Kind, Verdict

UNDECIDED = (Verdict.UNKNOWN, Verdict.PATCHING, Verdict.REVERTING, Verdict.STALLED)
# Why a plan leaves hosts out. Of one that was away it is only known at its turn, and is no failure of the
# level either.
LEFT_OUT = frozenset(
    (
        Kind.UNCOVERED,
        Kind.UNSUPPORTED,
        Kind.BLOCKED,
        Kind.QUARANTINED,
        Kind.REBOOT_OWED,
        Kind.DRIFT,
    )
)


def answers(state: State, job: Job, returns: Mapping[str, Any], t: float) -> Optional[dict[str, Any]]:
    """The body of the record; None where nothing new came. t: observed seconds now."""
    names = [name for name in job.pending if name in returns]
    if not names:
        return None
    gate = state.gate(job.gate) if job.gate else None
    return {
        "jid": job.jid,
        "hosts": {name: _answer(state, job, gate, name, returns[name], t) for name in names},
    }


def _answer(state: State, job: Job, gate: Optional[Gate], name: str, entry: Any, t: float) -> dict[str, Any]:
    host = state.hosts[name]
    if gate is not None:
        return _gate_answer(gate, host, entry)
    if job.verb is Verb.CHECK:
        return _checked(state, host, entry)
    if job.purpose == "stage":
        return _staged(state, host, entry)
    if job.purpose == "late":
        return _late(state, host, entry).document()
    if job.purpose == "anew":
        return outcomes.anew(entry).document()
    order = order_for(state, host)
    if job.purpose == "soak":
        return _soaking(state, host, entry, order).document()
    if host.restarts and not order.back:
        return _restarted(state, job, host, entry, t >= host.until).document()
    until = state.round.overdue.get(name, t) if state.round is not None else t
    if job.verb is Verb.MOVE:
        return outcomes.moved(entry, order).document()
    return outcomes.looked(entry, order, overdue=t >= until).document()


def _late(state: State, host: Host, entry: Any) -> Finding:
    """One that comes late gets its turn, or is asked again: a plan would have had none for a host of which
    nobody knows what is in force, nor for one that is in transition. What ends with its kernel need not be
    known."""
    seen = outcomes.read_look(outcomes.document_of(entry))
    if seen is None:
        return Finding(host.place, text=f"it answers, but what it is cannot be read: {outcomes.shown(entry)}")
    if skew := _skew(state, seen):
        return Finding(host.place, text=skew)
    if not host.restarts and (seen.level is None or seen.verdict in UNDECIDED):
        return Finding(host.place, text=f"it answers, and is {seen.verdict}: {seen.comment}")
    return Finding(Place.PENDING)


def _skew(state: State, seen: outcomes.Seen) -> str:
    """Why its extension is not one that a plan would have told to move; empty if it is."""
    if seen.version in (livepatch_core.__version__, *state.plan.options.accept_versions):
        return ""
    said = f"has version {seen.version}" if seen.version else "does not say its version"
    return f"its extension {said}, the master's is {livepatch_core.__version__}: synchronise it"


def _soaking(state: State, host: Host, entry: Any, order: Order) -> Finding:
    """Over: its soak is. That it was booted since is no failure then: a rollout takes days, and people boot
    hosts. One that came down in a crash its own breaker holds below the level."""
    if host.lap == state.lap and state.phase is Phase.SOAK:
        return outcomes.soaking(entry, order)
    return outcomes.soaked(entry, replace(order, boot=""))


def _restarted(state: State, job: Job, host: Host, entry: Any, overdue: bool) -> Finding:
    order = restarts.order_for(state, host)
    if job.verb is Verb.LEAVE:
        return restarts.left(entry)
    if job.verb is Verb.FINISH:
        return restarts.finished(entry, order)
    return restarts.looked(entry, order, overdue=overdue)


def _checked(state: State, host: Host, entry: Any) -> dict[str, Any]:
    """Where it never leaves, a rollback leaves it at the level it has, if that may be approved."""
    found = _or_left_out(state, host, restarts.checked(entry, state, host), entry)
    if not found.boot:
        return found.document()
    return {**found.document(), "before": way_back(state.plan.back.get(found.build, {}), found.level or 0)}


def order_for(state: State, host: Host) -> Order:
    """What the host was told last. One that was given up may come back while others are rolled back."""
    this = state.round
    if this is not None and this.back and host.placing.minion in this.members:
        return Order(host.before, host.rev, back=True)
    grant = state.target(host)
    without = 0 if host.arrived else host.before
    return Order(grant.level if grant is not None else without, host.forward_rev, host.boot)


def _gate_answer(gate: Gate, host: Host, entry: Any) -> dict[str, Any]:
    if gate.type is not GateType.ANSWERS:
        return gates.keep(gate, entry)
    seen = outcomes.read_look(outcomes.document_of(entry))
    if seen is None:
        return {"none": f"the answer cannot be read: {outcomes.shown(entry)}"}
    return {"value": not host.boot or seen.boot == host.boot}


def _staged(state: State, host: Host, entry: Any) -> dict[str, Any]:
    """With the level to go back to from the one that it has now, which need not be the plan's."""
    found = outcomes.staged(entry, host.build, state.plan.grants)
    build = host.build or found.build
    if found.place is Place.STAGED and build not in state.plan.grants:
        found = Finding(Place.FAILED, Kind.UNCOVERED, f"there is no level for its kernel build {build}")
    before = _before(state, host, build, found.level or 0, found.there)
    if found.place is Place.STAGED and (drift := _drift(host, found, before)):
        found = Finding(Place.FAILED, Kind.DRIFT, drift)
    found = _or_left_out(state, host, found, entry)
    return {**found.document(), "before": before} if found.place is Place.STAGED else found.document()


def _drift(host: Host, found: Finding, before: int) -> str:
    """Why a host that left the level of its plan, and could not be brought back to the one that it has, is
    not moved; empty if it may be. What this rollout moved before is where that has left it."""
    planned = host.placing.level
    if planned in (None, found.level) or before == found.level or found.there or host.forward_rev:
        return ""
    return f"it is at level {found.level}, planned was {planned}, and no rollback could bring it back there"


def _or_left_out(state: State, host: Host, found: Finding, entry: Any) -> Finding:
    """What a plan would have made of a host that was away. One that this rollout has told before is in it."""
    if host.placing.wave is not None or host.forward_rev:
        return found
    if found.place is Place.FAILED and found.kind in LEFT_OUT:
        return replace(found, place=Place.SKIPPED)
    seen = outcomes.read_look((outcomes.document_of(entry) or {}).get("look"))
    if found.place is Place.STAGED and seen is not None and (skew := _skew(state, seen)):
        return Finding(Place.ABSENT, text=skew)  # it waits until it is synchronised
    return found


def _before(state: State, host: Host, build: str, level: int, there: bool) -> int:
    """The level to go back to. What it came from is known of one that is there already only by its plan, and
    of one that came back with another kernel by nothing."""
    if there and build == host.placing.build_id:
        return host.before
    return way_back(state.plan.back.get(build, {}), level - 1 if there else level)
