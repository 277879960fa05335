from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from livepatch_core.errors import LivepatchError
from livepatch_core.rollout.arithmetic import (
    MAX_WAVES,
    TYPICAL_MOVE,
    derive,
    domain_limits,
    exposure,
    late_round,
    limits_for,
    passages,
    reached_by,
    rounds_of,
    share,
    soak_after,
    wave_sizes,
)
from livepatch_core.rollout.model import Exposure, Options
from livepatch_core.rollout.options import parse_options
from livepatch_core.words import Kind
from tests.unit.rollout.fleets import NOW, some_options, some_waves

SECONDS = st.integers(1, 100_000).map(float)


def options(**given_options: Any) -> Options:
    return parse_options(given_options, level=2)


def test_percentages_are_rounded_down() -> None:
    assert [share("20%", size) for size in (0, 4, 5, 9, 10)] == [0, 0, 1, 1, 2]
    assert share(3, 1) == 3


def test_limits_are_integers_of_the_planned_sizes() -> None:
    limits = limits_for(
        options(thresholds={"failed": {"wave": "10%", "total": "5%"}, "lost": 1}), [2, 10, 39]
    )
    assert limits["failed"] == {"wave": [0, 1, 3], "total": 2}
    assert limits["lost"] == {"wave": [1, 1, 1], "total": 1}
    assert set(limits) == {"failed", "stalled", "unreachable", "lost"}


def test_a_domain_always_lets_one_move() -> None:
    assert domain_limits(options(max_per_domain="20%"), {"b": 3, "a": 14}) == {"a": 2, "b": 1}
    assert domain_limits(options(max_per_domain=5), {"a": 14}) == {"a": 5}


def test_waves_are_cumulative_and_none_is_empty() -> None:
    assert wave_sizes(["10%", "20%", "100%"], 100, 4) == (4, 6, 10, 80)
    assert wave_sizes(["10%", "20%", "100%"], 10, 2) == (2, 8)
    assert wave_sizes([1, 5, "50%", "100%"], 8, 1) == (1, 4, 3)
    assert wave_sizes([50, "100%"], 8, 8) == (8,)
    assert wave_sizes(["100%"], 0, 0) == ()


def test_rounds_are_what_the_fullest_domain_needs() -> None:
    assert rounds_of({"a": 5, "b": 2}, {"a": 2, "b": 1}, 0) == 3
    assert rounds_of({"a": 5, "b": 2}, {"a": 9, "b": 9}, 2) == 4


def test_times_are_soaks_and_rounds_and_windows() -> None:
    given_options = options(canary_soak="1h", soak="15m", stage_spread=10, parallel=2)
    first, second = passages(given_options, [{"a": 1}, {"a": 3}], {"a": 9}, NOW)
    round_time = timedelta(seconds=10 + TYPICAL_MOVE)
    assert (first.starts, first.moved) == (NOW, NOW + round_time)
    assert second.starts == NOW + round_time + timedelta(hours=1)
    assert (second.rounds, second.moved) == (2, second.starts + 2 * round_time)
    assert second.soaked == second.moved + timedelta(minutes=15)
    assert reached_by([first, second], 1, given_options) == first.moved
    assert reached_by([first, second], 2, given_options) == second.starts + round_time
    assert reached_by([first, second], 4, given_options) == second.moved
    assert reached_by([first, second], 5, given_options) is None


def test_a_wave_begins_in_a_window_and_may_end_outside() -> None:
    night = {"zone": "UTC", "start": "12:00", "end": "12:01"}
    first, second = passages(options(windows=[night], soak="1h"), [{"a": 1}, {"a": 1}], {"a": 1}, NOW)
    assert first.starts == NOW
    assert second.starts == NOW + timedelta(days=1)


def test_nothing_follows_a_wave_whose_window_never_opens() -> None:
    ages = {"start": "2026-11-24T12:30Z", "end": "2030-01-01T00:00Z"}
    first, second, third = passages(options(blackouts=[ages]), [{"a": 1}] * 3, {"a": 1}, NOW)
    assert first.soaked is not None
    assert (second.starts, second.soaked, third.starts) == (None, None, None)
    assert reached_by([first, second], 2, options()) is None


def test_exposure_of_canonical_s_incident() -> None:
    """A fault noticed after 90 minutes, when waves are 15 minutes apart: the whole fleet."""
    quick = options(waves=["10%", "20%", "40%", "60%", "100%"], canary_soak="15m", soak="15m", late="report")
    sizes = wave_sizes(quick.waves, 100, 1)
    assert exposure(quick, sizes, 0, 5400) == (100, 0, 5)
    assert exposure(quick, sizes, 0, 900) == (40, 5, 5)
    assert exposure(quick, sizes, 0, 901) == (60, 4, 5)


