"""What the verbs share: which rollout is meant, plans that are kept, who adopts, what Ctrl-C means."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from livepatch_core.catalog.settings import Master
from livepatch_core.errors import LivepatchError
from livepatch_core.ledger.acts import approve
from livepatch_core.ledger.model import Grant
from livepatch_core.ledger.rollouts import approve_once, words
from livepatch_core.rollout import adoption, commands, driver, journal, owner, status, verbs
from livepatch_core.rollout.clock import SystemClock
from livepatch_core.rollout.detaching import Answer, Presses
from livepatch_core.rollout.keeper import Keeper
from livepatch_core.rollout.model import Plan
from livepatch_core.rollout.owner import OwnerKind
from livepatch_core.rollout.state import State
from livepatch_core.rollout.states import Place
from livepatch_core.words import Kind
from tests.unit.catalog.modules import master_in
from tests.unit.ledger.grants import BY
from tests.unit.rollout.fleets import BUILDS, KERNEL, NEW_BUILD, NEW_LEVEL, fleet, host, plan_of, uncovered
from tests.unit.rollout.simulated import World, begin, drive, new_world
from tests.unit.rollout.test_restarts import OPTIONS as RESTARTS

CLOCK = SystemClock()
PLAIN = {"who": "bob", "at": "", "why": ""}
ELSEWHERE = {KERNEL: Grant(0, None), NEW_BUILD: Grant(NEW_LEVEL, "e" * 64)}
FAILS: dict[str, Any] = {"on_fail_canary": "pause", "waves": ["100%"], "late": "report"}


@pytest.fixture
def master(tmp_path: Path) -> Master:
    return master_in(tmp_path)


def started(master: Master, plan: Plan, **ways: str) -> tuple[Path, World]:
    """Its approvals are in the real ledger."""
    master.state_dir.mkdir(exist_ok=True)
    world = new_world(master.state_dir / "world.json", plan, ways)
    for one in world.data["hosts"].values():
        one["rev"] = 0

    def approving(act: str, hosts: Any, grants: Any, by: Any, seen: Any = None) -> Any:
        wanted = {build: Grant(one.level, one.sha256) for build, one in grants.items()}
        return approve_once(master, act, hosts, wanted, BY, seen)

    world.approve = approving  # type: ignore[method-assign]
    world.ledger = lambda hosts: words(master.state_dir, hosts)  # type: ignore[method-assign]
    return begin(verbs.root(master), plan, world), world


def paused(master: Master) -> Path:
    """A rollout that waits for a person: its canaries failed."""
    plan = plan_of(fleet(4), FAILS)
    directory, world = started(master, plan, **dict.fromkeys(plan.waves[0], "fails"))
    state = drive(directory, world, adoption.waits)
    assert adoption.waits(state)
    return directory


def test_one_sentence_says_who_and_why(master: Master) -> None:
    skewed = [host(f"old{number}", version="0.9") for number in range(2)]
    plan = plan_of([*fleet(6), *skewed], FAILS)
    directory, world = started(master, plan, **dict.fromkeys(plan.waves[0], "fails"))
    drive(directory, world, adoption.waits)
    said = verbs.concluded(status.read(directory), world.now())["comment"]
    assert "2 ineligible (2 version skew)" in said, said
    assert said.count("(failed): ") == len(plan.waves[0]) <= verbs.NAMED, said
    assert all(f"{name} (failed): " in said for name in plan.waves[0])


def test_the_rollout_that_is_meant(master: Master) -> None:
    folder = verbs.root(master)
    for ended, said in ((False, r"No rollout is active; .*rollback .*rollout_id="), (True, "no rollout yet")):
        with pytest.raises(LivepatchError, match=said):
            verbs.find(folder, None, ended=ended)
    directory, world = started(master, plan_of(fleet(2)))
    assert verbs.find(folder, None) == verbs.find(folder, directory.name) == directory
    drive(directory, world)
    with pytest.raises(LivepatchError, match="No rollout is active"):
        verbs.find(folder, None)
    assert verbs.find(folder, None, ended=True) == directory
    for wrong in ("../../etc", ".", "", 7, "20200101-000000-abcd"):
        with pytest.raises(LivepatchError, match="no rollout"):
            verbs.find(folder, wrong)


def test_plans_are_kept_by_their_hash(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(fleet(2))
    name = verbs.keep_plan(master, plan)
    assert verbs.read_plan(master, name, {}) == plan
    for wrong in (name[:6], "0" * 12, "../x", 3):
        with pytest.raises(LivepatchError, match="is kept.*Plan again: livepatch.plan"):
            verbs.read_plan(master, wrong, {})
    monkeypatch.setattr(verbs, "PLANS_KEPT", 1)
    os.utime(master.state_dir / "plans" / f"{name}.json", (1, 1))
    verbs.keep_plan(master, plan_of(fleet(3)))
    with pytest.raises(LivepatchError, match="is kept"):
        verbs.read_plan(master, name, {})


def test_a_rollout_of_nobody_is_not_started() -> None:
    assert verbs.refuse_idle(plan_of(fleet(2))) is None
    assert verbs.refuse_idle(plan_of([host("a", online=False)])) is None  # catches up
    assert "at level 2 already" in str(verbs.refuse_idle(plan_of([host("a", level=2)])))
    with pytest.raises(LivepatchError, match="No host would move.*blocked"):
        verbs.refuse_idle(plan_of(fleet(2), blocked=dict.fromkeys({one.build_id for one in fleet(2)}, "bad")))


def test_a_command_where_nobody_drives_is_journaled_by_its_verb(master: Master) -> None:
    directory = paused(master)
    world = World(master.state_dir / "world.json", {})
    with pytest.raises(LivepatchError, match="acknowledge=failed"):
        verbs.command(directory, world, CLOCK, "resume", "bob", "why", {})
    name, state = verbs.command(directory, world, CLOCK, "abort", "bob", "why", {})
    record = verbs.obeyed(directory, world, CLOCK, name, 0.0)
    assert record is not None
    assert (record["type"], record["who"]) == ("command", "bob")
    assert str(state.standing) in ("aborting", "aborted")


def ended(master: Master, **ways: str) -> tuple[Path, World, dict[str, Grant]]:
    """A rollout of four hosts, and its grants."""
    plan = plan_of(fleet(4))
    directory, world = started(master, plan, **ways)
    grants = {build: Grant(one.level, one.sha256) for build, one in plan.grants.items()}
    drive(directory, world)
    return directory, world, grants


def rolled_back(master: Master, directory: Path, world: World, scope: str = "all") -> State:
    keep = verbs.taken_on(master, directory, "rollback", scope)
    verbs.command(directory, world, CLOCK, "rollback", "bob", "why", {"scope": scope, "keep": keep})
    return drive(directory, world)


def test_who_was_taken_on_since_stays_there(master: Master) -> None:
    directory, world, grants = ended(master)
    names = list(status.read(directory).hosts)
    higher, lower = ({build: Grant(level, "a" * 64) for build in grants} for level in (3, 1))
    approve(master, names[:1], higher, BY)
    approve(master, names[1:2], lower, BY)  # by hand, to where the rollback would bring it
    assert verbs.taken_on(master, directory, "rollback", "all") == {names[0]: 3}
    state = rolled_back(master, directory, world)
    places = [str(state.hosts[name].place) for name in names]
    assert places == ["healthy", "rolled_back", "rolled_back", "rolled_back"]
    assert f"1 hosts stay where they were approved to be since ({names[0]}: level 3)" in state.reason
    assert world.data["hosts"][names[0]]["level"] == 2, "nobody told it anything"


def stayed(master: Master) -> tuple[Path, World, str]:
    """A rollout by kexec that has ended; one host never left its kernel."""
    facts = {"build_id": BUILDS[0], "level": 1, "verdict": "patched"}
    hosts = [uncovered(f"hv{number}", domain=f"rack{number % 2}", **facts) for number in range(4)]
    plan = plan_of(hosts, {**RESTARTS, "method": "kexec", "waves": ["100%"]})
    victim = plan.waves[1][0]
    directory, world = started(master, plan, **{victim: "fails"})
    approve(master, [victim], {BUILDS[0]: Grant(2, "2" * 64)}, BY)  # an earlier rollout, which failed there
    drive(directory, world)
    return directory, world, victim


def test_who_never_left_its_kernel_and_was_taken_on_since_stays_there(master: Master) -> None:
    directory, world, victim = stayed(master)
    assert victim not in verbs.taken_on(master, directory, "rollback", "all"), (
        "what it had before is nobody's word since"
    )
    approve(master, [victim], {BUILDS[0]: Grant(3, "3" * 64)}, BY)
    with pytest.raises(LivepatchError, match=f"{victim}: level 3") as refused:
        verbs.taken_on(master, directory, "rollback", "all")
    assert refused.value.kind is Kind.SUPERSEDED, "the others run their new kernel"


def test_who_was_taken_to_another_kernel_since_stays_there(master: Master) -> None:
    """What it was approved for in its old one stands beside that, and is no word about where it is."""
    directory, world, _ = ended(master)
    names = list(status.read(directory).hosts)
    name = names[0]
    approve(master, names, {NEW_BUILD: Grant(NEW_LEVEL, "e" * 64)}, BY)  # by hand, whoever runs that build
    assert verbs.taken_on(master, directory, "rollback", "all") == {}
    approve(master, [name], ELSEWHERE, BY)
    world.data["hosts"][name].update(build=NEW_BUILD, kernel=KERNEL, level=NEW_LEVEL, boots=2)
    assert verbs.taken_on(master, directory, "rollback", "all") == {name: NEW_LEVEL}
    state = rolled_back(master, directory, world)
    assert str(state.standing) == "rolled_back" and name in state.reason
    assert world.data["hosts"][name]["level"] == NEW_LEVEL


def test_nobody_left_to_roll_back(master: Master) -> None:
    directory, _, grants = ended(master)
    names = list(status.read(directory).hosts)
    approve(master, names, {build: Grant(3, "3" * 64) for build in grants}, BY)
    with pytest.raises(LivepatchError, match="All 4 hosts.*level 3") as refused:
        verbs.taken_on(master, directory, "rollback", "all")
    assert refused.value.kind is Kind.SUPERSEDED


def test_who_is_not_of_the_wave_is_not_asked(master: Master) -> None:
    directory, _, grants = ended(master)
    state = status.read(directory)
    canary = next(name for name, host in state.hosts.items() if host.lap != state.lap)
    approve(master, [canary], {build: Grant(3, "3" * 64) for build in grants}, BY)
    assert verbs.taken_on(master, directory, "rollback", "wave") == {}
    assert verbs.taken_on(master, directory, "rollback", "all") == {canary: 3}


@pytest.mark.parametrize("how", ["stuck", "aborted"])
def test_what_a_rollback_left_behind_is_rolled_back_again(master: Master, how: str) -> None:
    """Its own way back is nobody else's word."""
    victim = plan_of(fleet(4)).waves[0][0]
    directory, world, grants = ended(master, **({victim: "stuck"} if how == "stuck" else {}))
    if how == "aborted":
        verbs.command(directory, world, CLOCK, "rollback", "bob", "why", {})
        drive(directory, world, lambda state: state.back_approved)
        verbs.command(directory, world, CLOCK, "abort", "bob", "why", {})
        state = drive(directory, world)
    else:
        state = rolled_back(master, directory, world)
    assert str(state.standing) == {"stuck": "rollback_failed", "aborted": "aborted"}[how]
    left = [name for name, one in state.hosts.items() if one.place is not Place.ROLLED_BACK]
    assert victim in left
    world.data["hosts"][victim].update(way="well", jammed=False)
    assert str(rolled_back(master, directory, world).standing) == "rolled_back"


