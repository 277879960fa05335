"""What hosts answer, or do not, into a State: where that puts them. Changes a State, as fold.py does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from livepatch_core.rollout import inquiries, restarts
from livepatch_core.rollout.fleet import Verb
from livepatch_core.rollout.model import When
from livepatch_core.rollout.state import Host, Job, Round, State
from livepatch_core.rollout.states import ABSENTEES, Place, Standing
from livepatch_core.words import Kind

RELOOK = (
    15.0  # seconds: the kernel signals stragglers as often (SIGNALS_TIMEOUT, kernel/livepatch/transition.c)
)


ON_THEIR_WAY = (Place.MOVING, Place.RETURNED)
WAITING = (Place.APPROVED, Place.GATING)  # for what a rollback does no more
# Whom these looks are about.
ABOUT = {
    "soak": frozenset({Place.HEALTHY}),
    "anew": frozenset({Place.APPROVED}),
    "stray": frozenset({Place.LOST}),
    "late": ABSENTEES,
}
LATE = "it came back later than it was allowed to"


def look(state: State, body: Mapping[str, Any]) -> None:
    purpose, jobs = body["purpose"], body["jobs"]
    if purpose == "soak":
        state.seeing_all, state.seeing_lap = bool(body.get("all")), state.lap
        names, begin_at = state.at({Place.HEALTHY}) if state.seeing_all else list(state.well), 0
        jobs = []
        for jid, size in body["jobs"]:
            jobs.append((jid, names[begin_at : begin_at + size]))
            begin_at += size
        state.next_look = state.t + state.plan.options.look_every
    elif purpose == "late":
        state.next_look = state.t + state.plan.options.look_every
    elif purpose == "stray":
        state.next_stray = state.t + state.plan.options.look_every
    state.add_jobs(jobs, Verb.LOOK, purpose)
    if purpose == "doubt":
        _move_is_doubted(state, body["of"])


def _move_is_doubted(state: State, jid: str) -> None:
    """The look decides from here; what it leaves open is looked at again."""
    moved = state.jobs.pop(jid)
    assert state.round is not None
    seconds = patience(state) if moved.verb is Verb.LEAVE else 2 * state.plan.options.move_deadline
    for name in moved.pending:
        state.hosts[name].until = state.round.overdue[name] = state.t + seconds


def patience(state: State) -> float:
    """Seconds from telling a host to restart until it has to be back."""
    return state.plan.options.drain_deadline + state.plan.options.restart_deadline


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
        state.all_seen = state.seeing_all and state.seeing_lap == state.lap


def _answered(state: State, job: Job, name: str, said: Mapping[str, Any]) -> None:
    place = Place(said["to"])
    host = state.hosts[name]
    if job.purpose == "stage":
        _take_stage(host, said)
        if host.place is not Place.STAGING:
            return
    elif host.place not in ABOUT.get(job.purpose, {host.place}):
        return  # it has moved on since it was asked
    elif job.purpose == "late":
        if place is Place.PENDING:
            state.put(name, place)
            state.ready[name] = None
        elif said.get("text"):  # why it has no turn yet
            state.put(name, host.place, host.kind, said["text"])
        return
    elif job.purpose == "anew":
        if place is Place.APPROVED:
            host.boot = said["boot"]
            return
        state.untold[name] = None
    if host.restarts and job.purpose not in ("stage", "anew"):
        _take_restart(state, host, place, said)
    settle(state, job, name, place, said.get("kind", ""), said.get("text", ""))


def _take_restart(state: State, host: Host, place: Place, said: Mapping[str, Any]) -> None:
    options = state.plan.options
    host.until = host.until or state.t + patience(state)  # nobody has recorded that it was told
    if said.get("leaves"):
        host.until = min(host.until, state.t + options.restart_deadline)
    if place is Place.RETURNED and not host.returned:
        host.returned, host.until = True, state.t + options.drain_deadline
        name = host.placing.minion
        if name in state.strays:  # it has as long as any to be undrained
            state.strays[name] = max(state.strays[name], host.until)
    if said.get("boot") and said["boot"] != host.boot:
        host.arrived = True
        if place is not Place.RETURNED:  # until it was verified its old boot is what it is judged by
            host.boot, host.build = said["boot"], said.get("build", host.build)
            host.runs = said.get("kernel", "")
    host.away = said.get("away", host.away)


def _take_stage(host: Host, said: Mapping[str, Any]) -> None:
    if "boot" not in said:
        return  # a refusal says nothing of what it is: a host that is retried is what it was
    boot, there, kernel = said["boot"], bool(said.get("there")), said.get("kernel", "")
    host.arrived = host.arrived and (there or (boot == host.boot and host.runs == kernel))
    host.runs = kernel if there else host.runs
    host.boot, host.there, host.again, host.kernel = boot, there, bool(said.get("again")), kernel
    host.build = said.get("build", host.build)
    if "before" in said:
        host.before = said["before"]


def settle(state: State, job: Job, name: str, place: Place, kind: str, text: str) -> None:
    """Put a host where an answer says it stands, with what a round has to remember of it."""
    host, this = state.hosts[name], state.round
    back = this is not None and this.back
    state.doubted.discard(name)
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
    elif host.restarts and job.purpose in ("stray", "finish"):
        place, kind, text = _strayed(state, name, place, kind, text)
    state.put(name, place, kind, text)
    recall_if_wanted(state, name)


def _strayed(state: State, name: str, place: Place, kind: str, text: str) -> tuple[Place, str, str]:
    """A host that had been given up: it is finished as any, and counts as failed however that ends."""
    if place is Place.RETURNED:
        return place, kind, text
    if place in (Place.MOVING, Place.APPROVED, Place.LOST):
        given_up = _given_up(state, state.hosts[name])
        return Place.LOST, kind, f"{given_up}: {text}" if text else given_up
    state.strays.pop(name, None)
    return Place.FAILED, kind or str(Kind.STALLED), f"{LATE}: {text}" if text else LATE


def is_heard_first(state: State, name: str) -> bool:
    """Whether a rollback waits for what it comes to: it is or may be on its way, or it did not come back from
    a restart and may be between two kernels, with what was drained there away."""
    place = state.hosts[name].place
    lost = place is Place.LOST and name in state.strays
    return place in ON_THEIR_WAY or lost or (place is Place.APPROVED and name in state.doubted)


def recall_if_wanted(state: State, name: str) -> None:
    """A host that was in flight when the rollback began, and has landed."""
    host = state.hosts[name]
    leave(state, name)
    waiting = state.standing is Standing.ROLLING_BACK and name in state.recalled and host.was is None
    if waiting and host.document >= 0 and not is_heard_first(state, name):
        recall(state, name)


def leave(state: State, name: str) -> None:
    """A host that a rollback leaves to what somebody has approved since, and that was not told to move, or
    whose gates nobody asks any more: no round waits for it."""
    left = name not in state.recalled and name not in state.doubted
    if left and state.standing is Standing.ROLLING_BACK and state.hosts[name].place in WAITING:
        text = "somebody has approved it for something else since: it is left to that"
        state.put(name, Place.SKIPPED, str(Kind.SUPERSEDED), text)


def _look_again(state: State, this: Round, job: Job, name: str) -> None:
    sent = job.t if job.t is not None else state.t
    restarts = state.hosts[name].restarts and not this.back
    if restarts:
        this.overdue[name] = state.hosts[name].until
    else:
        this.overdue.setdefault(name, sent + 2 * state.plan.options.move_deadline)
    if job.purpose in ("overdue", "doubt") or (restarts and this.next_look <= state.t):
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
    elif job.purpose in ("move", "finish"):
        settle(state, job, name, Place.MOVING, "", "")
    elif job.purpose == "stray":
        return
    elif job.purpose == "soak":
        if host.place is Place.HEALTHY:
            settle(state, job, name, Place.LOST, "", "it was healthy and answers no more")
    elif job.purpose == "anew":
        if host.place is Place.APPROVED:
            state.untold[name] = None
            settle(
                state, job, name, Place.LOST, "", "it was approved, and answered no more before it was told"
            )
    elif job.purpose != "late":
        _gone(state, job, name)


def _gone(state: State, job: Job, name: str) -> None:
    host = state.hosts[name]
    if host.restarts and (state.round is None or not state.round.back):
        _away(state, job, name)
    elif state.round is None or not state.round.back:
        settle(state, job, name, Place.LOST, "", "it was told to move and answers no more")
    elif host.was in (Place.LOST, Place.UNREACHABLE):
        settle(
            state, job, name, Place.LOST, "", "it answers no more; it is approved for the level it came from"
        )
    else:
        text = "it answers no more; it is approved for the level it came from"
        settle(state, job, name, Place.ROLLBACK_FAILED, "", text)


def _away(state: State, job: Job, name: str) -> None:
    """A host that may be between two kernels: waited for, then lost, and still finished if it comes back."""
    host = state.hosts[name]
    if state.t < host.until:
        settle(state, job, name, Place.MOVING, "", "")
        return
    state.strays[name] = state.t + state.plan.options.late_for
    host.returned = False  # when it comes back it has its time to be undrained
    settle(state, job, name, Place.LOST, "", _given_up(state, host))


def _given_up(state: State, host: Host) -> str:
    left = restarts.left_away(state.plan.options)
    return f"it was told to start kernel {host.kernel} and did not come back in time{left}"


def recall(state: State, name: str) -> None:
    host = state.hosts[name]
    host.was = host.place
    if host.arrived:
        stay(state, name)
        return
    host.tries = 0
    state.put(name, Place.RECALLED, host.kind, host.text)


def stay(state: State, name: str) -> None:
    """A host that was started with another kernel: it keeps that, which no rollback ends. Which one it runs
    is said only where it was seen."""
    host = state.hosts[name]
    if host.place is Place.NEEDS_REBOOT:
        return
    said = "this rollout has restarted it, and no rollback ends that: see which kernel it runs"
    if host.runs:
        said = f"this rollout has restarted it, and it runs kernel {host.runs}, which no rollback ends"
    if host.runs and host.runs == host.kernel:
        said = f"it was started with kernel {host.kernel} by this rollout; going back is another restart"
    text = f"{host.text}; {said}" if host.text else said
    state.put(name, Place.NEEDS_REBOOT, host.kind or Kind.REBOOT_OWED, text)
