"""Who owes a reboot, and in which order."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.catalog.model import Build, Unpatchable
from livepatch_core.report.debt import Told, Why, debts_of, reboot_debt

NOW = datetime(2026, 11, 24, tzinfo=timezone.utc)
WELL: dict[str, Any] = {
    "verdict": "patched",
    "reason": "all is well",
    "kernel": {"release": "6.1.0-56-amd64"},
    "fixes": ["CVE-2026-1"],
    "reboot": {"owed": False, "why": []},
    "patches": [],
}
NEWER = {"running": "6.1.0-56-amd64", "newest": "6.1.0-57-amd64", "newer": True}
FORCED = {**WELL, "reboot": {"owed": True, "why": ["patch p was forced: ticket 1"], "since": "2026-11-01"}}
MOVING = {**WELL, "verdict": "patching", "reason": "p has been patching for 3 s", "transition_age": 3.0}
UNDATED = {**MOVING, "reason": "p has been patching for a time that is not known", "transition_age": None}
STALLED = {**WELL, "verdict": "stalled", "patches": [{"transition": True, "since": "2026-11-20"}]}


def build(expires: str = "", *unpatchable: str) -> Build:
    at = "2026-11-10T00:00:00Z"
    return Build("aa", "", {}, (), expires, tuple(Unpatchable(one, "a struct", at) for one in unpatchable))


def whys(told: Told | None) -> list[Why]:
    return [debt.why for debt in debts_of(told, NOW)]


def test_nothing_is_owed() -> None:
    assert whys(Told(WELL)) == []
    assert whys(Told(WELL, {**NEWER, "newer": False}, build("2027-01-01", "CVE-2026-1"))) == []
    assert reboot_debt({"a": Told(WELL)}, NOW) == []


def test_each_reason() -> None:
    assert whys(Told(FORCED)) == [Why.FORCED]
    assert whys(Told(STALLED)) == [Why.STUCK]
    assert whys(Told(MOVING)) == []
    for moving in (UNDATED, {**UNDATED, "verdict": "reverting"}):
        (found,) = debts_of(Told(moving), NOW)
        assert found.why is Why.UNKNOWN and moving["reason"] in found.detail, "it may be stuck"
    assert whys(Told(WELL, NEWER)) == [Why.NEWER]
    incomplete = [{"release": "6.1.0-60-amd64", "missing": ["initrd"]}]
    (found,) = debts_of(Told(WELL, {**NEWER, "newer": False, "incomplete_newer": incomplete}), NOW)
    assert found.why is Why.NEWER
    assert found.detail == "6.1.0-60-amd64 is installed, lacks its initrd and does not run"
    assert whys(Told(WELL, {**NEWER, "incomplete_newer": incomplete})) == [Why.NEWER, Why.NEWER]
    assert whys(Told(WELL, None, build("2026-11-24"))) == [Why.EXPIRED]
    assert whys(Told(WELL, None, build("2026-11-25"))) == []
    assert whys(Told(WELL, build=build("", "CVE-2026-9", "CVE-2026-1"))) == [Why.UNPATCHABLE]
    assert whys(Told({**WELL, "verdict": "unsupported"})) == [Why.UNSUPPORTED]
    assert whys(Told({**WELL, "reboot": {"owed": None, "why": ["unreadable"]}})) == [Why.UNKNOWN]
    assert whys(Told({**WELL, "providers": [{"provider": "canonical", "reboot": "it says so"}]})) == [
        Why.UNPATCHABLE
    ]
    assert whys(None) == [Why.UNKNOWN]


def test_since_when() -> None:
    found = debts_of(
        Told(WELL, {**NEWER, "newest_since": "2026-11-02T00:00:00Z"}, build("", "CVE-2026-9")), NOW
    )
    assert [(one.why, one.since) for one in found] == [
        (Why.UNPATCHABLE, "2026-11-10T00:00:00Z"),
        (Why.NEWER, "2026-11-02T00:00:00Z"),
    ]
    assert "a struct" in found[0].detail
    (row,) = reboot_debt(
        {"a": Told(WELL, {**NEWER, "newest_since": "2026-11-02"}, build("", "CVE-2026-9"))}, NOW
    )
    assert row["since"] == "2026-11-02", "the oldest"


def test_the_most_urgent_first() -> None:
    rows = reboot_debt(
        {
            "newer": Told(WELL, NEWER),
            "silent": None,
            "forced": Told(FORCED, NEWER),
            "forced-later": Told({**FORCED, "reboot": {**FORCED["reboot"], "since": "2026-11-09"}}, NEWER),
            "stuck": Told(STALLED),
            "well": Told(WELL),
        },
        NOW,
    )
    assert [row["minion"] for row in rows] == ["stuck", "forced", "forced-later", "silent", "newer"]
    assert rows[1] == {
        "minion": "forced",
        "why": ["forced", "newer"],
        "details": ["patch p was forced: ticket 1", "6.1.0-57-amd64 is installed and does not run"],
        "since": "2026-11-01",
        "release": "6.1.0-56-amd64",
        "newer": "6.1.0-57-amd64",
        "verdict": "patched",
    }
    assert rows[0]["since"] == "2026-11-20"


@given(
    st.dictionaries(
        st.text("abc", min_size=1),
        st.one_of(
            st.none(),
            st.builds(
                Told,
                st.sampled_from([WELL, FORCED, STALLED, {}, {"verdict": "unknown", "reboot": None}]),
                st.sampled_from([None, NEWER]),
                st.sampled_from([None, build("2020-01-01"), build("", "CVE-2026-9")]),
                st.sampled_from(["", "the catalog is damaged"]),
            ),
        ),
    )
)
def test_no_host_is_lost(told: dict[str, Told | None]) -> None:
    rows = reboot_debt(told, NOW)
    named = [row["minion"] for row in rows]
    assert len(set(named)) == len(named)
    assert set(named) == {minion for minion, one in told.items() if debts_of(one, NOW)}
    assert {minion for minion, one in told.items() if one is None} <= set(named)
    assert rows == reboot_debt(dict(reversed(list(told.items()))), NOW), "in whichever order they answered"
