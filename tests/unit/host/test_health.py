"""Samples compared: only what got worse fails, and what could not be read is never a pass."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.errors import LivepatchError
from livepatch_core.host import armed, boot, change, health, persist, probes, saltcall, soak, store, unit
from livepatch_core.host.apply import apply
from livepatch_core.host.check_answer import matches
from livepatch_core.host.context import Host
from livepatch_core.host.health import judge
from livepatch_core.host.move import Wish
from livepatch_core.host.outcome import Outcome
from livepatch_core.host.probes import FAULT, Sample, parse_sample
from livepatch_core.host.settings import OnUnhealthy
from livepatch_core.host.statefile import write_document
from livepatch_core.kernel import loading
from livepatch_core.kernel.patches import Patch, read_patches
from livepatch_core.kernel.roots import Roots
from livepatch_core.words import CheckVerdict, Kind, OnStall
from tests.unit.host.boundaries import Killed
from tests.unit.host.fakekernel import BUILD_ID
from tests.unit.host.world import World

WELL = Sample("boot", 0, 100, (), {"sshd": "active"}, {"site.well": (True, "True")})
OOPS = "BUG: unable to handle page fault for address: ffffc90000000000"
FAIL, PASS, UNCLEAR = CheckVerdict.FAIL, CheckVerdict.PASS, CheckVerdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, PASS),
        ({"boot_id": "other"}, FAIL),
        ({"boot_id": None}, UNCLEAR),
        ({"faults": ((101, OOPS),)}, FAIL),
        ({"faults": ((99, OOPS),)}, PASS),
        ({"last": None}, UNCLEAR),
        ({"taint": 1 << 7}, FAIL),
        ({"taint": (1 << 15) | (1 << 12) | (1 << 13)}, PASS),  # what loading an unsigned livepatch sets
        ({"taint": None}, UNCLEAR),
        ({"services": {"sshd": "failed"}}, FAIL),
        ({"services": {"sshd": "maintenance"}}, FAIL),
        ({"services": {"sshd": "reloading"}}, PASS),
        ({"services": {"sshd": "activating"}}, UNCLEAR),
        ({"services": {"sshd": "deactivating"}}, UNCLEAR),
        ({"services": {"sshd": None}}, UNCLEAR),
        ({"functions": {"site.well": (False, "no")}}, FAIL),
        ({"functions": {"site.well": (None, "no minion")}}, UNCLEAR),
    ],
)
def test_verdicts(change: dict[str, Any], verdict: CheckVerdict) -> None:
    assert judge(WELL, replace(WELL, **change)).verdict is verdict


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_fault_fails_exactly_when_it_is_new(last: int, number: int) -> None:
    seen = judge(replace(WELL, last=last), replace(WELL, faults=((number, OOPS),)))
    assert (seen.verdict is FAIL) == (number > last)


def test_what_was_ill_before_is_not_the_moves_doing() -> None:
    ill = replace(WELL, services={"sshd": "failed"}, functions={"site.well": (False, "no")})
    assert judge(ill, ill).verdict is UNCLEAR


@pytest.mark.parametrize("then", [False, None])
def test_a_function_fails_only_if_it_was_known_to_be_well(then: bool | None) -> None:
    """At boot nobody can be asked: a network that is lost everywhere must not take every proven level out."""
    before = replace(WELL, functions={"site.well": (then, "no minion to ask")})
    after = replace(WELL, functions={"site.well": (False, "no")})
    assert judge(before, after).verdict is UNCLEAR
    assert judge(replace(before, functions={}), after).verdict is UNCLEAR


def test_a_sample_survives_being_written_down() -> None:
    assert parse_sample(WELL.document()) == WELL


@pytest.mark.parametrize(
    "line",
    [
        OOPS,
        "WARNING: CPU: 0 PID: 169 at kernel/x.c:1 f+0x1/0x2 [lp_2]",
        "Oops: 0002 [#1] PREEMPT SMP NOPTI",
        "kernel BUG at mm/slub.c:435!",
        "INFO: task kworker/0:1:12 blocked for more than 120 seconds.",
        "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
        "rcu: INFO: rcu_sched detected expedited stalls on CPUs/tasks: { 3-... } 21 jiffies s: 5 root: 0x8/.",
        "rcu: INFO: rcu_preempt detected stall, but suppressed full report due to a stuck CSD-lock.",
        "INFO: rcu_tasks detected stalls on tasks:",
        "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [x:1]",
        "NMI watchdog: Watchdog detected hard LOCKUP on cpu 3",  # up to 6.4, kernel/watchdog_hld.c
        "watchdog: Watchdog detected hard LOCKUP on cpu 3",  # since 6.5, kernel/watchdog.c
        "watchdog: CPU 3 detected hard LOCKUP on other CPUs 5",  # arch/powerpc/kernel/watchdog.c
        "watchdog: CPU 3 Hard LOCKUP",
    ],
)
def test_lines_that_report_a_fault(line: str) -> None:
    assert re.match(FAULT, line)


@pytest.mark.parametrize(
    "line",
    [
        "livepatch: 'lp_2': patching complete",
        "lp: loading out-of-tree module",
        "rcu: INFO: Stall ended before state dump start",
        "NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.",
    ],
)
def test_lines_that_do_not(line: str) -> None:
    assert not re.match(FAULT, line)


@pytest.mark.parametrize(
    ("probe", "answer", "good"),
    [
        ({}, {"any": 1}, True),
        ({}, "", False),
        ({"equals": 3}, 3, True),
        ({"contains": "0% loss"}, "5 sent, 0% loss", True),
        ({"contains": "x"}, 3, False),
        ({"below": 5, "above": 1}, 3, True),
        ({"below": 5}, 5, False),
        ({"below": 5}, "3", False),
        ({"above": 0}, True, False),
    ],
)
def test_predicates(probe: dict[str, Any], answer: Any, good: bool) -> None:
    assert matches(probe, answer) is good


# -- what follows from it, with the stand-in kernel ----------------------------------------------------------


class Probe:
    """An execution function that answers as listed, and says whether the host's lock was held meanwhile."""

    def __init__(self, world: World, *answers: object) -> None:
        self.world, self.answers, self.locked = world, list(answers), list[bool]()

    def __call__(self, fun: str, args: list[Any]) -> object:
        del fun, args
        outcome = self.world.apply(2, test=True)
        self.locked.append(outcome.kind is Kind.BUSY)
        answer = self.answers.pop(0)
        if isinstance(answer, LivepatchError):
            raise answer
        return answer


