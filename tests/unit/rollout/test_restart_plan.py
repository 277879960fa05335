"""Whom a plan starts with another kernel, and why: each host's method and reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from livepatch_core.catalog.model import Level, LevelStatus
from livepatch_core.catalog.shelf import Standing
from livepatch_core.rollout import plandoc, verbs
from livepatch_core.rollout.inventory import facts_of, offers
from livepatch_core.rollout.model import Group, HostFacts, Method, OnFail, Plan
from livepatch_core.rollout.options import document, from_document, parse_options
from livepatch_core.rollout.plantext import as_text
from livepatch_core.words import Flag, Verdict
from tests.unit.rollout.fleets import (
    BUILDS,
    KERNEL,
    NEW_BUILD,
    fleet,
    host,
    plan_of,
    some_hosts,
    some_options,
    uncovered,
)

LIVE, KEXEC = Method.LIVEPATCH, Method.KEXEC
FALLBACK = {"fallback": "kexec"}
BUSY = {"verdict": str(Verdict.PATCHING)}
FORCED = {"flags": (str(Flag.REBOOT_OWED),)}


def placed(facts: HostFacts, options: dict[str, Any], **changes: Any) -> tuple[Group, Method, str]:
    (placing,) = plan_of([facts], options, **changes).hosts
    return placing.group, placing.method, placing.reason


@pytest.mark.parametrize(
    ("facts", "group", "method", "words"),
    [
        (
            uncovered("a"),
            Group.ELIGIBLE,
            KEXEC,
            f"no level 2 for kernel build {BUILDS[2]} (6.1.0-56-amd64); by kexec",
        ),
        (
            host("a", verdict="unsupported", kernel=KERNEL),
            Group.ELIGIBLE,
            KEXEC,
            "cannot be live-patched; by kexec",
        ),
        (host("a", kernel=KERNEL, **FORCED), Group.ELIGIBLE, KEXEC, "until it has booted; by kexec"),
        (
            host("a", kernel="6.1.0-56-amd64", **FORCED),
            Group.OWES_REBOOT,
            LIVE,
            "catalog has no level for kernel",
        ),
        (host("a", kernel=KERNEL), Group.ELIGIBLE, LIVE, "from level 1 to 2"),
        (uncovered("a", kernel=None), Group.UNCOVERED, LIVE, "it has no kernel (newest)"),
        (
            uncovered("a", kernel="6.1.0-56-amd64"),
            Group.UNCOVERED,
            LIVE,
            "it runs kernel 6.1.0-56-amd64 already",
        ),
        (uncovered("a", kernel="6.9"), Group.UNCOVERED, LIVE, "no level for kernel 6.9: see without_level"),
        (uncovered("a", version="0.9"), Group.SKEWED, KEXEC, "see accept_versions"),
        (uncovered("a", frozen="frozen"), Group.FROZEN, LIVE, "frozen"),
        (host("a", kernel=KERNEL, **BUSY), Group.BUSY, LIVE, "a transition is not over"),
        (uncovered("a", online=False), Group.OFFLINE, LIVE, "does not answer"),
    ],
)
def test_fallback(facts: HostFacts, group: Group, method: Method, words: str) -> None:
    found = placed(facts, FALLBACK)
    assert found[:2] == (group, method) and words in found[2], found[2]


@pytest.mark.parametrize(
    ("facts", "group", "words"),
    [
        (
            host("a", kernel=KERNEL),
            Group.ELIGIBLE,
            f"from kernel 6.1.0-56-amd64 to {KERNEL}, to level 3 there",
        ),
        (uncovered("a"), Group.ELIGIBLE, "by kexec"),
        (host("a", kernel="6.1.0-56-amd64"), Group.ALREADY, "it runs kernel 6.1.0-56-amd64 already"),
        (host("a"), Group.UNSUPPORTED, "it has no kernel"),
        (host("a", kernel=KERNEL, **BUSY), Group.BUSY, "a transition"),
        (host("a", online=False), Group.OFFLINE, "does not answer"),
        (host("a", kernel="6.9"), Group.UNCOVERED, "see without_level"),
        (host("a", kernel=KERNEL, rollout="r"), Group.ELSEWHERE, "rollout r"),
    ],
)
def test_method_kexec(facts: HostFacts, group: Group, words: str) -> None:
    found = placed(facts, {"method": "kexec"})
    assert found[:2] == (group, KEXEC) and words in found[2], found[2]


def test_a_level_in_testing_or_blocked_is_no_reason_to_restart() -> None:
    found = placed(host("a", kernel=KERNEL), FALLBACK, testing=(BUILDS[0],))
    assert found[:2] == (Group.UNCOVERED, LIVE) and "in testing" in found[2]
    found = placed(host("a", kernel=KERNEL), FALLBACK, blocked={BUILDS[0]: "crashes"})
    assert found[:2] == (Group.BLOCKED, LIVE)


def test_that_the_kernel_runs_is_enough_only_where_somebody_says_so() -> None:
    bare = uncovered("a", kernel="6.9")
    assert placed(bare, {**FALLBACK, "without_level": "accept"})[:2] == (Group.ELIGIBLE, KEXEC)
    assert "to level 0 there" in placed(bare, {**FALLBACK, "without_level": "accept"})[2]
    options = parse_options({"method": "kexec"}, level=0)
    (placing,) = plan_of([bare], options=options).hosts
    assert placing.group is Group.ELIGIBLE, "level 0 says so too"


def test_a_rollout_of_nobody_is_not_started() -> None:
    plan = plan_of([host("a", kernel="6.1.0-56-amd64")], {"method": "kexec"})
    assert "run the kernel asked for already" in str(verbs.refuse_idle(plan))


def test_they_have_canaries_of_their_own() -> None:
    forced = [host(f"f{number}", kernel=KERNEL, **FORCED) for number in range(4)]
    plan = plan_of([*fleet(8), *forced], FALLBACK)
    methods = {one.minion: one.method for one in plan.hosts}
    assert {methods[name] for name in plan.waves[0]} == {LIVE, KEXEC}


def test_no_rollback_is_promised_for_kernels() -> None:
    options = parse_options({"method": "reboot", "profile": "careful"}, level=2)
    assert (options.on_fail, options.on_fail_canary) == (OnFail.PAUSE, OnFail.PAUSE)
    assert parse_options({**FALLBACK, "profile": "careful"}, level=2).on_fail is OnFail.ROLLBACK_WAVE


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("a.b", {"fun": "a.b", "args": [], "kwargs": {}}),
        ({"fun": "a.b", "args": [1], "kwargs": {"c": 2}}, {"fun": "a.b", "args": [1], "kwargs": {"c": 2}}),
        ({"state": "hv.drain"}, {"fun": "state.apply", "args": ["hv.drain"], "kwargs": {}}),
    ],
)
def test_drain_and_undrain(given: Any, wanted: Any) -> None:
    options = parse_options({"method": "kexec", "drain": given, "undrain": given}, level=2)
    assert options.drain == options.undrain == wanted
    assert from_document(document(options)) == options


def whole(**changes: Any) -> Plan:
    hooks = {"drain": "livepatch_drain.drain", "undrain": "livepatch_drain.undrain"}
    return plan_of(
        [*fleet(4), uncovered("old1"), uncovered("old2", kernel=None)], {**FALLBACK, **hooks, **changes}
    )


def test_the_text_says_who_is_restarted_and_why() -> None:
    text = " ".join(as_text(whole()).split())
    for words in (
        "what cannot be patched live, by kexec to kernel newest", "old1", "by kexec from kernel 6.1.0-56",
        "1 hosts are started with another kernel, and drained by livepatch_drain.drain", "No rollback brings",
    ):  # fmt: skip
        assert words in text, words
    (placing,) = (one for one in whole().hosts if one.minion == "old2")
    assert "it has no kernel" in placing.reason
    assert "by kexec to kernel newest" in as_text(plan_of([uncovered("a")], {"method": "kexec"}))


def test_the_plan_comes_back_from_its_file() -> None:
    plan = whole()
    assert plandoc.decode(plandoc.encode(plan)) == plan
    assert NEW_BUILD in plan.arrivals[KERNEL]


@given(some_hosts(), some_options())
def test_only_what_cannot_be_patched_live_is_restarted(
    hosts: list[HostFacts], options: dict[str, Any]
) -> None:
    facts = {one.minion: one for one in hosts}
    for one in plan_of(hosts, options).hosts:
        if one.method is LIVE or one.group is not Group.ELIGIBLE:
            continue
        known = facts[one.minion]
        assert one.method == options["fallback"] and known.kernel is not None
        forced = str(Flag.REBOOT_OWED) in known.flags
        assert forced or known.verdict == Verdict.UNSUPPORTED or known.build_id == BUILDS[2]
        assert forced or known.kernel != known.release
        assert known.kernel == KERNEL or options.get("without_level") == "accept"


def standing(build: str, number: int, status: LevelStatus, release: str) -> Standing:
    level = Level(number, status, "m.ko", "m", f"{number:064x}")
    return Standing(level, build, release, status, None, None)  # type: ignore[arg-type]


def test_what_hosts_are_approved_for_on_another_kernel() -> None:
    """The level asked for where that kernel has it, released; else its newest that is."""
    released, testing = LevelStatus.RELEASED, LevelStatus.TESTING
    there = [
        standing("a" * 40, 2, released, "r1"), standing("b" * 40, 1, released, "r2"),
        standing("b" * 40, 7, testing, "r2"), standing("c" * 40, 2, testing, "r3"),
        standing("d" * 40, 2, released, "r1"), standing("d" * 40, 9, released, "r1"),
    ]  # fmt: skip
    found = offers(there, 2, ()).arrivals
    levels = {
        release: {build[0]: one.level for build, one in builds.items()} for release, builds in found.items()
    }
    assert levels == {"r1": {"a": 2, "d": 2}, "r2": {"b": 1}}
    assert offers(there, "newest", ()).arrivals["r1"]["d" * 40].level == 9
    assert {one.level for builds in offers(there, 0, ()).arrivals.values() for one in builds.values()} == {0}


def test_which_kernel_a_host_says() -> None:
    look = {"verdict": "patched", "kernel": {"release": KERNEL}}
    assert facts_of("a", look, lambda name: {}, ("d", "r")).kernel == KERNEL
    for kernel in (None, "x", {"release": None}, {}):
        assert facts_of("a", {**look, "kernel": kernel}, lambda name: {}, ("d", "r")).kernel is None


def test_the_example_for_libvirt_hosts() -> None:
    """examples/rollouts: the pillar of formulas/livepatch/orch/rollout.sls."""
    example = Path(__file__).resolve().parents[3] / "examples/rollouts/libvirt-kernel.json"
    given = json.loads(example.read_text())["rollout"]["options"]
    options = parse_options(given, level=1)
    assert (options.method, options.drain) == (
        KEXEC,
        {"fun": "livepatch_drain.drain", "args": [], "kwargs": {}},
    )


def test_what_is_in_force_need_not_be_known_where_it_all_ends() -> None:
    """KernelCare or Ksplice patches that kernel: what they have in force nobody asks while it is planned."""
    other = host("a", verdict="unknown", level=0, kernel=KERNEL)
    assert placed(other, {"method": "kexec"})[0] is Group.ELIGIBLE
    assert placed(other, {})[0] is Group.UNKNOWN
    assert placed(other, FALLBACK)[0] is Group.UNKNOWN
    assert placed(host("a", level=None, kernel=KERNEL), {"method": "kexec"})[0] is Group.UNKNOWN
