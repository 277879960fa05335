from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livepatch_core.rollout.model import Blackout, Window
from livepatch_core.rollout.windows import (
    HORIZON,
    blackout_document,
    open_at,
    parse_blackout,
    parse_window,
    window_document,
)

EVERY_DAY = tuple(range(7))
BERLIN = "Europe/Berlin"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def local(text: str, fold: int = 0, zone: str = BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)


def window(start: str, end: str, days: tuple[int, ...] = EVERY_DAY, zone: str = BERLIN) -> Window:
    return Window(zone, days, start, end)


def next_open(found: Window, when: datetime, *blackouts: Blackout) -> datetime | None:
    return open_at([found], blackouts, when).next_open


def test_without_windows_it_is_always_open() -> None:
    now = utc("2026-11-24T12:00")
    assert open_at([], [], now) == (True, "no windows are set", now)


def test_start_is_inside_and_end_is_not() -> None:
    night = window("22:00", "23:00")
    assert not open_at([night], [], local("2026-11-24T21:59")).open
    assert open_at([night], [], local("2026-11-24T22:00")).open
    assert open_at([night], [], local("2026-11-24T22:59:59")).open
    assert not open_at([night], [], local("2026-11-24T23:00")).open
    assert next_open(night, local("2026-11-24T23:00")) == local("2026-11-25T22:00")


def test_window_over_midnight_belongs_to_the_day_it_begins() -> None:
    friday = window("22:00", "06:00", (4,))
    assert open_at([friday], [], local("2026-11-27T23:00")).open
    assert open_at([friday], [], local("2026-11-28T05:59")).open
    assert not open_at([friday], [], local("2026-11-27T05:59")).open
    assert not open_at([friday], [], local("2026-11-28T22:00")).open


def test_closed_says_where_it_stands_and_when_it_opens() -> None:
    opening = open_at([window("22:00", "06:00", (0, 1, 2, 3, 4))], [], utc("2026-11-24T12:00"))
    assert opening.reason == "outside the window mon-fri 22:00-06:00 Europe/Berlin"
    assert opening.next_open == utc("2026-11-24T21:00")


def test_several_windows_are_open_together() -> None:
    both = [window("01:00", "02:00"), window("01:30", "03:00", zone="America/New_York")]
    assert open_at(both, [], local("2026-11-24T01:00")).open
    assert open_at(both, [], local("2026-11-24T01:30", zone="America/New_York")).open
    assert open_at(both, [], local("2026-11-24T02:00")).next_open == utc("2026-11-24T06:30")


def test_spring_opens_when_the_clock_has_jumped_into_the_window() -> None:
    """On 2026-03-29 the clock goes from 02:00 to 03:00: there is no 02:30."""
    early = window("02:30", "05:00")
    assert next_open(early, utc("2026-03-29T00:30")) == utc("2026-03-29T01:00")  # 03:00 summer time
    assert not open_at([early], [], utc("2026-03-29T00:59:59")).open
    assert open_at([early], [], utc("2026-03-29T01:00")).open
    assert not open_at([early], [], utc("2026-03-29T03:00")).open


def test_spring_skips_a_window_that_the_clock_skips() -> None:
    assert next_open(window("02:00", "03:00"), utc("2026-03-28T12:00")) == local("2026-03-30T02:00")
    assert next_open(window("02:30", "02:45"), utc("2026-03-29T00:00")) == local("2026-03-30T02:30")


def test_autumn_opens_twice_what_the_clock_shows_twice() -> None:
    """On 2026-10-25 the clock goes from 03:00 back to 02:00."""
    short = window("02:30", "02:45")
    first, second = local("2026-10-25T02:30"), local("2026-10-25T02:30", fold=1)
    assert next_open(short, utc("2026-10-25T00:00")) == first.astimezone(timezone.utc)
    assert next_open(short, utc("2026-10-25T00:45")) == second.astimezone(timezone.utc)
    whole = window("02:00", "03:00")
    hours = [utc("2026-10-25T00:00") + timedelta(minutes=minute) for minute in range(180)]
    assert sum(open_at([whole], [], one).open for one in hours) == 120


def test_autumn_opens_again_when_the_clock_goes_back_into_the_window() -> None:
    early = window("01:00", "02:30")
    assert not open_at([early], [], utc("2026-10-25T00:30")).open  # 02:30 summer time
    assert next_open(early, utc("2026-10-25T00:30")) == utc("2026-10-25T01:00")  # 02:00 again
    assert not open_at([early], [], utc("2026-10-25T01:30")).open


def test_a_zone_that_skips_midnight() -> None:
    """Beirut, 2022-03-27: from 00:00 to 01:00."""
    night = window("00:00", "04:00", (6,), "Asia/Beirut")
    assert next_open(night, local("2022-03-26T12:00", zone="Asia/Beirut")) == utc("2022-03-26T22:00")


