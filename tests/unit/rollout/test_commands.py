"""What operators may say, when, and what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.rollout import adoption, commands, driver, journal, owner, returning, status, verbs
from livepatch_core.rollout.clock import SystemClock
from livepatch_core.rollout.commands import LEGAL, Order, may
from livepatch_core.rollout.fleet import FleetError, Verb
from livepatch_core.rollout.fold import fold
from livepatch_core.rollout.owner import OwnerKind
from livepatch_core.rollout.records import Type
from livepatch_core.rollout.state import State
from livepatch_core.rollout.state import begin as fresh
from livepatch_core.rollout.states import ENDED, Phase, Place, Standing
from livepatch_core.words import Kind
from tests.unit.rollout.fleets import fleet, plan_of
from tests.unit.rollout.simulated import begin, drive, new_world, places
from tests.unit.rollout.test_engine import OPTIONS, TOLERANT, a_plan

STRICT = {**TOLERANT, "failed": {"wave": 0, "total": 0}}


class Under:
    """A rollout and its operators."""

    def __init__(self, tmp_path: Path, plan: Any, ways: dict[str, str] | None = None) -> None:
        self.world = new_world(tmp_path / "world.json", plan, ways or {})
        self.directory = begin(tmp_path / "rollouts", plan, self.world)

    def say(self, verb: str, **arguments: Any) -> None:
        commands.submit(self.directory, verb, "bob", "ticket 7", arguments, self.world)

    def until(self, condition: Any) -> State:
        return drive(self.directory, self.world, condition)

    def paused(self) -> State:
        return self.until(lambda state: state.standing is Standing.PAUSED and not state.in_flight())

    def end(self) -> State:
        return drive(self.directory, self.world)


def at(phase: Phase, lap: int) -> Any:
    return lambda state: state.phase is phase and state.lap == lap


def a_state(standing: Standing) -> State:
    state = fresh("r", plan_of(fleet(6), OPTIONS))
    state.standing, state.reason, state.phase = standing, "so it is", Phase.SOAK
    name = state.plan.waves[0][0]
    state.put(name, Place.FAILED)
    state.hosts[name].forward_rev = 3
    return state


ARGUMENTS: dict[Order, dict[str, Any]] = {Order.SKIP: {"wave": 1}}


@pytest.mark.parametrize("standing", list(Standing))
@pytest.mark.parametrize("verb", [one for one in Order if one is not Order.CONFIRM])
def test_the_table(verb: Order, standing: Standing) -> None:
    """Legal, or refused with a sentence that says what it is and what would be legal."""
    refusal = may(verb, a_state(standing), ARGUMENTS.get(verb, {}))
    assert (refusal is None) == (standing in LEGAL[verb])
    assert refusal is None or (str(standing) in refusal and "so it is" in refusal)


def test_to_try_again_is_not_to_go_on_without(tmp_path: Path) -> None:
    """A canary that fails once more is told of once more."""
    plan = a_plan(on_fail_canary="pause")
    under = Under(tmp_path, plan, dict.fromkeys(plan.waves[0], "fails"))
    assert "no canary" in under.paused().reason
    under.say("retry")
    under.until(lambda state: state.standing is Standing.RUNNING)
    assert "no canary" in under.paused().reason
    assert all(not one.forward_rev for one in under.paused().hosts.values() if one.placing.wave)


def test_every_canary_that_is_tried_again_goes_with_the_canaries(tmp_path: Path) -> None:
    plan = a_plan(on_fail_canary="pause", canaries_per_stratum=3)
    assert len(plan.waves[0]) > plan.arithmetic["late_round"]
    under = Under(tmp_path, plan, dict.fromkeys(plan.waves[0], "fails"))
    under.paused()
    under.say("retry")
    state = under.until(lambda state: bool(state.queue))
    assert set(state.queue) == set(plan.waves[0]) and not state.ready


def test_abort_is_legal_wherever_something_may_still_happen() -> None:
    assert LEGAL[Order.ABORT] | ENDED | {Standing.ABORTING} == set(Standing)


def test_a_command_that_makes_no_sense_is_not_left(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan())
    for verb, arguments in (("resume", {}), ("jump", {}), ("skip", {"host": "nobody"}), ("pause", {"x": 1})):
        with pytest.raises(LivepatchError) as caught:
            under.say(verb, **arguments)
        assert caught.value.kind is Kind.ARGUMENT
    assert commands.waiting(under.directory) == []


def test_pause_and_resume(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan())
    under.until(at(Phase.SOAK, 0))
    under.say("pause")
    state = under.paused()
    assert "ticket 7" in state.reason and "bob" in state.reason
    under.say("resume")
    assert under.end().standing is Standing.COMPLETED


def test_a_verb_without_driver_is_journaled(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan())
    under.say("abort")
    with owner.hold(under.directory, OwnerKind.COMMAND, "bob", SystemClock()) as mine:
        state = driver.settle(under.directory, under.world, under.world, owner=mine)
    assert state.standing is Standing.ABORTING
    assert status.read(under.directory).standing is Standing.ABORTING
    assert under.end().standing is Standing.ABORTED
    assert all(not host["commands"] for host in under.world.data["hosts"].values())


def test_a_command_is_obeyed_once(tmp_path: Path) -> None:
    """Also when the owner dies after it was journaled and before its file was removed."""
    under = Under(tmp_path, a_plan())
    under.say("pause")
    (file,) = commands.waiting(under.directory)
    text = file.read_text()
    under.paused()
    under.say("resume")
    file.write_text(text)
    assert under.end().standing is Standing.COMPLETED


def test_two_operators_at_once(tmp_path: Path) -> None:
    """Both were told yes; the second is refused by the owner, and the journal says so."""
    under = Under(tmp_path, a_plan())
    under.until(at(Phase.SOAK, 0))
    under.say("pause")
    under.say("pause")
    under.say("abort")
    under.end()
    types = [one.type for one in journal.read(under.directory / journal.FILE_NAME)]
    assert types.count(Type.COMMAND) == 2 and types.count(Type.REFUSED) == 1


def test_promote_passes_over_the_soak(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan(canary_soak=50_000))
    under.until(at(Phase.SOAK, 0))
    under.say("promote")
    under.until(at(Phase.SOAK, 1))
    assert under.world.monotonic() < 50_000
    under.say("promote", full=True)
    began = under.world.monotonic()
    assert under.end().standing is Standing.COMPLETED
    assert under.world.monotonic() - began < 200


def test_what_has_tripped_must_be_named_to_go_on(tmp_path: Path) -> None:
    plan = a_plan(thresholds=STRICT, on_fail_canary="pause")
    under = Under(tmp_path, plan, {plan.waves[0][0]: "fails"})
    state = under.paused()
    assert state.trip is not None and state.trip.counter == "failed"
    with pytest.raises(LivepatchError, match="acknowledge=failed"):
        under.say("resume")
    under.say("resume", acknowledge="failed")
    assert "no canary" in under.paused().reason
    under.say("resume")
    assert under.end().standing is Standing.EXCEPTIONS


def test_one_more_trips_again(tmp_path: Path) -> None:
    plan = a_plan(thresholds=STRICT, on_fail_canary="pause")
    under = Under(tmp_path, plan, {plan.waves[0][0]: "fails", plan.waves[1][0]: "fails"})
    under.paused()
    under.say("resume", acknowledge="failed")
    assert "no canary" in under.paused().reason
    under.say("resume")
    state = under.paused()
    assert len(state.trips) == 2


def test_retry_is_for_those_that_failed(tmp_path: Path) -> None:
    plan = a_plan(thresholds=STRICT, on_fail_canary="pause")
    bad = plan.waves[0][0]
    under = Under(tmp_path, plan, {bad: "fails"})
    under.paused()
    under.world.data["hosts"][bad]["way"] = "well"
    under.say("retry", acknowledge="failed")
    assert under.end().standing is Standing.COMPLETED
    revs = [rev for rev, _ in under.world.data["hosts"][bad]["commands"]]
    assert len(revs) == 2 and revs[0] < revs[1]
    assert all(len(host["commands"]) == 1 for name, host in under.world.data["hosts"].items() if name != bad)


def test_skip(tmp_path: Path) -> None:
    plan = a_plan()
    under = Under(tmp_path, plan)
    under.until(at(Phase.SOAK, 0))
    under.say("skip", wave=1)
    under.say("skip", host=plan.waves[2][0])
    state = under.end()
    skipped = {name for name, place in places(state).items() if place == "skipped"}
    assert skipped == {*plan.waves[1], plan.waves[2][0]}
    assert state.standing is Standing.EXCEPTIONS


def test_rollback_by_hand(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan())
    under.until(at(Phase.SOAK, 1))
    under.say("rollback", scope="wave", block=True)
    state = under.end()
    assert state.standing is Standing.ROLLED_BACK
    wave = set(state.plan.waves[1])
    assert {name for name, place in places(state).items() if place == "rolled_back"} == wave
    assert under.world.data["blocked"]


def test_rollback_of_what_has_ended(tmp_path: Path) -> None:
    """The bad day after; unless another rollout has its hosts by now."""
    under = Under(tmp_path, a_plan())
    under.end()
    under.say("rollback")
    state = under.end()
    assert set(places(state).values()) == {"rolled_back"}
    assert all(host["level"] == 1 for host in under.world.data["hosts"].values())


def test_one_rollout_for_a_host(tmp_path: Path) -> None:
    first = Under(tmp_path, a_plan())
    root = first.directory.parent
    second = plan_of(fleet(8, domains=2)[4:], {**OPTIONS, "seed": 99})
    with pytest.raises(LivepatchError, match=first.directory.name) as caught:
        driver.start(root, second, {"who": "bob", "at": "", "why": ""}, first.world)
    assert caught.value.kind is Kind.BUSY
    first.end()
    assert status.held(root) == {}
    other = driver.start(root, second, {"who": "bob", "at": "", "why": ""}, first.world)
    assert set(status.held(root).values()) == {other}
    first.say("rollback")
    with pytest.raises(LivepatchError, match=other):
        first.end()


def test_a_plan_is_started_once(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan())
    under.end()
    with pytest.raises(LivepatchError, match="started already"):
        driver.start(under.directory.parent, a_plan(), {"who": "bob", "at": "", "why": ""}, under.world)


@pytest.mark.parametrize("keep", [["hv1"], {"hv1": "3"}, {"hv1": None}, "hv1", 3])
def test_who_stays_is_named_with_its_level(keep: object) -> None:
    """It is journaled, and whatever a journal says is folded for ever."""
    state = a_state(Standing.COMPLETED)
    assert "keep" in str(commands.may(Order.ROLLBACK, state, {"keep": keep}))
    assert commands.may(Order.ROLLBACK, state, {"keep": {"hv1": 3}}) is None


# -- a rollback of what has ended --------------------------------------------------------------------------


def taken_over(tmp_path: Path) -> tuple[Under, Path]:
    """A rollout that has ended, and another that has its hosts by now."""
    first = Under(tmp_path, a_plan())
    first.end()
    root = first.directory.parent
    second = plan_of(fleet(8, domains=2), {**OPTIONS, "seed": 99})
    return first, root / driver.start(root, second, {"who": "bob", "at": "", "why": ""}, first.world)


def test_a_rollback_that_was_refused_does_not_come_later(tmp_path: Path) -> None:
    """It would run when the other rollout has ended, over approvals that are newer than it."""
    first, other = taken_over(tmp_path)
    with pytest.raises(LivepatchError, match=other.name) as caught:
        verbs.command(first.directory, first.world, first.world, "rollback", "bob", "why", {})
    assert caught.value.kind is Kind.BUSY
    assert commands.waiting(first.directory) == []
    assert drive(other, first.world).ended
    assert adoption.Orphans(other.parent).found() == []
    assert status.read(first.directory).standing is Standing.COMPLETED


def test_a_rollback_that_lay_about_is_not_obeyed(tmp_path: Path) -> None:
    """Whoever left it has died before anybody took it up: what was approved since it does not know of."""
    under = Under(tmp_path, a_plan())
    under.end()
    under.say("rollback")
    under.world.data["now"] += driver.STALE_SECONDS + 1
    with pytest.raises(LivepatchError, match="rollback.*again") as caught:
        under.end()
    assert caught.value.kind is Kind.SUPERSEDED
    assert commands.waiting(under.directory) == []
    assert status.read(under.directory).standing is Standing.COMPLETED


def test_a_pause_is_kept_where_the_journal_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what was refused goes: a command for a rollout that runs waits for room."""
    under = Under(tmp_path, a_plan())
    under.until(at(Phase.SOAK, 0))
    under.say("pause")

    def full(*_: Any) -> None:
        raise LivepatchError(Kind.JOURNAL, "no room")

    with monkeypatch.context() as patched:
        patched.setattr(driver.Driver, "write", full)
        lock = owner.hold(under.directory, OwnerKind.COMMAND, "bob", SystemClock())
        with lock as mine, pytest.raises(LivepatchError, match="no room"):
            driver.settle(under.directory, under.world, under.world, owner=mine)
    assert len(commands.waiting(under.directory)) == 1


