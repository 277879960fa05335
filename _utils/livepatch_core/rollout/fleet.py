"""What the driver of a rollout needs of the world: the hosts, the ledger, the clock. Salt stands behind it in
the runner and the engine, simulated hosts in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Protocol

from livepatch_core.rollout.model import Gate, Grant
from livepatch_core.words import Word

MOST_HOSTS = 500  # of one job: its list travels to every minion of the master (no zmq_filtering by default)


class Verb(Word):
    """What hosts are asked. Only move changes anything there."""

    STAGE = "stage"  # fetch the module, check its digest, say how things are (livepatch.stage)
    MOVE = "move"  # livepatch.apply with the approval as argument
    LOOK = "look"  # livepatch.brief with health: the ground truth
    ASK = "ask"  # a gate's execution function


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

    def approve(self, act: str, hosts: Sequence[str], grants: Mapping[str, Grant]) -> Mapping[str, Any]:
        """Write approvals; durable when it returns: {"ledger_id", "rev"}. The same ``act`` again returns the
        same rev and writes nothing (the ledger remembers the act)."""
        ...

    def frozen(self, hosts: Sequence[str]) -> Mapping[str, str]:
        """Which of these hosts are frozen now, and the sentence that says so."""
        ...

    def block(self, act: str, level: int, builds: Sequence[str], why: str) -> None:
        """Block a level for the fleet; again with the same ``act``: nothing."""
        ...

    def measure(self, gate: Gate, hosts: Sequence[str]) -> Mapping[str, Any]:
        """For gates that ask no minion (Prometheus, HTTP): {"value", "evidence"} or {"no_data": why}."""
        ...

    def tell(self, tag: str, data: Mapping[str, Any]) -> None:
        """Fire an event; never raises, nobody depends on it."""
        ...

    def payload(self, build_id: str, level: int) -> Optional[Mapping[str, Any]]:
        """What stage has to carry for a level that the file server does not serve (testing), else None."""
        ...


class FleetError(Exception):
    """A job could not be published; str says why."""
