"""When dispatch may begin: windows and blackouts on the wall clocks of IANA zones. Pure.

A window is open while the wall clock of its zone reads a time from its start up to, but not including, its
end. That is all there is to summer time, too: a time that the clock skips in spring opens nothing (a window
02:30-05:00 then opens at 03:00, one 02:00-03:00 not at all), a time that it shows twice in autumn is open
twice. A blackout is two instants; where its wall-clock times are skipped or shown twice it is taken as long
as possible.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta, timezone
from typing import Any, NamedTuple, Optional
from zoneinfo import ZoneInfo

from livepatch_core.rollout import reading
from livepatch_core.rollout.model import Blackout, Window

HORIZON = timedelta(
    days=366
)  # how far ahead the next opening is looked for: a year has every weekday and holiday
WINDOW_KEYS = ("zone", "days", "start", "end")
BLACKOUT_KEYS = ("zone", "start", "end")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES = 24 * 60
CLOCK = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)")


class Opening(NamedTuple):
    """reason: a sentence without its full stop. next_open: ``when`` itself while it is open, None where
    nothing opens within HORIZON; UTC."""

    open: bool
    reason: str
    next_open: Optional[datetime]


def open_at(windows: Sequence[Window], blackouts: Sequence[Blackout], when: datetime) -> Opening:
    """Whether a wave may begin at ``when`` (aware), and if not when the next may. No windows: always."""
    if when.tzinfo is None:
        raise ValueError("windows are asked about a time that is aware of its offset")
    moment = when.astimezone(timezone.utc)
    reason = _closed(windows, blackouts, moment)
    if reason is None:
        inside = next((one for one in windows if _inside(one, moment)), None)
        return Opening(True, f"inside {describe(inside)}" if inside else "no windows are set", moment)
    found = next((one for one in _openings(windows, blackouts, moment)), None)
    return Opening(False, reason, found)


def describe(window: Window) -> str:
    return f"the window {_days_text(window.days)} {window.start}-{window.end} {window.zone}"


def describe_blackout(blackout: Blackout) -> str:
    return f"the blackout from {blackout.start} to {blackout.end} ({blackout.zone})"


def parse_window(key: str, value: object) -> Window:
    """``{zone: Europe/Berlin, days: mon-fri, start: '22:00', end: '06:00'}``; days: all where left out, and
    of a window over midnight those on which it begins."""
    given = reading.mapping(key, value, WINDOW_KEYS)
    start = _clock(f"{key}:start", given.get("start"))
    end = _clock(f"{key}:end", given.get("end"))
    if start == end or start == "24:00":
        raise reading.refuse(
            key, value, "a window with a start that differs from its end (all day: 00:00-24:00)"
        )
    return Window(
        _zone(f"{key}:zone", given.get("zone")),
        _days(f"{key}:days", given.get("days", "mon-sun")),
        start,
        end,
    )


def parse_blackout(key: str, value: object) -> Blackout:
    """``{start: 2026-12-23T18:00, end: 2027-01-04T08:00, zone: Europe/Berlin}``; zone may be left out where
    both times have an offset."""
    given = reading.mapping(key, value, BLACKOUT_KEYS)
    start = _iso(f"{key}:start", given.get("start"))
    end = _iso(f"{key}:end", given.get("end"))
    whole = all(_parsed(one).tzinfo is not None for one in (start, end))
    zone = "UTC" if whole and not given.get("zone") else _zone(f"{key}:zone", given.get("zone"))
    blackout = Blackout(zone, start, end)
    first, last = _span(blackout)
    if first >= last:
        raise reading.refuse(key, value, "a blackout that ends after it starts")
    return blackout


def window_document(window: Window) -> dict[str, Any]:
    return {"zone": window.zone, "days": list(window.days), "start": window.start, "end": window.end}


def blackout_document(blackout: Blackout) -> dict[str, Any]:
    return {"zone": blackout.zone, "start": blackout.start, "end": blackout.end}


def _closed(windows: Sequence[Window], blackouts: Sequence[Blackout], moment: datetime) -> Optional[str]:
    """Why nothing may begin at ``moment``; None where it may."""
    for one in blackouts:
        first, last = _span(one)
        if first <= moment < last:
            return f"inside {describe_blackout(one)}"
    if windows and not any(_inside(one, moment) for one in windows):
        return f"outside {' and '.join(describe(one) for one in windows)}"
    return None


def _inside(window: Window, moment: datetime) -> bool:
    local = moment.astimezone(ZoneInfo(window.zone))
    minute, start, end = _minute(local.time()), _minutes(window.start), _minutes(window.end)
    if start < end:
        return local.weekday() in window.days and start <= minute < end
    began_yesterday = (local.weekday() - 1) % 7 in window.days
    return (local.weekday() in window.days and minute >= start) or (began_yesterday and minute < end)


def _openings(
    windows: Sequence[Window], blackouts: Sequence[Blackout], moment: datetime
) -> Iterator[datetime]:
    """Every moment up to HORIZON at which it may be that something opens and does, the earliest first."""
    ends = sorted(last for _, last in map(_span, blackouts) if moment < last <= moment + HORIZON)
    if not windows:
        yield from (one for one in ends if _closed(windows, blackouts, one) is None)
        return
    day = moment.date()
    while day <= (moment + HORIZON).date():
        candidates = {one for window in windows for one in _changes(window, day)}
        candidates |= {one for one in ends if one.date() == day}
        for one in sorted(candidates):
            if moment < one and _closed(windows, blackouts, one) is None:
                yield one
        day += timedelta(days=1)


def _changes(window: Window, day: date) -> Iterator[datetime]:
    """Moments of the UTC date ``day`` at which ``window`` can open: its start, both times where the clock
    shows it twice, and the moments at which the clock is put forward or back."""
    zone = ZoneInfo(window.zone)
    start = time(*divmod(_minutes(window.start), 60))
    for local in (day - timedelta(days=1), day, day + timedelta(days=1)):
        for fold in (0, 1):
            moment = datetime.combine(local, start, zone).replace(fold=fold).astimezone(timezone.utc)
            if moment.date() == day:
                yield moment
    midnight = datetime.combine(day, time(), timezone.utc)
    changed = _transition(zone, midnight, midnight + timedelta(days=1))
    if changed is not None:
        yield changed


def _transition(zone: ZoneInfo, first: datetime, last: datetime) -> Optional[datetime]:
    """The moment between the two at which the zone's offset changes, to the second; None where it does
    not."""
    if first.astimezone(zone).utcoffset() == last.astimezone(zone).utcoffset():
        return None
    before = first.astimezone(zone).utcoffset()
    while last - first > timedelta(seconds=1):
        middle = first + timedelta(seconds=int((last - first).total_seconds()) // 2)
        if middle.astimezone(zone).utcoffset() == before:
            first = middle
        else:
            last = middle
    return last


def _span(blackout: Blackout) -> tuple[datetime, datetime]:
    """Its two instants in UTC."""
    return min(_instants(blackout.start, blackout.zone)), max(_instants(blackout.end, blackout.zone))


def _instants(written: str, zone: str) -> tuple[datetime, ...]:
    """What a wall-clock time may mean: two instants where the clock skips it or shows it twice."""
    parsed = _parsed(written)
    if parsed.tzinfo is not None:
        return (parsed.astimezone(timezone.utc),)
    local = parsed.replace(tzinfo=ZoneInfo(zone))
    return tuple(local.replace(fold=fold).astimezone(timezone.utc) for fold in (0, 1))


def _parsed(written: str) -> datetime:
    return datetime.fromisoformat(written)


def _iso(key: str, value: object) -> str:
    """YAML turns an unquoted date into a date or datetime by itself."""
    written = value.isoformat() if isinstance(value, (date, datetime)) else value
    allowed = "a time such as '2026-12-23T18:00' (of the zone) or '2026-12-23T18:00+01:00'"
    if not isinstance(written, str):
        raise reading.refuse(key, value, allowed)
    if written.endswith(("Z", "z")):  # fromisoformat knows Z only from Python 3.11 on
        written = f"{written[:-1]}+00:00"
    try:
        return _parsed(written).isoformat()
    except ValueError:
        raise reading.refuse(key, value, allowed) from None


def _zone(key: str, value: object) -> str:
    """An IANA name that this machine knows; it needs the package tzdata for that."""
    name = reading.text(key, value)
    try:
        return ZoneInfo(name).key
    except (KeyError, ValueError, OSError):  # unknown; not a plain name; a directory such as Europe
        raise reading.refuse(
            key, value, "an IANA zone that this machine knows, e.g. Europe/Berlin, UTC"
        ) from None


def _clock(key: str, value: object) -> str:
    """HH:MM. YAML 1.1 reads an unquoted 22:00 as 1320 (base 60), which can mean nothing else here."""
    if type(value) is int and 0 <= value <= MINUTES:
        return f"{value // 60:02}:{value % 60:02}"
    found = CLOCK.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[1]) * 60 + int(found[2]) > MINUTES:
        raise reading.refuse(key, value, "a time from '00:00' to '24:00'")
    return f"{int(found[1]):02}:{found[2]}"


def _days(key: str, value: object) -> tuple[int, ...]:
    """``mon-fri``, ``sat,sun``, ``[mon, wed]`` or numbers from 0 (Monday); a range may go over Sunday."""
    parts = [one.strip() for one in value.split(",")] if isinstance(value, str) else value
    found = {day for part in reading.sequence(key, parts, _day_range) for day in part}
    if not found:
        raise reading.refuse(key, value, "at least one day")
    return tuple(sorted(found))


def _day_range(key: str, value: object) -> tuple[int, ...]:
    if type(value) is int and 0 <= value < 7:
        return (value,)
    ends = value.lower().split("-") if isinstance(value, str) else []
    if not 1 <= len(ends) <= 2 or any(one not in DAYS for one in ends):
        raise reading.refuse(
            key, value, f"{reading.one_of(DAYS)}, a range such as mon-fri, or 0 (Monday) to 6"
        )
    first, last = DAYS.index(ends[0]), DAYS.index(ends[-1])
    return tuple((first + step) % 7 for step in range((last - first) % 7 + 1))


def _days_text(days: Sequence[int]) -> str:
    if len(days) == 7:
        return "every day"
    if len(days) > 2 and days[-1] - days[0] == len(days) - 1:
        return f"{DAYS[days[0]]}-{DAYS[days[-1]]}"
    return ",".join(DAYS[day] for day in days)


def _minute(clock: time) -> int:
    return clock.hour * 60 + clock.minute


def _minutes(written: str) -> int:
    hour, minute = written.split(":")
    return int(hour) * 60 + int(minute)
