"""From what the master knows to a frozen plan: who moves, in which waves, under which limits. Pure.

The same inputs, the time among them, give the same plan to the byte; the order in which hosts are given does
not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Optional

from livepatch_core.errors import LivepatchError
from livepatch_core.rollout import arithmetic, estimate
from livepatch_core.rollout.canaries import check_named, choose, in_order, stratum_of
from livepatch_core.rollout.groups import Question, place
from livepatch_core.rollout.model import (
    SCHEMA,
    Grant,
    Group,
    HostFacts,
    Method,
    Options,
    Placing,
    Plan,
    way_back,
)
from livepatch_core.rollout.remarks import remarks
from livepatch_core.rollout.windows import HORIZON, open_at
from livepatch_core.words import Kind

LATECOMERS = frozenset({Group.OFFLINE, Group.UNKNOWN})  # they are given their level when they answer
MAY_MOVE = LATECOMERS | {Group.ELIGIBLE}

Back = Mapping[str, Mapping[int, Grant]]
NO_ARRIVALS: Mapping[str, Mapping[str, Grant]] = {}


def make_plan(
    target: str,
    hosts: Sequence[HostFacts],
    options: Options,
    grants: Mapping[str, Grant],
    back: Back,
    *,
    now: datetime,
    version: str,
    blocked: Mapping[str, str],
    testing: Collection[str] = (),
    arrivals: Mapping[str, Mapping[str, Grant]] = NO_ARRIVALS,
    rev: Optional[int] = None,
) -> Plan:
    """The plan for ``hosts``, each of which has its place in it.

    target: the words of the operator, for people. grants: by kernel build, the level it is to have. back: by
    kernel build, what a rollback may approve; level 0 is added. now: aware. version: of the master's own
    extension. blocked: kernel builds whose level is blocked, and why. testing: those whose level is in
    testing; the plan remembers them, and no wave but the canaries' begins while one still is. arrivals: by
    release and kernel build, what hosts that are started with that kernel are approved for. rev: the ledger's
    newest.

    Raises LivepatchError (argument): canaries that are not there or cannot be moved, an exposure that no plan
    keeps to, a host given twice. Raises ValueError for a time without offset.
    """
    _check_once(hosts)
    if now.tzinfo is None:
        raise ValueError("the time of a plan has to be aware of its offset")
    moment = now.astimezone(timezone.utc).replace(microsecond=0)
    leaving = [one.build_id for one in hosts if one.build_id] if options.restarts else []
    back = with_zero(back, (*grants, *leaving))
    closed = _closed(options, moment)
    question = Question(options, grants, blocked, frozenset(testing), version, closed, arrivals)
    placed = [_placing(host, question, back) for host in sorted(hosts, key=lambda one: one.minion)]
    resting = {one.minion for one in hosts if one.level == question.wanted(one.build_id or "")}
    ordered = _in_turn(placed, resting, options.seed)
    check_named(options, placed, ordered)
    first = choose(ordered, options)
    away = sum(one.group in LATECOMERS for one in placed)
    if options.exposure is not None:
        options = arithmetic.derive(options, len(ordered), len(first), away, options.exposure)
    waves = _waves(ordered, first, options)
    meant = _meant(grants, testing, ordered if options.allow_testing else ())
    limits = arithmetic.domain_limits(options, Counter(one.domain for one in placed if one.group in MAY_MOVE))
    moving = [host for wave in waves for host in wave]
    plan = Plan(
        schema=SCHEMA,
        options=options,
        target=target,
        at=moment.isoformat(),
        hosts=(*moving, *(one for one in placed if one.group is not Group.ELIGIBLE)),
        waves=tuple(tuple(host.minion for host in wave) for wave in waves),
        grants=meant,
        back=back,
        limits=arithmetic.limits_for(options, [len(wave) for wave in waves]),
        domain_limits=limits,
        uncovered_strata=_uncovered(placed, first),
        arithmetic=estimate.estimate(options, waves, limits, away, moment),
        testing=tuple(sorted(set(testing) & set(meant))),
        arrivals={release: dict(builds) for release, builds in sorted(arrivals.items())},
        rev=rev,
    )
    return replace(plan, notes=remarks(plan, {one.minion: one for one in hosts}, version))


def _in_turn(placed: Iterable[Placing], resting: Collection[str], seed: int) -> list[Placing]:
    """The eligible ones. resting: who is at its level already; those that are approved, and not told to move,
    come last, as a canary is to have something to show."""
    ordered = in_order((one for one in placed if one.group is Group.ELIGIBLE), seed)
    return sorted(ordered, key=lambda one: one.method is Method.LIVEPATCH and one.minion in resting)


def _meant(
    grants: Mapping[str, Grant], testing: Collection[str], allowed: Iterable[Placing]
) -> dict[str, Grant]:
    """Without what is in testing, but for kernel builds that it was ``allowed`` for: no host of another has a
    turn, and one that comes late is not to have it either."""
    builds = {one.build_id for one in allowed}
    return {build: grant for build, grant in grants.items() if build not in testing or build in builds}


def with_zero(back: Back, others: Iterable[str]) -> Back:
    """Every kernel build can go back to 0, catalog or not."""
    builds = sorted({*back, *others})
    return {build: {0: Grant(0, None), **back.get(build, {})} for build in builds}


def _check_once(hosts: Sequence[HostFacts]) -> None:
    twice = [name for name, count in Counter(one.minion for one in hosts).items() if count > 1]
    if twice:
        raise LivepatchError(
            Kind.ARGUMENT,
            f"{', '.join(sorted(twice))} is given more than once; there is no plan, nothing was changed.",
            remedy="Name each host once.",
        )


def _closed(options: Options, now: datetime) -> str:
    """Why no window opens at all; empty where one does."""
    opening = open_at(options.windows, options.blackouts, now)
    if opening.next_open is not None:
        return ""
    return f"no window opens within {HORIZON.days} days: now it is {opening.reason}"


def _placing(host: HostFacts, question: Question, back: Back) -> Placing:
    group, reason, method = place(host, question)
    before = way_back(back.get(host.build_id or "", {}), host.level or 0)
    if group is Group.ELIGIBLE and before != host.level and method is Method.LIVEPATCH:
        reason += f"; back would be to {before}, as level {host.level} cannot be approved again"
    return Placing(
        minion=host.minion,
        group=group,
        reason=reason,
        build_id=host.build_id or "",
        domain=host.domain,
        stratum=stratum_of(host.build_id or "", host.role, method),
        before=before,
        version=host.version or "",
        method=method,
        kernel=(host.kernel or "") if method is not Method.LIVEPATCH else "",
        level=host.level if group is Group.ELIGIBLE else None,
    )


def _waves(ordered: Sequence[Placing], first: Sequence[Placing], options: Options) -> list[list[Placing]]:
    """Canaries, then the others in order, each with the number of its wave; no wave is empty."""
    chosen = {one.minion for one in first}
    queue = [*first, *(one for one in ordered if one.minion not in chosen)]
    waves, begin = [], 0
    for number, size in enumerate(arithmetic.wave_sizes(options.waves, len(ordered), len(first))):
        waves.append([replace(one, wave=number) for one in queue[begin : begin + size]])
        begin += size
    return waves


def _uncovered(placed: Iterable[Placing], first: Sequence[Placing]) -> tuple[str, ...]:
    """Strata of hosts that may move, now or late, and that no canary stands for."""
    may = {one.stratum for one in placed if one.group in MAY_MOVE and one.build_id}
    return tuple(sorted(may - {one.stratum for one in first}))
