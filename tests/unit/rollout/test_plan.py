from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.errors import LivepatchError
from livepatch_core.rollout.arithmetic import share
from livepatch_core.rollout.model import Grant, Group, HostFacts, Method, Plan
from livepatch_core.rollout.plandoc import encode
from livepatch_core.words import Kind
from tests.unit.rollout.fleets import (
    BACK,
    BUILDS,
    GRANTS,
    LEVEL,
    NOW,
    fleet,
    healthy_hosts,
    host,
    plan_of,
    some_hosts,
    some_options,
)

LATE = (Group.OFFLINE, Group.UNKNOWN)
TESTING = st.sampled_from(((), (BUILDS[0],)))
BLOCKED = st.sampled_from(({}, {BUILDS[1]: "crashes"}))


def eligible(plan: Plan) -> set[str]:
    return {one.minion for one in plan.hosts if one.group is Group.ELIGIBLE}


def group_of(facts: HostFacts, options: Mapping[str, Any] | None = None, **changes: Any) -> tuple[Group, str]:
    (placing,) = plan_of([facts], options, **changes).hosts
    return placing.group, placing.reason


@given(some_hosts(), some_options(), TESTING, BLOCKED)
def test_every_host_has_one_place_and_a_reason(
    hosts: list[HostFacts], options: dict[str, Any], testing: tuple[str, ...], blocked: dict[str, str]
) -> None:
    plan = plan_of(hosts, options, testing=testing, blocked=blocked)
    assert sorted(one.minion for one in plan.hosts) == sorted(one.minion for one in hosts)
    assert all(one.reason for one in plan.hosts)
    moving = [name for wave in plan.waves for name in wave]
    assert len(moving) == len(set(moving)), "a host is in two waves"
    assert set(moving) == eligible(plan)
    assert {one.minion: one.wave for one in plan.hosts if one.wave is not None} == {
        name: number for number, wave in enumerate(plan.waves) for name in wave
    }


@given(some_hosts(), some_options(), TESTING, BLOCKED, st.randoms(use_true_random=False))
def test_same_inputs_in_any_order_are_the_same_bytes(
    hosts: list[HostFacts],
    options: dict[str, Any],
    testing: tuple[str, ...],
    blocked: dict[str, str],
    random: Random,
) -> None:
    first = encode(plan_of(hosts, options, testing=testing, blocked=blocked))
    shuffled = list(hosts)
    random.shuffle(shuffled)
    mixed = {build: GRANTS[build] for build in reversed(GRANTS)}
    assert encode(plan_of(shuffled, options, testing=testing, blocked=blocked, grants=mixed)) == first


@given(some_hosts(), some_options())
def test_every_stratum_has_its_canaries_or_is_reported(
    hosts: list[HostFacts], options: dict[str, Any]
) -> None:
    plan = plan_of(hosts, options)
    canaries = Counter(one.stratum for one in plan.hosts if one.wave == 0)
    for stratum, count in Counter(one.stratum for one in plan.hosts if one.minion in eligible(plan)).items():
        assert canaries[stratum] == min(plan.options.canaries_per_stratum, count)
    late = {one.stratum for one in plan.hosts if one.group in LATE and one.build_id}
    assert set(plan.uncovered_strata) == late - set(canaries)


@given(healthy_hosts(), st.integers(1, 4))
def test_each_stratum_has_as_many_canaries_as_asked_for(hosts: list[HostFacts], asked: int) -> None:
    plan = plan_of(hosts, {"canaries_per_stratum": asked})
    strata = Counter(one.stratum for one in plan.hosts)
    chosen = Counter(one.stratum for one in plan.hosts if one.wave == 0)
    assert chosen == {stratum: min(asked, count) for stratum, count in strata.items()}


@given(healthy_hosts(), some_options(), st.data())
def test_strata_without_a_named_canary_are_reported(
    hosts: list[HostFacts], options: dict[str, Any], data: st.DataObject
) -> None:
    names = [one.minion for one in hosts]
    named = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    plan = plan_of(hosts, {**options, "canaries": named, "windows": [], "blackouts": []})
    assert set(plan.waves[0]) == set(named)
    covered = {one.stratum for one in plan.hosts if one.minion in named}
    assert set(plan.uncovered_strata) == {one.stratum for one in plan.hosts} - covered


@given(healthy_hosts(), some_options())
def test_waves_are_cumulative_exhaustive_and_never_too_large(
    hosts: list[HostFacts], options: dict[str, Any]
) -> None:
    plan = plan_of(hosts, {**options, "windows": [], "blackouts": []})
    reached, sizes = len(plan.waves[0]), [len(wave) for wave in plan.waves]
    assert all(sizes)
    assert sum(sizes) == len(hosts)
    ends = [reached]
    for amount in plan.options.waves:
        if min(share(amount, len(hosts)), len(hosts)) > ends[-1]:
            ends.append(min(share(amount, len(hosts)), len(hosts)))
    assert [sum(sizes[: number + 1]) for number in range(len(sizes))] == ends