# -- a rollback of a wave ----------------------------------------------------------------------------------

EVENING = {"zone": "UTC", "start": "12:00", "end": "12:05"}


def test_the_wave_is_the_newest_in_which_any_was_approved(tmp_path: Path) -> None:
    """While the next one waits for its window there is none of that; and then the others go too."""
    plan = a_plan(windows=[EVENING], waves=["40%", "100%"])
    under = Under(tmp_path, plan)
    under.until(at(Phase.WINDOW, 1))
    under.say("rollback", scope="wave")
    state = under.end()
    assert state.standing is Standing.ROLLED_BACK
    assert {name for name, place in places(state).items() if place == "rolled_back"} == set(plan.waves[0])
    assert all(host["level"] == 1 for host in under.world.data["hosts"].values())


@pytest.mark.parametrize("how", ["stopped itself", "typed"])
def test_after_a_wave_the_others_can_be_rolled_back(tmp_path: Path, how: str) -> None:
    """Who is back is not asked again; where nobody is left it is refused."""
    strict = {"thresholds": STRICT, "on_fail": "rollback_wave"} if how == "stopped itself" else {}
    plan = a_plan(**strict)
    under = Under(tmp_path, plan, {plan.waves[1][0]: "fails"} if strict else {})
    if not strict:
        under.until(at(Phase.SOAK, 1))
        under.say("rollback", scope="wave")
    state = under.end()
    assert state.standing is Standing.ROLLED_BACK
    assert {places(state)[name] for name in plan.waves[0]} == {"healthy"}
    with pytest.raises(LivepatchError, match="wave.*back already.*scope=all"):
        under.say("rollback", scope="wave")
    under.say("rollback")
    state = under.end()
    assert {places(state)[name] for name in (*plan.waves[0], *plan.waves[1])} == {"rolled_back"}
    assert all(host["level"] == 1 for host in under.world.data["hosts"].values())
    with pytest.raises(LivepatchError, match="back already"):
        under.say("rollback")


