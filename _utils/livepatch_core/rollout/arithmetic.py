"""The numbers of a plan: limits, sizes of waves, times, exposure. Pure.

A percentage is rounded down, always: a wave or a limit is never larger than was asked for. What a limit
*exceeds* is an integer that stands in the plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from sys import maxsize
from typing import Any, NamedTuple, Optional

from livepatch_core.errors import LivepatchError
from livepatch_core.rollout.model import CANARY, Amount, Exposure, Late, Method, Options
from livepatch_core.rollout.windows import open_at
from livepatch_core.words import Kind

COUNTERS = ("failed", "stalled", "unreachable", "lost")

# Seconds from dispatch to patched. The kernel retries a transition every second and signals stragglers after
# 15 s (kernel/livepatch/transition.c, SIGNALS_TIMEOUT), for which a virtual machine's threads usually wait.
TYPICAL_MOVE = 20.0
# By kexec or reboot, at the least: services stop and start; a drain and a server's firmware come on top.
TYPICAL_RESTART = 120.0

# What a plan prints its exposure for: 5 and 15 minutes, 1 hour, 90 minutes (how long Canonical's incident of
# 2021-03-24 took to be noticed), 1 day.
DETECTIONS = (300, 900, 3600, 5400, 86_400)

MAX_WAVES = 200  # a plan that needs more is refused: somebody has to be able to follow it


class Exposed(NamedTuple):
    """hosts: how many. first, last: the waves they are in; a last past the plan's waves is a late round."""

    hosts: int
    first: int
    last: int


@dataclass(frozen=True)
class Passage:
    """One wave in time. rounds: how often it dispatches at least. starts, moved, soaked: at the earliest;
    None where no window opens."""

    hosts: int
    rounds: int
    starts: Optional[datetime]
    moved: Optional[datetime]
    soaked: Optional[datetime]


def share(amount: Amount, size: int) -> int:
    """What an amount is of ``size`` hosts: a percentage rounded down, a count as it is."""
    return amount if isinstance(amount, int) else int(amount[:-1]) * size // 100


def limits_for(options: Options, sizes: Sequence[int]) -> dict[str, Any]:
    """``{"failed": {"wave": [n, ...], "total": n}, ...}``: tripped when the number *exceeds* it.

    sizes: of the waves, the canaries first. Percentages are of the planned size of the wave, and of the plan.
    """
    total = sum(sizes)
    limits = {name: getattr(options.thresholds, name) for name in COUNTERS}
    return {
        name: {"wave": [share(one.wave, size) for size in sizes], "total": share(one.total, total)}
        for name, one in limits.items()
    }


def domain_limits(options: Options, sizes: Mapping[str, int]) -> dict[str, int]:
    """How many hosts of each domain may be in flight or have failed; at least 1, or nothing could move."""
    return {name: max(1, share(options.max_per_domain, size)) for name, size in sorted(sizes.items())}


def wave_sizes(waves: Sequence[Amount], eligible: int, canaries: int) -> tuple[int, ...]:
    """How many hosts each wave adds, canaries first; waves that would add none are left out."""
    sizes, reached = [canaries], canaries
    for amount in waves:
        target = min(share(amount, eligible), eligible)
        if target > reached:
            sizes.append(target - reached)
            reached = target
    return tuple(sizes) if eligible else ()


def soak_after(options: Options, wave: int) -> float:
    return options.canary_soak if wave == CANARY else options.soak


def typical_move(options: Options) -> float:
    """Seconds that a move takes at the least."""
    return TYPICAL_MOVE if options.method is Method.LIVEPATCH else TYPICAL_RESTART