@pytest.mark.parametrize("seed", range(5))
def test_domains_are_mixed_evenly(seed: int) -> None:
    """However far the order is followed, each domain has had its share, give or take one (and what the other
    domains' give or take does to the length)."""
    sizes = {"large": 200, "medium": 40, "small": 10}
    total = sum(sizes.values())
    hosts = [host(f"{name}{number}", domain=name) for name, size in sizes.items() for number in range(size)]
    plan = plan_of(hosts, {"seed": seed, "canaries": ["large0"], "waves": ["100%"]})
    domains = [one.domain for one in plan.hosts][1:]  # the canary stands before all others
    for length in range(total):
        for name, size in sizes.items():
            assert abs(domains[:length].count(name) - size * length / total) <= 2 + size * len(sizes) / total


@given(some_hosts(), some_options())
def test_who_may_move_has_a_limit_of_its_domain_and_a_way_back(
    hosts: list[HostFacts], options: dict[str, Any]
) -> None:
    plan = plan_of(hosts, options)
    for one in plan.hosts:
        if one.group in (Group.ELIGIBLE, Group.OFFLINE, Group.UNKNOWN):
            assert plan.domain_limits[one.domain] >= 1
        if one.group is Group.ELIGIBLE:
            assert plan.back[one.build_id][one.before].level == one.before
            assert one.build_id in plan.grants or one.method is not Method.LIVEPATCH


def test_groups_and_their_reasons() -> None:
    assert group_of(host("a")) == (Group.ELIGIBLE, "from level 1 to 2")
    assert group_of(host("a", level=3)) == (
        Group.ELIGIBLE,
        "from level 3 down to 2: a planned downgrade; "
        "back would be to 1, as level 3 cannot be approved again",
    )
    assert group_of(host("a", level=LEVEL))[0] is Group.ALREADY
    assert group_of(host("a", build_id=BUILDS[2]))[0] is Group.UNCOVERED
    assert group_of(host("a", verdict="unsupported"))[0] is Group.UNSUPPORTED
    assert group_of(host("a", quarantined=(LEVEL,)))[0] is Group.QUARANTINED
    assert group_of(host("a", quarantined=(LEVEL - 1,)))[0] is Group.ELIGIBLE
    assert group_of(host("a", frozen="the fleet is frozen")) == (Group.FROZEN, "the fleet is frozen")
    assert group_of(host("a", online=False))[0] is Group.OFFLINE
    assert group_of(HostFacts("a", seen=False, online=False))[0] is Group.UNKNOWN
    assert group_of(host("a", rollout="20261101-000000-abcd")) == (
        Group.ELSEWHERE,
        "rollout 20261101-000000-abcd holds it until that ends",
    )
    for verdict in ("patching", "reverting", "stalled"):
        assert group_of(host("a", verdict=verdict))[0] is Group.BUSY
    assert group_of(host("a", flags=("reboot-owed",)))[0] is Group.OWES_REBOOT


def test_what_an_answering_host_could_not_read_makes_it_unknown() -> None:
    assert group_of(host("a", build_id=None))[1] == "it answers, but its kernel build could not be read"
    assert group_of(host("a", level=None))[1] == "it answers, but its level could not be read"
    assert group_of(host("a", verdict="unknown"))[1] == "it answers, but its state could not be read"


def test_blocked_says_why() -> None:
    group, reason = group_of(host("a"), blocked={BUILDS[0]: "crashes hosts"})
    assert group is Group.BLOCKED
    assert reason.endswith("crashes hosts")


def test_whoever_runs_a_blocked_level_goes_back_to_another() -> None:
    """Level 1 is in force and blocked: it is in nobody's ``back``."""
    (placing,) = plan_of([host("a")], back={}).hosts
    assert placing.before == 0
    assert plan_of([host("a")], back={}).back[BUILDS[0]][0] == Grant(0, None)


def test_other_versions_wait_until_they_are_accepted_by_name() -> None:
    old = host("a", version="0.9")
    assert group_of(old)[0] is Group.SKEWED
    assert "not synced" in group_of(host("a", version=None, build_id=None))[1]
    plan = plan_of([old], {"accept_versions": ["0.9"]})
    assert plan.hosts[0].group is Group.ELIGIBLE
    assert plan.hosts[0].version == "0.9"
    assert any("version 0.9" in note for note in plan.notes)


def test_closed_windows_defer_everybody_who_would_move() -> None:
    never = {"blackouts": [{"start": "2026-01-01T00:00Z", "end": "2029-01-01T00:00Z"}]}
    group, reason = group_of(host("a"), never)
    assert group is Group.DEFERRED
    assert "2029" in reason
    assert plan_of([host("a")], never).waves == ()
    assert group_of(host("a", level=LEVEL), never)[0] is Group.ALREADY


def test_level_in_testing_has_to_be_allowed_and_is_remembered() -> None:
    assert group_of(host("a"), testing=[BUILDS[0]])[0] is Group.UNCOVERED
    plan = plan_of([host("a")], {"allow_testing": True}, testing=[BUILDS[0]])
    assert plan.hosts[0].group is Group.ELIGIBLE
    assert plan.testing == (BUILDS[0],)
    assert any("waits until it is released" in note for note in plan.notes)


