"""What a rollout's journal says, folded: where it stands, where each of its hosts stands, what is under way.

Nothing but records changes a State (fold.py), so that whoever reads the journal knows what its writer
knew. The counts are kept along, not counted: a fleet of ten thousand costs each step no more than one of
ten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from livepatch_core.rollout.fleet import Verb
from livepatch_core.rollout.model import CANARY, Gate, Grant, Group, Late, Method, OnFail, Placing, Plan
from livepatch_core.rollout.states import (
    BACKWARD,
    ENDED,
    FORWARD,
    OCCUPYING,
    RETRIABLE,
    Phase,
    Place,
    Standing,
)
from livepatch_core.words import Kind

LATECOMERS = frozenset({Group.OFFLINE, Group.UNKNOWN})
RESTARTING = {Verb.STAGE: Verb.CHECK, Verb.MOVE: Verb.LEAVE}


@dataclass
class Host:
    """lap: the lap (a wave, or a group of late hosts) it was dispatched in; -1: never. rev: of its newest
    approval. forward_rev: of the one to move. before: the level to go back to. boot: boot id when it was
    staged, or after its restart. there: it was at its level before anything was sent. again: and this
    rollout had told it before. tries: moves sent that it never got. was: its place before it was recalled.

    Of hosts that are started with another kernel: kernel, its release. until: when (observed) the step it is
    at has to be over: to be back, then to be undrained. returned: it was seen to be back, or is to be taken
    back. arrived: it runs another boot than before. runs: the kernel that it was then seen to run. away:
    seconds, as it says itself.
    """

    placing: Placing
    place: Place
    before: int
    build: str
    lap: int = -1
    rev: int = 0
    forward_rev: int = 0
    boot: str = ""
    there: bool = False
    again: bool = False
    kind: str = ""
    text: str = ""
    tries: int = 0
    was: Optional[Place] = None
    document: int = -1
    kernel: str = ""
    until: float = 0.0
    returned: bool = False
    arrived: bool = False
    runs: str = ""
    away: Optional[float] = None

    @property
    def restarts(self) -> bool:
        return self.placing.method is not Method.LIVEPATCH


@dataclass(frozen=True)
class BackWanted:
    """scope: ``all`` or ``wave``. keep: hosts that are left where they were approved to be since. laps: which
    a stop takes for the wave; empty: the newest that was approved. who: empty where it has stopped itself."""

    scope: str
    block: bool
    why: str
    keep: frozenset[str] = frozenset()
    laps: frozenset[int] = frozenset()
    who: str = ""


@dataclass
class Job:
    """One published request. pending: who has not answered. t: when it was sent; None: not known to be.
    doubtful: it may have been sent, and the process that would know is dead. retry_t: not to be tried
    again before."""

    jid: str
    verb: Verb
    pending: dict[str, None]
    purpose: str = ""
    gate: str = ""
    documents: int = -1
    t: Optional[float] = None
    doubtful: bool = False
    tries: int = 0
    retry_t: float = 0.0


@dataclass
class Round:
    """The hosts dispatched together. open: how many of them have not come to an end. overdue: whom to
    look at, and until when it may still be moving. next_look: not before."""

    number: int
    members: dict[str, None]
    back: bool = False
    open: int = 0
    overdue: dict[str, float] = field(default_factory=dict)
    next_look: float = 0.0


@dataclass
class Act:
    """An approval that is under way. level: None forward, else the level that its hosts go back to."""

    act: str
    hosts: list[str]
    grants: Mapping[str, Grant]
    level: Optional[int] = None


@dataclass
class Inquiry:
    """The gates of one kind, asked one after the other. names: of the gates. hosts: whom they are about.
    out: the question of this attempt has been put. values: what came back, by host ("" for a gate that
    asks nobody). twins: host -> its twin. tallies: host -> passes, fails, neither."""

    when: str
    names: list[str]
    hosts: dict[str, None]
    index: int = 0
    attempt: int = 1
    out: bool = False
    next_t: float = 0.0
    values: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    twins: dict[str, str] = field(default_factory=dict)
    tallies: dict[str, list[int]] = field(default_factory=dict)

    @property
    def gate(self) -> str:
        return self.names[self.index]


@dataclass
class Trip:
    counter: str
    scope: str
    lap: int
    number: int
    limit: int
    action: str
    gate: str = ""


@dataclass
class State:
    """id and plan never change. lap: index of what is dispatched and soaked together: the waves, then
    each group of late hosts. well: hosts of this lap that are healthy. queue: whom this lap still has to
    dispatch, in order."""

    id: str
    plan: Plan
    hosts: dict[str, Host]
    standing: Standing = Standing.PLANNED
    reason: str = ""
    since: float = 0.0  # epoch
    phase: Optional[Phase] = None
    phase_t: float = 0.0
    wave: int = -1
    lap: int = -1
    epoch: float = 0.0  # of the last record
    t: float = 0.0
    seq: int = 0
    by: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    counts: Counter[Place] = field(default_factory=Counter)
    laps: dict[int, Counter[Place]] = field(default_factory=dict)
    stood: dict[int, Counter[Place]] = field(default_factory=dict)  # laps, when the present one began
    occupied: Counter[str] = field(default_factory=Counter)
    returning: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    round: Optional[Round] = None
    jobs: dict[str, Job] = field(default_factory=dict)
    acts: dict[str, Act] = field(default_factory=dict)
    act_count: int = 0
    ledger_id: str = ""
    documents: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)  # rev, builds
    queue: dict[str, None] = field(default_factory=dict)
    well: dict[str, None] = field(default_factory=dict)
    ready: dict[str, None] = field(
        default_factory=dict
    )  # late and retried hosts that wait for a lap of theirs
    looked_t: float = -1.0  # when the last look of the soak, whose answers are all in, was sent
    seeing_all: bool = False  # the look that is out is one at the healthy hosts of all laps
    seeing_lap: int = -1  # in which it was begun
    all_seen: bool = False  # one such was heard since this lap was dispatched
    inquired_t: float = -1.0
    next_look: float = 0.0
    next_stray: float = 0.0
    inquiry: Optional[Inquiry] = None
    waived: set[tuple[str, int]] = field(default_factory=set)
    confirmed: dict[str, str] = field(default_factory=dict)
    released: bool = False
    unproven: set[str] = field(default_factory=set)  # strata without a healthy canary, of which was told
    trip: Optional[Trip] = None
    gate_failed: str = ""
    gate_reason: str = ""
    acknowledged: dict[tuple[str, str, int], int] = field(default_factory=dict)
    promoted: bool = False
    full: bool = False
    kept: dict[str, int] = field(default_factory=dict)  # hosts that are left at a level approved since
    untold: dict[str, None] = field(default_factory=dict)  # approved, then frozen or away, and so not told
    lower: dict[str, None] = field(default_factory=dict)  # why hosts go back to a lower level than they had
    aborted_by: dict[str, str] = field(default_factory=dict)
    late_t: Optional[float] = None  # when waiting for late hosts began
    back_wanted: Optional[BackWanted] = None  # a rollback that is to begin
    scope: str = ""  # of the rollback: wave or all
    cause: str = ""  # why it is rolled back
    back_who: str = ""  # who ordered that; empty: it has stopped itself
    recalled: set[str] = field(default_factory=set)  # hosts in the scope of the rollback
    stayed: set[str] = field(default_factory=set)  # in it too, but on a kernel that only a restart ends
    doubted: set[str] = field(default_factory=set)  # in it too, and may have left: heard first
    strays: dict[str, float] = field(default_factory=dict)  # not back from a restart: waited for until
    back_approved: bool = False
    block_wanted: bool = False
    blocking: bool = False
    blocked: bool = False
    withheld: set[tuple[int, str]] = field(default_factory=set)  # level and kernel build that it has blocked
    withholding: list[Any] = field(default_factory=list)  # the same, of the block that is under way
    seen_commands: set[str] = field(default_factory=set)
    trouble: str = ""
    troubles: int = 0
    retry_t: float = 0.0  # ledger and measures are not to be tried again before
    moved: dict[str, None] = field(default_factory=dict)  # hosts to which the last record gave another place
    trips: list[Trip] = field(default_factory=list)
    verdicts: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.standing in ENDED

    @property
    def forward(self) -> bool:
        """Whether hosts may be dispatched to the new level: the one question in front of every such act."""
        return self.standing is Standing.RUNNING and self.trip is None

    @property
    def back_by(self) -> dict[str, str]:
        """The author of what the rollback writes; without ``who`` whoever drives it."""
        return {"why": self.cause, **({"who": self.back_who} if self.back_who else {})}

    @property
    def recall_by(self) -> dict[str, str]:
        """The author of an approval for where hosts came from: who ordered the abort or the rollback."""
        return self.aborted_by if self.standing is Standing.ABORTING and self.aborted_by else self.back_by

    @property
    def in_late(self) -> bool:
        return self.lap >= len(self.plan.waves)

    @property
    def late_round(self) -> int:
        """How many late or retried hosts may go between two soaks."""
        return int(self.plan.arithmetic.get("late_round", 0)) or len(self.hosts)

    @property
    def wave_limit_index(self) -> int:
        return min(self.lap, len(self.plan.waves) - 1)

    @property
    def soak(self) -> float:
        return (
            self.plan.options.canary_soak
            if self.lap == CANARY and not self.in_late
            else self.plan.options.soak
        )

    def on_fail(self, lap: int) -> OnFail:
        canary = lap == CANARY and lap < len(self.plan.waves)
        return self.plan.options.on_fail_canary if canary else self.plan.options.on_fail

    @property
    def catches_up(self) -> bool:
        return self.plan.options.late is Late.CATCH_UP

    def gate(self, name: str) -> Gate:
        return next(one for one in self.plan.options.gates if one.name == name)

    def target(self, host: Host) -> Optional[Grant]:
        """Where it is to go; None where the plan has nothing for its kernel build."""
        return self._grants_of(host).get(host.build)

    def _grants_of(self, host: Host) -> Mapping[str, Grant]:
        return self.plan.arrivals.get(host.kernel, {}) if host.restarts else self.plan.grants

    def granted(self, host: Host) -> Mapping[str, Grant]:
        """What it is approved for. The entry of a kernel's release lets a host be started with that."""
        if host.restarts:
            return {host.kernel: Grant(0, None), **self._grants_of(host)}
        return {host.build: self.plan.grants[host.build]}

    def in_flight(self) -> int:
        """Hosts that may be changing at this moment."""
        places = (Place.MOVING, Place.RETURNED, Place.GATING, Place.ROLLING_BACK)
        return sum(self.counts[one] for one in places)

    def well_again(self) -> None:
        """The world has answered."""
        self.trouble, self.troubles, self.retry_t = "", 0, 0.0

    def stand(self, standing: Standing, reason: str) -> None:
        self.standing, self.reason, self.since = standing, reason, self.epoch

    def add_jobs(self, jobs: Iterable[Any], verb: Verb, purpose: str, gate: str = "") -> None:
        """jobs: jid, hosts and, for moves, the number of their document. All hosts of a job that stages or
        moves have the same method."""
        back = self.round is not None and self.round.back
        for jid, hosts, *more in jobs:
            restarts = verb in RESTARTING and not back and self.hosts[next(iter(hosts))].restarts
            own = RESTARTING[verb] if restarts else verb
            self.jobs[jid] = Job(jid, own, dict.fromkeys(hosts), purpose, gate, more[0] if more else -1)

    def put(self, name: str, place: Place, kind: str = "", text: str = "") -> None:
        """Move one host to another place, and every count with it."""
        host = self.hosts[name]
        self._count(host, -1)
        self._track(name, host, place)
        if place is not host.place:
            self.moved[name] = None
        host.place, host.kind, host.text = place, kind, text
        self._count(host, 1)

    def put_in_lap(self, name: str, place: Place) -> None:
        host = self.hosts[name]
        self._count(host, -1)
        host.lap, host.place, host.kind, host.text = self.lap, place, "", ""
        host.there, host.again, host.tries = False, False, 0
        host.until, host.returned, host.away = 0.0, False, None
        self._count(host, 1)
        self.queue.pop(name, None)

    def is_stray(self, name: str) -> bool:
        """Whether it was told to start another kernel, was given up, and is still waited for."""
        return self.hosts[name].place is Place.LOST and self.t < self.strays.get(name, 0.0)

    def retriable(self) -> list[str]:
        """Skipped ones only where a freeze did that, which may be over."""
        places = RETRIABLE | {Place.SKIPPED}
        left = ((name, self.hosts[name]) for name in self.at(places) if not self.is_stray(name))
        return [name for name, host in left if host.place in RETRIABLE or host.kind == Kind.FROZEN]

    def at(self, places: Iterable[Place]) -> list[str]:
        """All hosts in these places, in the plan's order; asks every host, so only for what is rare."""
        wanted = frozenset(places)
        return [name for name, host in self.hosts.items() if host.place in wanted]

    def _count(self, host: Host, step: int) -> None:
        self.counts[host.place] += step
        if host.lap >= 0:
            self.laps.setdefault(host.lap, Counter())[host.place] += step
        if host.place in OCCUPYING:
            self.occupied[host.placing.domain] += step
        if host.place is Place.ROLLING_BACK:
            self.returning[host.placing.domain] += step

    def _track(self, name: str, host: Host, place: Place) -> None:
        """Keep ``well`` and the round's number of open hosts."""
        if place is Place.HEALTHY and host.lap == self.lap:
            self.well[name] = None
        elif host.place is Place.HEALTHY:
            self.well.pop(name, None)
        if self.round is not None and name in self.round.members:
            moving = BACKWARD if self.round.back else FORWARD
            self.round.open += (place in moving) - (host.place in moving)


def begin(rollout: str, plan: Plan) -> State:
    """A rollout of which nothing is journaled yet."""
    hosts = {one.minion: _host(one) for one in plan.hosts}
    state = State(rollout, plan, hosts)
    state.counts.update(host.place for host in hosts.values())
    return state


def _host(placing: Placing) -> Host:
    place = Place.INELIGIBLE
    if placing.wave is not None:
        place = Place.PENDING
    elif placing.group in LATECOMERS:
        place = Place.ABSENT
    return Host(
        placing,
        place,
        placing.before,
        placing.build_id if placing.wave is not None else "",  # it may come back with another kernel
        text="" if placing.wave is not None else placing.reason,
    )
