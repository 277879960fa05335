"""The world does not do as it should: clocks, disks, masters, returns, freezes, windows, gates without
data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.report.timeline import timeline
from livepatch_core.rollout import journal, status
from livepatch_core.rollout.fleet import FleetError, Verb
from livepatch_core.rollout.model import Plan
from livepatch_core.rollout.records import Type
from livepatch_core.rollout.states import WELL, Phase, Place, Standing
from livepatch_core.words import Kind
from tests.unit.rollout.fleets import BUILDS, fleet, host, plan_of
from tests.unit.rollout.simulated import World, drive, places
from tests.unit.rollout.test_commands import Under, at, failing
from tests.unit.rollout.test_engine import ENDS, OPTIONS, a_plan


def test_a_frozen_host_is_left_out(tmp_path: Path) -> None:
    """Asked again before every approval: it was not frozen when the plan was made."""
    plan = a_plan()
    victim = plan.waves[1][0]
    under = Under(tmp_path, plan)
    under.world.frozen_hosts = {victim: "this host is frozen since noon"}
    state = under.end()
    assert places(state)[victim] == "skipped" and "frozen since noon" in state.hosts[victim].text
    assert under.world.data["hosts"][victim]["commands"] == [] and victim not in under.world.data["approvals"]


def test_a_ledger_may_be_away_for_days(tmp_path: Path) -> None:
    """Each try of an act is a record; thousands of them wait no longer than the first ones."""
    under = Under(tmp_path, a_plan())
    under.until(at(Phase.SOAK, 0))
    under.world.approve = failing(3_000, under.world.approve)  # type: ignore[method-assign]
    under.say("rollback")
    state = drive(under.directory, under.world, lambda state: state.troubles == 2_000, turns=20_000)
    assert state.retry_t - state.t == 60
    assert drive(under.directory, under.world, turns=20_000).standing is Standing.ROLLED_BACK


@pytest.mark.parametrize("jump", [-1e6, 1e6, 3e9])
def test_the_wall_clock_jumps(tmp_path: Path, jump: float) -> None:
    """Soaks and deadlines are measured in observed seconds; no window is asked for here."""
    under = Under(tmp_path, a_plan())
    under.until(at(Phase.SOAK, 0))
    before = under.world.monotonic()
    under.world.skew = jump
    state = under.end()
    assert state.standing is Standing.COMPLETED
    soaks = state.plan.options.canary_soak + 2 * state.plan.options.soak
    assert soaks - 5 <= under.world.monotonic() <= before + soaks + 100


def test_time_that_nobody_observed_does_not_count(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan())
    under.until(lambda state: state.phase is Phase.SOAK and state.t > 200)
    under.world.data["now"] += 1e6  # the owner is gone for eleven days
    state = under.until(lambda state: state.phase is not Phase.SOAK)
    assert state.t >= state.plan.options.canary_soak


def test_a_full_disk_stops_all_dispatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every record: from then on nothing is published. With room again it goes on as if nothing had
    been."""
    plan = a_plan()
    whole = Under(tmp_path / "whole", plan)
    whole.end()
    records = len(journal.read(whole.directory / journal.FILE_NAME))
    write = os.write
    for limit in range(3, records, 5):
        under = Under(tmp_path / str(limit), plan)
        full = [False]
        lines = [3]

        def cut(
            descriptor: int,
            data: bytes,
            lines: list[int] = lines,
            full: list[bool] = full,
            limit: int = limit,
        ) -> int:
            lines[0] += data.startswith(b'{"crc')
            full[0] = full[0] or lines[0] > limit
            return write(descriptor, data[: len(data) // 2] if full[0] else data)

        def act(what: str, _: Any, full: list[bool] = full) -> None:
            assert not full[0], what

        under.world.watch = act
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", cut)
            with pytest.raises(LivepatchError, match="nothing more is dispatched") as caught:
                under.end()
        assert caught.value.kind is Kind.JOURNAL
        under.world.watch = lambda what, _: None
        assert places(under.end()) == places(whole.end())
        assert all(len(one["commands"]) == 1 for one in under.world.data["hosts"].values())


def test_an_unreadable_journal_moves_nobody(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan())
    under.until(at(Phase.SOAK, 0))
    path = under.directory / journal.FILE_NAME
    data = bytearray(path.read_bytes())
    data[data.index(b"approve") + 2] ^= 1
    path.write_bytes(data)
    under.world.watch = lambda what, _: pytest.fail(f"{what} all the same")
    for act in (under.end, lambda: status.read(under.directory), lambda: under.say("abort")):
        with pytest.raises(LivepatchError, match=r"Line \d+ of the rollout's journal"):
            act()


class Forging(World):
    """Hosts that were not asked return as well, and those that were return twice, something else."""

    def returns(self, jid: str) -> Mapping[str, Any]:
        found = dict(super().returns(jid))
        good = {"result": True, "comment": "moved", "changes": {"level": {"old": 1, "new": 2}}}
        entry = {"return": good, "retcode": 0, "success": True, "at": 0.0}
        others = {name: entry for name in self.data["hosts"] if name not in self.sent.get(jid, ())}
        return {**found, **others, "stranger": entry, "another": "Minion did not return. [No response]"}

    sent: dict[str, list[str]] = {}

    def publish(self, jid: str, verb: Verb, hosts: Sequence[str], arguments: Mapping[str, Any]) -> None:
        self.sent[jid] = list(hosts)
        super().publish(jid, verb, hosts, arguments)


def test_forged_returns_are_not_heard(tmp_path: Path) -> None:
    plan = a_plan()
    bad = plan.waves[1][0]
    under = Under(tmp_path, plan, {bad: "fails"})
    under.world.save()
    under.world = Forging(tmp_path / "world.json")
    state = under.end()
    assert places(state)[bad] == "failed" and set(places(state)) == {one.minion for one in plan.hosts}
    assert under.world.monotonic() > 1000


def test_a_master_that_is_away_for_a_while(tmp_path: Path) -> None:
    """Publishing fails six times; hosts of a move that may have been sent are looked at before they are
    told again."""
    under = Under(tmp_path, a_plan())
    under.world.broken = 6
    state = under.end()
    assert state.standing is Standing.COMPLETED
    assert all(len(one["commands"]) == 1 for one in under.world.data["hosts"].values())


def test_a_master_that_stays_away_pauses_it(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan())
    under.world.broken = 10_000
    state = under.paused()
    assert "the master does not answer" in state.reason
    under.world.broken = 0
    under.say("resume")
    assert under.end().standing is Standing.COMPLETED


def test_a_job_cache_that_cannot_be_read_says_nothing_of_hosts(tmp_path: Path) -> None:
    """Their deadlines pass meanwhile; nobody is lost for that."""
    under = Under(tmp_path, a_plan(stage_deadline=40))
    returns, world = under.world.returns, under.world

    def failing(jid: str) -> Mapping[str, Any]:
        if world.monotonic() % 200 > 100:
            raise FleetError("the job cache is away")
        return returns(jid)

    under.world.returns = failing  # type: ignore[method-assign]
    state = under.end()
    assert state.standing is Standing.COMPLETED
    assert all(len(one["commands"]) == 1 for one in under.world.data["hosts"].values())
    records = journal.read(under.directory / journal.FILE_NAME)
    assert Type.TROUBLE in {one.type for one in records} and len(records) < 400


def test_an_owner_that_was_stopped_hears_first(tmp_path: Path) -> None:
    """It wakes after every deadline has passed; what came in time counts."""
    under = Under(tmp_path, a_plan())
    wait, world = under.world.wait, under.world

    def stopped(seconds: float) -> None:
        wait(seconds)
        world.data["now"] += 10_000.0

    under.world.wait = stopped  # type: ignore[method-assign]
    state = under.end()
    assert state.standing is Standing.COMPLETED and set(places(state).values()) == {"healthy"}
    assert not [one for one in journal.read(under.directory / journal.FILE_NAME) if one.type == Type.SILENT]


def test_a_ledger_that_cannot_be_written(tmp_path: Path) -> None:
    """Nobody moves without approval; status says why; it goes on when the ledger is there again."""
    under = Under(tmp_path, a_plan())
    approve, failures = under.world.approve, [3]

    def failing(*arguments: Any) -> Any:
        if failures[0]:
            failures[0] -= 1
            raise FleetError("the ledger is locked")
        return approve(*arguments)

    under.world.approve = failing  # type: ignore[method-assign]
    state = under.until(lambda state: state.troubles == 2)
    assert status.document(state, under.world.now())["trouble"] == "the ledger is locked"
    assert all(not one["commands"] for one in under.world.data["hosts"].values())
    assert under.end().standing is Standing.COMPLETED


def test_a_window_is_waited_for(tmp_path: Path) -> None:
    """It is noon in UTC; what has begun inside may finish outside."""
    window = {"zone": "UTC", "start": "22:00", "end": "22:05"}
    under = Under(tmp_path, a_plan(windows=[window], canary_soak=600))
    state = under.until(lambda state: state.phase is Phase.WINDOW)
    shown = status.document(state, under.world.now())
    assert shown["next_at"] == "2026-11-24T22:00:00Z" and "outside the window" in shown["next"]
    assert under.end().standing is Standing.COMPLETED
    assert under.world.monotonic() > 10 * 3600 + 2 * 86_400  # three waves, three evenings


def test_a_blackout_stops_a_wave_in_its_middle(tmp_path: Path) -> None:
    blackout = {"start": "2026-11-24T12:15Z", "end": "2026-11-24T18:00Z"}
    under = Under(tmp_path, a_plan(blackouts=[blackout], parallel=1, canary_soak=60, soak=420))
    approved: list[float] = []
    under.world.watch = lambda what, _: (
        approved.append(under.world.monotonic()) if what == "approve" else None
    )
    assert under.end().standing is Standing.COMPLETED
    assert not [one for one in approved if 15 * 60 < one < 6 * 3600]


def test_a_level_in_testing_goes_no_further_than_the_canaries(tmp_path: Path) -> None:
    plan = plan_of(fleet(8, domains=2), {**OPTIONS, "allow_testing": True}, testing=BUILDS[:1])
    under = Under(tmp_path, plan)
    under.world.withheld = True
    state = under.paused()
    assert "still in testing" in state.reason and state.lap == 1
    assert all(not under.world.data["hosts"][name]["commands"] for name in plan.waves[1])
    under.world.withheld = False
    under.say("resume")
    assert under.end().standing is Standing.COMPLETED


def test_a_level_in_testing_that_was_blocked_is_not_released(tmp_path: Path) -> None:
    """No host could be told anything by it: it waits for a person instead of failing them one by one."""
    plan = plan_of(fleet(8, domains=2), {**OPTIONS, "allow_testing": True}, testing=BUILDS[:1])
    under = Under(tmp_path, plan)
    under.world.withheld, under.world.why_withheld = True, "is blocked"
    reason = under.paused().reason
    assert f"level 2 of kernel build {BUILDS[0]} is blocked: resume once it is released" in reason
    assert all(not under.world.data["hosts"][name]["commands"] for name in plan.waves[1])


def test_failed_hosts_hold_their_places(tmp_path: Path) -> None:
    """One place in each domain, and it is taken: it says so and waits for a person."""
    plan = a_plan(max_per_domain=1)
    bad = plan.waves[1][0]
    under = Under(tmp_path, plan, {bad: "fails"})
    state = under.paused()
    assert "hold every place" in state.reason
    under.say("skip", host=bad)
    under.say("resume")
    assert under.end().standing is Standing.EXCEPTIONS


def test_hosts_that_nobody_knew(tmp_path: Path) -> None:
    """Offline or unknown when it was planned: they go when they answer, as a lap of their own."""
    away = [host("away", online=False), host("unknown", seen=False, online=False, build_id=None, level=None)]
    plan = plan_of([*fleet(4, domains=2), *away], OPTIONS)
    under = Under(tmp_path, plan, {"away": "late", "unknown": "late"})
    under.world.data["hosts"]["unknown"].update(build=BUILDS[0], level=1)
    state = under.end()
    assert (places(state)["away"], places(state)["unknown"]) == ("healthy", "healthy")
    assert state.standing is Standing.COMPLETED and state.lap >= len(plan.waves)


def test_a_late_host_waits_for_its_extension(tmp_path: Path) -> None:
    """As a plan would leave it out: it may not know what this master asks."""
    plan = plan_of([*fleet(4, domains=2), host("away", online=False)], OPTIONS)
    under = Under(tmp_path, plan, {"away": "late"})
    away = under.world.data["hosts"]["away"]
    away["version"] = "0.0.9"
    state = under.until(lambda state: "0.0.9" in state.hosts["away"].text)
    assert (places(state)["away"], away["level"]) == ("absent", 1)
    del away["version"]
    assert under.end().standing is Standing.COMPLETED


def test_a_late_host_that_is_tried_again_waits_for_its_extension_too(tmp_path: Path) -> None:
    """retry is said for others, and takes all that are not there."""
    strict = {"thresholds": {"failed": {"wave": 0, "total": 0}}, "on_fail_canary": "pause"}
    plan = plan_of([*fleet(4, domains=2), host("away", online=False)], {**OPTIONS, **strict})
    bad = plan.waves[0][0]
    under = Under(tmp_path, plan, {bad: "fails"})
    under.paused()
    under.world.data["hosts"]["away"]["version"] = "0.0.9"
    under.world.data["hosts"][bad]["way"] = "well"
    under.say("retry", acknowledge="failed")
    state = under.until(lambda state: "0.0.9" in state.hosts["away"].text)
    assert places(state)["away"] == "absent"
    del under.world.data["hosts"]["away"]["version"]
    assert places(under.end())["away"] == "healthy"


def test_what_a_late_host_answers_does_not_undo_what_was_said_of_it(tmp_path: Path) -> None:
    away = [host(name, online=False) for name in ("away", "gone")]
    under = Under(tmp_path, plan_of([*fleet(4), *away], OPTIONS), {"away": "late", "gone": "deaf"})
    under.world.data["hosts"]["away"]["version"] = "0.0.9"
    under.until(lambda state: "0.0.9" in state.hosts["away"].text)

    def waited(_now: float) -> None:
        if any(job.purpose == "late" and job.t for job in status.read(under.directory).jobs.values()):
            under.world.waited = lambda _now: None
            under.say("skip", host="away")

    under.world.waited = waited
    assert "skipped by" in under.end().hosts["away"].text


def test_a_version_that_was_accepted_by_name_may_come_late(tmp_path: Path) -> None:
    options = {**OPTIONS, "accept_versions": ["0.0.9"]}
    under = Under(
        tmp_path, plan_of([*fleet(4, domains=2), host("away", online=False)], options), {"away": "late"}
    )
    under.world.data["hosts"]["away"]["version"] = "0.0.9"
    assert places(under.end())["away"] == "healthy"


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_host_that_comes_back_with_another_kernel(tmp_path: Path, level: int) -> None:
    """It was off because it booted: what the master remembers of it is neither its build nor its level."""
    plan = plan_of([*fleet(4, domains=2), host("away", online=False)], OPTIONS)
    under = Under(tmp_path, plan, {"away": "late"})
    under.world.data["hosts"]["away"].update(build=BUILDS[1], level=level)
    state = under.until(lambda state: state.hosts["away"].place in WELL)
    assert (state.hosts["away"].build, state.hosts["away"].before) == (BUILDS[1], min(level, 1))
    assert under.end().standing is Standing.COMPLETED


@pytest.mark.parametrize("way", ["well", "fails"])
def test_from_a_level_that_cannot_be_approved_again(tmp_path: Path, way: str) -> None:
    """Most of all one that is blocked: the rollout of what mends it starts from there."""
    plan = plan_of([host(f"hv{number}", level=3) for number in range(4)], OPTIONS)
    under = Under(tmp_path, plan, {"hv0": way})
    for one in under.world.data["hosts"].values():
        one["level"] = 3
    state = under.end()
    assert {one.before for one in state.hosts.values()} == {1}
    assert places(state) == {**dict.fromkeys(places(state), "healthy"), "hv0": ENDS.get(way, ["healthy"])[0]}


# -- gates -----------------------------------------------------------------------------------------------

CONFIRM = {"name": "go", "type": "confirm", "when": "wave"}
ALERTS = {
    "name": "alerts",
    "type": "prometheus",
    "when": "soak",
    "arguments": {"url": "http://p", "query": "q"},
    "predicate": {"op": "<=", "value": 3},
}
PING = {
    "name": "ping",
    "type": "function",
    "when": "host",
    "arguments": {"fun": "test.ping"},
    "predicate": {"op": "==", "value": True},
}


def gated(tmp_path: Path, *gates: Mapping[str, Any], **changes: Any) -> Under:
    return Under(tmp_path, a_plan(gates=list(gates), on_fail_canary="pause", **changes))


def test_a_person_confirms_each_wave(tmp_path: Path) -> None:
    under = gated(tmp_path, CONFIRM)
    for lap in range(3):
        state = under.until(lambda state, lap=lap: state.lap == lap and state.inquiry is not None)
        assert "confirm gate go" in status.document(state, under.world.now())["next"]
        under.say("confirm", gate="go")
    assert under.end().standing is Standing.COMPLETED


def test_a_gate_that_fails_trips(tmp_path: Path) -> None:
    under = gated(tmp_path, ALERTS)
    under.world.measured = lambda gate: {"value": "7", "evidence": {"query": "q"}}
    state = under.paused()
    assert state.trip is not None and state.trip.gate == "alerts" and "7 <= 3" in state.reason
    verdict = status.document(state, 0.0)["verdicts"][-1]
    assert verdict["evidence"][""]["value"] == "7" and verdict["predicate"]["value"] == 3
    under.say("promote", acknowledge="gate")
    assert under.until(lambda state: state.lap == 1).lap == 1


def test_no_data_pauses_and_is_asked_again(tmp_path: Path) -> None:
    under = gated(tmp_path, ALERTS)
    under.world.measured = lambda gate: {"no_data": "connection refused"}
    state = under.paused()
    assert "connection refused" in state.reason and state.trip is None
    under.world.measured = lambda gate: {"value": 1}
    under.say("resume")
    assert under.end().standing is Standing.COMPLETED


@pytest.mark.parametrize(("policy", "standing"), [("pass", Standing.COMPLETED), ("fail", Standing.PAUSED)])
def test_what_no_data_means_is_an_option(tmp_path: Path, policy: str, standing: Standing) -> None:
    under = gated(tmp_path, {**ALERTS, "on_no_data": policy})
    under.world.measured = lambda gate: {"no_data": "connection refused"}
    assert under.until(lambda state: state.standing is Standing.PAUSED).standing is standing


def test_a_dry_run_decides_nothing_and_is_recorded(tmp_path: Path) -> None:
    under = gated(tmp_path, {**PING, "dry_run": True})
    under.world.values = lambda name, fun: False
    state = under.end()
    assert state.standing is Standing.COMPLETED
    assert {one["verdict"] for one in state.verdicts} == {"fail"}


def test_a_host_gate_fails_its_host_only(tmp_path: Path) -> None:
    plan = a_plan(gates=[PING])
    bad, mute = plan.waves[1][:2]
    under = Under(tmp_path, plan)
    under.world.values = lambda name, fun: name != bad
    state = under.end()
    assert places(state)[bad] == "failed" and "gate ping" in state.hosts[bad].text
    assert places(state)[mute] == "healthy"


def test_two_of_three_attempts(tmp_path: Path) -> None:
    """Once bad is not enough."""
    under = gated(tmp_path, {**PING, "needed": 1, "attempts": 2})
    under.world.values = lambda name, fun: under.world.monotonic() > 30
    state = under.end()
    assert state.standing is Standing.COMPLETED
    assert [one["verdict"] for one in state.verdicts if one["lap"] == 0] == ["open", "pass"]


def test_a_canary_is_compared_with_a_twin(tmp_path: Path) -> None:
    """Ten percent more than its twin may be; where no unpatched host is left there is nothing to compare
    with."""
    load = {
        **PING,
        "name": "load",
        "predicate": {"op": "<=", "value": "10%"},
        "twin": True,
        "on_no_data": "pass",
    }
    plan = a_plan(gates=[load])
    under = Under(tmp_path, plan)
    sick = plan.waves[0][0]
    under.world.values = lambda name, fun: 200 if name == sick else 100
    under.paused()
    under.say("promote")  # without a canary of its stratum
    state = under.end()
    assert places(state)[sick] == "failed" and "twin" in state.hosts[sick].text
    assert sum(place == "healthy" for place in places(state).values()) == len(plan.hosts) - 1


def test_every_record_is_told_in_few_words(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan())
    under.end()
    tags = [tag for tag, _ in under.world.told]
    assert {"adopted", "wave/0/soak", "round", "completed"} <= set(tags)
    assert max(len(str(data)) for _, data in under.world.told) < 400


def test_history_names_every_act(tmp_path: Path) -> None:
    under = Under(tmp_path, a_plan())
    under.end()
    history = status.history(under.directory)
    assert [one["seq"] for one in history] == list(range(1, len(history) + 1))
    assert history[0]["type"] == Type.PLANNED and history[-1]["state"] == Standing.COMPLETED


def test_what_drives_a_plan_without_hosts(tmp_path: Path) -> None:
    plan: Plan = plan_of([], OPTIONS)
    under = Under(tmp_path, plan)
    assert drive(under.directory, under.world).standing is Standing.COMPLETED


def test_every_host_in_trouble_is_told_of_and_in_the_timeline(tmp_path: Path) -> None:
    """Also whom a deadline or a gate puts there."""
    plan = plan_of(fleet(6, domains=2), {**OPTIONS, "waves": ["50%", "100%"], "late_for": 0, "gates": [PING]})
    dies, deaf, falls, sick = [name for wave in plan.waves for name in wave][2:6]
    under = Under(tmp_path, plan, {dies: "dies", deaf: "deaf", falls: "falls"})
    under.world.values = lambda name, fun: name != sick
    state = under.end()
    wanted = {dies: Place.LOST, deaf: Place.UNREACHABLE, falls: Place.LOST, sick: Place.FAILED}
    assert {name: state.hosts[name].place for name in wanted} == wanted
    lines = [line.text for line in timeline(status.story(under.directory))]
    for name, place in wanted.items():
        events = [data for tag, data in under.world.told if tag == f"host/{name}/{place}"]
        assert [one["text"] for one in events] == [state.hosts[name].text]
        assert any(f"; {name}: {state.hosts[name].text}" in line for line in lines), lines