def test_a_command_for_a_rollout_that_is_driven_is_left_for_its_owner(master: Master) -> None:
    directory = paused(master)
    world = World(master.state_dir / "world.json", {})
    with owner.hold(directory, OwnerKind.ENGINE, "alice", CLOCK):
        name, _ = verbs.command(directory, world, CLOCK, "abort", "bob", "why", {})
        assert verbs.obeyed(directory, world, CLOCK, name, 0.0) is None
    assert len(commands.waiting(directory)) == 1


def test_a_command_that_comes_too_late_is_told_so(master: Master) -> None:
    """After the end nothing is journaled: that nothing came of it is said by what the rollout is."""
    directory, world = started(master, plan_of(fleet(4)))
    with owner.hold(directory, OwnerKind.ENGINE, "alice", CLOCK) as mine:
        given, _ = verbs.command(directory, world, CLOCK, "abort", "bob", "why", {})
        files = {path: path.read_bytes() for path in commands.waiting(directory)}
        for path in files:
            path.unlink()
        driver.drive(directory, world, world, owner=mine)
        for path, data in files.items():  # it came between its last look and the end
            path.write_bytes(data)
        driver.settle(directory, world, world, owner=mine)
    assert commands.waiting(directory) == []
    with pytest.raises(LivepatchError, match="completed.*abort goes with.*nothing was changed") as caught:
        verbs.obeyed(directory, world, CLOCK, given, 0.0)
    assert caught.value.kind is Kind.ARGUMENT


