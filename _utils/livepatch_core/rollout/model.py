"""What a rollout is: options, hosts, plan. Values only; everything here is frozen into the plan."""

from __future__ import annotations

from collections.abc import Mapping
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
    fallback: str = "none"  # none | kexec | reboot: for hosts that cannot be patched live
    method: str = "livepatch"  # livepatch | kexec | reboot
    exposure: Optional[Exposure] = None


@dataclass(frozen=True)
class HostFacts:
    """What the master knows of one host when it plans; None: not known.

    seen: whether there is any data of it. online: it answered the question of the plan. flags: as
    livepatch.brief says. version: of its extension. frozen, rollout: the ledger's freeze sentence, and the id
    of the active rollout that holds it; empty for neither.
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


@dataclass(frozen=True)
class Placing:
    """One targeted host in the plan. wave is None unless it is eligible. before: the level to go back to."""

    minion: str
    group: Group
    reason: str
    wave: Optional[int] = None
    build_id: str = ""
    domain: str = ""
    stratum: str = ""
    before: int = 0
    version: str = ""


@dataclass(frozen=True)
class Grant:
    """The level one kernel build may have; sha256 is None exactly for level 0 (as in the ledger)."""

    level: int
    sha256: Optional[str]


@dataclass(frozen=True)
class Plan:
    """Frozen, hashed, readable. hosts: in the order of dispatch within each wave, then the rest by name.

    grants: by kernel build, what its hosts will be approved for. back: by kernel build and level, what a
    rollback approves. limits: each threshold as integers, by wave, as it will be applied. domain_limits: by
    domain. uncovered_strata: strata that no canary covers. testing: kernel builds whose level was in testing
    when the plan was made: no wave but the canaries' begins while one of them still is. at: when it was made
    (ISO 8601, UTC).
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
