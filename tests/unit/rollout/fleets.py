"""Hosts, options and plans for the tests of planning: made by hand, and drawn by hypothesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from hypothesis import strategies as st

from livepatch_core.rollout.model import Grant, HostFacts, Plan
from livepatch_core.rollout.options import parse_options
from livepatch_core.rollout.planning import make_plan
from livepatch_core.words import Flag, Verdict

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)  # a Tuesday
VERSION = "1.0"
BUILDS = tuple(letter * 40 for letter in "abc")  # the last is in no catalog
LEVEL = 2
GRANTS = {build: Grant(LEVEL, f"{number:064x}") for number, build in enumerate(BUILDS[:2])}
KERNEL, NEW_BUILD, NEW_LEVEL = "6.1.0-57-amd64", "d" * 40, 3  # what hosts may be started with
ARRIVALS = {KERNEL: {NEW_BUILD: Grant(NEW_LEVEL, "e" * 64)}}
BACK = {build: {1: Grant(1, "f" * 64)} for build in BUILDS[:2]}


def host(minion: str, **changes: Any) -> HostFacts:
    """An eligible one."""
    facts: dict[str, Any] = {
        "minion": minion,
        "seen": True,
        "online": True,
        "release": "6.1.0-56-amd64",
        "build_id": BUILDS[0],
        "verdict": str(Verdict.PATCHED),
        "level": 1,
        "domain": "rack1",
        "role": "compute",
        "version": VERSION,
    }
    return HostFacts(**{**facts, **changes})


def uncovered(minion: str, **changes: Any) -> HostFacts:
    """One that cannot be patched live, and has another kernel."""
    facts = {"build_id": BUILDS[2], "level": 0, "verdict": str(Verdict.UNCOVERED), "kernel": KERNEL}
    return host(minion, **{**facts, **changes})


def fleet(count: int, domains: int = 4) -> list[HostFacts]:
    """Eligible hosts of two kernel builds, in domains of equal size."""
    return [
        host(f"hv{number:05}", domain=f"rack{number % domains}", build_id=BUILDS[number // domains % 2])
        for number in range(count)
    ]


def plan_of(hosts: Sequence[HostFacts], given: Mapping[str, Any] | None = None, **changes: Any) -> Plan:
    """What make_plan gives for operator's options ``given``; changes: of its arguments."""
    arguments: dict[str, Any] = {
        "target": "*",
        "hosts": hosts,
        "options": parse_options(given or {}, level=LEVEL),
        "grants": GRANTS,
        "back": BACK,
        "now": NOW,
        "version": VERSION,
        "blocked": {},
        "arrivals": ARRIVALS,
    }
    return make_plan(**{**arguments, **changes})


def some_hosts(most: int = 16) -> st.SearchStrategy[list[HostFacts]]:
    """Hosts in every condition; names that differ."""
    one = st.builds(
        HostFacts,
        minion=st.from_regex(r"[a-z]{1,3}[0-9]{0,2}", fullmatch=True),
        seen=st.sampled_from((True, True, True, False)),
        online=st.sampled_from((True, True, True, False)),
        release=st.sampled_from(("6.1.0-56-amd64", None)),
        build_id=st.sampled_from((*BUILDS[:2], *BUILDS, None)),
        verdict=st.sampled_from((*["patched"] * 6, "unpatched", *map(str, Verdict), None)),
        level=st.sampled_from((0, 1, 1, 2, 3, None)),
        flags=st.sampled_from(((), (), (), *((str(flag),) for flag in Flag))),
        quarantined=st.sampled_from(((), (), (), (1,), (LEVEL,))),
        domain=st.sampled_from(("rack1", "rack2", "rack3", "")),
        role=st.sampled_from(("compute", "storage", "")),
        version=st.sampled_from((VERSION, VERSION, VERSION, "0.9", None)),
        frozen=st.sampled_from(("", "", "", "this host is frozen")),
        kernel=st.sampled_from((None, KERNEL, KERNEL, "6.1.0-56-amd64", "5.10.0-1-amd64")),
        rollout=st.sampled_from(("", "", "", "20261101-000000-abcd")),
    )
    return st.lists(one, max_size=most, unique_by=lambda facts: facts.minion)


def healthy_hosts(most: int = 30) -> st.SearchStrategy[list[HostFacts]]:
    """Hosts that are all eligible, in domains of any size."""
    one = st.builds(
        host,
        st.from_regex(r"[a-z]{1,3}[0-9]{0,2}", fullmatch=True),
        build_id=st.sampled_from(BUILDS[:2]),
        domain=st.sampled_from(("rack1", "rack2", "rack3", "")),
        role=st.sampled_from(("compute", "storage", "")),
    )
    return st.lists(one, min_size=1, max_size=most, unique_by=lambda facts: facts.minion)


def amounts(least: int = 0) -> st.SearchStrategy[Any]:
    return st.one_of(st.integers(least, 30), st.integers(min(least, 1), 100).map("{}%".format))


def some_waves() -> st.SearchStrategy[list[Any]]:
    """Cumulative amounts, counts before percentages, that end with everybody."""
    counts = st.lists(st.integers(1, 30), max_size=3, unique=True).map(sorted)
    percents = st.lists(st.integers(1, 99), max_size=4, unique=True).map(sorted)
    return st.tuples(counts, percents).map(lambda both: [*both[0], *(f"{one}%" for one in both[1]), "100%"])


def some_options() -> st.SearchStrategy[dict[str, Any]]:
    """What an operator may write."""
    both = st.fixed_dictionaries({"wave": amounts(), "total": amounts()})
    gate = st.fixed_dictionaries(
        {"type": st.sampled_from(("health", "answers", "confirm")), "dry_run": st.booleans()}
    )
    window = st.fixed_dictionaries(
        {
            "zone": st.sampled_from(("Europe/Berlin", "America/New_York", "UTC")),
            "days": st.sampled_from(("mon-fri", "sat,sun", [0, 6], "sun-tue")),
            "start": st.sampled_from(("00:00", "22:00", "02:30")),
            "end": st.sampled_from(("24:00", "06:00", "02:45")),
        }
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "profile": st.sampled_from(("standard", "emergency", "careful")),
            "seed": st.integers(0, 1 << 40),
            "waves": some_waves(),
            "canaries_per_stratum": st.integers(1, 3),
            "canary_soak": st.one_of(st.integers(0, 90_000), st.sampled_from(("90s", "1.5h", "2d"))),
            "soak": st.floats(0, 90_000),
            "max_per_domain": amounts(1),
            "parallel": st.integers(0, 600),
            "thresholds": st.dictionaries(
                st.sampled_from(("failed", "stalled", "unreachable", "lost")), st.one_of(both, amounts())
            ),
            "on_fail": st.sampled_from(("pause", "rollback_wave", "rollback_all")),
            "gates": st.lists(gate, max_size=3, unique_by=lambda one: one["type"]),
            "windows": st.lists(window, max_size=2),
            "blackouts": st.sampled_from(([], [{"start": "2026-11-24T10:00Z", "end": "2026-11-30T00:00Z"}])),
            "late": st.sampled_from(("catch_up", "report")),
            "accept_versions": st.sampled_from(([], ["0.9"], "0.9, 0.8")),
            "allow_testing": st.booleans(),
            "fallback": st.sampled_from(("none", "kexec", "reboot")),
            "without_level": st.sampled_from(("refuse", "accept")),
        },
    )
