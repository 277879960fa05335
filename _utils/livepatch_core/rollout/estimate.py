"""The arithmetic that a plan prints: when, and how many hosts a fault would reach. Pure; plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Optional

from livepatch_core.rollout.arithmetic import (
    DETECTIONS,
    Passage,
    exposure,
    late_round,
    passages,
    reached_by,
    typical_move,
)
from livepatch_core.rollout.model import Options, Placing


def estimate(
    options: Options, waves: Sequence[Sequence[Placing]], limits: Mapping[str, int], away: int, now: datetime
) -> dict[str, Any]:
    """Plain data, times in ISO 8601 and UTC or None, durations in seconds:

    move_seconds: what a move is taken to need. waves: one mapping for each with wave, hosts, cumulative,
    rounds and the earliest starts, moved, soaked. half, all: when half and all of the eligible hosts are
    patched at the earliest. ends: when the last soak is over. away: hosts that may come late. late_round: how
    many of them may move between two soaks. exposures: for each detection time, how many hosts at most, and
    in which waves.
    """
    sizes = [len(wave) for wave in waves]
    times = passages(options, [Counter(host.domain for host in wave) for wave in waves], limits, now)
    eligible = sum(sizes)
    accepted = {options.exposure.detection} if options.exposure is not None else set()
    return {
        "move_seconds": typical_move(options),
        "eligible": eligible,
        "waves": [_wave(number, times) for number in range(len(times))],
        "half": _iso(reached_by(times, -(-eligible // 2), options)),
        "all": _iso(reached_by(times, eligible, options)),
        "ends": _iso(times[-1].soaked) if times else None,
        "away": away,
        "late_round": late_round(sizes),
        "exposures": [
            _exposure(options, sizes, away, one) for one in sorted({*map(float, DETECTIONS), *accepted})
        ],
    }


def _wave(number: int, times: Sequence[Passage]) -> dict[str, Any]:
    one = times[number]
    return {
        "wave": number,
        "hosts": one.hosts,
        "cumulative": sum(before.hosts for before in times[: number + 1]),
        "rounds": one.rounds,
        "starts": _iso(one.starts),
        "moved": _iso(one.moved),
        "soaked": _iso(one.soaked),
    }


def _exposure(options: Options, sizes: Sequence[int], away: int, detection: float) -> dict[str, Any]:
    found = exposure(options, sizes, away, detection)
    return {"detection": detection, "hosts": found.hosts, "waves": [found.first, found.last]}


def _iso(moment: Optional[datetime]) -> Optional[str]:
    return None if moment is None else moment.isoformat(timespec="seconds")