def test_canaries_that_are_not_targeted_are_refused() -> None:
    with pytest.raises(LivepatchError, match="nobody are not among") as refused:
        plan_of(fleet(3), {"canaries": ["nobody"]})
    assert refused.value.kind is Kind.ARGUMENT


def test_a_plan_none_of_whose_canaries_would_go_first_is_refused() -> None:
    hosts = [*fleet(3), host("done", level=LEVEL)]
    with pytest.raises(LivepatchError, match="done is already there"):
        plan_of(hosts, {"canaries": ["done"]})
    plan = plan_of(hosts, {"canaries": ["done", "hv00001"]})
    assert plan.waves[0] == ("hv00001",)
    assert any("canary done does not go first" in note for note in plan.notes)


def test_canaries_stand_in_different_domains() -> None:
    hosts = [host(f"{role}{rack}", role=role, domain=f"rack{rack}") for role in "abcd" for rack in range(4)]
    plan = plan_of(hosts)
    assert sorted(one.domain for one in plan.hosts if one.wave == 0) == ["rack0", "rack1", "rack2", "rack3"]


def test_seed_decides_who_is_first() -> None:
    orders = {plan_of(fleet(40), {"seed": seed}).waves for seed in range(5)}
    assert len(orders) == 5


def test_a_new_host_does_not_disturb_the_order_within_other_domains() -> None:
    before = plan_of(fleet(40), {"seed": 1, "canaries": ["hv00000"]})
    after = plan_of([*fleet(40), host("new", domain="rack9")], {"seed": 1, "canaries": ["hv00000"]})
    assert [one.minion for one in after.hosts if one.minion != "new"] == [one.minion for one in before.hosts]


def test_nobody_eligible_is_a_plan_without_waves() -> None:
    plan = plan_of([host("a", level=LEVEL)])
    assert plan.waves == ()
    assert plan.limits["failed"] == {"wave": [], "total": 0}
    assert plan_of([]).hosts == ()


def test_a_host_given_twice_is_refused() -> None:
    with pytest.raises(LivepatchError, match="a is given more than once"):
        plan_of([host("a"), host("a", online=False)])


def test_time_is_an_input() -> None:
    plan = plan_of(fleet(4))
    assert plan.at == "2026-11-24T12:00:00+00:00"
    with pytest.raises(ValueError, match="aware"):
        plan_of(fleet(4), now=NOW.replace(tzinfo=None))


def test_back_holds_only_what_was_given_and_zero() -> None:
    plan = plan_of(fleet(2))
    assert plan.back == {build: {0: Grant(0, None), **BACK[build]} for build in BACK}


def test_derived_waves_stand_in_the_plan_with_what_was_accepted() -> None:
    accepted = {"exposure": {"detection": "90m", "hosts": 5}}
    plan = plan_of(fleet(40), accepted)
    assert max(len(wave) for wave in plan.waves) <= 5
    assert plan.options.exposure is not None
    assert plan.options.soak == plan.options.canary_soak == 5400
    found = {one["detection"]: one["hosts"] for one in plan.arithmetic["exposures"]}
    assert found[5400] <= 5
    again = plan_of(fleet(40), options=plan.options)
    assert again == plan, "what was derived would be derived again"


def test_notes_name_what_one_might_not_expect() -> None:
    hosts = [
        *fleet(40),
        host("down", level=3),
        host("adrift", flags=("drifted",)),
        host("held", flags=("held",)),
        host("nowhere", domain=""),
        host("away", online=False),
    ]
    text = " ".join(plan_of(hosts, {"waves": [1, "100%"]}).notes)
    for word in (
        "planned downgrade",
        "drifted",
        "held by hand",
        "no grain failure_domain",
        "catch up",
        "at 1:",
    ):
        assert word in text
    assert "only reported" in " ".join(plan_of(hosts, {"late": "report"}).notes)


def test_late_hosts_do_not_count_in_waves_but_in_their_domain() -> None:
    hosts = fleet(8, domains=1)
    away = [replace(one, minion=f"x{one.minion}", online=False) for one in hosts]
    assert plan_of([*hosts, *away], {"max_per_domain": "25%"}).domain_limits == {"rack0": 4}
    assert plan_of(hosts, {"max_per_domain": "25%"}).domain_limits == {"rack0": 2}
    assert plan_of(hosts, {"max_per_domain": "1%"}).domain_limits == {"rack0": 1}


def test_half_of_three_is_two() -> None:
    found = plan_of(fleet(3), {"canaries": ["hv00000"], "waves": [1, 2, "100%"]}).arithmetic
    assert [one["hosts"] for one in found["waves"]] == [1, 1, 1]
    assert found["half"] == found["waves"][1]["moved"]
    assert found["all"] == found["waves"][2]["moved"]
    assert found["ends"] == found["waves"][2]["soaked"]