def asked(world: World, *answers: object, **options: Any) -> tuple[Host, Probe]:
    world.options.update(probes=({"fun": "site.well"},), **options)
    probe = Probe(world, *answers)
    return replace(world.host, ask=probe), probe


def test_one_lock_from_the_first_sample_to_the_revert(world: World) -> None:
    """Nobody can come between the move that is judged and the revert: what is reverted is what was judged."""
    host, probe = asked(world, True, False)
    outcome = apply(host, Wish(level=1, reason="a test"))
    assert (outcome.result, outcome.kind, outcome.changes) == (False, Kind.HEALTH, {})
    assert probe.locked == [True, True]
    assert outcome.details["steps"] == ["load lp_1: complete", "disable lp_1: complete"]
    assert world.patches == []
    assert [line["act"] for line in world.journal] == ["load", "disable"]
    assert world.apply(2).result is True  # the lock is free again


def test_back_to_the_level_before(world: World) -> None:
    world.apply(1)
    host, _ = asked(world, True, False)
    outcome = apply(host, Wish(level=2, reason="a test"))
    assert (outcome.kind, outcome.changes, world.patches) == (Kind.HEALTH, {}, ["lp_1"])


def test_kept_where_the_site_says_so(world: World) -> None:
    host, _ = asked(world, True, False, on_unhealthy=OnUnhealthy.KEEP)
    outcome = apply(host, Wish(level=1, reason="a test"))
    assert (outcome.result, outcome.kind) == (False, Kind.HEALTH)
    assert outcome.changes["level"] == {"old": 0, "new": 1}
    assert outcome.details["health"]["verdict"] == "fail"
    assert world.patches == ["lp_1"]


