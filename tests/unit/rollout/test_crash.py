"""The driver dies at every point of a rollout, really; another takes over; nothing is different in the end.

Points: right after each record of the undisturbed journal, with that record torn, and after each act
towards the world (a job published, an approval written, a level blocked) before it is recorded. Hosts,
ledger and job cache live in a file (simulated.py) and outlast the process, as the real ones do.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.rollout import adoption, journal, status, verbs
from livepatch_core.rollout.journal import Journal
from livepatch_core.rollout.model import Plan
from livepatch_core.rollout.records import Record, Type, encode
from livepatch_core.rollout.state import State
from livepatch_core.rollout.states import FORWARD, Place
from tests.unit.rollout.fleets import fleet, plan_of, uncovered
from tests.unit.rollout.simulated import World, begin, drive, new_world

DIED = 99
UNRECORDED = "not recorded"
GAPS = (0.0, 10.0, 200.0)  # seconds until somebody takes over: what hosts answered meanwhile is there
VERBS = (("abort",), ("rollback",), ("pause", "abort"), ("retry",))
UNTOLD = {Place.PENDING, Place.STAGING, Place.STAGED, Place.UNREACHABLE, Place.ABSENT}
UNENDED = FORWARD | {Place.ROLLING_BACK}
SERVICE = {"fun": "service.status", "args": ["libvirtd"]}
PROMETHEUS = {"url": "http://prometheus.example", "query": "up"}
GATES = [
    {
        "name": "service",
        "type": "function",
        "when": "host",
        "arguments": SERVICE,
        "predicate": {"op": "==", "value": True},
    },
    {"name": "health", "type": "health", "when": "soak", "dry_run": True},
    {
        "name": "up",
        "type": "prometheus",
        "when": "wave",
        "arguments": PROMETHEUS,
        "predicate": {"op": "<=", "value": 3},
    },
]
OPTIONS: dict[str, Any] = {
    "seed": 7,
    "waves": ["60%", "100%"],
    "canary_soak": 120,
    "soak": 90,
    "look_every": 120,
    "max_per_domain": 2,
    "parallel": 3,
    "late_for": 300,
    "gates": GATES,
    "thresholds": {"failed": {"wave": 1, "total": 1}, "stalled": 5, "unreachable": 5, "lost": 5},
    "on_fail": "rollback_all",
    "on_fail_canary": "rollback_all",
    "block_on_rollback": True,
}


def undone() -> tuple[Plan, dict[str, str]]:
    """Ends with a rollback of everything: two hosts fail in the last wave."""
    plan = plan_of(fleet(11, domains=2), OPTIONS)
    _, middle, last = plan.waves
    ways = {middle[0]: "misses", middle[1]: "quiet", middle[2]: "deaf", middle[3]: "stuck", last[0]: "stalls"}
    return plan, {**ways, last[-1]: "fails", last[-2]: "fails"}


def through() -> tuple[Plan, dict[str, str]]:
    """Ends with exceptions: what fails stays below its limits."""
    limits = {"failed": 5, "stalled": 5, "unreachable": 5, "lost": 5}
    plan = plan_of(fleet(11, domains=2), {**OPTIONS, "thresholds": limits, "max_per_domain": 6})
    _, middle, last = plan.waves
    ways = {
        middle[0]: "dies",
        middle[1]: "busy",
        middle[2]: "garbage",
        middle[3]: "sickens",
        last[0]: "reboots",
    }
    return plan, {**ways, last[-1]: "misses all", last[-2]: "slow"}


def restarted() -> tuple[Plan, dict[str, str]]:
    """A live rollout in which what cannot be patched live is started with another kernel. Ends with
    exceptions."""
    limits = {"failed": 9, "stalled": 9, "unreachable": 9, "lost": 9}
    hooks = {"drain": "a.b", "undrain": "c.d", "drain_deadline": 600, "restart_deadline": 300}
    given = {**OPTIONS, "thresholds": limits, "fallback": "kexec", "max_per_domain": 4, **hooks}
    hosts = [*fleet(3, domains=2), *(uncovered(f"old{number}", domain="rack0") for number in range(8))]
    plan = plan_of(hosts, given)
    names = [name for name in (*plan.waves[1], *plan.waves[-1]) if name.startswith("old")]
    ways = ("misses", "quiet", "fails", "dies", "stays", "hangs", "slow")
    return plan, dict(zip(names, ways))


def taken_back() -> tuple[Plan, dict[str, str]]:
    """A rollback while hosts are between two kernels: one comes back after it was given up, one never, one
    runs a kernel that is in no catalog."""
    limits = {"failed": 9, "stalled": 9, "unreachable": 9, "lost": {"wave": 0, "total": 0}}
    hooks = {"drain": "a.b", "undrain": "c.d", "drain_deadline": 600, "restart_deadline": 300}
    given = {**OPTIONS, "thresholds": limits, "fallback": "kexec", "max_per_domain": 8, **hooks}
    given = {**given, "parallel": 0, "without_level": "accept", "late_for": 900}
    hosts = [*fleet(6, domains=2), *(uncovered(f"old{number}", domain="rack0") for number in range(9))]
    plan = plan_of(hosts, given)
    names = [name for name in plan.waves[1] if name.startswith("old")]
    ways = ("lags", "dies", "unknown", "ahead")
    assert len(names) >= len(ways)
    return plan, dict(zip(names, ways))


def meaning(directory: Path, world: World) -> dict[str, Any]:
    """All that may not depend on who drove when: no times, no jids, no looks."""
    state = status.read(directory)
    records = journal.read(directory / journal.FILE_NAME)
    return {
        "standing": state.standing,
        "hosts": {name: (host.place, host.kind, host.rev, host.before) for name, host in state.hosts.items()},
        "counts": +state.counts,
        "trips": [vars(trip) for trip in state.trips],
        "rounds": [rounded(record) for record in records if record.type == Type.ROUND],
        "approvals": [dict(record.body) for record in records if record.type == Type.APPROVE],
        "phases": [dict(record.body) for record in records if record.type == Type.PHASE],
        "verdicts": [
            (one["gate"], one["lap"], one["verdict"], one["decided"])
            for one in state.verdicts
            if one["when"] != "soak"
        ],
        "commands": {name: host["commands"] for name, host in world.data["hosts"].items()},
        "kernels": {
            name: [host[key] for key in ("level", "rev", "boots", "kernel", "drained", "booted")]
            for name, host in world.data["hosts"].items()
        },
        "ledger": (world.data["rev"], world.data["acts"], world.data["approvals"], world.data["blocked"]),
    }


def rounded(record: Record) -> list[str]:
    body = record.body
    return list(body["hosts"]) if body.get("back") else [name for _, names in body["jobs"] for name in names]


class Dying:
    """Drives one rollout to its end, and at every point sends a copy of itself to its death: a child
    process that has its own copy of journal and world, goes one step further, and exits there.
    """

    def __init__(self, directory: Path, world: World, graves: Path) -> None:
        self.directory, self.world, self.graves = directory, world, graves
        self.points: list[str] = []
        self.append = Journal.append

    def dying_append(self, journal_: Journal, kind: Type, body: Any, now: Any) -> Record:
        record = self.append(journal_, kind, body, now)
        line = encode(record)
        for name, part in (
            (f"{record.seq} {kind}", line),
            (f"{record.seq} {kind} torn", line[: len(line) // 2]),
        ):
            self.die(name, len(line), part)
        return record

    def dying_act(self, name: str) -> Callable[..., Any]:
        act = getattr(self.world, name)

        def both(*arguments: Any) -> Any:
            done = act(*arguments)
            self.die(f"{name} {arguments[0]} not recorded", 0, b"")
            return done

        return both

    def die(self, name: str, cut: int, last: bytes) -> None:
        """In the copy the journal's last ``cut`` bytes are written by the child itself, as far as it gets."""
        grave = self.graves / str(len(self.points)) / self.directory.name
        self.points.append(name)
        child = os.fork()
        if child == 0:
            try:
                whole = (self.directory / journal.FILE_NAME).read_bytes()
                shutil.copytree(self.directory, grave)
                (grave / journal.FILE_NAME).write_bytes(whole[: len(whole) - cut])
                self.world.path = grave.parent / "world.json"
                self.world.save()
                with open(grave / journal.FILE_NAME, "ab", buffering=0) as stream:
                    stream.write(last)
                os._exit(DIED)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == DIED


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory where there is one: hundreds of rollouts are written here, and none need last."""
    shared = Path("/dev/shm")
    place = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield place
    shutil.rmtree(place)


@pytest.mark.parametrize("scenario", [undone, through, restarted, taken_back])
def test_every_point(
    memory: Path, monkeypatch: pytest.MonkeyPatch, scenario: Callable[[], tuple[Plan, dict[str, str]]]
) -> None:
    plan, ways = scenario()
    world = new_world(memory / "world.json", plan, ways)
    directory = begin(memory / "rollouts", plan, world)
    dying = Dying(directory, world, memory / "graves")
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", _method(dying))
        for name in ("publish", "approve", "block", "measure"):
            patched.setattr(world, name, dying.dying_act(name))
        drive(directory, world)
    wanted = meaning(directory, world)
    assert len(dying.points) > 250
    assert max(len(commands) for commands in wanted["commands"].values()) <= 3
    different = {name: found for name, found in resumed(memory / "graves", dying.points, wanted) if found}
    assert not different, json.dumps(different, default=str, indent=1)[:6000]
    untrue = {name: found for name, found in commanded(memory / "graves", dying.points) if found}
    assert not untrue, json.dumps(untrue, default=str, indent=1)[:6000]


def _method(dying: Dying) -> Callable[..., Record]:
    def append(self: Journal, kind: Type, body: Any, now: Any) -> Record:
        return dying.dying_append(self, kind, body, now)

    return append


def resumed(graves: Path, points: list[str], wanted: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is different after each death, once another owner has driven it to its end."""
    for number, name in enumerate(points):
        for gap in GAPS if name.endswith(UNRECORDED) else (0.0,):
            directory, world = exhumed(graves, number)
            world.data["now"] += gap
            drive(directory, world, adoption.waits)
            found = meaning(directory, world)
            differs = {key: (found[key], wanted[key]) for key in wanted if found[key] != wanted[key]}
            yield f"{name}, taken over {gap} s later", differs
            shutil.rmtree(directory.parent)


