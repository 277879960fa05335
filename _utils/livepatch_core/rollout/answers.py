"""What hosts answer, or do not, into a State: where that puts them. Changes a State, as fold.py does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from livepatch_core.rollout import inquiries
from livepatch_core.rollout.fleet import Verb
from livepatch_core.rollout.model import When
from livepatch_core.rollout.state import Host, Job, Round, State
from livepatch_core.rollout.states import Place, Standing

RELOOK = (
    15.0  # seconds: the kernel signals stragglers as often (SIGNALS_TIMEOUT, kernel/livepatch/transition.c)
)


def look(state: State, body: Mapping[str, Any]) -> None:
    purpose, jobs = body["purpose"], body["jobs"]
    if purpose == "soak":
        names, begin_at = list(state.well), 0
        jobs = []
        for jid, size in body["jobs"]:
            jobs.append((jid, names[begin_at : begin_at + size]))
            begin_at += size
        state.next_look = state.t + state.plan.options.look_every
    elif purpose == "late":
        state.next_look = state.t + state.plan.options.look_every
    state.add_jobs(jobs, Verb.LOOK, purpose)
    if purpose == "doubt":
        _move_is_doubted(state, body["of"])


def _move_is_doubted(state: State, jid: str) -> None:
    """The look decides from here; what it leaves open is looked at again."""
    until = state.t + 2 * state.plan.options.move_deadline
    moved = state.jobs.pop(jid)
    assert state.round is not None
    for name in moved.pending:
        state.round.overdue[name] = until


def answers(state: State, body: Mapping[str, Any]) -> None:
    job = state.jobs[body["jid"]]
    state.well_again()
    for name, said in body["hosts"].items():
        if name in job.pending:
            del job.pending[name]
            if job.verb is Verb.ASK or job.purpose == "gate":
                inquiries.answered(state, name, said)
            else:
                _answered(state, job, name, said)
    _finish_job(state, job)


def _finish_job(state: State, job: Job) -> None:
    if job.pending:
        return
    del state.jobs[job.jid]
    if job.purpose == "soak" and not any(one.purpose == "soak" for one in state.jobs.values()):
        state.looked_t = job.t or 0.0


def _answered(state: State, job: Job, name: str, said: Mapping[str, Any]) -> None:
    place = Place(said["to"])
    host = state.hosts[name]
    if job.purpose == "stage":
        _take_stage(host, said)
        if host.place is not Place.STAGING:
            return
    elif job.purpose == "soak" and host.place is not Place.HEALTHY:
        return
    elif job.purpose == "late":
        if place is Place.PENDING and host.place in (Place.ABSENT, Place.UNREACHABLE):
            state.put(name, place)
            state.ready[name] = None
        return
    settle(state, job, name, place, said.get("kind", ""), said.get("text", ""))


def _take_stage(host: Host, said: Mapping[str, Any]) -> None:
    host.boot, host.there = said.get("boot", ""), bool(said.get("there"))
    host.build = said.get("build", host.build)
    if "before" in said:
        host.before = said["before"]


def settle(state: State, job: Job, name: str, place: Place, kind: str, text: str) -> None:
    """Put a host where an answer says it stands, with what a round has to remember of it."""
    host, this = state.hosts[name], state.round
    back = this is not None and this.back
    if this is not None and name in this.members:
        if place is Place.MOVING:
            _look_again(state, this, job, name)
            state.put(name, Place.ROLLING_BACK if back else Place.MOVING, host.kind, host.text)
            return
        this.overdue.pop(name, None)
        if place is Place.APPROVED:
            host.tries += job.purpose != "doubt"
            place = Place.RECALLED if back else Place.APPROVED
            kind, text = host.kind, host.text
        elif place is Place.HEALTHY and job.purpose != "soak" and inquiries.names_for(state, When.HOST):
            place = Place.GATING
    state.put(name, place, kind, text)
    recall_if_wanted(state, name)


def recall_if_wanted(state: State, name: str) -> None:
    """A host that was in flight when the rollback began, and has landed."""
    host = state.hosts[name]
    waiting = state.standing is Standing.ROLLING_BACK and name in state.recalled and host.was is None
    if waiting and host.document >= 0 and host.place is not Place.MOVING:
        recall(state, name)


def _look_again(state: State, this: Round, job: Job, name: str) -> None:
    sent = job.t if job.t is not None else state.t
    this.overdue.setdefault(name, sent + 2 * state.plan.options.move_deadline)
    if job.purpose in ("overdue", "doubt"):
        this.next_look = state.t + min(state.plan.options.look_every, RELOOK)


def silent(state: State, body: Mapping[str, Any]) -> None:
    """The deadline of a job has passed: what that means of those who have not answered."""
    job = state.jobs[body["jid"]]
    for name in list(job.pending):
        del job.pending[name]
        if job.verb is Verb.ASK or job.purpose == "gate":
            inquiries.answered(state, name, {"none": "it did not answer"})
        else:
            _unanswered(state, job, name)
    _finish_job(state, job)


def _unanswered(state: State, job: Job, name: str) -> None:
    host = state.hosts[name]
    if job.purpose == "stage":
        if host.place is Place.STAGING:
            state.put(name, Place.UNREACHABLE, "", "it did not answer when its turn came")
    elif job.purpose == "move":
        settle(state, job, name, Place.MOVING, "", "")
    elif job.purpose == "soak":
        if host.place is Place.HEALTHY:
            settle(state, job, name, Place.LOST, "", "it was healthy and answers no more")
    elif job.purpose != "late":
        _gone(state, job, name)


def _gone(state: State, job: Job, name: str) -> None:
    host = state.hosts[name]
    if state.round is None or not state.round.back:
        settle(state, job, name, Place.LOST, "", "it was told to move and answers no more")
    elif host.was in (Place.LOST, Place.UNREACHABLE):
        settle(
            state, job, name, Place.LOST, "", "it answers no more; it is approved for the level it came from"
        )
    else:
        text = "it answers no more; it is approved for the level it came from"
        settle(state, job, name, Place.ROLLBACK_FAILED, "", text)


def recall(state: State, name: str) -> None:
    host = state.hosts[name]
    host.was = host.place
    host.tries = 0
    state.put(name, Place.RECALLED, host.kind, host.text)
