"""Drives one rollout: decide, journal, act, journal what came of it. The only place where a rollout meets
the world.

Order of every act: its intent is durable, then the act, then what came of it. Whatever the process dies
between, the next owner folds the journal and finds the intent open: what only asks is asked again, an
approval is written again under the same act (the ledger remembers it), and hosts that may have been told
to move are looked at before anybody tells them again.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from livepatch_core.durable import PRIVATE_FILE, make_directory, write_atomically
from livepatch_core.errors import LivepatchError
from livepatch_core.rollout import collect, commands, journal, plandoc, restarts, status, telling
from livepatch_core.rollout.approving import Approving, document
from livepatch_core.rollout.clock import Clock, Now, iso
from livepatch_core.rollout.decide import decide
from livepatch_core.rollout.fleet import MOVES, Fleet, FleetError, Verb
from livepatch_core.rollout.fold import fold, fold_all
from livepatch_core.rollout.model import Plan
from livepatch_core.rollout.obeyed import EDITION
from livepatch_core.rollout.owner import Owner
from livepatch_core.rollout.records import Type
from livepatch_core.rollout.state import Job, State
from livepatch_core.rollout.steps import (
    Admit,
    Approve,
    Block,
    CheckRelease,
    Measure,
    Recall,
    Rest,
    Send,
    Step,
    Withdraw,
    Write,
)
from livepatch_core.words import Kind

POLL_SECONDS = (
    2.0  # between two looks at the job cache while answers are awaited and no event wakes the driver
)
IDLE_SECONDS = 30.0  # while only an operator or a window is waited for
STALE_SECONDS = 60.0  # a rollback of what has ended is taken up within seconds, or its author has died
START_LOCK = "start.lock"


def start(root: Path, plan: Plan, by: Mapping[str, str], clock: Clock) -> str:
    """Make the rollout durable; it is driven by whoever takes it. Its id. Raises LivepatchError: busy
    where one of its hosts belongs to another active rollout or the plan was started already, journal
    where it cannot be written."""
    make_directory(root)
    with starting(root):
        _refuse_overlap(root, plan)
        directory = root / plandoc.rollout_id(plan)
        if (directory / journal.FILE_NAME).exists():
            raise _busy(f"This plan was started already, as rollout {directory.name}")
        try:
            _create(directory, plan, by, clock)
        except OSError as problem:
            raise LivepatchError(
                Kind.JOURNAL,
                f"{directory} could not be written ({problem.strerror}); the rollout was not started.",
                remedy="Make room or mend the file system, then start it again.",
            ) from problem
    return directory.name


class starting:
    """One at a time starts a rollout, or takes one up again: two could claim the same hosts."""

    def __init__(self, root: Path) -> None:
        self._path, self._descriptor = root / START_LOCK, -1

    def __enter__(self) -> None:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _refuse_overlap(root: Path, plan: Plan, but: str = "") -> None:
    held = status.held(root)
    taken = {name: held[name] for name in status.claims(plan) if held.get(name, but) != but}
    if taken:
        name, other = next(iter(sorted(taken.items())))
        raise _busy(
            f"{len(taken)} of its hosts belong to another active rollout, the first: {name} to {other}"
        )


def refuse_reopening(directory: Path, state: State, command: commands.Command, now: float) -> None:
    """Why a rollout that has ended is not rolled back now. Raises LivepatchError: busy where another has its
    hosts by now, superseded where the command is so old that hosts may have been approved for something else
    since: what it leaves out was looked up when it was given."""
    _refuse_overlap(directory.parent, state.plan, state.id)
    if abs(now - command.given) > STALE_SECONDS:
        raise LivepatchError(
            Kind.SUPERSEDED,
            f"The {command.verb} of rollout {state.id} that {command.who} gave at {iso(command.given)} was "
            "not taken up then, and hosts may have been approved for something else since; nothing was "
            "changed.",
            remedy=f"See livepatch.status; give {command.verb} again if it is still meant.",
        )


def _create(directory: Path, plan: Plan, by: Mapping[str, str], clock: Clock) -> None:
    """The journal last: without one there is no rollout."""
    make_directory(directory)
    make_directory(directory / commands.FOLDER)
    write_atomically(directory / status.PLAN, plandoc.encode(plan))
    lines = journal.create(directory / journal.FILE_NAME)
    now = Now(clock.now(), 0.0)
    lines.append(Type.PLANNED, {"plan": plandoc.plan_hash(plan), "by": dict(by)}, now)
    lines.append(Type.STARTED, {"by": dict(by)}, now)
    lines.sync()
    lines.close()


def drive(
    directory: Path,
    fleet: Fleet,
    clock: Clock,
    *,
    owner: Owner,
    until_detached: Callable[[State], bool] = lambda state: False,
) -> State:
    """Until it has ended, or until_detached says so (asked every turn; nothing is left half done then).

    Raises LivepatchError (journal) when the journal cannot be read or written: nothing is dispatched from
    then on.
    """
    driver = Driver(directory, fleet, clock, owner)
    try:
        driver.adopt()
        while not driver.state.ended and not until_detached(driver.state):
            driver.turn()
        driver.journal.sync()
    finally:
        driver.journal.close()
    return driver.state


def settle(directory: Path, fleet: Fleet, clock: Clock, *, owner: Owner) -> State:
    """Take over for the commands that wait, and dispatch nothing: for verbs where nobody drives. What the
    last owner published and could not record is in doubt for them too."""
    driver = Driver(directory, fleet, clock, owner)
    try:
        driver.adopt()
        driver.journal.sync()
    finally:
        driver.journal.close()
    return driver.state


class Driver:
    """State, journal and world of one rollout, for as long as one process owns it."""

    def __init__(self, directory: Path, fleet: Fleet, clock: Clock, owner: Owner) -> None:
        self.directory, self.fleet, self.clock, self.owner = directory, fleet, clock, owner
        plan = status.read_plan(directory)
        self.journal, records = journal.resume(directory / journal.FILE_NAME)
        self.state = fold_all(directory.name, plan, records)
        self._approving = Approving(self.state, fleet, self.write)
        self._began = clock.monotonic()
        self._t = self.state.t
        self._heard: dict[str, int] = {}  # jid -> how many returns were there at the last look

    def now(self) -> Now:
        return Now(self.clock.now(), self._t + max(0.0, self.clock.monotonic() - self._began))

    def adopt(self) -> None:
        """Take over: what the last owner left open is known before anything is decided."""
        if self.state.ended and not commands.waiting(self.directory):
            return
        if not self.state.ended:
            self.write(Type.ADOPTED, {"owner": self.owner.document(), "edition": EDITION})
        self.obey()
        self.collect()

    def turn(self) -> None:
        """One step, or one look at what has come back, or a rest."""
        self.owner.beat()
        self.obey()
        found = decide(self.state, self.now())
        if isinstance(found, Write) and found.type is Type.SILENT and not self._all_heard():
            return
        if not isinstance(found, Rest):
            self.perform(found)
        elif not self.collect():
            self.journal.sync()
            self.fleet.wait(self._seconds(found))

    def _all_heard(self) -> bool:
        """Whether a deadline may be called passed: everything that came in time has been heard. A process
        that was stopped wakes up late, and a job cache that cannot be read says nothing of any host."""
        if self.collect():
            return False
        waiting = self.state.retry_t - self.now().t
        if self.state.trouble and waiting > 0:
            self.journal.sync()
            self.fleet.wait(min(waiting, IDLE_SECONDS))
            return False
        return True

    def write(self, kind: Type, body: Mapping[str, Any]) -> None:
        record = self.journal.append(kind, body, self.now())
        fold(self.state, record)
        for tag, data in telling.events(self.state, record):
            self.fleet.tell(tag, data)

    def obey(self) -> None:
        """Journal what operators have said, in order; the files go when that is durable."""
        for path in commands.waiting(self.directory):
            command = commands.read(path)
            if command is not None and command.id not in self.state.seen_commands:
                self._take(command, path)
            self.journal.sync()
            path.unlink(missing_ok=True)

    def _take(self, command: commands.Command, path: Path) -> None:
        refusal = commands.may(command.verb, self.state, command.arguments)
        if self.state.ended:
            if refusal is None:
                self._reopen(command, path)
            return  # a line after the end would say that it goes on; who gave the verb was told
        if refusal is None:
            self.write(Type.COMMAND, command.document())
        else:
            self.write(Type.REFUSED, {**command.document(), "reason": refusal})

    def _reopen(self, command: commands.Command, path: Path) -> None:
        """A rollback of a rollout that has ended takes its hosts up again, unless that is refused. What was
        refused is gone: it must not come later, over what was approved since."""
        with starting(self.directory.parent):
            try:
                refuse_reopening(self.directory, self.state, command, self.clock.now())
            except LivepatchError:
                path.unlink(missing_ok=True)
                raise
            self.write(Type.COMMAND, command.document())
            self.journal.sync()

    def collect(self) -> bool:
        """Hear what has come back; whether there was anything."""
        news = False
        if self.now().t < self.state.retry_t:
            return news
        for job in list(self.state.jobs.values()):
            if job.jid not in self.state.jobs:
                continue  # what another job brought has ended this one
            try:
                returns = self.fleet.returns(job.jid)
            except FleetError as problem:
                self._trouble(str(problem))
                return news
            if len(returns) == self._heard.get(job.jid, 0):
                continue
            body = collect.answers(self.state, job, returns, self.now().t)
            try:
                body = self._approving.excused(body)
            except (FleetError, LivepatchError) as problem:
                self._trouble(str(problem))
                return news
            self._heard[job.jid] = len(returns)
            if body is not None:
                self.write(Type.ANSWERS, body)
                news = True
        return news

    # -- steps -------------------------------------------------------------------------------------------

    def perform(self, step: Step) -> None:
        if isinstance(step, Write):
            self.write(step.type, self._body(step))
            return
        self.journal.sync()
        try:
            self._act(step)
        except (FleetError, LivepatchError) as problem:
            if isinstance(problem, LivepatchError) and problem.kind is Kind.JOURNAL and self.journal.broken:
                raise
            self._failed(step, problem)

    def _body(self, step: Write) -> Mapping[str, Any]:
        """With a new jid for each batch."""
        if not step.batches:
            return step.body
        jobs: list[list[Any]] = []
        for batch in step.batches:
            hosts: int | list[str] = len(batch.hosts) if step.counted else list(batch.hosts)
            jobs.append([self.fleet.new_jid(), hosts, *([batch.document] if batch.document >= 0 else [])])
        return {**step.body, "jobs": jobs}

    def _act(self, step: Step) -> None:
        if isinstance(step, Send):
            self._send(self.state.jobs[step.jid])
        elif isinstance(step, Admit):
            self._approving.admit(step.hosts)
        elif isinstance(step, Approve):
            self._approving.approve(step.act)
        elif isinstance(step, Recall):
            self._approving.recall(step.back)
        elif isinstance(step, Withdraw):
            self._approving.withdraw(step)
        elif isinstance(step, Block):
            self._approving.block()
        elif isinstance(step, Measure):
            self._measure(step.gate)
        elif isinstance(step, CheckRelease):
            self._approving.check_release()

    def _failed(self, step: Step, problem: Exception) -> None:
        if isinstance(step, Send):
            self.write(Type.UNSENT, {"jid": step.jid, "why": str(problem)})
        else:
            self._trouble(str(problem))

    def _trouble(self, why: str) -> None:
        self.write(Type.TROUBLE, {"why": why})

    def _send(self, job: Job) -> None:
        if job.verb in MOVES and self._approving.overruled(job):
            return  # the others are told with the next step
        self.fleet.publish(job.jid, job.verb, list(job.pending), self._arguments(job))
        self.write(Type.SENT, {"jid": job.jid})

    def _arguments(self, job: Job) -> dict[str, Any]:
        if job.verb is Verb.STAGE:
            builds = {self.state.hosts[name].build for name in job.pending}
            grants = {  # of a host that was away when it was planned nobody knows the build
                build: document(one)
                for build, one in self.state.plan.grants.items()
                if build in builds or "" in builds
            }
            return {"builds": grants, "spread": self.state.plan.options.stage_spread}
        if job.verb in MOVES:
            rev, documents = self.state.documents[job.documents]
            approval = {"ledger_id": self.state.ledger_id, "rev": rev, "builds": documents}
            more = restarts.leave_arguments(self.state, job) if job.verb is Verb.LEAVE else {}
            return {"approval": approval, **more}
        if job.verb is Verb.CHECK:
            return restarts.check_arguments(self.state, job)
        return _question(self.state, job) if job.verb is Verb.ASK else {}

    def _measure(self, name: str) -> None:
        inquiry = self.state.inquiry
        said = dict(
            self.fleet.measure(self.state.gate(name), list(inquiry.hosts) if inquiry is not None else [])
        )
        self.write(
            Type.MEASURED, {"gate": name, "attempt": inquiry.attempt if inquiry is not None else 0, **said}
        )

    def _seconds(self, rest: Rest) -> float:
        now = self.now()
        longest = POLL_SECONDS if self.state.jobs else IDLE_SECONDS
        waits = [rest.t - now.t] if rest.t is not None else []
        waits += [rest.epoch - now.epoch] if rest.epoch is not None else []
        return max(0.0, min([longest, *waits]))


def _question(state: State, job: Job) -> dict[str, Any]:
    given = state.gate(job.gate).arguments
    fun = given.get("fun", "livepatch.health")
    return {"fun": fun, "args": list(given.get("args", ())), "kwargs": dict(given.get("kwargs", {}))}


def _busy(text: str) -> LivepatchError:
    return LivepatchError(
        Kind.BUSY,
        f"{text}; nothing was started.",
        remedy="See its status; wait for its end, or abort it first.",
    )
