"""What an operator's verb does to a State once it is journaled. Whether it may be is commands.py's to say."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping
from typing import Any

from livepatch_core.rollout.inquiries import names_for
from livepatch_core.rollout.model import CANARY, When
from livepatch_core.rollout.state import BackWanted, State
from livepatch_core.rollout.states import COUNTED, SKIPPABLE, Counter, Phase, Place, Standing

NAMED = 3  # hosts in a sentence; the journal has them all
# Of what verbs and adoptions mean, in the record of each: a journal is read as its writer meant it. 1: none.
EDITION = 3


def command(state: State, body: Mapping[str, Any]) -> None:
    state.seen_commands.add(body["id"])
    VERBS[body["verb"]](state, body, body.get("arguments") or {})


def refused(state: State, body: Mapping[str, Any]) -> None:
    state.seen_commands.add(body["id"])


def drop_staged(state: State) -> None:
    """Hosts that were asked to stage, and are approved for nothing, wait as before."""
    held = {name for act in state.acts.values() for name in act.hosts}
    members = state.round.members if state.round is not None and not state.round.back else {}
    for name in members:
        if state.hosts[name].place in (Place.STAGING, Place.STAGED) and name not in held:
            state.put(name, Place.PENDING)
    for jid in [jid for jid, job in state.jobs.items() if job.purpose == "stage"]:
        del state.jobs[jid]


def drop_unsent(state: State, doubtful: bool) -> None:
    """Forget moves that were never sent; ``doubtful``: also those of which nobody knows, but for hosts that
    are heard first."""
    over = [
        jid
        for jid, job in state.jobs.items()
        if job.purpose == "move" and job.t is None and (doubtful or not job.doubtful)
        if state.doubted.isdisjoint(job.pending)
    ]
    for jid in over:
        del state.jobs[jid]


def forget_boots(state: State) -> None:
    """Nobody has looked at those who wait for their turn to move: what was restarted meanwhile was not
    restarted by the move."""
    if state.round is None or state.round.back:
        return
    told = {name for job in state.jobs.values() if job.purpose in ("move", "doubt") for name in job.pending}
    for name in state.round.members:
        host = state.hosts[name]
        waits = host.place is Place.APPROVED or (host.place is Place.STAGED and not host.again)
        if waits and name not in told:
            host.boot = ""


def drop_inquiry(state: State) -> None:
    state.inquiry = None
    state.confirmed.clear()  # a word is for the gate that asked for it
    for jid in [jid for jid, job in state.jobs.items() if job.purpose == "gate"]:
        del state.jobs[jid]


def named(levels: Mapping[str, int]) -> str:
    """The first few hosts, each with its level."""
    said = ", ".join(f"{name}: level {level}" for name, level in sorted(levels.items())[:NAMED])
    return f"{said} ..." if len(levels) > NAMED else said


def _edition(body: Mapping[str, Any]) -> int:
    return int(body.get("edition", 1))


def _said(body: Mapping[str, Any], what: str) -> str:
    return f"{what} by {body['who']}: {body['why']}"


def _pause(state: State, body: Mapping[str, Any], _given: Mapping[str, Any]) -> None:
    state.stand(Standing.PAUSED, _said(body, "paused"))


def _resume(state: State, body: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    _acknowledge(state, given)
    for job in state.jobs.values():
        job.tries, job.retry_t = 0, 0.0
    state.well_again()
    if _edition(body) > 2 and state.standing is Standing.PAUSED:
        drop_unsent(state, doubtful=False)
        forget_boots(state)
    state.stand(Standing.RUNNING, _said(body, "resumed"))


def _promote(state: State, body: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """On to the next wave: what is left of this soak, and the gates that were being asked, are passed
    over. Gates of single hosts only for those who were being asked."""
    over = state.inquiry
    if over is not None and over.when == When.HOST and _edition(body) > 1:
        passed = [name for name in over.hosts if state.hosts[name].place is Place.GATING]
    else:
        if over is not None:
            state.waived.update((name, state.lap) for name in over.names[over.index :])
        passed = [] if names_for(state, When.HOST) else state.at({Place.GATING})  # nobody would ask them
    drop_inquiry(state)
    for name in passed:
        state.put(name, Place.HEALTHY)
    state.full = state.full or bool(given.get("full"))
    state.promoted = state.promoted or state.phase in (Phase.SOAK, Phase.GATE)
    _resume(state, body, given)


def _retry(state: State, body: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """The same frozen plan again for those that failed or were not there; they get a new approval. A wave
    that soaked already begins once more, and so in a window."""
    names, at_first = state.retriable(), len(state.queue) if _edition(body) > 1 else 0
    for name in names:
        state.put(name, Place.PENDING)
    at_once = state.late_round if state.phase is not Phase.LATE else 0
    if _edition(body) > 1:
        state.unproven.clear()  # who asks for another try has not agreed to go on without
        at_once = len(names) if state.lap == CANARY else at_once
        state.promoted = state.promoted and state.phase not in (Phase.SOAK, Phase.GATE)
    for name in names:
        # Who was away has no part in a wave, least of all in the canaries': they may have a level in testing.
        now = len(state.queue) - at_first < at_once and state.hosts[name].placing.wave is not None
        (state.queue if now else state.ready)[name] = None
    if state.phase in (Phase.SOAK, Phase.GATE):
        drop_inquiry(state)
        for jid in [jid for jid, job in state.jobs.items() if job.purpose == "soak"]:
            del state.jobs[jid]
        begins, state.all_seen = _edition(body) > 1 and state.queue, False
        state.phase, state.phase_t = Phase.WINDOW if begins else Phase.DISPATCH, state.t
    _resume(state, body, given)


def _skip(state: State, body: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    names = [given["host"]] if "host" in given else state.plan.waves[given["wave"]]
    wanted = SKIPPABLE if "host" in given else {Place.PENDING}
    for name in names:
        if state.hosts[name].place in wanted and not state.is_stray(name):
            state.put(name, Place.SKIPPED, "", _said(body, "skipped"))
            state.queue.pop(name, None)
            state.ready.pop(name, None)


def _abort(state: State, body: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    drop_staged(state)
    state.kept, state.aborted_by = dict(given.get("keep") or {}), {"who": body["who"], "why": body["why"]}
    drop_unsent(state, doubtful=False)
    state.back_wanted = None
    if state.inquiry is not None and state.inquiry.when != When.HOST:
        drop_inquiry(state)
    for jid in [jid for jid, job in state.jobs.items() if job.purpose in ("soak", "late")]:
        del state.jobs[jid]
    state.stand(Standing.ABORTING, _said(body, "aborted"))


def _rollback(state: State, body: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    reason, keep = _said(body, "rolled back"), given.get("keep") or {}
    if keep:
        reason += f"; {len(keep)} hosts stay where they were approved to be since ({named(keep)})"
    state.back_wanted = BackWanted(
        given.get("scope", "all"), bool(given.get("block")), reason, frozenset(keep), who=body["who"]
    )
    state.stand(Standing.PAUSED, reason)


def _confirm(state: State, body: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    state.confirmed[given["gate"]] = _said(body, "confirmed")


def _acknowledge(state: State, given: Mapping[str, Any]) -> None:
    """What has tripped may stay as it is; one more of it trips again."""
    trip = state.trip
    if trip is None or not given.get("acknowledge"):
        return
    if trip.counter == Counter.GATE:
        state.waived.add((trip.gate, state.lap))
    else:
        place = COUNTED[Counter(trip.counter)]
        state.acknowledged[(trip.counter, "total", -1)] = state.counts[place]
        state.acknowledged[(trip.counter, "wave", state.lap)] = state.laps.get(state.lap, Tally())[place]
    state.trip = None


VERBS = {
    "pause": _pause,
    "resume": _resume,
    "promote": _promote,
    "retry": _retry,
    "skip": _skip,
    "abort": _abort,
    "rollback": _rollback,
    "confirm": _confirm,
}