def test_who_was_lost_in_a_rollback_is_verified_when_it_is_back(tmp_path: Path) -> None:
    plan = a_plan()
    lost = plan.waves[1][0]
    under = Under(tmp_path, plan)
    under.until(at(Phase.SOAK, 1))
    host = under.world.data["hosts"][lost]
    host["gone"] = True
    under.until(lambda state: state.hosts[lost].place is Place.LOST)
    under.say("rollback")
    state = under.end()
    assert state.standing is Standing.ROLLED_BACK and state.hosts[lost].place is Place.LOST
    host["gone"] = False
    under.say("rollback")
    assert set(places(under.end()).values()) == {"rolled_back", "pending"}
    assert host["level"] == 1


class Late:
    """A canary is found sick by a look that was out when somebody said promote, and comes back when the next
    wave has begun."""

    def __init__(self, tmp_path: Path, **changes: Any) -> None:
        self.plan = a_plan(thresholds=STRICT, **changes)
        self.under = Under(tmp_path, self.plan, {self.plan.waves[0][0]: "sickens"})
        self.publish = self.under.world.publish
        self.under.world.publish = self.slow  # type: ignore[method-assign]

    def slow(self, jid: str, verb: Verb, hosts: Any, arguments: Any) -> None:
        self.publish(jid, verb, hosts, arguments)
        world = self.under.world
        if verb is not Verb.LOOK:
            return
        for entry in world.data["returns"][jid].values():
            entry["at"] += 20
        world.publish = self.publish  # type: ignore[method-assign]
        self.under.say("promote")