def test_a_revert_that_stalls_says_what_the_kernel_is(world: World) -> None:
    world.kernel.stalls.add(("lp_1", False))
    host, _ = asked(world, True, False)
    outcome = apply(host, Wish(level=1, reason="a test"))
    assert (outcome.result, outcome.kind) == (False, Kind.HEALTH)
    assert outcome.changes["level"] == {"old": 0, "new": 1}
    assert "It was reverted" not in outcome.comment
    assert "It could not be reverted to level 0." in outcome.comment
    assert world.patches == ["lp_1"]


@pytest.mark.parametrize("why", ["it is blocked", "the patch broke the network"])
def test_the_level_before_cannot_be_had(world: World, why: str) -> None:
    """An unhealthy level does not stay in force for that: to go to level 0 takes no catalog."""
    world.apply(1)
    host, _ = asked(world, True, False)
    if why == "it is blocked":
        world.entries[1] = {"status": "blocked", "reason": "leaks"}
    else:

        def fetch(path: str) -> bytes | None:
            if world.patches == ["lp_2"]:
                raise LivepatchError(Kind.CATALOG, f"{path} could not be fetched; nothing was changed.")
            return world.fetch(path)

        host = replace(host, fetch=fetch)
    outcome = apply(host, Wish(level=2, reason="a test"))
    assert (outcome.result, outcome.kind, world.patches) == (False, Kind.HEALTH, [])
    assert outcome.changes["level"] == {"old": 1, "new": 0}
    assert "It could not be reverted to level 1" in outcome.comment
    assert ("blocked" if why == "it is blocked" else "could not be fetched") in outcome.comment
    assert "nothing was changed" not in outcome.comment
    assert world.record.by_hand is not None
    assert world.record.by_hand.level == 0
    assert armed.read_armed(host) is None


def later(world: World, seconds: float) -> None:
    world.kernel.seconds += seconds


def test_functions_are_asked_again_at_1_5_and_15_minutes(world: World, kmsg: None) -> None:
    host, probe = asked(world, *[True] * 5)
    assert apply(host, Wish(level=1, reason="a test")).result is True
    for seconds in (59.0, 1.0, 1.0, 239.0, 1.0, 599.0, 1.0):
        later(world, seconds)
        soak.tick(host)
    assert len(probe.locked) == 2 + 3
    assert probe.locked[2:] == [False] * 3  # they may take long: nobody is kept waiting
    assert armed.read_armed(host) is None
    assert world.levels[1].sha256 in host.settings.proven_file.read_text()


@pytest.mark.parametrize("set_by", [86_400.0, -86_400.0])
def test_setting_the_clock_neither_ends_nor_stops_a_soak(world: World, kmsg: None, set_by: float) -> None:
    """At boot a level is loaded before anybody asks a time server."""
    assert apply(world.host, Wish(level=1, reason="a test")).result is True
    other = replace(world.host, now=lambda: world.kernel.seconds + set_by)
    assert "no check is due" in soak.tick(other).comment
    later(world, 901)
    assert "counts as proven" in soak.tick(other).comment


