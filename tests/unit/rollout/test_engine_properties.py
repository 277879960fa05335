"""What holds in every rollout, however its hosts fail and whatever its operators say."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livepatch_core.errors import LivepatchError
from livepatch_core.rollout import commands, journal, status
from livepatch_core.rollout.clock import Now
from livepatch_core.rollout.commands import Order
from livepatch_core.rollout.decide import decide
from livepatch_core.rollout.fleet import MOVES, Verb
from livepatch_core.rollout.fold import fold
from livepatch_core.rollout.model import Method, Plan
from livepatch_core.rollout.records import Record, Type
from livepatch_core.rollout.state import State
from livepatch_core.rollout.state import begin as begin_state
from livepatch_core.rollout.states import OCCUPYING, WELL, Phase, Place, Standing
from livepatch_core.rollout.steps import Rest
from tests.unit.rollout.fleets import KERNEL, host, plan_of, uncovered
from tests.unit.rollout.simulated import LEDGER, RESTART_WAYS, WAYS, begin, drive, new_world

PING = {"name": "ping", "type": "function", "when": "host", "arguments": {"fun": "test.ping"}}
ASKED = {**PING, "predicate": {"path": "well", "op": "==", "value": True}}
SAID: tuple[dict[str, bool], ...] = ({"well": True}, {"well": True}, {"well": True}, {"well": False}, {})
RARE = ("ahead", "unknown", "lags") * 4  # what a rollback meets at the wrong moment
BACK = {Place.ROLLED_BACK, Place.ROLLBACK_FAILED, Place.NEEDS_REBOOT, Place.LOST}
EXAMPLES = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@contextmanager
def somewhere() -> Iterator[Path]:
    shared = Path("/dev/shm")
    place = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    try:
        yield place
    finally:
        shutil.rmtree(place)


@st.composite
def rollouts(draw: st.DrawFn) -> tuple[Plan, dict[str, str]]:
    count = draw(st.integers(3, 14))
    hosts = [host(f"hv{number:02}", domain=f"rack{number % 3}") for number in range(count)]
    old = draw(st.integers(0, 4))
    hosts += [uncovered(f"old{number}", domain=f"rack{number % 3}") for number in range(old)]
    hosts += [host(f"off{number}", domain="rack0", online=False) for number in range(draw(st.integers(0, 2)))]
    limit = st.integers(0, 4)
    both = st.fixed_dictionaries({"wave": limit, "total": limit})
    options = {
        "seed": draw(st.integers(0, 3)),
        "waves": draw(st.sampled_from((["100%"], ["40%", "100%"], [2, 4, "100%"]))),
        "canary_soak": draw(st.sampled_from((0, 130))),
        "soak": draw(st.sampled_from((0, 90))),
        "look_every": 60,
        "stage_deadline": 40,
        "max_per_domain": draw(st.integers(1, 5)),
        "parallel": draw(st.sampled_from((0, 1, 3))),
        "thresholds": {name: draw(both) for name in ("failed", "stalled", "unreachable", "lost")},
        "on_fail": draw(st.sampled_from(("pause", "rollback_wave", "rollback_all"))),
        "on_fail_canary": draw(st.sampled_from(("pause", "rollback_wave"))),
        "block_on_rollback": draw(st.booleans()),
        "late": draw(st.sampled_from(("catch_up", "report"))),
        "late_for": 900,
        "gates": draw(st.sampled_from(([], [], [ASKED]))),
        "without_level": draw(st.sampled_from(("refuse", "accept"))),
        "fallback": draw(st.sampled_from(("none", "kexec", "kexec"))),
        "drain": "livepatch_drain.drain",
        "undrain": "livepatch_drain.undrain",
        "drain_deadline": 300,
        "restart_deadline": draw(st.sampled_from((40, 200))),
    }
    plan = plan_of(hosts, options, rev=10)
    methods = {one.minion: one.method for one in plan.hosts}
    chosen = draw(st.lists(st.sampled_from(sorted(methods)), unique=True, max_size=count))
    ways = {
        name: draw(st.sampled_from(WAYS if methods[name] is Method.LIVEPATCH else RARE + RESTART_WAYS))
        for name in chosen
    }
    return plan, ways


class Watched:
    """A rollout under way, with somebody who checks every act of it and now and then gives a command."""

    def __init__(self, place: Path, plan: Plan, ways: dict[str, str]) -> None:
        self.plan = plan
        self.world = new_world(place / "world.json", plan, ways)
        self.directory = begin(place / "rollouts", plan, self.world)
        self.world.watch = self.act
        number = {one.minion: number for number, one in enumerate(plan.hosts)}
        self.world.values = lambda name, fun: SAID[number[name] % len(SAID)]
        self.state: Optional[State] = None
        self.turns = 0
        self.orders: dict[int, tuple[str, dict[str, Any]]] = {}
        self.waves = {one.minion: one.wave for one in plan.hosts}
        self.methods = {one.minion: one.method for one in plan.hosts}
        self.others: dict[int, tuple[str, str]] = {}  # what somebody else does to a host, and when
        self.spoken: set[str] = set()  # hosts that somebody else has approved for another level

    def run(self) -> State:
        state = drive(self.directory, self.world, self.turn)
        for _ in range(20):  # whoever pauses it may go on, until it ends
            if state.ended:
                break
            self.say("resume" if "no canary" in state.reason else "abort", {})
            state = drive(self.directory, self.world, self.turn)
        self.explained(state)
        self.nobody_is_left_drained(state)
        assert not state.in_flight()
        return state

    def nobody_is_left_drained(self, state: State) -> None:
        """Each host was booted once for an approval at most; and drained are only those that were given up,
        and may be back since it has ended."""
        for name, one in self.world.data["hosts"].items():
            assert len(set(one["booted"])) == len(one["booted"]), name
            assert not one["booted"] or self.methods[name] is not Method.LIVEPATCH
            assert not one["drained"] or name in state.strays
            if state.standing in (Standing.ROLLED_BACK, Standing.ROLLBACK_FAILED):
                assert not one["drained"] or one["back_at"] > self.world.time(), name

    def turn(self, state: State) -> bool:
        self.state = state
        self.turns += 1
        if self.turns % 11 == 0:
            self.explained(state)
        if self.turns in self.orders:
            self.say(*self.orders[self.turns])
        if self.turns in self.others:
            self.meddle(*self.others[self.turns])
        idle = state.standing is Standing.PAUSED and not commands.waiting(self.directory)
        asked = any(job.t is not None for job in state.jobs.values())
        return idle and not asked and isinstance(decide(state, Now(self.world.now(), self.t())), Rest)

    def meddle(self, what: str, name: str) -> None:
        frozen = self.world.frozen_hosts
        if what == "thaw":
            frozen.clear()
        elif what == "freeze all":
            frozen.update(dict.fromkeys(self.waves, "the fleet is frozen"))
        elif name in self.waves and what == "freeze":
            frozen[name] = "this host is frozen"
        elif name in self.waves:
            self.world.by_hand(name, 7)
            self.spoken.add(name)

    def t(self) -> float:
        """Observed seconds; the same owner has driven it all the time."""
        return self.world.monotonic()

    def say(self, verb: str, arguments: dict[str, Any]) -> None:
        try:
            commands.submit(self.directory, verb, "bob", "because", arguments, self.world)
        except LivepatchError:
            pass  # it makes no sense now, and says so

    def explained(self, state: State) -> None:
        """Every host is counted once, and whoever asks is told what is and what comes next."""
        shown = status.document(state, self.world.now())
        assert sum(shown["counts"].values()) == len(self.plan.hosts) == shown["targeted"]
        assert Counter(str(one.place) for one in state.hosts.values()) == Counter(shown["counts"])
        assert shown["reason"] and shown["next"]
        assert +state.occupied == self.occupied(state)

    def occupied(self, state: State) -> Counter[str]:
        return Counter(one.placing.domain for one in state.hosts.values() if one.place in OCCUPYING)

    def act(self, act: str, what: Any) -> None:
        state = self.state
        assert state is not None
        if act == "publish":
            verb, names, arguments = what
            assert set(names) <= set(self.waves), "a host that is not in the plan"
            if verb in MOVES:
                self.told(names, arguments["approval"])
            if verb is Verb.STAGE:
                self.staged({state.hosts[name].build for name in names}, arguments["builds"])
            if verb is Verb.LEAVE:
                assert arguments["kernel"] in arguments["approval"]["builds"]
                assert all(self.methods[name] is Method.KEXEC for name in names)
        elif act == "approve":
            _, names, grants = what
            assert self.spoken.isdisjoint(names), "the newest word wins"
            if KERNEL in grants or any(one.level == self.plan.options.level for one in grants.values()):
                assert KERNEL not in grants or all(self.methods[name] is Method.KEXEC for name in names)
                self.forward(state, names)

    def staged(self, run: set[str], builds: dict[str, Any]) -> None:
        """A level is named for the kernel builds that these hosts run; for all, where one is not known."""
        every = set(self.plan.grants)
        assert set(builds) == (every if "" in run else run & every)

    def told(self, names: list[str], approval: dict[str, Any]) -> None:
        """Nobody is sent where the ledger does not let it go."""
        assert self.spoken.isdisjoint(names) and self.world.frozen_hosts.keys().isdisjoint(names)
        for name in names:
            known = self.world.data["approvals"][name]
            assert approval["ledger_id"] == LEDGER
            assert (approval["rev"], approval["builds"]) == (known["rev"], known["builds"])

    def forward(self, state: State, names: list[str]) -> None:
        assert state.trip is None
        for domain, number in self.occupied(state).items():
            assert number <= self.plan.domain_limits[domain]
        assert all(self.waves[name] is None or self.waves[name] <= state.lap for name in names)


def check_journal(directory: Path, plan: Plan) -> None:
    """What the journal of a rollout that has ended may not say, whatever happened."""
    records = journal.read(directory / journal.FILE_NAME)
    no_dispatch_after_a_trip(records)
    soaks_are_kept(records, plan)
    no_wave_goes_first(records, plan)
    assert records[-1].type == Type.ENDED


def no_dispatch_after_a_trip(records: list[Record]) -> None:
    forward: set[str] = set()
    back, stopped = False, False
    for record in records:
        if record.type == Type.ROUND:
            back = bool(record.body.get("back"))
            forward |= {one[0] for one in record.body.get("jobs", ())}
        elif record.type == Type.MOVE and not back:
            forward |= {one[0] for one in record.body["jobs"]}
        elif record.type == Type.TRIPPED:
            stopped = True
        elif record.type == Type.COMMAND and record.body["arguments"].get("acknowledge"):
            stopped = False
        elif record.type == Type.SENT and record.body["jid"] in forward:
            assert not stopped, f"record {record.seq} dispatches after the rollout had stopped itself"


def soaks_are_kept(records: list[Record], plan: Plan) -> None:
    """Between the last return of a wave and its gates lies what the plan promised, unless nobody is left
    to soak."""
    state = begin_state("r", plan)
    promoted = {record.body["verb"] for record in records if record.type == Type.COMMAND} & {"promote"}
    for record in records:
        before = (state.phase, state.phase_t, len(state.well), state.soak)
        fold(state, record)
        if record.type != Type.PHASE or record.body["phase"] != "gate" or promoted:
            continue
        phase, began, well, soak = before
        assert not well or (soak == 0 and phase is Phase.DISPATCH) or record.t - began >= soak - 0.01


def no_wave_goes_first(records: list[Record], plan: Plan) -> None:
    """When the first wave after the canaries begins, one of each stratum has gone before it, or a person was
    told that none has."""
    state = begin_state("r", plan)
    for record in records:
        fold(state, record)
        if record.type == Type.PHASE and record.body["lap"] == 1 and len(plan.waves) > 1:
            well = {
                state.hosts[name].placing.stratum for name in plan.waves[0] if state.hosts[name].place in WELL
            }
            later = {state.hosts[name].placing.stratum for name in state.queue}
            assert later <= well | state.unproven
            return


@EXAMPLES
@given(rollout=rollouts())
def test_left_to_itself(rollout: tuple[Plan, dict[str, str]]) -> None:
    with somewhere() as place:
        watched = Watched(place, *rollout)
        state = watched.run()
        check_journal(watched.directory, watched.plan)
        assert status.read(watched.directory).counts == state.counts


ORDERS = st.dictionaries(
    st.integers(1, 120),
    st.one_of(
        st.sampled_from(
            [
                ("pause", {}),
                ("resume", {}),
                ("abort", {}),
                ("promote", {"full": True}),
                ("promote", {}),
                ("retry", {}),
                ("rollback", {"scope": "all", "block": True}),
                ("rollback", {"scope": "wave"}),
                ("skip", {"host": "hv00"}),
                ("skip", {"wave": 1}),
                ("nonsense", {}),
            ]
        ),
        st.tuples(
            st.sampled_from(("resume", "promote", "retry")),
            st.fixed_dictionaries(
                {"acknowledge": st.sampled_from(("failed", "lost", "stalled", "unreachable"))}
            ),
        ),
    ),
    max_size=8,
)


@EXAMPLES
@given(rollout=rollouts(), orders=ORDERS)
def test_with_operators(rollout: tuple[Plan, dict[str, str]], orders: dict[int, Any]) -> None:
    with somewhere() as place:
        watched = Watched(place, *rollout)
        watched.orders = orders
        state = watched.run()
        assert state.ended
        check_journal(watched.directory, watched.plan)
        assert status.read(watched.directory).counts == state.counts


OTHERS = st.dictionaries(
    st.integers(1, 120),
    st.tuples(
        st.sampled_from(("approve", "approve", "freeze", "freeze", "freeze all", "thaw")),
        st.sampled_from([f"hv{number:02}" for number in range(14)]),
    ),
    max_size=8,
)


@EXAMPLES
@given(rollout=rollouts(), orders=ORDERS, others=OTHERS)
def test_with_others_who_approve_and_freeze(
    rollout: tuple[Plan, dict[str, str]], orders: dict[int, Any], others: dict[int, Any]
) -> None:
    """The newest word wins, whoever said it; and it comes to an end."""
    with somewhere() as place:
        watched = Watched(place, *rollout)
        watched.orders, watched.others = orders, others
        state = watched.run()
        assert state.ended
        check_journal(watched.directory, watched.plan)
        assert status.read(watched.directory).counts == state.counts


@EXAMPLES
@given(rollout=rollouts(), turn=st.integers(1, 150))
def test_abort_ends_it_from_wherever_it_is(rollout: tuple[Plan, dict[str, str]], turn: int) -> None:
    """And no host is told anything more, but those that were on their way back."""
    with somewhere() as place:
        watched = Watched(place, *rollout)
        watched.orders = {turn: ("abort", {})}
        state = watched.run()
        records = journal.read(watched.directory / journal.FILE_NAME)
        orders = [one for one in records if one.type == Type.COMMAND]
        said = next((one.seq for one in orders if one.body["verb"] == "abort"), None)
        if said is not None:
            assert state.standing is Standing.ABORTED
            assert not state.counts[Place.APPROVED], "its next highstate would move it"
            assert not [one for one in records[said:] if one.type in (Type.ROUND, Type.MOVE, Type.BACK)]


@EXAMPLES
@given(rollout=rollouts(), orders=ORDERS)
def test_whatever_it_came_to_all_can_be_rolled_back(
    rollout: tuple[Plan, dict[str, str]], orders: dict[int, Any]
) -> None:
    """After a rollback of everything no host that was approved is at the level, unless it is named; after
    that there is nobody left, or only those."""
    with somewhere() as place:
        watched = Watched(place, *rollout)
        watched.orders = orders
        watched.run()
        watched.orders = {}
        watched.say("rollback", {})
        state = drive(watched.directory, watched.world)
        approved = {name: one for name, one in state.hosts.items() if one.forward_rev}
        assert {one.place for one in approved.values()} <= BACK
        for name, one in approved.items():
            found = watched.world.data["hosts"][name]
            if one.place is Place.ROLLED_BACK:
                assert (found["level"], found["rev"]) == (one.before, one.rev) or found["gone"], name
                assert not found["drained"] and not found["booted"], name
        left = [name for name, one in approved.items() if one.place is not Place.ROLLED_BACK]
        assert (commands.may(Order.ROLLBACK, status.read(watched.directory), {}) is None) is bool(left)