def test_a_wave_is_rolled_back_in_which_a_host_was_found_sick_late(tmp_path: Path) -> None:
    late = Late(tmp_path, on_fail="rollback_wave", on_fail_canary="rollback_wave")
    state = late.under.end()
    assert [(trip.counter, trip.scope, state.lap) for trip in state.trips] == [("failed", "total", 1)]
    moved = {name for name, host in state.hosts.items() if host.forward_rev}
    assert set(late.plan.waves[0]) < moved, "the next wave had begun"
    assert {places(state)[name] for name in moved} == {"rolled_back"}
    assert all(host["level"] == 1 for host in late.under.world.data["hosts"].values())


@pytest.mark.parametrize(("canary", "wave"), [("pause", "rollback_all"), ("rollback_all", "pause")])
def test_what_a_stop_does_is_said_for_the_wave_of_the_host(tmp_path: Path, canary: str, wave: str) -> None:
    late = Late(tmp_path, on_fail=wave, on_fail_canary=canary)
    state = late.under.until(lambda state: bool(state.trips))
    assert (state.lap, state.trips[0].action) == (1, canary)


def test_what_was_allowed_to_stay_is_not_rolled_back_with_a_later_wave(tmp_path: Path) -> None:
    """Of the waves before only those go back in which more has come since."""
    plan = a_plan(thresholds=STRICT, on_fail="rollback_wave", on_fail_canary="pause")
    under = Under(tmp_path, plan, {plan.waves[0][0]: "fails", plan.waves[1][0]: "fails"})
    under.paused()
    under.say("resume", acknowledge="failed")
    under.paused()  # once more: no canary of its kernel build and role is healthy
    under.say("resume")
    state = under.end()
    assert state.standing is Standing.ROLLED_BACK
    assert {places(state)[name] for name in plan.waves[0]} == {"failed", "healthy"}
    assert {places(state)[name] for name in plan.waves[1]} == {"rolled_back"}


