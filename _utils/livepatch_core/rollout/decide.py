"""What comes next: a pure function of what the journal says and of the time.

One step at a time; the driver does it, journals it, and asks again. In this order: finish what was begun
towards the ledger, obey the operator, stop if a limit is exceeded, then the jobs, then the round, then
the phase.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Optional, Union

from livepatch_core.rollout import asking, phases, returning
from livepatch_core.rollout.clock import Now
from livepatch_core.rollout.fleet import MOVES, Verb
from livepatch_core.rollout.fold import MAX_TRIES
from livepatch_core.rollout.limits import exceeded
from livepatch_core.rollout.obeyed import named
from livepatch_core.rollout.records import Type
from livepatch_core.rollout.state import Job, Round, State
from livepatch_core.rollout.states import Place, Standing
from livepatch_core.rollout.steps import (
    Admit,
    Approve,
    Batch,
    Block,
    CheckRelease,
    Measure,
    Recall,
    Rest,
    Send,
    Step,
    Withdraw,
    Write,
    batches,
)

LOOK_SECONDS = 30.0  # at least: minions take as long to come back to a master that was restarted
# May fail, and are then tried again with a backoff.
WORLDLY = (Admit, Approve, Recall, Withdraw, Block, Measure, CheckRelease)
BEFORE_MOVE = ("move", "doubt", "anew")  # whoever stands in such a job is not told to move by another

Decision = Union[Step, Rest]


def decide(state: State, now: Now) -> Decision:
    """Pure."""
    if state.ended:
        return Rest("nothing: it has ended")
    rests: list[Rest] = []
    for rule in (_ledger, _rollback, _limits, _jobs, _finish, _round, _strays, asking.advance, _standing):
        found = rule(state, now)
        if isinstance(found, WORLDLY) and now.t < state.retry_t:
            found = Rest(f"another try ({state.trouble})", state.retry_t)
        if isinstance(found, Rest):
            rests.append(found)
        elif found is not None:
            return found
    return _soonest(rests, now)


def _soonest(rests: Sequence[Rest], now: Now) -> Rest:
    """The first says what is waited for; the earliest says until when. A time that is past wakes nobody."""
    times = [one.t for one in rests if one.t is not None and one.t > now.t]
    epochs = [one.epoch for one in rests if one.epoch is not None and one.epoch > now.epoch]
    return Rest(rests[0].what, min(times, default=None), min(epochs, default=None))


def _ledger(state: State, now: Now) -> Optional[Decision]:
    """What was begun is finished, whatever came since: ledger and catalog may have it already. A block that
    the catalog does not take is tried again between the rounds of a rollback: nobody is heard while it is."""
    act = next(iter(state.acts), None)
    if act is not None:
        return Approve(act)
    later = state.standing is Standing.ROLLING_BACK and state.troubles and state.round is not None
    return Block() if _is_blocking(state) and not later else None


def _is_blocking(state: State) -> bool:
    """An abort does not wait for ever for a catalog that takes nothing."""
    given_up = state.standing is Standing.ABORTING and state.troubles >= MAX_TRIES
    return state.blocking and not given_up


def _rollback(state: State, now: Now) -> Optional[Decision]:
    return Recall(returning.begin(state)) if state.back_wanted is not None and not state.acts else None


def _limits(state: State, now: Now) -> Optional[Decision]:
    if state.trip is not None or state.standing not in (Standing.RUNNING, Standing.PAUSED):
        return None
    found = exceeded(state)
    return Write(Type.TRIPPED, found) if found is not None else None


# -- jobs ------------------------------------------------------------------------------------------------


def _jobs(state: State, now: Now) -> Optional[Decision]:
    waiting: Optional[Rest] = None
    for job in state.jobs.values():
        found = _job(state, job, now)
        if isinstance(found, Rest):
            waiting = found if waiting is None or _before(found, waiting) else waiting
        elif found is not None:
            return found
    return waiting


def _before(one: Rest, other: Rest) -> bool:
    return one.t is not None and (other.t is None or one.t < other.t)


def _job(state: State, job: Job, now: Now) -> Optional[Decision]:
    if job.t is not None:
        due = job.t + deadline(state, job)
        what = f"answers of {len(job.pending)} hosts ({job.purpose})"
        return Write(Type.SILENT, {"jid": job.jid}) if now.t >= due else Rest(what, due)
    if not may_send(state, job):
        return None
    if now.t < job.retry_t:
        return Rest(f"another try to publish ({state.trouble})", job.retry_t)
    if not job.doubtful:
        return Send(job.jid)
    if any(one.purpose == "doubt" for one in state.jobs.values()):
        return None
    return Write(Type.LOOK, {"purpose": "doubt", "of": job.jid}, batches(job.pending))


def deadline(state: State, job: Job) -> float:
    """Seconds from when it was sent."""
    options = state.plan.options
    if job.verb in MOVES or job.verb is Verb.FINISH:
        return options.move_deadline
    if job.verb in (Verb.STAGE, Verb.CHECK):
        return options.stage_deadline + options.stage_spread
    return max(options.stage_deadline, LOOK_SECONDS)


def may_send(state: State, job: Job) -> bool:
    """The one gate in front of every job. What only asks may go whenever somebody waits for its answer;
    after a doubt about a move the hosts are asked even where nothing more is dispatched."""
    if job.purpose == "stage":
        return state.forward
    if job.purpose != "move" or job.doubtful:
        return True
    if state.round is not None and state.round.back:
        return state.standing is Standing.ROLLING_BACK
    return state.forward


# -- the round -------------------------------------------------------------------------------------------


def _round(state: State, now: Now) -> Optional[Decision]:
    this = state.round
    if this is None:
        return None
    if state.counts[Place.STAGED] and not state.counts[Place.STAGING] and state.forward:
        return Admit(_alike(state, _members(state, this, Place.STAGED)))
    anew = _anew(state, this)
    if anew is not None:
        return anew
    move = _move(state, this)
    return move if move is not None else _overdue(state, this, now)


def _alike(state: State, names: Iterable[str]) -> tuple[str, ...]:
    """The first, and those who are approved for the same: nobody for a kernel that he does not run, or is not
    to be started with: what he was told of it goes on."""
    groups: dict[tuple[bool, str], list[str]] = {}
    for name in names:
        host = state.hosts[name]
        groups.setdefault((host.restarts, host.kernel if host.restarts else host.build), []).append(name)
    return tuple(next(iter(groups.values())))


def _members(state: State, this: Round, place: Place) -> Iterator[str]:
    return (name for name in this.members if state.hosts[name].place is place)


def _anew(state: State, this: Round) -> Optional[Write]:
    """A host that waited while the rollout was paused or undriven may have been booted meanwhile: it is asked
    for its boot id before it is told to move."""
    if this.back or not state.counts[Place.APPROVED] or not state.forward:
        return None
    asked = {name for job in state.jobs.values() if job.purpose in BEFORE_MOVE for name in job.pending}
    names = [
        name
        for name in _members(state, this, Place.APPROVED)
        if not state.hosts[name].boot and name not in asked
    ]
    return Write(Type.LOOK, {"purpose": "anew"}, batches(names)) if names else None


def _move(state: State, this: Round) -> Optional[Decision]:
    """Tell those who are approved, and who stand in no job yet."""
    place = Place.RECALLED if this.back else Place.APPROVED
    allowed = state.standing is Standing.ROLLING_BACK if this.back else state.forward
    if not state.counts[place] or not allowed:
        return None
    told = {name for job in state.jobs.values() if job.purpose in BEFORE_MOVE for name in job.pending}
    names = [name for name in _members(state, this, place) if name not in told]
    spent = {
        name: {"to": str(_spent(this)), "kind": "internal", "text": "it was told twice, and never got it"}
        for name in names
        if state.hosts[name].tries > 1
    }
    if spent:
        return Write(Type.HOSTS, {"to": spent})
    return Write(Type.MOVE, {}, tuple(_by_document(state, names))) if names else None


def _spent(this: Round) -> Place:
    return Place.ROLLBACK_FAILED if this.back else Place.FAILED


def _by_document(state: State, names: Iterable[str]) -> Iterator[Batch]:
    """Hosts with the same approval together: a host refuses two of one rev that say different things. And
    those of one method, which are told the same."""
    groups: dict[tuple[int, bool], list[str]] = {}
    for name in names:
        groups.setdefault((state.hosts[name].document, state.hosts[name].restarts), []).append(name)
    for (document, _), group in groups.items():
        yield from batches(group, document)


def _overdue(state: State, this: Round, now: Now) -> Optional[Decision]:
    """Look at those whose return did not come or did not tell, once all other returns are there."""
    if not this.overdue:
        return None
    busy = any(
        job.purpose in ("overdue", "doubt") or (job.verb is Verb.MOVE and job.t is not None)
        for job in state.jobs.values()
    )
    if busy:
        return None
    if now.t < this.next_look:
        return Rest(f"another look at {len(this.overdue)} hosts", this.next_look)
    return Write(Type.LOOK, {"purpose": "overdue"}, batches(this.overdue))


# -- hosts that are started with another kernel ----------------------------------------------------------


def _finish(state: State, now: Now) -> Optional[Decision]:
    """Whoever is back is verified and undrained, whatever the rollout stands at."""
    if not state.counts[Place.RETURNED]:
        return None
    told = {name for job in state.jobs.values() if job.purpose == "finish" for name in job.pending}
    members = state.round.members if state.round is not None else {}
    names = [
        name
        for name in (*members, *(one for one in state.strays if one not in members))
        if state.hosts[name].place is Place.RETURNED and name not in told
    ]
    return Write(Type.FINISH, {}, batches(names)) if names else None


def _strays(state: State, now: Now) -> Optional[Decision]:
    """Hosts that were given up come back late: what was drained there comes back too."""
    names = [
        name
        for name, until in state.strays.items()
        if state.hosts[name].place is Place.LOST and state.t < until
    ]
    if not names or any(job.purpose == "stray" for job in state.jobs.values()):
        return None
    if now.t < state.next_stray:
        return Rest(f"{len(names)} hosts that did not come back", state.next_stray)
    return Write(Type.LOOK, {"purpose": "stray"}, batches(names))


# -- the standing ----------------------------------------------------------------------------------------


def _standing(state: State, now: Now) -> Decision:
    if state.standing is Standing.RUNNING:
        return Rest("the end of this round") if state.round is not None else phases.advance(state, now)
    if state.acts:  # the next try has to wait
        return Rest("the ledger")
    if state.standing is Standing.ROLLING_BACK:
        return returning.advance(state)
    if _is_blocking(state):
        return Rest("the catalog")
    if state.standing is Standing.ABORTING:
        return _aborting(state)
    waiting = state.counts[Place.APPROVED]
    more = f"; {waiting} hosts are approved and were not told, and move at their next highstate"
    return Rest("an operator's word" + (more if waiting else ""))


def _aborting(state: State) -> Decision:
    """Who is approved and was not told is approved for where it came from: its next highstate would move it,
    and nobody would see how that ends. Not where somebody has approved it for something else since."""
    landing = state.in_flight() or any(job.doubtful or job.purpose == "doubt" for job in state.jobs.values())
    if landing:
        return Rest(f"{state.in_flight()} hosts in flight")
    untold = [name for name in (*state.at({Place.APPROVED}), *state.untold) if name not in state.kept]
    return returning.approval(state, untold) if untold else Write(Type.ENDED, _aborted(state))


def _aborted(state: State) -> dict[str, str]:
    reason, was = state.reason, [state.hosts[name].was for name in state.at({Place.RECALLED})]
    reason += "".join(f"; {why}" for why in state.lower)
    if untold := was.count(Place.APPROVED) + was.count(Place.SKIPPED):
        reason += f"; {untold} hosts were approved and not told: they are approved for where they came from"
    if left := len(was) - untold:
        reason += f"; {left} hosts were not told to go back, and do at their next highstate"
    if state.kept:
        reason += f"; {len(state.kept)} are approved for another level since ({named(state.kept)})"
    return {"state": str(Standing.ABORTED), "reason": reason + _unblocked(state)}


def _unblocked(state: State) -> str:
    """What an abort has kept a rollback from doing to the level."""
    if not state.block_wanted or state.blocked:
        return ""
    if state.blocking:
        return f"; whether the level is blocked is not known, see livepatch_catalog.list ({state.trouble})"
    return "; the level was to be blocked and is not blocked"
