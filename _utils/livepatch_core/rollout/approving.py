"""What a rollout does towards ledger and catalog: freezes and newer words are asked for, approvals written,
levels blocked. A part of the driver: each act is journaled as the driver's are.

The newest word wins. Before a host is approved, and before it is told to move, it is looked into the ledger:
who is frozen is not told, and who was approved for something else since is left to that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Optional

from livepatch_core.errors import LivepatchError
from livepatch_core.ledger.rollouts import Words
from livepatch_core.rollout import overruled, returning
from livepatch_core.rollout.fleet import Fleet, FleetError
from livepatch_core.rollout.model import Grant
from livepatch_core.rollout.obeyed import named
from livepatch_core.rollout.records import Type
from livepatch_core.rollout.state import Job, State
from livepatch_core.rollout.states import Place
from livepatch_core.rollout.steps import Withdraw, Write
from livepatch_core.words import Kind

TO_GO = (Place.PENDING, Place.STAGING, Place.STAGED, Place.APPROVED)


class Approving:
    """write: appends a record and folds it into the state."""

    def __init__(self, state: State, fleet: Fleet, write: Callable[[Type, Mapping[str, Any]], None]) -> None:
        self._state, self._fleet, self._write = state, fleet, write

    def admit(self, hosts: Collection[str]) -> None:
        """Write the intent to approve these, without those that are frozen."""
        frozen = self._everybody().frozen
        if self._paused(frozen):
            return
        to = {name: _left_out(Kind.FROZEN, frozen[name]) for name in hosts if name in frozen}
        if to:
            self._write(Type.HOSTS, {"to": to})
        names = [name for name in hosts if name not in frozen]
        if not names:
            return
        meant = (self._state.granted(self._state.hosts[name]) for name in names)
        grants = {key: grant for granted in meant for key, grant in granted.items()}
        said = {build: [one.level, one.sha256] for build, one in sorted(grants.items())}
        self._write(Type.APPROVE, {"act": self._act(), "hosts": names, "grants": said})

    def approve(self, act: str) -> None:
        """The hosts' documents as the ledger hands them out: it keeps what they had for other kernel builds.
        Without those of whom somebody has said otherwise since; the act goes on with the next step."""
        wanted = self._state.acts[act]
        back = wanted.level is not None
        ledger = self._fleet.ledger(wanted.hosts)
        newer = overruled.found(self._state, wanted.hosts, ledger.approved, back=back)
        if newer and back:
            self._write(Type.KEPT, {"act": act, "hosts": newer})
            return
        to = {name: _superseded(level) for name, level in newer.items()}
        if not back:  # whom the ledger has approved by this act already it hands that once they are thawed
            frozen = [name for name in wanted.hosts if name in ledger.frozen and name not in newer]
            had = overruled.approved(self._state, frozen, ledger.approved)
            to.update(
                {name: _left_out(Kind.FROZEN, ledger.frozen[name]) for name in frozen if name not in had}
            )
        if to:
            self._write(Type.HOSTS, {"act": act, "to": to})
            return
        by = self._state.recall_by if back else {}
        said = self._fleet.approve(act, wanted.hosts, wanted.grants, by, ledger.rev)
        plain = [{"hosts": None, "builds": {build: document(one) for build, one in wanted.grants.items()}}]
        documents = said.get("documents") or plain
        if len(documents) == 1:
            documents = [{"hosts": None, "builds": documents[0]["builds"]}]
        body = {"act": act, "ledger_id": said["ledger_id"], "rev": said["rev"], "documents": documents}
        self._write(Type.APPROVED, body)

    def overruled(self, job: Job) -> bool:
        """Leave out of a move whom the ledger does not let go any more: a freeze, or what somebody else has
        approved, is newer than the approval that it carries. Whether there was anything to do."""
        names, back = list(job.pending), self._state.round is not None and self._state.round.back
        try:
            said = self._everybody()
        except (FleetError, LivepatchError) as problem:
            self._write(Type.UNSENT, {"jid": job.jid, "why": str(problem), "tried": False})
            return True
        if not back and self._paused(said.frozen):
            return True
        newer = overruled.found(self._state, names, said.approved, back=back)
        to = {name: _superseded(level) for name, level in newer.items()}
        to.update({name: _untold(said.frozen[name], back) for name in names if name in said.frozen})
        if to:
            self._write(Type.HOSTS, {"jid": job.jid, "to": to})
        return bool(to)

    def excused(self, body: Optional[dict[str, Any]]) -> Optional[dict[str, Any]]:
        """Answers, with whoever obeys a word of somebody else left to that. A host only knows that it was
        told something newer, which may be the same level, or be about another kernel: the ledger knows."""
        answers = {} if body is None else body["hosts"]
        names = [name for name, said in answers.items() if said.get("kind") == Kind.SUPERSEDED]
        if body is None or not names:
            return body
        back = self._state.round is not None and self._state.round.back
        newer = overruled.found(self._state, names, self._fleet.ledger(names).approved, back=back)
        left = {name: {**answers[name], **_superseded(level)} for name, level in newer.items()}
        return {**body, "hosts": {**answers, **left}}

    def _everybody(self) -> Words:
        return self._fleet.ledger(list(self._state.hosts))

    def _paused(self, frozen: Mapping[str, str]) -> bool:
        """Where everybody who has still to go is frozen: the fleet is, as after a restore, and to leave them
        all out would end the rollout. One host alone is left out."""
        left = self._state.at(TO_GO)
        whole = self._state.hosts.keys() <= frozen.keys()
        if not set(left) <= frozen.keys() or (len(left) == 1 and not whole):
            return False
        first = f"{left[0]}: {frozen[left[0]]}"
        reason = f"all {len(left)} hosts that have still to go are frozen ({first})"
        body: dict[str, Any] = {"reason": f"{reason}: livepatch_ledger.unfreeze, then resume"}
        if wait := self._state.at({Place.STAGED}):
            body["wait"] = wait
        self._write(Type.PAUSED, body)
        return True

    def recall(self, back: Write) -> None:
        """Begin a rollback, without hosts that somebody has approved for something else since."""
        names, why = back.body["hosts"], back.body["why"]
        newer = overruled.found(self._state, names, self._fleet.ledger(names).approved, back=True)
        if newer:
            why += f"; {len(newer)} hosts stay where they were approved to be since ({named(newer)})"
        hosts = [name for name in names if name not in newer]
        self._write(Type.BACK, {**back.body, "why": why, "hosts": hosts})

    def withdraw(self, step: Withdraw) -> None:
        """Write the intent to approve hosts for the way back. A level that was blocked, or is gone, since the
        plan was made would be refused there."""
        passed: list[str] = []
        for grant in returning.ways_back(self._state, step.build, step.level):
            why = self._fleet.unreleased(step.build, grant.level) if grant.level else ""
            if not why:
                break
            passed.append(f"level {grant.level} of kernel build {step.build} {why}")
        grants = {step.build: [grant.level, grant.sha256]}
        body = {"act": self._act(), "hosts": list(step.hosts), "grants": grants, "level": grant.level}
        if passed:
            body["lower"] = f"{' and '.join(passed)}: its hosts go to level {grant.level} instead"
        self._write(Type.APPROVE, body)

    def block(self) -> None:
        act = f"{self._state.id}/block"
        levels = self._state.withholding or returning.withdrawn(self._state).items()  # of a version before
        for level, builds in levels:
            self._fleet.block(act, level, builds, self._state.back_by)
        self._write(Type.BLOCKED, {"act": act})

    def check_release(self) -> None:
        plan = self._state.plan
        for build in plan.testing:
            level = plan.grants[build].level
            if why := self._fleet.unreleased(build, level):
                then = "resume once it is released (livepatch_catalog.promote), or roll back"
                self._write(Type.PAUSED, {"reason": f"level {level} of kernel build {build} {why}: {then}"})
                return
        self._write(Type.RELEASED, {"builds": list(plan.testing)})

    def _act(self) -> str:
        return f"{self._state.id}/{self._state.act_count + 1}"


def document(grant: Grant) -> dict[str, Any]:
    return {"level": grant.level, "sha256": grant.sha256}


def _left_out(kind: Kind, text: str) -> dict[str, str]:
    return {"to": str(Place.SKIPPED), "kind": str(kind), "text": text}


def _superseded(level: int) -> dict[str, str]:
    return _left_out(Kind.SUPERSEDED, f"somebody has approved it for level {level} since: it is left to that")


def _untold(why: str, back: bool) -> dict[str, str]:
    """Of a host that is frozen, and approved already."""
    to, where = (
        (Place.ROLLBACK_FAILED, "the level it came from") if back else (Place.SKIPPED, "its new level")
    )
    text = f"{why}; it was not told to move, is approved for {where}, and has it once it is thawed"
    return {"to": str(to), "kind": str(Kind.FROZEN), "text": text}