def test_a_stop_that_was_journaled_without_waves_means_what_it_meant(tmp_path: Path) -> None:
    plan = a_plan(thresholds=STRICT, on_fail="rollback_wave")
    under = Under(tmp_path, plan, {plan.waves[1][0]: "fails"})
    under.end()
    state = fresh("r", plan)
    for record in journal.read(under.directory / journal.FILE_NAME):
        if record.type == Type.TRIPPED:
            assert record.body.pop("laps") == [1]
        fold(state, record)
        if record.type == Type.TRIPPED:
            break
    assert set(returning.begin(state).body["hosts"]) == set(plan.waves[1])


# -- who it was ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["typed", "of itself"])
def test_a_rollback_is_of_who_ordered_it(tmp_path: Path, how: str) -> None:
    """Whoever drives it: an engine drives as who has started the rollout."""
    strict = {"thresholds": STRICT, "on_fail": "rollback_all", "block_on_rollback": True}
    plan = a_plan(**(strict if how == "of itself" else {}))
    under = Under(tmp_path, plan, {plan.waves[1][0]: "fails"} if how == "of itself" else {})
    if how == "typed":
        under.until(at(Phase.SOAK, 1))
        under.say("rollback", block=True)
    state = under.end()
    assert state.standing is Standing.ROLLED_BACK
    wanted = {"who": "bob", "why": state.cause} if how == "typed" else {"why": state.cause}
    assert "ticket 7" in state.cause or how != "typed"
    for act, level, by in under.world.authors:
        forward = level == 2 and not act.endswith("block")
        assert by == ({} if forward else wanted), act
    assert [act for act, _, _ in under.world.authors if act.endswith("block")]


# -- what was begun is finished ----------------------------------------------------------------------------