def test_a_rollback_that_another_process_refused_is_told_so(master: Master) -> None:
    directory, world, _ = ended(master)
    with owner.hold(directory, OwnerKind.ENGINE, "alice", CLOCK) as mine:
        given, _ = verbs.command(directory, world, CLOCK, "rollback", "bob", "why", {})
        other = driver.start(directory.parent, plan_of(fleet(4), {"seed": 99}), PLAIN, world)
        with pytest.raises(LivepatchError, match=other):
            driver.settle(directory, world, CLOCK, owner=mine)
    with pytest.raises(LivepatchError, match=other):
        verbs.obeyed(directory, world, CLOCK, given, 0.0)
    drive(directory.parent / other, world)
    with pytest.raises(LivepatchError, match="rollback.*was not taken up.*give it again"):
        verbs.obeyed(directory, world, CLOCK, given, 0.0)


def test_what_a_verb_returns_is_good_where_it_came_to_what_it_is_for(master: Master) -> None:
    state = status.read(paused(master))
    assert verbs.concluded(state, 0.0)["result"] is False
    directory, world = started(master, plan_of([host("other1"), host("other2")]))
    assert verbs.concluded(drive(directory, world), 0.0)["result"] is True
    assert verbs.concluded(status.read(directory), 0.0, "abort")["result"] is False
    assert verbs.concluded(status.read(directory), 0.0, "rollback")["result"] is False