def test_blackout_wins_over_windows_and_its_end_opens() -> None:
    leave = Blackout(BERLIN, "2026-11-24T21:00:00", "2026-11-25T01:15:00")
    night = window("22:00", "06:00")
    opening = open_at([night], [leave], local("2026-11-24T23:00"))
    assert not opening.open
    assert (
        opening.reason
        == "inside the blackout from 2026-11-24T21:00:00 to 2026-11-25T01:15:00 (Europe/Berlin)"
    )
    assert opening.next_open == local("2026-11-25T01:15")
    assert open_at([], [leave], local("2026-11-24T23:00")).next_open == local("2026-11-25T01:15")
    assert open_at([], [leave], local("2026-11-25T01:15")).open


def test_blackouts_one_after_the_other() -> None:
    days = [Blackout("UTC", f"2026-11-{day}T00:00", f"2026-11-{day + 1}T00:00") for day in (24, 25)]
    assert open_at([], days, utc("2026-11-24T12:00")).next_open == utc("2026-11-26T00:00")


def test_blackout_is_as_long_as_its_times_can_mean() -> None:
    twice = Blackout(BERLIN, "2026-10-25T02:15:00", "2026-10-25T02:45:00")
    assert not open_at([], [twice], local("2026-10-25T02:15")).open
    assert not open_at([], [twice], local("2026-10-25T02:05", fold=1)).open
    assert not open_at([], [twice], local("2026-10-25T02:44", fold=1)).open
    assert open_at([], [twice], local("2026-10-25T02:45", fold=1)).open


def test_nothing_opens_within_a_year() -> None:
    ages = Blackout("UTC", "2026-01-01T00:00", "2030-01-01T00:00")
    opening = open_at([window("00:00", "24:00")], [ages], utc("2026-11-24T12:00"))
    assert opening == (False, "inside the blackout from 2026-01-01T00:00 to 2030-01-01T00:00 (UTC)", None)
    assert open_at([], [ages], utc("2029-01-01T00:00")).next_open == utc("2030-01-01T00:00")
    assert timedelta(days=365) < HORIZON


def test_a_time_without_offset_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="aware"):
        open_at([], [], datetime(2026, 11, 24))


ZONES = st.sampled_from((BERLIN, "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"))
QUARTERS = st.integers(0, 95).map(lambda number: f"{number // 4:02}:{number % 4 * 15:02}")
DAYS = st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days)))
# Around the days on which these clocks change: Berlin, New York, Lord Howe (by 30 minutes).
MOMENTS = st.builds(
    lambda day, minutes: utc(day) + timedelta(minutes=minutes),
    st.sampled_from(("2026-03-28", "2026-10-24", "2026-03-07", "2026-10-31", "2026-04-04", "2026-10-03")),
    st.integers(0, 2880),
)


@settings(max_examples=50)
@given(st.builds(Window, ZONES, DAYS, QUARTERS, QUARTERS).filter(lambda one: one.start != one.end), MOMENTS)
def test_next_opening_is_the_first_moment_that_is_open(one: Window, when: datetime) -> None:
    """Asked every quarter of an hour, in every zone and over every change of the clock."""
    found = next_open(one, when)
    assert found is not None
    assert open_at([one], [], found).open
    assert found - when <= timedelta(days=9)
    step = when
    while step < found:
        assert not open_at([one], [], step).open
        step += timedelta(minutes=15 - step.minute % 15)
    if found > when:
        assert not open_at([one], [], found - timedelta(seconds=1)).open


def test_windows_as_people_write_them() -> None:
    assert parse_window("w", {"zone": BERLIN, "days": "mon-fri", "start": "22:00", "end": "6:00"}) == window(
        "22:00", "06:00", (0, 1, 2, 3, 4)
    )
    assert parse_window("w", {"zone": BERLIN, "days": "fri-mon", "start": "0:00", "end": "24:00"}).days == (
        0,
        4,
        5,
        6,
    )
    # What YAML makes of an unquoted 22:00.
    assert parse_window("w", {"zone": BERLIN, "start": 1320, "end": "06:00"}).start == "22:00"


def test_blackouts_as_people_write_them() -> None:
    offset = parse_blackout("b", {"start": "2026-12-24T18:00Z", "end": "2026-12-27T08:00+01:00"})
    assert offset == Blackout("UTC", "2026-12-24T18:00:00+00:00", "2026-12-27T08:00:00+01:00")
    # What YAML makes of unquoted dates.
    dates = parse_blackout(
        "b", {"zone": BERLIN, "start": date(2026, 12, 24), "end": datetime(2026, 12, 27, 8)}
    )
    assert dates == Blackout(BERLIN, "2026-12-24T00:00:00", "2026-12-27T08:00:00")


def test_documents_come_back() -> None:
    night = window("22:00", "06:00", (0, 5))
    assert parse_window("w", window_document(night)) == night
    leave = Blackout(BERLIN, "2026-12-24T00:00:00", "2026-12-27T08:00:00")
    assert parse_blackout("b", blackout_document(leave)) == leave
