"""What decide.py says: one act, or what is waited for. Values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from livepatch_core.rollout.fleet import MOST_HOSTS
from livepatch_core.rollout.records import Type


@dataclass(frozen=True)
class Batch:
    """Hosts of one job; the driver gives it its jid. document: of a move, the number of its approval."""

    hosts: tuple[str, ...]
    document: int = -1


@dataclass(frozen=True)
class Write:
    """A record to append. batches: jobs that it announces; counted: only how many hosts each has is
    written."""

    type: Type
    body: Mapping[str, Any] = field(default_factory=dict)
    batches: tuple[Batch, ...] = ()
    counted: bool = False


@dataclass(frozen=True)
class Send:
    """Publish a job that is journaled."""

    jid: str


@dataclass(frozen=True)
class Admit:
    """Ask which of these hosts are frozen, and write the intent to approve the others."""

    hosts: tuple[str, ...]


@dataclass(frozen=True)
class Approve:
    """Write an approval whose intent is journaled."""

    act: str


@dataclass(frozen=True)
class Recall:
    """Ask which of the hosts that a rollback is about were approved for something else since, and begin it
    without them. back: the record that begins it."""

    back: Write


@dataclass(frozen=True)
class Withdraw:
    """Write the intent to approve hosts of one kernel build for the level that they came from or, where
    nobody can have that any more, for the next lower one."""

    hosts: tuple[str, ...]
    build: str
    level: int


@dataclass(frozen=True)
class Block:
    """Block the level; its intent is journaled."""


@dataclass(frozen=True)
class Measure:
    """Ask a gate that no minion answers."""

    gate: str


@dataclass(frozen=True)
class CheckRelease:
    """See whether what was in testing when the plan was made is released by now."""


@dataclass(frozen=True)
class Rest:
    """Nothing to do now. what: what comes next, half a sentence. t: when, in observed seconds; epoch: or
    on the wall clock; neither: when something happens (an answer, an operator)."""

    what: str
    t: Optional[float] = None
    epoch: Optional[float] = None


def batches(names: Iterable[str], document: int = -1) -> tuple[Batch, ...]:
    """At most MOST_HOSTS hosts each."""
    whole = tuple(names)
    starts = range(0, len(whole), MOST_HOSTS)
    return tuple(Batch(whole[start : start + MOST_HOSTS], document) for start in starts)


Step = Union[Write, Send, Admit, Approve, Recall, Withdraw, Block, Measure, CheckRelease]
