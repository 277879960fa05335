"""What the driver of a rollout needs of the world: the hosts, the ledger, the clock. Salt stands behind it in
the runner and the engine, simulated hosts in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Protocol

from livepatch_core.ledger.rollouts import Words
from livepatch_core.rollout.model import Gate, Grant
from livepatch_core.words import Word

MOST_HOSTS = 500  # of one job: its list travels to every minion of the master (no zmq_filtering by default)


class Verb(Word):
    """What hosts are asked. Only move, leave and finish change anything there."""

    STAGE = "stage"  # fetch the module, check its digest, say how things are (livepatch.stage)
    MOVE = "move"  # livepatch.apply with the approval as argument
    LOOK = "look"  # livepatch.brief with health: the ground truth
    ASK = "ask"  # a gate's execution function
    # The same for hosts that are started with another kernel (livepatch_restart):
    CHECK = "check"  # whether it could be, and with which: for stage
    LEAVE = "leave"  # load, drain, boot, with the approval as argument: for move
    FINISH = "finish"  # it is back: verify, undrain; asked again it gives the same answer


MOVES = frozenset({Verb.MOVE, Verb.LEAVE})  # never sent again without a look


class Fleet(Protocol):
    """Every call that publishes is given ids that stand in the journal already; none waits for returns."""

    def new_jid(self) -> str:
        """An id for one job, to be journaled before the job is published."""
        ...

    def publish(self, jid: str, verb: Verb, hosts: Sequence[str], arguments: Mapping[str, Any]) -> None:
        """Send one job to at most MOST_HOSTS hosts. Raises FleetError when it could not be sent."""
        ...

    def returns(self, jid: str) -> Mapping[str, Any]:
        """What has come back so far, from the job cache: minion -> {"return", "retcode", "success"}."""
        ...

    def wait(self, seconds: float) -> None:
        """Until something may have happened (a hint: an event, a command file), or so long."""
        ...

    def approve(
        self,
        act: str,
        hosts: Sequence[str],
        grants: Mapping[str, Grant],
        by: Mapping[str, str],
        seen: Optional[int] = None,
    ) -> Mapping[str, Any]:
        """Write approvals; durable when it returns: {"ledger_id", "rev"}. The same ``act`` again returns the
        same rev and writes nothing (the ledger remembers the act). by: ``who`` and ``why``, where that is not
        who drives the rollout and why it was started. seen: the rev of the ledger when it was looked into;
        raises LivepatchError (busy) where it is another by now, and writes nothing."""
        ...

    def ledger(self, hosts: Sequence[str]) -> Words:
        """What the ledger says of these hosts now: freezes, approvals, its rev."""
        ...

    def block(self, act: str, level: int, builds: Sequence[str], by: Mapping[str, str]) -> None:
        """Block a level for the fleet; again with the same ``act``: nothing. by: as for ``approve``."""
        ...

    def measure(self, gate: Gate, hosts: Sequence[str]) -> Mapping[str, Any]:
        """For gates that ask no minion (Prometheus, HTTP): {"value", "evidence"} or {"no_data": why}."""
        ...

    def tell(self, tag: str, data: Mapping[str, Any]) -> None:
        """Fire an event; never raises, nobody depends on it."""
        ...

    def unreleased(self, build_id: str, level: int) -> str:
        """Why the file server has the level for nobody now (it is in testing, blocked, or gone), as half a
        sentence; empty where it is released."""
        ...


class FleetError(Exception):
    """A job could not be published; str says why."""
