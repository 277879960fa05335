"""A process that dies at any moment of any act: the next act ends at the level, and the journal is right.

Every boundary is tried, none is sampled: before each write, sync, rename, truncation and system call, and in
the middle of each append. Between death and the next act the kernel goes on as far as it can, or not at all,
or the machine is restarted. The kernel is a stand-in; tests/kernel kills real processes on real ones.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from livepatch_core.host.journal import JournalState
from livepatch_core.host.outcome import Outcome
from livepatch_core.words import OnStall
from tests.unit.host.boundaries import Boundaries, Killed
from tests.unit.host.conftest import levels
from tests.unit.host.world import World, build_world

Step = Callable[[World], object]


@dataclass(frozen=True)
class Scenario:
    """begin: what there was. act: what is killed. again: what somebody does until it is as it should be."""

    begin: tuple[Step, ...]
    act: Step
    again: tuple[Callable[[World], Outcome], ...]
    patches: tuple[str, ...]


def to(level: int, on_stall: OnStall | None = None) -> Callable[[World], Outcome]:
    return lambda world: world.apply(level, on_stall=on_stall)


def approved(rev: int, level: int) -> Callable[[World], Outcome]:
    return lambda world: world.apply(approval=world.approval(rev, level))


def stall(*directions: tuple[str, bool]) -> Step:
    return lambda world: world.kernel.stalls.update(directions)


def takes_back(world: World) -> None:
    world.kernel.takes_back.add("lp_1")


def back(world: World) -> Outcome:
    return world.revert()


def force(world: World) -> Outcome:
    return world.force("lp_1")


KEEP = OnStall.KEEP
SCENARIOS = {
    "load": Scenario((), to(1), (to(1),), ("lp_1",)),
    "load approved": Scenario((), approved(7, 1), (approved(7, 1),), ("lp_1",)),
    "replace": Scenario((to(1),), to(2), (to(2),), ("lp_2",)),
    "disable": Scenario((to(1),), to(0), (to(0),), ()),
    "down by way of 0": Scenario((to(3),), to(2), (to(2),), ("lp_2",)),
    "load stalls": Scenario((to(2), stall(("lp_1", True))), to(1), (to(1),), ("lp_1",)),
    "disable stalls": Scenario((to(1), stall(("lp_1", False))), to(0), (to(0),), ()),
    "load and reversal stall": Scenario(
        (stall(("lp_1", True), ("lp_1", False)),), to(1), (to(1), to(1)), ("lp_1",)
    ),
    "load is reversed": Scenario((stall(("lp_1", True)), to(1, KEEP)), back, (back, to(0)), ()),
    "disable is reversed": Scenario(
        (to(1), stall(("lp_1", False)), to(0, KEEP)), back, (back, to(1)), ("lp_1",)
    ),
    "reversal stalls": Scenario(
        (stall(("lp_1", True), ("lp_1", False)), to(1, KEEP)), back, (back, to(0)), ()
    ),
    "load is taken back": Scenario((takes_back,), to(1), (to(1),), ("lp_1",)),
    "force": Scenario((stall(("lp_1", True)), to(1, KEEP)), force, (to(1),), ("lp_1",)),
}


def at_once(world: World) -> None:
    """The next act comes before the kernel has moved on; what stalled stalls on, and is tried again later."""


def settled(world: World) -> None:
    world.kernel.stalls.clear()
    world.kernel.takes_back.clear()
    world.kernel.settle()


def rebooted(world: World) -> None:
    world.kernel.stalls.clear()
    world.kernel.takes_back.clear()
    world.kernel.boot("boot-2")


MEANWHILE = (at_once, settled, rebooted)


@pytest.fixture
def new_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], World]:
    numbers = itertools.count()

    def make(scenario: Scenario) -> World:
        world = levels(build_world(tmp_path / str(next(numbers)), monkeypatch))
        world.options["allow_force"] = True
        with Boundaries(at=1_000_000).around():
            for step in scenario.begin:
                step(world)
        return world

    return make


def die(world: World, act: Step, at: int) -> bool:
    """Whether the process died; False: the act had fewer boundaries."""
    try:
        with Boundaries(at).around():
            act(world)
    except Killed:
        return True
    return False


@pytest.mark.parametrize("meanwhile", MEANWHILE, ids=lambda step: step.__name__)
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_next_act_makes_it_right(
    new_world: Callable[[Scenario], World], name: str, meanwhile: Step
) -> None:
    scenario = SCENARIOS[name]
    died = 0
    for at in itertools.count():
        world = new_world(scenario)
        if not die(world, scenario.act, at):
            break
        died += 1
        meanwhile(world)
        with Boundaries(at=1_000_000).around():
            outcome = finish(world, scenario)
        where = f"killed at boundary {at}: {outcome.comment}"
        assert outcome.result is True, where
        assert world.patches == list(scenario.patches), where
        assert sorted(world.kernel.modules) == list(scenario.patches), where
        meddled = takes_back in scenario.begin
        check_journal(world, where, meanwhile is rebooted, meddled)
    assert died > 8  # the boundaries are met at all


def finish(world: World, scenario: Scenario) -> Outcome:
    """Ask once as things are; then, with nothing stalling any more, as often as the scenario says."""
    scenario.again[0](world)
    settled(world)
    outcomes = [act(world) for act in scenario.again]
    return outcomes[-1]


def check_journal(world: World, where: str, restarted: bool, meddled: bool = False) -> None:
    """meddled: somebody else turned something round, which is no act of ours."""
    assert world.record.intent is None, where
    assert world.verified is JournalState.WHOLE, where
    lines = world.journal
    assert len({line["id"] for line in lines}) == len(lines), where
    written = Counter((line["act"], line["patch"]) for line in lines if line["act"] != "reverse")
    really = Counter(act for act in world.kernel.changed if act[0] != "reverse")
    surplus, lost = written - really, really - written
    assert not lost, f"{where}: not in the journal: {lost}"
    if any(line["act"] == "force" and "recovered" in line for line in lines):
        # Whether the end of a transition was forced or came by itself cannot be seen: the host owes a reboot.
        surplus -= Counter({("force", "lp_1"): 1})
        assert world.record.forced, where
    if restarted:  # whether an act had begun cannot be known then: it stands there as cut off
        cut_off = Counter((line["act"], line["patch"]) for line in lines if line["ending"] == "cut-off")
        surplus -= cut_off
    assert not surplus, f"{where}: in the journal, but not in the kernel: {surplus}"
    if not (restarted or meddled):
        turned = sum(line["act"] == "reverse" or line["ending"].startswith("reverse") for line in lines)
        assert turned == sum(act == "reverse" for act, _ in world.kernel.changed), where


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_full_disk_is_said_and_nothing_is_lost(new_world: Callable[[Scenario], World], name: str) -> None:
    """Full from any write on: what the outcome says is what the kernel is, and later the journal is whole."""
    scenario = SCENARIOS[name]
    for at in itertools.count():
        world = new_world(scenario)
        before, changed = world.patches, list(world.kernel.changed)
        disk = Boundaries(at, full=True)
        with disk.around():
            outcome = scenario.act(world)
        if disk.count <= at:
            break
        assert isinstance(outcome, Outcome)
        where = f"full at boundary {at}: {outcome.comment}"
        said = "missing for good" in outcome.comment
        assert (world.patches != before) == ("patches" in outcome.changes), where
        if "nothing was changed" in outcome.comment:
            assert world.kernel.changed == changed, where
        settled(world)
        with Boundaries(at=1_000_000).around():
            outcome = finish(world, scenario)
        assert outcome.result is True, f"{where}; then {outcome.comment}"
        assert world.patches == list(scenario.patches), where
        if not said:  # reversed while not a byte could be written: nothing remembers it, and that is said
            check_journal(world, where, restarted=False, meddled=takes_back in scenario.begin)