def test_late_hosts_are_exposed_too() -> None:
    catching_up = options(waves=[10, "100%"], canary_soak=100, soak=100)
    assert late_round((2, 8, 10)) == 8
    assert exposure(catching_up, (2, 8, 10), 50, 100) == (10, 2, 2)
    assert exposure(catching_up, (2, 8, 10), 50, 400) == (34, 1, 3)
    assert exposure(catching_up, (2, 8, 10), 50, 401).hosts == 42
    assert exposure(catching_up, (2, 8, 10), 50, 1000).hosts == 70
    assert exposure(options(late="report", soak=100, canary_soak=100), (2, 8, 10), 0, 400).hosts == 20
    assert exposure(options(), (), 3, 60).hosts == 1


@given(some_options(), st.integers(1, 60), st.integers(1, 5), st.integers(0, 20), SECONDS, st.data())
def test_no_rollout_ever_exposes_more_than_the_plan_says(
    given_options: dict[str, Any],
    eligible: int,
    canaries: int,
    away: int,
    detection: float,
    data: st.DataObject,
) -> None:
    """Moves take any time, hosts fail to answer and come late: count those patched in any stretch of time."""
    chosen = parse_options(given_options, level=2)
    sizes = wave_sizes(chosen.waves, eligible, min(canaries, eligible))
    patched: list[float] = []
    at, missed = 0.0, away
    draw_time = st.one_of(st.just(0.0), st.floats(0, 3000))
    for number, size in enumerate(sizes):
        gone = data.draw(st.integers(0, size))
        missed += gone
        moved = sorted(at + data.draw(draw_time) for _ in range(size - gone))
        patched += moved
        at = (moved[-1] if moved else at) + soak_after(chosen, number)
    while missed and str(chosen.late) == "catch_up":
        late = data.draw(st.integers(1, min(missed, late_round(sizes))))
        moved = sorted(at + data.draw(draw_time) for _ in range(late))
        patched += moved
        missed -= late
        at = moved[-1] + chosen.soak
    promised = exposure(chosen, sizes, away, detection).hosts
    stretches = [sum(begin <= one < begin + detection for one in patched) for begin in patched]
    assert max(stretches, default=0) <= promised


@given(some_waves(), st.integers(1, 400), st.integers(1, 6), st.integers(0, 50), SECONDS, st.integers(1, 60))
def test_derived_options_keep_what_was_accepted(
    waves: list[Any], eligible: int, canaries: int, away: int, detection: float, accepted: int
) -> None:
    canaries = min(canaries, eligible)
    asked = options(waves=waves)
    pieces = -(-eligible // accepted)
    assume(canaries <= accepted and pieces + len(waves) < MAX_WAVES)
    found = derive(asked, eligible, canaries, away, Exposure(detection, accepted))
    sizes = wave_sizes(found.waves, eligible, canaries)
    assert sum(sizes) == eligible
    assert exposure(found, sizes, away, detection).hosts <= accepted
    assert derive(found, eligible, canaries, away, Exposure(detection, accepted)) == found
    assert found.soak >= asked.soak and found.canary_soak >= asked.canary_soak
    assert parse_options({"waves": list(found.waves)}, level=2).waves == found.waves


def test_what_keeps_to_it_already_is_left_alone() -> None:
    asked = options(soak="1h", canary_soak="1h")
    assert derive(asked, 100, 2, 0, Exposure(1800, 40)) is asked


def test_waves_that_are_small_enough_stay() -> None:
    found = derive(options(waves=["10%", "50%", "100%"]), 100, 2, 0, Exposure(5400, 20))
    assert found.waves == (10, 30, 50, 67, 84, "100%")
    assert (found.canary_soak, found.soak) == (5400, 5400)


def test_more_canaries_than_may_be_exposed_is_refused_with_the_numbers() -> None:
    with pytest.raises(LivepatchError, match="canaries alone are 6 hosts .* at most 5 may be") as refused:
        derive(options(), 100, 6, 0, Exposure(5400, 5))
    assert refused.value.kind is Kind.ARGUMENT


def test_more_waves_than_anybody_could_follow_is_refused_with_the_numbers() -> None:
    with pytest.raises(LivepatchError, match="are 9999 waves and 625.0 days") as refused:
        derive(options(), 10_000, 1, 0, Exposure(5400, 1))
    assert refused.value.remedy == "Accept at least 50 hosts, or roll out to fewer."
    derive(options(waves=["100%"]), 10_000, 1, 0, Exposure(5400, 50))
