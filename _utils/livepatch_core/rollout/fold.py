"""One record after another into a State: the only thing that changes one. Pure but for the State given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Optional

from livepatch_core.rollout import answers, inquiries, obeyed
from livepatch_core.rollout.fleet import MOVES, Verb
from livepatch_core.rollout.model import Grant, OnFail, Plan, When
from livepatch_core.rollout.records import Record, Type
from livepatch_core.rollout.state import Act, BackWanted, Round, State, Trip, begin
from livepatch_core.rollout.states import Phase, Place, Standing
from livepatch_core.words import Kind

MAX_TRIES = 8  # publications of one job that fail in a row; with the backoff about four minutes
OF_A_ROUND = ("stage", "move", "overdue", "doubt", "anew", "finish")
BACKOFF = 60.0  # seconds at most between two of them


def fold(state: State, record: Record) -> State:
    """``state`` after ``record``, changed in place. Types that this version does not know say nothing to
    it."""
    state.seq, state.epoch, state.t = record.seq, record.epoch, record.t
    state.moved.clear()
    reader = READERS.get(record.type)
    if reader is not None:
        reader(state, record.body)
    if state.round is not None and state.round.open <= 0 and not _owed(state):
        _close_round(state)
    return state


def fold_all(rollout: str, plan: Plan, records: Iterable[Record]) -> State:
    state = begin(rollout, plan)
    for record in records:
        fold(state, record)
    return state


def _owed(state: State) -> bool:
    """An approval that is under way: its hosts are still to be told."""
    return bool(state.acts)


def _close_round(state: State) -> None:
    assert state.round is not None
    over = [jid for jid, job in state.jobs.items() if job.purpose in OF_A_ROUND]
    for jid in over:
        del state.jobs[jid]
    state.round = None


# -- the beginning, and owners ---------------------------------------------------------------------------


def _planned(state: State, body: Mapping[str, Any]) -> None:
    state.digest, state.by = body["plan"], body["by"]
    state.stand(Standing.PLANNED, "planned")


def _started(state: State, _body: Mapping[str, Any]) -> None:
    state.stand(Standing.RUNNING, "started")


def _adopted(state: State, body: Mapping[str, Any]) -> None:
    """Whether the last owner published what it meant to nobody can say; only asking is harmless to repeat."""
    for job in state.jobs.values():
        job.doubtful = job.doubtful or (job.t is None and job.verb in MOVES)
        job.tries, job.retry_t = 0, 0.0
    if body.get("edition", 1) > 2:
        obeyed.forget_boots(state)
    state.next_look = state.t
    drop = [jid for jid, job in state.jobs.items() if job.purpose in ("soak", "late")]
    for jid in drop:  # asked anew: what a look of before the crash says is old
        del state.jobs[jid]


def _phase(state: State, body: Mapping[str, Any]) -> None:
    phase = Phase(body["phase"])
    state.phase, state.phase_t, state.since = phase, state.t, state.epoch
    state.reason = ""
    state.all_seen = state.all_seen and phase is Phase.GATE
    if phase is Phase.WINDOW:
        _begin_lap(state, body["wave"], body["lap"])
    elif phase is Phase.SOAK:
        state.looked_t, state.inquired_t = -1.0, -1.0
        state.next_look = state.t + min(state.plan.options.look_every, state.soak)
    elif phase is Phase.GATE:
        state.inquired_t = -1.0
    elif phase is Phase.LATE and state.late_t is None:
        state.late_t, state.next_look = state.t, state.t


def _begin_lap(state: State, wave: int, lap: int) -> None:
    state.wave, state.lap = wave, lap
    state.promoted = False
    state.stood = {one: counts.copy() for one, counts in state.laps.items()}
    state.confirmed.clear()
    state.well.clear()
    if lap < len(state.plan.waves):
        names = [one for one in state.plan.waves[lap] if state.hosts[one].place is Place.PENDING]
    else:
        names = list(state.ready)[: state.late_round]
    for name in names:
        state.ready.pop(name, None)
        state.queue[name] = None


# -- a round ---------------------------------------------------------------------------------------------


def _round(state: State, body: Mapping[str, Any]) -> None:
    state.rounds = body["round"]
    if body.get("back"):
        members = dict.fromkeys(body["hosts"])
        state.round = Round(state.rounds, members, back=True, open=len(members))
        return
    names = [name for _, hosts in body["jobs"] for name in hosts]
    for name in body.get("strays", ()):
        state.strays.pop(name, None)
    for name in names:
        state.put_in_lap(name, Place.STAGING)
    state.round = Round(state.rounds, dict.fromkeys(names), open=len(names))
    state.add_jobs(body["jobs"], Verb.STAGE, "stage")


def _hosts(state: State, body: Mapping[str, Any]) -> None:
    """act, jid: of what they have no part in any more; it goes on with the others."""
    act, job = state.acts.get(body.get("act", "")), state.jobs.get(body.get("jid", ""))
    for name, said in body["to"].items():
        kind = said.get("kind", "")
        if kind != Kind.SUPERSEDED and state.hosts[name].place is Place.APPROVED:
            state.untold[name] = None
        state.put(name, Place(said["to"]), kind, said.get("text", ""))
        if job is not None:
            job.pending.pop(name, None)
    if job is not None and not job.pending:
        del state.jobs[job.jid]
    if act is not None:
        _without(state, act, body["to"])


def _without(state: State, act: Act, names: Collection[str]) -> None:
    act.hosts = [name for name in act.hosts if name not in names]
    if not act.hosts:
        del state.acts[act.act]


def _kept(state: State, body: Mapping[str, Any]) -> None:
    """They stand where they stood, and nobody waits for them."""
    state.kept.update(body["hosts"])
    state.recalled.difference_update(body["hosts"])
    _without(state, state.acts[body["act"]], body["hosts"])
    state.back_approved = not state.acts and _all_approved(state)
    for name in body["hosts"]:
        answers.leave(state, name)


def _all_approved(state: State) -> bool:
    return all(state.hosts[name].document >= 0 for name in state.recalled)


def _approve(state: State, body: Mapping[str, Any]) -> None:
    state.act_count += 1
    grants = {build: Grant(level, sha256) for build, (level, sha256) in body["grants"].items()}
    state.acts[body["act"]] = Act(body["act"], list(body["hosts"]), grants, body.get("level"))
    if body.get("level") is not None:
        for name in body["hosts"]:
            state.recalled.add(name)
            state.hosts[name].before = body["level"]
    if body.get("lower"):
        state.lower[body["lower"]] = None


def _approved(state: State, body: Mapping[str, Any]) -> None:
    act = state.acts.pop(body["act"])
    state.ledger_id = body["ledger_id"]
    state.well_again()
    for document in body["documents"]:
        state.documents.append((body["rev"], document["builds"]))
        names = document["hosts"] if document["hosts"] is not None else act.hosts
        for name in names:
            _take_approval(state, name, act, body["rev"], len(state.documents) - 1)
    if act.level is not None and not state.acts:
        state.back_approved = _all_approved(state)


def _take_approval(state: State, name: str, act: Act, rev: int, document: int) -> None:
    host = state.hosts[name]
    host.rev = rev
    state.untold.pop(name, None)
    if act.level is not None:
        host.document = document
        if not answers.is_heard_first(state, name):
            answers.recall(state, name)
        return
    # One that this rollout has moved, and that is tried again, is at its level: it is told once more, and so
    # has its gates and its soak. One that has been restarted has them without: it would be restarted again.
    known = host.there and (host.restarts or not host.forward_rev)
    place = Place.ALREADY if known else Place.APPROVED
    if host.again:
        place = Place.GATING if inquiries.names_for(state, When.HOST) else Place.HEALTHY
    host.forward_rev, host.document = rev, document
    state.put(name, place)


def _move(state: State, body: Mapping[str, Any]) -> None:
    state.add_jobs(body["jobs"], Verb.MOVE, "move")


def _finish(state: State, body: Mapping[str, Any]) -> None:
    state.add_jobs(body["jobs"], Verb.FINISH, "finish")


def _sent(state: State, body: Mapping[str, Any]) -> None:
    job = state.jobs[body["jid"]]
    job.t, job.tries = state.t, 0
    state.well_again()
    if job.verb not in MOVES:
        return
    back = state.round is not None and state.round.back
    for name in job.pending:
        host = state.hosts[name]
        host.until = state.t + answers.patience(state)
        if host.place in (Place.APPROVED, Place.RECALLED):
            state.put(name, Place.ROLLING_BACK if back else Place.MOVING, host.kind, host.text)


def _unsent(state: State, body: Mapping[str, Any]) -> None:
    job = state.jobs[body["jid"]]
    job.tries += 1
    job.retry_t = state.t + _backoff(job.tries)
    if body.get("tried", True):
        job.doubtful = job.verb in MOVES
    state.trouble = body["why"]
    if job.tries >= MAX_TRIES and state.standing is Standing.RUNNING:
        state.stand(
            Standing.PAUSED, f"{job.tries} times in a row a job could not be published: {body['why']}"
        )


def _backoff(tries: int) -> float:
    """Seconds; a ledger may be away for a weekend."""
    return min(2.0 ** min(tries, MAX_TRIES), BACKOFF)


def _trouble(state: State, body: Mapping[str, Any]) -> None:
    state.trouble, state.troubles = body["why"], state.troubles + 1
    state.retry_t = state.t + _backoff(state.troubles)
    if state.troubles >= MAX_TRIES and state.standing is Standing.RUNNING:
        state.stand(Standing.PAUSED, f"{state.troubles} times in a row: {body['why']}")


# -- stops -----------------------------------------------------------------------------------------------


def _tripped(state: State, body: Mapping[str, Any]) -> None:
    trip = Trip(
        body["counter"],
        body["scope"],
        body["lap"],
        body["number"],
        body["limit"],
        body["action"],
        body.get("gate", ""),
    )
    state.trip, state.gate_failed = trip, ""
    state.trips.append(trip)
    if trip.action != OnFail.PAUSE:
        scope = "wave" if trip.action == OnFail.ROLLBACK_WAVE else "all"
        block, laps = state.plan.options.block_on_rollback, frozenset(body.get("laps", ()))
        state.back_wanted = BackWanted(scope, block, body["reason"], laps=laps)
    state.stand(Standing.PAUSED, body["reason"])


def _back(state: State, body: Mapping[str, Any]) -> None:
    state.scope, state.block_wanted, state.cause = body["scope"], body["block"], body["why"]
    state.back_who = state.back_wanted.who if state.back_wanted is not None else ""
    state.back_wanted = None
    state.recalled, state.back_approved = set(body["hosts"]), not body["hosts"]
    state.kept, state.lower = {}, {}
    state.stayed, state.doubted = set(body.get("stay", ())), set(body.get("doubt", ()))
    for name in body["hosts"]:
        state.hosts[name].was, state.hosts[name].document = None, -1
        if name in state.strays:  # asked at once, and as long as from the start: it may be back by now
            state.strays[name], state.next_stray = state.t + state.plan.options.late_for, state.t
    for name in state.stayed:
        answers.stay(state, name)
    obeyed.drop_staged(state)
    obeyed.drop_unsent(state, doubtful=True)
    obeyed.drop_inquiry(state)
    state.stand(Standing.ROLLING_BACK, body["why"])
    for name in state.at(answers.WAITING):
        answers.leave(state, name)


def _block(state: State, body: Mapping[str, Any]) -> None:
    state.blocking, state.withholding = True, body.get("levels", [])


def _blocked(state: State, _body: Mapping[str, Any]) -> None:
    state.blocking, state.blocked = False, True
    state.withheld.update((level, build) for level, builds in state.withholding for build in builds)
    state.well_again()


def _released(state: State, _body: Mapping[str, Any]) -> None:
    state.released = True


def _paused(state: State, body: Mapping[str, Any]) -> None:
    state.unproven.update(body.get("unproven", ()))
    wait = body.get("wait", ())
    for name in wait:  # staged, and approved for nothing
        state.put(name, Place.PENDING)
    state.queue = {**dict.fromkeys(wait), **state.queue}
    state.stand(Standing.PAUSED, body["reason"])


def _ended(state: State, body: Mapping[str, Any]) -> None:
    state.round, state.inquiry = None, None
    state.jobs.clear()
    state.stand(Standing(body["state"]), body["reason"])


READERS: Mapping[str, Callable[[State, Mapping[str, Any]], Optional[None]]] = {
    str(kind): reader
    for kind, reader in {
        Type.PLANNED: _planned,
        Type.STARTED: _started,
        Type.ADOPTED: _adopted,
        Type.COMMAND: obeyed.command,
        Type.REFUSED: obeyed.refused,
        Type.PHASE: _phase,
        Type.ROUND: _round,
        Type.HOSTS: _hosts,
        Type.APPROVE: _approve,
        Type.APPROVED: _approved,
        Type.KEPT: _kept,
        Type.MOVE: _move,
        Type.FINISH: _finish,
        Type.LOOK: answers.look,
        Type.ASK: inquiries.asked,
        Type.SENT: _sent,
        Type.UNSENT: _unsent,
        Type.ANSWERS: answers.answers,
        Type.SILENT: answers.silent,
        Type.MEASURED: inquiries.measured,
        Type.INQUIRY: inquiries.begun,
        Type.VERDICT: inquiries.judged,
        Type.TRIPPED: _tripped,
        Type.BACK: _back,
        Type.BLOCK: _block,
        Type.BLOCKED: _blocked,
        Type.RELEASED: _released,
        Type.PAUSED: _paused,
        Type.TROUBLE: _trouble,
        Type.ENDED: _ended,
    }.items()
}