def test_orphans(master: Master) -> None:
    """Those that have something to do and nobody who does it; one that waits is not read over and over."""
    directory = paused(master)
    orphans = adoption.Orphans(verbs.root(master))
    assert orphans.found() == []
    commands.submit(directory, "resume", "bob", "why", {"acknowledge": "failed"}, CLOCK)
    assert orphans.found() == [directory]
    with owner.hold(directory, OwnerKind.FOREGROUND, "bob", CLOCK):
        assert orphans.found() == []
    assert orphans.found() == [directory]


def test_a_rollout_that_cannot_be_read_is_said_and_stops_no_other(master: Master) -> None:
    first, _ = started(master, plan_of(fleet(2)))
    path = first / journal.FILE_NAME
    data = path.read_bytes()
    path.write_bytes(data.replace(b"planned", b"pLanned"))  # not the last line, which could be torn
    orphans = adoption.Orphans(verbs.root(master))
    assert orphans.found() == []
    assert list(orphans.problems) == [first.name]


def test_engine_is_alive_for_as_long_as_it_lives(master: Master) -> None:
    folder = verbs.root(master)
    folder.mkdir(parents=True)
    assert not adoption.alive(folder)
    with adoption.engine(folder):
        assert adoption.alive(folder)
        with pytest.raises(LivepatchError, match="Another livepatch engine"), adoption.engine(folder):
            raise AssertionError
    assert not adoption.alive(folder)