def rounds_of(domains: Mapping[str, int], limits: Mapping[str, int], parallel: int) -> int:
    """How many rounds a wave takes at least. domains: how many of its hosts are in each."""
    by_domain = max((-(-count // limits[name]) for name, count in domains.items()), default=0)
    return max(by_domain, -(-sum(domains.values()) // parallel) if parallel else 0)


def passages(
    options: Options, waves: Sequence[Mapping[str, int]], limits: Mapping[str, int], now: datetime
) -> tuple[Passage, ...]:
    """When each wave comes at the earliest. waves: for each, how many hosts of each domain. A wave begins in
    a window and ends when it ends; each of its rounds takes the spread of its staging and a typical move."""
    found: list[Passage] = []
    at: Optional[datetime] = now
    for number, domains in enumerate(waves):
        rounds = rounds_of(domains, limits, options.parallel)
        starts = open_at(options.windows, options.blackouts, at).next_open if at is not None else None
        moved = later(starts, rounds * (options.stage_spread + typical_move(options)))
        at = later(moved, soak_after(options, number))
        found.append(Passage(sum(domains.values()), rounds, starts, moved, at))
    return tuple(found)


def reached_by(waves: Sequence[Passage], hosts: int, options: Options) -> Optional[datetime]:
    """When ``hosts`` hosts are patched at the earliest; None where they never are."""
    before = 0
    for wave in waves:
        if before + wave.hosts >= hosts:
            rounds = -(-(hosts - before) * wave.rounds // wave.hosts) if wave.hosts else 0
            return later(wave.starts, rounds * (options.stage_spread + typical_move(options)))
        before += wave.hosts
    return None


def later(moment: Optional[datetime], seconds: float) -> Optional[datetime]:
    return None if moment is None else moment + timedelta(seconds=seconds)


def late_round(sizes: Sequence[int]) -> int:
    """How many late hosts may move between two soaks: as many as in the first wave after the canaries, which
    in a plan whose waves grow exposes no more than the waves did."""
    return max(1, sizes[1] if len(sizes) > 1 else sum(sizes))


def exposure(options: Options, sizes: Sequence[int], away: int, detection: float) -> Exposed:
    """The most hosts that are patched in any ``detection`` seconds: those that a fault reaches which needs so
    long to show and then stops the rollout.

    sizes: of the waves. away: hosts that may come late. An upper bound: moves are taken to need no time,
    windows to be always open, late rounds to follow each other as fast as they may. It holds as long as
    nobody cuts a soak short (promote).
    """
    total = sum(sizes) + away
    late = late_round(sizes) if options.late is Late.CATCH_UP and total else 0
    firsts = range(len(sizes) + bool(late))  # the last is the first of the late rounds
    found = [_exposed_from(first, options, sizes, late, detection) for first in firsts]
    most = max(found, key=lambda one: (min(one.hosts, total), -one.first), default=Exposed(0, 0, 0))
    return most._replace(hosts=min(most.hosts, total))


def _exposed_from(first: int, options: Options, sizes: Sequence[int], late: int, detection: float) -> Exposed:
    """What is patched within ``detection`` seconds from the start of wave ``first``; more than all hosts
    where late rounds would go on. late: hosts of one late round, 0 where there is none."""
    gap, hosts = 0.0, 0
    for number in range(first, len(sizes)):
        if number > first and gap >= detection:
            return Exposed(hosts, first, number - 1)
        hosts += sizes[number]
        gap += soak_after(options, number)
    if not late or (first < len(sizes) and gap >= detection):
        return Exposed(hosts, first, len(sizes) - 1)
    # Late rounds begin at gap, gap + soak, ... Without a soak nothing is between them.
    rounds = ceil((detection - gap) / options.soak) if options.soak else maxsize
    return Exposed(hosts + late * max(rounds, 1), first, len(sizes))


def derive(options: Options, eligible: int, canaries: int, away: int, accepted: Exposure) -> Options:
    """The same options with waves and soaks under which the exposure is what is accepted: soaks at least as
    long as a fault needs to show, so that no two waves come within that time, and no wave larger than is
    accepted.

    Options that keep to it already stay as they are, and so do waves that are small enough. Raises
    LivepatchError (argument) with the arithmetic where there is no such plan.
    """
    sizes = wave_sizes(options.waves, eligible, canaries)
    if exposure(options, sizes, away, accepted.detection).hosts <= accepted.hosts:
        return options
    if canaries > accepted.hosts:
        raise _impossible(
            f"The canaries alone are {canaries} hosts that are patched together, and at most "
            f"{accepted.hosts} may be exposed",
            "Accept more hosts, or name fewer canaries.",
        )
    soaked = replace(
        options,
        canary_soak=max(options.canary_soak, accepted.detection),
        soak=max(options.soak, accepted.detection),
    )
    pieces = [piece for size in sizes[1:] for piece in _split(size, accepted.hosts)]
    if len(pieces) > MAX_WAVES:
        days = (soaked.canary_soak + len(pieces) * soaked.soak) / 86_400
        raise _impossible(
            f"{eligible - canaries} hosts after the canaries, at most {accepted.hosts} at a time and "
            f"{soaked.soak:g} s between, are {len(pieces)} waves and {days:.1f} days; at most {MAX_WAVES} "
            "waves are planned",
            f"Accept at least {-(-(eligible - canaries) // MAX_WAVES)} hosts, or roll out to fewer.",
        )
    reached, waves = canaries, []
    for piece in pieces[:-1]:
        reached += piece
        waves.append(reached)
    return replace(soaked, waves=(*waves, "100%"))


def _split(size: int, most: int) -> list[int]:
    """``size`` in as few parts of at most ``most`` as possible, none more than one larger than another."""
    parts = -(-size // most)
    return [size // parts + (number < size % parts) for number in range(parts)]


def _impossible(arithmetic: str, remedy: str) -> LivepatchError:
    return LivepatchError(
        Kind.ARGUMENT, f"{arithmetic}; there is no plan, nothing was changed.", remedy=remedy
    )