def commanded(graves: Path, points: list[str]) -> Iterator[tuple[str, list[str]]]:
    """What is not as it is said to be, where the first who comes after a death, 5 s later, gives a verb."""
    unrecorded = [number for number, name in enumerate(points) if name.endswith(UNRECORDED)]
    for number in unrecorded:
        for given in VERBS:
            directory, world = exhumed(graves, number)
            world.data["now"] += 5
            yield f"{points[number]}, then {' and '.join(given)}", after_verbs(directory, world, given)
            shutil.rmtree(directory.parent)


def after_verbs(directory: Path, world: World, given: tuple[str, ...]) -> list[str]:
    for verb in (*given, "resume"):  # whoever finds it waiting lets it go on
        try:
            verbs.command(directory, world, world, verb, "bob", "because", {})
        except LivepatchError:  # it makes no sense at that point, and says so
            if verb == given[0]:
                return []
        drive(directory, world, adoption.waits)
    world.data["now"] += 1e5  # whoever leaves has left
    return list(untruths(status.read(directory), world))


def untruths(state: State, world: World) -> Iterator[str]:
    for name, host in state.hosts.items():
        own = world.data["hosts"][name]
        said = f"{name} is {host.place}, and"
        world.passed(own)
        if host.place is Place.HEALTHY and not host.restarts and own["level"] != own["up"]:
            yield f"{said} at level {own['level']}"
        if host.place is Place.ROLLED_BACK and own["level"] != host.before:
            yield f"{said} at level {own['level']}"
        if host.place is Place.RECALLED and host.was is Place.APPROVED and own["commands"]:
            yield f"{said} was told {own['commands']}"
        if host.place in UNTOLD and own["moved"]:
            yield f"{said} has moved"
        if own["drained"] and own["way"] not in ("dies", "lags"):
            yield f"{said} is drained: {host.text}"
        if world.data["approvals"].get(name, {"rev": 0})["rev"] != host.rev:
            yield f"{said} rev {host.rev} is not the ledger's"
        if state.ended and host.place in UNENDED:
            yield f"{said} it has ended"


def exhumed(graves: Path, number: int) -> tuple[Path, World]:
    """A copy of what one death left."""
    place = graves / f"{number} again"
    shutil.copytree(graves / str(number), place)
    return next(one for one in place.iterdir() if one.is_dir()), World(place / "world.json")
