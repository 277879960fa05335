"""What a rollout is: options, hosts, plan. Values only; everything here is frozen into the plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from livepatch_core.words import Word

SCHEMA = 1
CANARY = 0  # the wave of the canaries; the others count from 1


class Group(Word):
    """Where a targeted host stands in the plan: each is in exactly one group, with the reason."""

    ELIGIBLE = "eligible"
    ALREADY = "already there"
    UNCOVERED = "uncovered"
    UNSUPPORTED = "unsupported"
    BLOCKED = "blocked"
    QUARANTINED = "quarantined"
    FROZEN = "frozen"
    OFFLINE = "offline"  # known, but it does not answer now: catches up late
    UNKNOWN = "unknown"  # accepted, but nothing is known of it
    DEFERRED = "deferred"  # its window never opens while the rollout may run
    ELSEWHERE = "in another rollout"
    BUSY = "in transition"  # a transition is running or stalled there now: it would refuse another
    OWES_REBOOT = "reboot owed"  # a patch was forced: no more live patches until it has booted
    SKEWED = "version skew"  # its extension's version is not the master's, and was not accepted by name


class OnFail(Word):
    """What a tripped threshold does after it has stopped all dispatch."""

    PAUSE = "pause"
    ROLLBACK_WAVE = "rollback_wave"
    ROLLBACK_ALL = "rollback_all"


class OnNoData(Word):
    """What a gate does that got no answer, or none that can be judged."""

    PAUSE = "pause"
    FAIL = "fail"
    PASS = "pass"


class Method(Word):
    """How a host comes to what it is to be."""

    LIVEPATCH = "livepatch"  # it goes to a level, on the kernel that it runs
    KEXEC = "kexec"  # another kernel is started from the running one, and goes to its own level
    REBOOT = "reboot"  # the same through the firmware


class WithoutLevel(Word):
    """What is said of a kernel for which the catalog has no level."""

    REFUSE = "refuse"  # no host is started with it
    ACCEPT = "accept"  # that it runs is enough: level 0


class Late(Word):
    """What becomes of hosts that were not there at their turn."""

    CATCH_UP = "catch_up"
    REPORT = "report"


class GateType(Word):
    FUNCTION = "function"  # an execution function on the hosts, with a predicate on its result
    HEALTH = "health"  # livepatch.health
    ANSWERS = "answers"  # answers, and has the boot id that it had
    PROMETHEUS = "prometheus"
    HTTP = "http"
    CONFIRM = "confirm"  # a person, with the verb confirm


class When(Word):
    """host: of each host after its move, before it counts as healthy. soak: all through the soak of a wave.
    wave: once, after the soak, before the next wave."""

    HOST = "host"
    SOAK = "soak"
    WAVE = "wave"


Amount = Union[int, str]  # a count, or a percentage such as "20%"


@dataclass(frozen=True)
class Gate:
    """arguments: what its type needs (function: function, args; http: url ...). predicate: e.g.
    ``{"path": "a.b", "op": "<=", "value": 3}``. needed of attempts: k of n. twin: compare with hosts of the
    same stratum that have no patch yet, where there are any. dry_run: recorded, decides nothing.
    """

    name: str
    type: GateType
    when: When
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    predicate: Mapping[str, Any] = field(default_factory=dict, hash=False)
    on_no_data: OnNoData = OnNoData.PAUSE
    dry_run: bool = False
    needed: int = 1
    attempts: int = 1
    twin: bool = False


@dataclass(frozen=True)
class Limit:
    """How many may fail before the rollout stops: it trips when the number *exceeds* this."""

    wave: Amount
    total: Amount


@dataclass(frozen=True)
class Thresholds:
    failed: Limit
    stalled: Limit
    unreachable: Limit
    lost: Limit  # lost after patch


@dataclass(frozen=True)
class Window:
    """Dispatch begins only inside. days: 0 Monday .. 6 Sunday. start and end: HH:MM on the wall clock of zone
    (end before start: over midnight). A wave begun inside may finish outside."""

    zone: str
    days: tuple[int, ...]
    start: str
    end: str


@dataclass(frozen=True)
class Blackout:
    """No dispatch from start to end (ISO 8601 with offset, or a wall-clock time of zone)."""

    zone: str
    start: str
    end: str


@dataclass(frozen=True)
class Exposure:
    """What the operator accepts: a fault shows within ``detection`` seconds after it reached a host, and by
    then at most ``hosts`` hosts may have been patched. Waves and soaks are derived from it."""

    detection: float
    hosts: int


@dataclass(frozen=True)
class Options:
    """What the operator asked for, with the profile's defaults filled in. Seconds everywhere.

    level: an integer from 0, or the word newest was resolved before. canaries: explicit ids, or empty for one
    per stratum. waves: cumulative amounts of the eligible hosts, canaries included; the last is 100%.
    canary_soak, soak: after the canaries, after each other wave. max_per_domain: of any domain in flight,
    failed hosts included. parallel: how many hosts in flight in all; 0 is no limit. move_deadline: from
    dispatch until a host that has not answered is asked itself. late_for: how long late hosts may catch up.
    statuses: level states that canaries and fleet may be given (testing: canaries only).

    method: of all hosts; fallback: with livepatch, of those that cannot be patched live, None for none. For
    hosts that are started with another kernel: kernel, a release or ``newest``; without_level; drain and
    undrain, ``{"fun", "args", "kwargs"}`` or None; drain_deadline, from dispatch until a host must have left
    (and from its return until it is undrained); restart_deadline, from leaving until it answers again.
    """

    level: int
    profile: str
    seed: int
    canaries: tuple[str, ...]
    canaries_per_stratum: int
    waves: tuple[Amount, ...]
    canary_soak: float
    soak: float
    look_every: float
    max_per_domain: Amount
    domain_grain: str
    role_grain: str
    parallel: int
    stage_deadline: float
    stage_spread: float
    move_deadline: float
    thresholds: Thresholds
    on_fail: OnFail
    on_fail_canary: OnFail
    block_on_rollback: bool
    gates: tuple[Gate, ...]
    windows: tuple[Window, ...]
    blackouts: tuple[Blackout, ...]
    late: Late
    late_for: float
    accept_versions: tuple[str, ...]
    allow_testing: bool
    fallback: Optional[Method] = None
    method: Method = Method.LIVEPATCH
    kernel: str = "newest"
    without_level: WithoutLevel = WithoutLevel.REFUSE
    drain: Optional[Mapping[str, Any]] = field(default=None, hash=False)
    undrain: Optional[Mapping[str, Any]] = field(default=None, hash=False)
    drain_deadline: float = 1800.0
    restart_deadline: float = 900.0
    exposure: Optional[Exposure] = None

    @property
    def bare(self) -> bool:
        """Whether a kernel that was asked for and runs is enough where the catalog has no level for it."""
        return self.level == 0 or self.without_level is WithoutLevel.ACCEPT

    @property
    def restarts(self) -> bool:
        """Whether hosts may be started with another kernel."""
        return self.method is not Method.LIVEPATCH or self.fallback is not None


@dataclass(frozen=True)
class HostFacts:
    """What the master knows of one host when it plans; None: not known.

    seen: whether there is any data of it. online: it answered the question of the plan. flags: as
    livepatch.brief says. version: of its extension. frozen, rollout: the ledger's freeze sentence, and the id
    of the active rollout that holds it; empty for neither. kernel: the release of the installed kernel that
    the option ``kernel`` means there; asked only where some host may be started with one. approved: the level
    that the ledger has for its kernel build.
    """

    minion: str
    seen: bool
    online: bool
    release: Optional[str] = None
    build_id: Optional[str] = None
    verdict: Optional[str] = None
    level: Optional[int] = None
    flags: tuple[str, ...] = ()
    quarantined: tuple[int, ...] = ()
    domain: str = ""
    role: str = ""
    version: Optional[str] = None
    frozen: str = ""
    rollout: str = ""
    kernel: Optional[str] = None
    approved: Optional[int] = None


@dataclass(frozen=True)
class Placing:
    """One targeted host in the plan. wave is None unless it is eligible. before: the level to go back to.
    kernel: the release it is to be started with; empty for hosts that are not, or were away (the option
    ``kernel`` is asked for at their turn). level: the one that it had, where that was known."""

    minion: str
    group: Group
    reason: str
    wave: Optional[int] = None
    build_id: str = ""
    domain: str = ""
    stratum: str = ""
    before: int = 0
    version: str = ""
    method: Method = Method.LIVEPATCH
    kernel: str = ""
    level: Optional[int] = None


@dataclass(frozen=True)
class Grant:
    """The level one kernel build may have; sha256 is None exactly for level 0 (as in the ledger)."""

    level: int
    sha256: Optional[str]


def way_back(levels: Iterable[int], level: int) -> int:
    """Where a rollback brings a host that is at ``level``: there if that may be approved again, which is what
    ``levels`` says of its kernel build, or to the next lower one, at last 0."""
    return max((one for one in levels if one <= level), default=0)


@dataclass(frozen=True)
class Plan:
    """Frozen, hashed, readable. hosts: in the order of dispatch within each wave, then the rest by name.

    grants: by kernel build, what its hosts will be approved for. back: by kernel build and level, what a
    rollback approves. limits: each threshold as integers, by wave, as it will be applied. domain_limits: by
    domain. uncovered_strata: strata that no canary covers. testing: kernel builds whose level was in testing
    when the plan was made: no wave but the canaries' begins while one of them still is. at: when it was made
    (ISO 8601, UTC). arrivals: by release and kernel build, what hosts that are started with that kernel are
    approved for. rev: the ledger's newest when it was made; None in plans of versions that did not keep it.
    """

    schema: int
    options: Options
    target: str
    at: str
    hosts: tuple[Placing, ...]
    waves: tuple[tuple[str, ...], ...]
    grants: Mapping[str, Grant] = field(hash=False)
    back: Mapping[str, Mapping[int, Grant]] = field(hash=False)
    limits: Mapping[str, Any] = field(hash=False)
    domain_limits: Mapping[str, int] = field(hash=False)
    uncovered_strata: tuple[str, ...]
    arithmetic: Mapping[str, Any] = field(hash=False)
    notes: tuple[str, ...] = ()
    testing: tuple[str, ...] = ()
    arrivals: Mapping[str, Mapping[str, Grant]] = field(default_factory=dict, hash=False)
    rev: Optional[int] = None
