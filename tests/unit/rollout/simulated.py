"""A fleet in one document: hosts, ledger, job cache and clock can outlast the process that drives them.

Hosts keep the promises that real ones keep (host/approval.py): the highest rev wins, the same rev again
changes nothing. How each one fails is its ``ways``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import livepatch_core
from livepatch_core.ledger.rollouts import Words
from livepatch_core.rollout import driver, owner, status
from livepatch_core.rollout.clock import SystemClock
from livepatch_core.rollout.fleet import FleetError, Verb
from livepatch_core.rollout.model import Gate, Grant, Method, Plan
from livepatch_core.rollout.owner import OwnerKind
from livepatch_core.rollout.state import State
from tests.unit.rollout.fleets import KERNEL, LEVEL, NEW_BUILD, NEW_LEVEL

BEGAN = 1_795_521_600.0  # 2026-11-24T12:00:00Z
LEDGER = "ledger-0123456789ab"
BY = {"who": "alice", "at": "2026-11-24T12:00:00Z", "why": "CVE-2026-1"}
SECONDS = 2.0  # that a move takes
ILL_AFTER = 60.0  # seconds after it
LATE_UNTIL = 400.0  # seconds, of those who are late
JOBS = 8  # the newest, whose returns are waited for

# How a host may fail. Each holds for good, but for what says otherwise.
WAYS = (
    "well",
    "refuses",  # stage: no
    "deaf",  # answers nothing
    "late",  # answers nothing at first
    "fails",  # the move is refused
    "stalls",  # and is reversed
    "jams",  # stalls, and stays in transition
    "dies",  # on the move: answers nothing any more
    "reboots",  # on the move: comes back with another boot id, at the old level
    "quiet",  # moves, but its return is lost
    "slow",  # moves, but takes four minutes
    "misses",  # the first command does not reach it
    "misses all",  # none does
    "garbage",  # moves, and returns a string
    "busy",  # the first command meets a highstate that moves it
    "sickens",  # well until its soak, then its health fails
    "leaves",  # well until its soak, then its level is gone
    "falls",  # well until its soak, then it answers no more
    "stuck",  # moves, and cannot go back
)


# Of a host that is started with another kernel. The ways of above mean what they say; "reboots": before it
# has got the command; "dies": it leaves, and never comes back.
RESTART_WAYS = (
    "well", "refuses", "deaf", "late", "fails", "dies", "reboots", "quiet", "slow", "misses", "misses all",
    "garbage", "busy", "sickens", "leaves", "falls",
    "stays",  # it says that it leaves, and does not
    "strays",  # it comes back long after its time
    "lags",  # a while after it
    "another",  # it comes back with the old kernel
    "ill",  # it comes back and is not well
    "bare",  # it says that all is well, and is not at its level
    "hangs",  # the answer to finish is lost
    "ahead",  # it runs that kernel already, in a build that is in no catalog
    "unknown",  # it comes back with that kernel, in such a build
)  # fmt: skip
DELAY, BOOT, LAG, LONG, DRAIN = 15.0, 60.0, 500.0, 1e4, 240.0
UNKNOWN_BUILD = "9" * 40


class World:
    """Clock and Fleet in one. ``data`` is plain, ``save`` leaves it at ``path``, where another World
    takes it up."""

    def __init__(self, path: Path, ways: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.frozen_hosts: dict[str, str] = {}
        self.measured: Callable[[Gate], Mapping[str, Any]] = lambda gate: {"value": 1, "evidence": "asked"}
        self.values: Callable[[str, str], Any] = lambda host, fun: True
        self.withheld: Any = False  # whether the level is not released, or the kernel builds for which
        self.why_withheld = "is still in testing"
        self.gone: dict[int, str] = {}  # levels that hosts cannot have any more, and why
        self.newest = KERNEL  # what "newest" means on each host
        self.skew = 0.0  # of the wall clock
        self.waited: Callable[[float], None] = lambda now: None
        self.watch: Callable[[str, Any], None] = lambda act, what: None
        self.told: list[tuple[str, Mapping[str, Any]]] = []
        self.authors: list[tuple[str, int, Mapping[str, str]]] = []  # of approvals and blocks: act, level
        self.broken = 0  # publications that fail from here on
        if ways is None:
            self.data: dict[str, Any] = json.loads(path.read_text())
        else:
            self.data = {
                "now": BEGAN,
                "jids": 0,
                "rev": 10,
                "acts": {},
                "blocked": [],
                "hosts": {name: _host(way) for name, way in ways.items()},
                "returns": {},
                "approvals": {},
            }

    def save(self) -> None:
        self.path.write_text(json.dumps(self.data))

    # -- clock

    def now(self) -> float:
        return self.time() + self.skew

    def time(self) -> float:
        return float(self.data["now"])

    def monotonic(self) -> float:
        return float(self.data["now"]) - BEGAN

    # -- fleet

    def new_jid(self) -> str:
        self.data["jids"] += 1
        return f"jid{self.data['jids']}"

    def publish(self, jid: str, verb: Verb, hosts: Sequence[str], arguments: Mapping[str, Any]) -> None:
        if self.broken:
            self.broken -= 1
            raise FleetError("the master does not answer")
        self.watch("publish", (verb, list(hosts), arguments))
        box = self.data["returns"].setdefault(jid, {})
        for name in hosts:
            answer = self._receive(name, verb, arguments)
            if answer is not None and name not in box:
                box[name] = answer

    def returns(self, jid: str) -> Mapping[str, Any]:
        box = self.data["returns"].get(jid, {})
        return {name: entry for name, entry in box.items() if entry["at"] <= self.time()}

    def wait(self, seconds: float) -> None:
        """Until a return comes, or so long; a return that is late by a hair wakes nobody."""
        now, soonest = self.time(), self.time() + max(seconds, 0.001)
        boxes = list(self.data["returns"].values())[-JOBS:]
        due = [entry["at"] for box in boxes for entry in box.values() if now < entry["at"] < soonest]
        self.data["now"] = min([soonest, *due])
        self.waited(self.time())

    def approve(
        self,
        act: str,
        hosts: Sequence[str],
        grants: Mapping[str, Grant],
        by: Mapping[str, str],
        seen: Optional[int] = None,
    ) -> Mapping[str, Any]:
        assert act in self.data["acts"] or seen == self.data["rev"], "it was not looked into the ledger"
        self.authors += [(act, one.level, by) for one in grants.values()]
        self.watch("approve", (act, list(hosts), grants))
        builds = {build: {"level": one.level, "sha256": one.sha256} for build, one in grants.items()}
        if act not in self.data["acts"]:
            self.data["rev"] += 1
            self.data["acts"][act] = self.data["rev"]
            for name in hosts:
                self.data["approvals"][name] = {"rev": self.data["rev"], "builds": builds}
        documents = [{"hosts": list(hosts), "builds": builds}]
        return {"ledger_id": LEDGER, "rev": self.data["acts"][act], "documents": documents}

    def ledger(self, hosts: Sequence[str]) -> Words:
        asked = {name: self.data["approvals"][name] for name in hosts if name in self.data["approvals"]}
        approved = {
            name: {build: (grant["level"], one["rev"]) for build, grant in one["builds"].items()}
            for name, one in asked.items()
        }
        frozen = {name: why for name, why in self.frozen_hosts.items() if name in hosts}
        return Words(self.data["rev"], frozen, approved)

    def by_hand(self, name: str, level: int, build: str = "") -> None:
        """Somebody approves it for a level, of the kernel build that it runs."""
        self.data["rev"] += 1
        builds = {build or self.data["hosts"][name]["build"]: {"level": level, "sha256": "5" * 64}}
        self.data["approvals"][name] = {"rev": self.data["rev"], "builds": builds}

    def block(self, act: str, level: int, builds: Sequence[str], by: Mapping[str, str]) -> None:
        self.authors.append((act, level, by))
        for build in builds:
            assert level > 0, "there is no level 0 that could be blocked"
            if [act, level, build] not in self.data["blocked"]:
                self.data["blocked"].append([act, level, build])
        self.watch("block", act)

    def measure(self, gate: Gate, hosts: Sequence[str]) -> Mapping[str, Any]:
        return self.measured(gate)

    def tell(self, tag: str, data: Mapping[str, Any]) -> None:
        self.told.append((tag, data))

    def unreleased(self, build_id: str, level: int) -> str:
        withheld = self.withheld if isinstance(self.withheld, bool) else build_id in self.withheld
        return self.gone.get(level, self.why_withheld if withheld and level == LEVEL else "")

    # -- hosts

    def _receive(self, name: str, verb: Verb, arguments: Mapping[str, Any]) -> Optional[dict[str, Any]]:
        host = self.data["hosts"][name]
        self.passed(host)
        if host["down"]:
            return None
        if host["gone"] or host["way"] == "deaf" or (host["way"] == "late" and self.monotonic() < LATE_UNTIL):
            return None
        if verb is Verb.STAGE:
            return self._stage(host, arguments)
        if verb is Verb.MOVE:
            return self._move(host, arguments["approval"])
        if verb is Verb.LOOK:
            return self._look(host)
        if verb is Verb.CHECK:
            return self._check(host, arguments)
        if verb is Verb.LEAVE:
            return self._leave(host, arguments)
        if verb is Verb.FINISH:
            return self._finish(host)
        return self._answer(self.values(name, str(arguments["fun"])))

    def _answer(self, document: Any, after: float = 0.1, retcode: int = 0) -> dict[str, Any]:
        return {"return": document, "retcode": retcode, "success": True, "at": self.time() + after}

    def _stage(self, host: dict[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
        host["build"] = next(iter(sorted(arguments["builds"]))) if not host["build"] else host["build"]
        if host["way"] == "refuses":
            return self._answer({"result": False, "comment": "quarantined here", "kind": "quarantined"})
        if host["build"] not in arguments["builds"]:
            return self._answer({"result": False, "comment": "not for this kernel", "kind": "uncovered"})
        return self._answer({"result": True, "comment": "staged", "look": self._seen(host)})

    def _look(self, host: dict[str, Any]) -> Optional[dict[str, Any]]:
        if self._soaking(host) and host["way"] == "falls":
            host["gone"] = True
            return None
        if self._soaking(host) and host["way"] == "leaves":
            host["level"] = 0
        return self._answer(self._seen(host))

    def _soaking(self, host: dict[str, Any]) -> bool:
        """When what only shows in a soak shows."""
        return host["moved"] and host["level"] == host["up"] and self.time() > host["until"] + ILL_AFTER

    def _seen(self, host: dict[str, Any]) -> dict[str, Any]:
        moving = host["until"] > self.time() or host["jammed"]
        verdict = "stalled" if host["jammed"] else "patching" if moving else "patched"
        sick = host["way"] == "sickens" and self._soaking(host)
        bare = "unpatched" if host.get("unasked") is None else "unknown"
        return {
            "verdict": verdict if host["level"] or moving else bare,
            "unasked": host.get("unasked") or [],
            "comment": "seen",
            "flags": [],
            "level": host["level"],
            "boot_id": f"boot-{host['boots']}",
            "build_id": host["build"],
            "rev": host["rev"],
            "last": {} if moving else dict(host["last"]),
            "release": host["kernel"],
            "version": host.get("version", livepatch_core.__version__),
            "restart": host["restart"],
            "health": {"verdict": "fail" if sick else "pass", "findings": []},
        }

    # -- hosts that are started with another kernel

    def passed(self, host: dict[str, Any]) -> None:
        """What has happened by itself since somebody looked."""
        restart, now = host["restart"], self.time()
        if restart is None or restart["stage"] == "done" or host["leaves_at"] is None:
            return
        if restart["stage"] == "draining" and now >= host["leaves_at"] - DELAY:
            restart["stage"] = "leaving"
        if now >= host["leaves_at"]:
            host["down"] = True
        if now >= host["back_at"]:
            host.update(down=False, leaves_at=None, boots=host["boots"] + 1, last={})
            host["booted"].append(restart["rev"])
            if host["way"] != "another":
                build = UNKNOWN_BUILD if host["way"] == "unknown" else NEW_BUILD
                host.update(kernel=KERNEL, build=build, level=0)

    def _check(self, host: dict[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
        if host["way"] == "refuses":
            return self._answer({"result": False, "comment": "locked down", "kind": "lockdown"})
        kernel = self.newest if arguments["kernel"] == "newest" else arguments["kernel"]
        look = self._seen(host)
        return self._answer({"result": True, "comment": "it could", "kernel": kernel, "look": look})

    def _leave(self, host: dict[str, Any], arguments: Mapping[str, Any]) -> Optional[dict[str, Any]]:
        approval, way = arguments["approval"], host["way"]
        rev = approval["rev"]
        host["sent"] += 1
        if way == "misses all" or (way == "misses" and host["sent"] == 1):
            return None
        if way == "reboots" and host["boots"] == 1:
            host["boots"] += 1
            return None
        if way == "busy" and host["sent"] == 1:
            return self._answer({"result": False, "kind": "busy", "comment": "a highstate runs"}, 0.1, 1)
        host["commands"].append([rev, arguments["kernel"]])
        if rev < host["rev"] or arguments["kernel"] not in approval["builds"]:
            return self._answer({"result": False, "kind": "superseded", "comment": "an older rev"}, 0.1, 1)
        if host["restart"] is not None and host["restart"]["rev"] == rev:
            return self._answer(self._told(host))
        host["rev"] = rev
        host["restart"] = {
            "ledger_id": approval["ledger_id"], "rev": rev, "stage": "draining", "owed": True, "result": None,
            "boot_id": f"boot-{host['boots']}", "kind": "", "comment": "", "evidence": {},
        }  # fmt: skip
        host["drained"] = True
        if way == "fails":
            self._ended(host, "health", "the drain failed")
            return self._answer(self._told(host), SECONDS, 1)
        seconds = DRAIN if way == "slow" else SECONDS
        leaves = self.time() + seconds + DELAY
        host["leaves_at"] = None if way == "stays" else leaves
        host["back_at"] = leaves + {"strays": LONG, "lags": LAG, "dies": 1e9}.get(way, BOOT)
        if way != "slow":
            host["restart"]["stage"] = "leaving"
        if way == "quiet":
            return None
        told = {**self._told(host), "restart": {**host["restart"], "stage": "leaving"}}
        return self._answer("Traceback" if way == "garbage" else told, seconds)

    def _told(self, host: dict[str, Any]) -> dict[str, Any]:
        restart = dict(host["restart"])
        said = {"result": restart["result"] is not False, "comment": restart["comment"], "restart": restart}
        return {**said, **({"kind": restart["kind"]} if restart["kind"] else {})}

    def _ended(self, host: dict[str, Any], kind: str = "", comment: str = "") -> None:
        """It is undrained, and says how it ended."""
        host["drained"] = False
        host["restart"].update(stage="done", owed=False, result=not kind, kind=kind, comment=comment)

    def _finish(self, host: dict[str, Any]) -> Optional[dict[str, Any]]:
        restart, boot = host["restart"], f"boot-{host['boots']}"
        if restart["stage"] != "done":
            arrived = restart["boot_id"] != boot
            good = arrived and host["kernel"] == KERNEL
            if arrived:
                restart["evidence"] = {
                    "release": host["kernel"], "boot_id": boot, "as_asked": good, "away": BOOT,
                }  # fmt: skip
            if not arrived:
                host["leaves_at"] = None
                self._ended(host, "stalled", "it never left")
            elif not good:
                self._ended(host, "kernel-mismatch", "another kernel runs")
            elif host["way"] == "ill":
                self._ended(host, "health", "libvirtd is not active")
            elif host["way"] in ("bare", "unknown"):
                self._ended(host)
            else:
                host.update(level=NEW_LEVEL, up=NEW_LEVEL, moved=True, until=self.time() + SECONDS)
                self._ended(host)
        if host["way"] == "hangs":
            host["way"] = "well"
            return None
        seen = {**self._seen(host), "verdict": "patched" if host["level"] else "unpatched"}
        return self._answer({**self._told(host), "look": seen}, SECONDS)

    def _move(self, host: dict[str, Any], approval: Mapping[str, Any]) -> Optional[dict[str, Any]]:
        level = approval["builds"].get(host["build"], {"level": host["level"]})["level"]
        host["sent"] += 1
        if host["way"] == "misses all" or (host["way"] == "misses" and host["sent"] == 1):
            return None
        host["commands"].append([approval["rev"], level])
        if approval["rev"] < host["rev"]:
            return self._answer(
                {"result": False, "kind": "superseded", "comment": "an older rev", "changes": {}}
            )
        again = approval["rev"] == host["rev"]
        host["rev"] = approval["rev"]
        if again or level == host["level"]:
            host["last"] = {"rev": host["rev"], "result": True, "kind": "", "comment": "nothing to do"}
            return self._answer({"result": True, "comment": "nothing to do", "changes": {}})
        way = WHAT_HAPPENS.get(host["way"]) if level == host["up"] or host["way"] == "stuck" else None
        return way(self, host, level) if way is not None else self._moved(host, level)

    def _moved(self, host: dict[str, Any], level: int, after: float = SECONDS) -> dict[str, Any]:
        changes = {"level": {"old": host["level"], "new": level}}
        host["level"], host["moved"], host["jammed"] = level, True, False
        host["until"] = self.time() + after
        host["last"] = {"rev": host["rev"], "result": True, "kind": "", "comment": "moved"}
        return self._answer({"result": True, "comment": "moved", "changes": changes}, after)

    def _failed(self, host: dict[str, Any], kind: str) -> dict[str, Any]:
        host["last"] = {"rev": host["rev"], "result": False, "kind": kind, "comment": f"it {kind}"}
        return self._answer(
            {"result": False, "kind": kind, "comment": f"it {kind}", "changes": {}}, SECONDS, 1
        )

    def _gone(self, host: dict[str, Any], level: int) -> None:
        host["gone"] = True

    def _reboots(self, host: dict[str, Any], level: int) -> None:
        host["boots"] += 1
        host["last"] = {}

    def _quiet(self, host: dict[str, Any], level: int) -> None:
        self._moved(host, level)

    def _slow(self, host: dict[str, Any], level: int) -> dict[str, Any]:
        return self._moved(host, level, 240.0)

    def _garbage(self, host: dict[str, Any], level: int) -> dict[str, Any]:
        self._moved(host, level)
        return self._answer("Traceback (most recent call last): ...", SECONDS, 1)

    def _busy(self, host: dict[str, Any], level: int) -> dict[str, Any]:
        self._moved(host, level, 30.0)  # the highstate's own move, by the same approval
        document = {"result": False, "kind": "busy", "comment": "another act is under way", "changes": {}}
        return self._answer(document, 0.1, 1)

    def _jams(self, host: dict[str, Any], level: int) -> dict[str, Any]:
        host["jammed"] = True
        return self._failed(host, "stalled")

    def _stuck(self, host: dict[str, Any], level: int) -> dict[str, Any]:
        return self._moved(host, level) if level == host["up"] else self._failed(host, "reverse-stalled")


WHAT_HAPPENS: Mapping[str, Callable[[World, dict[str, Any], int], Optional[dict[str, Any]]]] = {
    "fails": lambda world, host, level: world._failed(host, "conflict"),
    "stalls": lambda world, host, level: world._failed(host, "reversed"),
    "jams": World._jams,
    "dies": World._gone,
    "reboots": World._reboots,
    "quiet": World._quiet,
    "slow": World._slow,
    "garbage": World._garbage,
    "busy": World._busy,
    "stuck": World._stuck,
}


def _host(way: str, build: str = "a" * 40) -> dict[str, Any]:
    """up: the level of the rollout. until: when its move ends. commands: moves received: rev, and level or
    kernel. booted: the rev of each boot that was ordered."""
    return {
        "way": way,
        "build": build,
        "level": 1,
        "up": 2,
        "rev": 5,
        "boots": 1,
        "gone": False,
        "jammed": False,
        "moved": False,
        "until": 0.0,
        "last": {},
        "sent": 0,
        "commands": [],
        "kernel": "6.1.0-56-amd64",
        "restart": None,
        "down": False,
        "leaves_at": None,
        "back_at": 0.0,
        "booted": [],
        "drained": False,
    }


def new_world(path: Path, plan: Plan, ways: Mapping[str, str]) -> World:
    """Hosts that are not named are well; each runs the kernel build of the plan."""
    world = World(path, {one.minion: ways.get(one.minion, "well") for one in plan.hosts})
    for one in plan.hosts:
        world.data["hosts"][one.minion]["build"] = one.build_id
        if one.method is not Method.LIVEPATCH:
            world.data["hosts"][one.minion]["up"] = NEW_LEVEL
        world.data["hosts"][one.minion]["level"] = one.before
        if ways.get(one.minion) == "ahead":
            world.data["hosts"][one.minion].update(kernel=KERNEL, build=UNKNOWN_BUILD, level=0)
    return world


def begin(root: Path, plan: Plan, world: World) -> Path:
    """A started rollout's directory."""
    return root / driver.start(root, plan, BY, world)


def drive(
    directory: Path, world: World, until: Callable[[State], bool] = lambda state: False, turns: int = 4_000
) -> State:
    """Until it ends, or ``until``; a rollout that does neither is a failure, not a hang."""
    left = [turns]

    def detached(state: State) -> bool:
        left[0] -= 1
        assert left[0], f"no end: {status.document(state, world.now())}"
        return until(state)

    with owner.hold(directory, OwnerKind.FOREGROUND, "alice", SystemClock()) as mine:
        return driver.drive(directory, world, world, owner=mine, until_detached=detached)


def places(state: State) -> dict[str, str]:
    return {name: str(host.place) for name, host in state.hosts.items()}