@pytest.fixture
def sshd(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What systemd says of sshd, from now on the last of these."""
    said = ["active"]
    monkeypatch.setattr(probes, "_service", lambda name: said[-1])
    return said


def test_a_service_that_is_restarted_at_the_time_of_a_check(
    world: World, kmsg: None, sshd: list[str]
) -> None:
    """By an upgrade, say; it is asked again a minute later."""
    world.options["services"] = ("sshd",)
    apply(world.host, Wish(level=1, reason="a test"))
    sshd.append("deactivating")
    later(world, 61)
    outcome = soak.tick(world.host)
    assert (outcome.result, world.patches) == (True, ["lp_1"])
    assert "inconclusive, sshd is deactivating" in outcome.comment
    sshd.append("reloading")
    later(world, 60)
    assert "lp_1 is well" in soak.tick(world.host).comment


@pytest.mark.parametrize("after", [0.0, 840.0])
def test_a_service_that_never_comes_up_again(world: World, kmsg: None, sshd: list[str], after: float) -> None:
    """systemd starts it again and again, so that it is never said to have failed."""
    world.options["services"] = ("sshd",)
    apply(world.host, Wish(level=1, reason="a test"))
    if after:
        later(world, after)
        assert "lp_1 is well" in soak.tick(world.host).comment
    sshd.append("activating")
    ticks = 0
    while world.patches and ticks < 10:
        later(world, 60)
        outcome = soak.tick(world.host)
        ticks += 1
    assert (outcome.kind, ticks) == (Kind.HEALTH, 5)
    assert "sshd was active and is activating now" in outcome.comment


def test_a_restart_met_by_the_first_look_for_minutes(world: World, kmsg: None, sshd: list[str]) -> None:
    """An act that stalled kept the lock, say: when the check fell due tells nothing of the service. Nor does
    another one that was on its way before, or a function that gave no answer."""
    world.options["services"] = ("cron", "sshd")
    apply(world.host, Wish(level=1, reason="a test"))
    sshd.append("activating")
    later(world, 310)
    assert "inconclusive" in soak.tick(world.host).comment
    found = armed.read_armed(world.host)
    assert found is not None
    assert [name for name, _ in found.on_their_way] == ["cron", "sshd"]
    armed.write_armed(world.host, replace(found, on_their_way=found.on_their_way[:1]))
    later(world, 239)
    assert "inconclusive" in soak.tick(world.host).comment
    sshd.append("active")
    later(world, 60)
    assert "lp_1 is well" in soak.tick(world.host).comment
    sshd.append("deactivating")
    later(world, 310)
    assert "inconclusive, cron is deactivating" in soak.tick(world.host).comment, "it was up in between"


def test_a_function_that_fails_in_the_soak_reverts(world: World, kmsg: None) -> None:
    host, _ = asked(world, True, True, False)
    apply(host, Wish(level=1, reason="a test"))
    later(world, 61)
    outcome = soak.tick(host)
    assert (outcome.result, outcome.kind, world.patches) == (False, Kind.HEALTH, [])
    assert world.record.by_hand is not None


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (LivepatchError(Kind.INTERNAL, "no answer"), None),
        (LivepatchError(Kind.HEALTH, "raised"), Kind.HEALTH),
    ],
)
def test_no_answer_neither_reverts_nor_proves(
    world: World, kmsg: None, problem: LivepatchError, kind: Kind | None
) -> None:
    host, _ = asked(world, True, True, problem, True)
    apply(host, Wish(level=1, reason="a test"))
    later(world, 901)
    outcome = soak.tick(host)
    assert outcome.kind is kind
    if kind is None:
        assert "inconclusive" in outcome.comment
        assert armed.read_armed(host) is not None
        assert "counts as proven" in soak.tick(host).comment


def test_what_was_judged_is_gone_meanwhile(world: World, kmsg: None) -> None:
    """The probes are asked without the lock: a level that came since is not reverted for the one before."""
    world.options.update(probes=({"fun": "site.well"},))
    answers = iter((True, True))
    host = replace(world.host, ask=lambda fun, args: next(answers))
    apply(host, Wish(level=1, reason="a test"))
    later(world, 61)

    def meanwhile(fun: str, args: list[Any]) -> bool:
        assert world.apply(2).result is True
        return False

    outcome = soak.tick(replace(world.host, ask=meanwhile))
    assert outcome.result is True
    assert "no longer" in outcome.comment
    assert world.patches == ["lp_2"]


@pytest.fixture
def loading_takes_long(world: World, monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    """The timer comes while the kernel is at the load: armed already, and without a patch yet."""
    said: list[Outcome] = []

    def init_module(image: bytes, params: str = "") -> None:
        said.append(world.outcome(lambda: soak.tick(world.host)))
        world.kernel.init_module(image, params)

    monkeypatch.setattr(loading, "init_module", init_module)
    return said


def test_what_is_being_loaded_stays_armed(
    world: World, kmsg: None, loading_takes_long: list[Outcome]
) -> None:
    outcome = apply(world.host, Wish(level=1, reason="a test"))
    (said,) = loading_takes_long
    assert said.result is True
    assert "Another livepatch act is under way" in said.comment
    assert (outcome.result, outcome.details["health"]["verdict"]) == (True, "pass")
    assert armed.read_armed(world.host) is not None
    soak.tick(world.host)
    assert proven_by_ticks(world)


def test_another_load_between_two_looks_of_a_tick(
    world: World, kmsg: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What went is of the past by then; what came instead stays armed."""
    assert apply(world.host, Wish(level=1, reason="a test")).result is True
    real = read_patches

    def meanwhile(roots: Roots) -> tuple[Patch, ...]:
        monkeypatch.setattr(soak, "read_patches", real)
        assert apply(world.host, Wish(level=2, reason="a test")).result is True
        return real(roots)

    monkeypatch.setattr(soak, "read_patches", meanwhile)
    assert "no longer what is under observation" in soak.tick(world.host).comment
    found = armed.read_armed(world.host)
    assert found is not None
    assert found.name == "lp_2"


def test_what_has_gone_is_disarmed(world: World, kmsg: None) -> None:
    """Taken out by somebody else."""
    assert apply(world.host, Wish(level=1, reason="a test")).result is True
    world.kernel.write_enabled(world.host.roots, "lp_1", False)
    world.kernel.settle()
    assert "is no longer in the kernel: disarmed" in soak.tick(world.host).comment
    assert armed.read_armed(world.host) is None


@pytest.fixture
def kmsg(world: World) -> None:
    """An empty kernel log that can be read."""
    path = world.host.roots.dev / "kmsg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


# -- a transition that takes its time ------------------------------------------------------------------------


def waited_for(world: World, act: Callable[[Host], Outcome], seconds: float) -> Outcome:
    """An act that waits until the transition of level 1 ends by itself."""
    world.options.update(patience=2 * seconds, on_stall=OnStall.WAIT)
    world.kernel.stalls.add(("lp_1", True))
    end = world.kernel.seconds + seconds

    def pause(_: float) -> None:
        later(world, 5.0)
        if world.kernel.seconds >= end:
            world.kernel.stalls.clear()
        world.kernel.tick()

    return act(replace(world.host, pause=pause))


@pytest.mark.parametrize("at_boot", [False, True])
def test_a_soak_counts_from_the_end_of_the_transition(world: World, kmsg: None, at_boot: bool) -> None:
    if at_boot:
        assert world.apply(1).result is True
        assert persist.persist(world.host).result is True
        soak.tick(world.host)
        assert proven_by_ticks(world)
        world.kernel.boot("boot-2")
    act = boot.start if at_boot else lambda host: apply(host, Wish(level=1, reason="a test"))
    assert waited_for(world, act, 2000.0).result is True
    assert world.patches == ["lp_1"]
    later(world, 30)
    assert "no check is due" in soak.tick(world.host).comment
    assert proven_by_ticks(world)


def test_a_soak_begins_when_a_transition_left_running_has_ended(world: World, kmsg: None) -> None:
    world.kernel.stalls.add(("lp_1", True))
    apply(world.host, Wish(level=1, reason="a test", on_stall=OnStall.KEEP))
    for _ in range(20):
        later(world, 60)
        assert "lp_1 is patching; its soak begins when that has ended" in soak.tick(world.host).comment
    world.kernel.stalls.clear()
    world.kernel.settle()
    later(world, 30)
    assert "no check is due" in soak.tick(world.host).comment
    assert proven_by_ticks(world)


# -- a load of which no sample was kept ----------------------------------------------------------------------


def killed_in_its_transition(world: World, level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever applied the level is gone before its transition ended; the kernel goes on."""
    with monkeypatch.context() as patch:
        patch.setattr(change, "watch", killed)
        with pytest.raises(Killed):
            apply(world.host, Wish(level=level, reason="a test"))
    world.kernel.settle()


def killed(*_: object) -> None:
    raise Killed


def proven_by_ticks(world: World) -> bool:
    """Whether a soak that begins now ends well."""
    for seconds in (61.0, 301.0, 601.0):
        later(world, seconds)
        said = soak.tick(world.host)
        assert said.result is True, said.comment
    return "counts as proven" in said.comment


@pytest.mark.parametrize("restarted", [True, False])
def test_a_load_is_never_judged_by_the_sample_of_another(
    world: World, kmsg: None, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    """Not even of one of the same module: the host was restarted since, or had a fault in between."""
    assert apply(world.host, Wish(level=1, reason="a test")).result is True
    if restarted:
        boot.stop(world.host)
        world.kernel.boot("boot-2")
    else:
        assert world.revert().result is True
        (world.host.roots.dev / "kmsg").write_text(f"4,7,1,-;{OOPS}\n")
    killed_in_its_transition(world, 1, monkeypatch)
    later(world, 61)
    said = soak.tick(world.host)
    assert (said.result, world.patches) == (True, ["lp_1"])
    assert "its soak begins anew" in said.comment
    assert proven_by_ticks(world)


def test_a_soak_that_was_given_back_goes_on(
    world: World, kmsg: None, sshd: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An apply of level 2 died before it began; the next act gives its soak back to level 1, which has broken
    a service meanwhile: a baseline taken now would call that well."""
    world.options["services"] = ("sshd",)
    assert apply(world.host, Wish(level=1, reason="a test")).result is True
    later(world, 61)
    assert "lp_1 is well" in soak.tick(world.host).comment
    before = armed.read_armed(world.host)
    with monkeypatch.context() as patch:
        patch.setattr(loading, "init_module", killed)
        with pytest.raises(Killed):
            apply(world.host, Wish(level=2, reason="a test"))
    sshd.append("failed")
    assert apply(world.host, Wish(level=1, reason="a test")).result is True
    assert armed.read_armed(world.host) == before
    later(world, 240)
    outcome = soak.tick(world.host)
    assert (outcome.result, outcome.kind, world.patches) == (False, Kind.HEALTH, [])


@pytest.mark.parametrize("of", ["this load", "another module", "another boot"])
def test_the_sample_that_an_older_version_kept(world: World, kmsg: None, sshd: list[str], of: str) -> None:
    """The extension was updated in a soak."""
    world.options["services"] = ("sshd",)
    assert apply(world.host, Wish(level=1, reason="a test")).result is True
    path, before = world.host.settings.health_file, health.baseline(world.host, None)
    assert before is not None
    sample = replace(before, boot_id="boot-0") if of == "another boot" else before
    sha256 = world.levels[2 if of == "another module" else 1].sha256
    write_document(path, {"sha256": sha256, "before": sample.document()})
    sshd.append("failed")
    later(world, 61)
    outcome = soak.tick(world.host)
    assert (outcome.kind is Kind.HEALTH) is (of == "this load")
    assert ("its soak begins anew" in outcome.comment) is (of != "this load")


def test_a_restart_under_a_level_that_is_armed_still_shows(world: World, kmsg: None) -> None:
    """For whoever asks for the health of a host that went down and came back without the level."""
    assert apply(world.host, Wish(level=1, reason="a test")).result is True
    world.kernel.boot("boot-2")
    seen = soak.check_now(world.host)
    assert (seen.verdict, seen.reason) == (FAIL, "the host was restarted meanwhile")


def test_left_in_its_transition_a_level_is_judged_by_what_was_before(world: World, kmsg: None) -> None:
    world.kernel.stalls.add(("lp_1", True))
    outcome = apply(world.host, Wish(level=1, reason="a test", on_stall=OnStall.KEEP))
    assert outcome.kind is Kind.STALLED
    world.kernel.stalls.clear()
    world.kernel.settle()
    (world.host.roots.dev / "kmsg").write_text(f"4,7,1,-;{OOPS}\n")
    later(world, 61)
    outcome = soak.tick(world.host)
    assert (outcome.result, outcome.kind, world.patches) == (False, Kind.HEALTH, [])


def test_no_room_for_the_sample(world: World, kmsg: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The level is in force; the soak begins once there is room, and persist tells the truth."""

    def full(path: Path, document: Mapping[str, Any]) -> None:
        raise LivepatchError(Kind.JOURNAL, f"{path} could not be written (No space left on device).")

    with monkeypatch.context() as patch:
        patch.setattr(health, "write_document", full)
        outcome = apply(world.host, Wish(level=1, reason="a test"))
    assert outcome.result is True
    assert "No space left" in outcome.details["health_error"]
    assert persist.persist(world.host).result is True
    soak.tick(world.host)
    assert proven_by_ticks(world)
    assert [one.level for one in store.read_store(world.host, BUILD_ID)] == [1]


def test_a_sample_that_nothing_can_be_judged_by(world: World, kmsg: None) -> None:
    """The kernel's log could not be read then; now it can."""
    path = world.host.roots.dev / "kmsg"
    path.unlink()
    assert apply(world.host, Wish(level=1, reason="a test")).result is True
    later(world, 61)
    said = soak.tick(world.host)
    assert (said.result, "the kernel's log could not be read" in said.comment) == (True, True)
    path.touch()
    assert "its soak begins anew" in soak.tick(world.host).comment
    assert proven_by_ticks(world)


def test_a_module_loaded_by_hand_is_not_armed_for_ever(world: World, kmsg: None) -> None:
    world.options["allow_load"] = True
    assert world.load(world.levels[1]).result is True
    soak.tick(world.host)
    assert proven_by_ticks(world)


# -- the timer asks by salt-call -----------------------------------------------------------------------------

SALT_CALL = """#!/usr/bin/python3
import json, sys
at = sys.argv.index("json") + 1
if sys.argv[at] == "broken.function":
    print("Error running 'broken.function': x", file=sys.stderr)
    sys.exit(1)
print(json.dumps({"local": [sys.argv[1:4], sys.argv[at], [json.loads(one) for one in sys.argv[at + 1:]]]}))
"""


@pytest.fixture
def salt_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin/salt-call"
    program.parent.mkdir()
    program.write_text(SALT_CALL)
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin/python3"))


def test_salt_call_without_a_minion(salt_call: None) -> None:
    answer = saltcall.ask(Path("/etc/salt"), "net.ping", ["10.0.0.1", 3])
    assert answer == [["--local", "--config-dir", "/etc/salt"], "net.ping", ["10.0.0.1", 3]]
    with pytest.raises(LivepatchError, match="gave no answer") as caught:
        saltcall.ask(Path("/etc/salt"), "broken.function", [])
    assert caught.value.kind is Kind.INTERNAL  # a probe that cannot be asked is inconclusive


def test_no_salt_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LivepatchError, match="no salt-call"):
        saltcall.ask(Path("/etc/salt"), "test.ping", [])


def test_only_the_timer_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A boot and a shutdown wait for no probe."""
    given: dict[str, bool] = {}

    def noted(act: str) -> Callable[[Host], Outcome]:
        def call(host: Host) -> Outcome:
            given[act] = host.ask is not None
            return Outcome(True, "")

        return call

    monkeypatch.setattr(unit, "ACTS", {act: noted(act) for act in unit.ACTS})
    for act in unit.ACTS:
        unit.run(act, tmp_path)
    assert given == {"start": False, "stop": False, "tick": True}