def failing(times: int, act: Any) -> Any:
    """The act, which fails so many times first."""
    left = [times]

    def tried(*given: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise FleetError("the file system is full")
        return act(*given)

    return tried


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_block_that_was_begun_is_finished_by_an_abort(tmp_path: Path, times: int) -> None:
    """The catalog may have it already; and whoever wanted it was not told that it did not come."""
    under = Under(tmp_path, a_plan())
    under.until(at(Phase.SOAK, 0))
    under.say("rollback", block=True)
    under.until(lambda state: state.blocking)
    under.world.block = failing(times, under.world.block)  # type: ignore[method-assign]
    under.say("abort")
    state = under.end()
    assert state.standing is Standing.ABORTED and state.blocked
    assert len(under.world.data["blocked"]) == 2, "both kernel builds"


def test_an_abort_says_that_nothing_was_blocked(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan())
    under.until(at(Phase.SOAK, 0))
    under.say("rollback", block=True)
    under.until(lambda state: state.standing is Standing.ROLLING_BACK)
    under.say("abort")
    state = under.end()
    assert state.standing is Standing.ABORTED and not state.blocked
    assert "not blocked" in state.reason and "aborted by bob" in state.reason


def test_an_abort_does_not_wait_for_ever_for_a_block(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan())
    under.until(at(Phase.SOAK, 0))
    under.say("rollback", block=True)
    under.until(lambda state: state.blocking)
    under.world.block = failing(1000, under.world.block)  # type: ignore[method-assign]
    under.say("abort")
    state = under.end()
    assert state.standing is Standing.ABORTED and not state.blocked
    assert "not known" in state.reason and "the file system is full" in state.reason


@pytest.mark.parametrize("way", ["go on", "abort"])
def test_an_approval_that_was_begun_is_written_once(tmp_path: Path, way: str) -> None:
    """While the ledger cannot be written nobody begins another for the same hosts, and nobody ends."""
    under = Under(tmp_path, a_plan())
    under.until(at(Phase.SOAK, 1))
    under.world.approve = failing(3, under.world.approve)  # type: ignore[method-assign]
    under.say("rollback")
    state = under.until(lambda state: bool(state.acts) and bool(state.trouble))
    assert len(state.acts) == 1
    if way == "abort":
        under.say("abort")
    state = under.end()
    assert not state.acts
    records = journal.read(under.directory / journal.FILE_NAME)
    acts = [one.body["act"] for one in records if one.type == Type.APPROVE]
    assert acts == [one.body["act"] for one in records if one.type == Type.APPROVED]


def once_approved(under: Under, verb: str) -> None:
    """Say it between an approval and the command to move."""

    def watch(act: str, _: Any) -> None:
        if act == "approve":
            under.world.watch = lambda act, _: None
            under.say(verb)

    under.world.watch = watch


@pytest.mark.parametrize("paused", [False, True])
def test_abort_leaves_nobody_approved_who_was_not_told(tmp_path: Path, paused: bool) -> None:
    """The next highstate would move it, without gate or soak, and nobody would look at it."""
    under = Under(tmp_path, a_plan())
    once_approved(under, "pause" if paused else "abort")
    if paused:
        state = under.paused()
        assert "1 hosts are approved" in status.document(state, under.world.now())["next"]
        under.say("abort")
    state = under.end()
    assert state.standing is Standing.ABORTED and "ticket 7" in state.reason
    (name,) = [one for one, place in places(state).items() if place != "pending"]
    assert places(state)[name] == "recalled" and "1 hosts were approved and not told" in state.reason
    assert {one["level"] for one in under.world.data["approvals"][name]["builds"].values()} == {1}
    assert all(not one["commands"] for one in under.world.data["hosts"].values())
    assert under.world.authors[-1][1:] == (1, {"who": "bob", "why": "ticket 7"})


def test_abort_leaves_who_was_approved_for_something_else_since(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan())
    once_approved(under, "pause")
    (name,) = under.paused().at({Place.APPROVED})
    under.say("abort", keep={name: 3})
    state = under.end()
    assert state.standing is Standing.ABORTED and places(state)[name] == "approved"
    assert f"1 are approved for another level since ({name}: level 3)" in state.reason
    assert [level for _, level, _ in under.world.authors] == [2]


def test_abort_of_a_rollback_says_who_goes_back_by_itself(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan(parallel=1))
    under.until(at(Phase.SOAK, 1))
    under.say("rollback")
    state = under.until(lambda state: state.counts[Place.ROLLED_BACK] == 1)
    under.say("abort")
    state = under.end()
    left = state.counts[Place.RECALLED]
    assert state.standing is Standing.ABORTED and left
    assert f"{left} hosts were not told to go back, and do at their next highstate" in state.reason


@pytest.mark.parametrize("why", ["a person", "the master"])
def test_who_drives_lets_go_of_what_waits_for_a_person(tmp_path: Path, why: str) -> None:
    """Also where a job was announced that could not be published, and is not until it goes on."""
    under = Under(tmp_path, a_plan())
    under.world.broken = 1 if why == "a person" else 10_000
    if why == "a person":
        under.until(lambda state: bool(state.trouble))
        under.say("pause")
    state = under.until(adoption.waits)
    assert state.standing is Standing.PAUSED and [job.t for job in state.jobs.values()] == [None]
    assert not adoption.wanted(state)
    under.world.broken = 0
    under.say("resume")
    assert under.end().standing is Standing.COMPLETED