def test_a_killed_engine_is_replaced_while_one_of_its_drivers_lives(master: Master) -> None:
    started(master, plan_of(fleet(2)))
    folder, (here, there) = verbs.root(master), os.pipe()

    def drive_on(_found: Path) -> None:
        os.write(there, str(os.getpid()).encode())
        signal.pause()

    def keep() -> None:
        with adoption.engine(folder) as lock:
            Keeper(folder, drive_on, CLOCK, lambda _said: None, lock).turn()
            signal.pause()

    process = multiprocessing.get_context("fork").Process(target=keep)
    process.start()
    driver_of_it = int(os.read(here, 20))
    try:
        assert adoption.alive(folder)
        process.kill()
        process.join()
        assert not adoption.alive(folder)
        with adoption.engine(folder):
            assert adoption.alive(folder)
    finally:
        os.kill(driver_of_it, signal.SIGKILL)
        os.close(here)
        os.close(there)


def test_keeper_takes_over_and_waits_after_a_failure(master: Master) -> None:
    directory, _ = started(master, plan_of(fleet(2)))
    marks, said = master.state_dir / "marks", list[str]()

    def drive_badly(found: Path) -> None:
        with marks.open("a") as stream:
            stream.write(f"{found.name}\n")
        os._exit(3)

    with adoption.engine(verbs.root(master)) as lock:
        keeper = Keeper(verbs.root(master), drive_badly, CLOCK, said.append, lock)
        deadline = time.monotonic() + 30
        while not any("ended with 3" in line for line in said):
            assert time.monotonic() < deadline
            keeper.turn()
            time.sleep(0.02)
        for _ in range(20):
            keeper.turn()
    assert marks.read_text() == f"{directory.name}\n"  # once: the next try is seconds away


class Times:
    def __init__(self) -> None:
        self.t = 0.0

    def now(self) -> float:
        return self.t

    def monotonic(self) -> float:
        return self.t


def test_ctrl_c() -> None:
    clock = Times()
    presses = Presses(clock)
    assert presses.answer(lambda: True) is Answer.STAY
    presses.press()
    assert presses.answer(lambda: False) is Answer.EXPLAIN
    assert presses.answer(lambda: False) is Answer.STAY
    clock.t = 60
    presses.press()
    assert presses.answer(lambda: False) is Answer.EXPLAIN  # long after the first: explained again
    clock.t = 63
    presses.press()
    assert presses.answer(lambda: False) is Answer.PAUSE
    assert presses.answer(lambda: True) is Answer.LEAVE


def test_a_rollout_that_cannot_be_read_hides_no_other(master: Master) -> None:
    """It is in its line, with why."""
    directory, world = started(master, plan_of(fleet(2)))
    drive(directory, world)
    path = directory / journal.FILE_NAME
    path.write_bytes(path.read_bytes().replace(b'"approve"', b'"approvE"', 1))
    other, _ = started(master, plan_of(fleet(2), {"seed": 99}))
    lines = {one["id"]: one for one in verbs.listing(verbs.root(master))}
    assert lines[other.name]["state"] == "running"
    damaged = lines[directory.name]
    assert damaged["state"] == "unknown" and "of the rollout's journal" in damaged["reason"]
    assert damaged.keys() == lines[other.name].keys()
