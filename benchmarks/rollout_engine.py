"""What the engine of a rollout costs: CPU per host transition at 1,000 and 10,000 hosts, resume, memory.

Hosts are simulated: they answer from memory, so that what is measured is deciding, journaling (with
fsync), folding and reading returns, all-in. The network, Salt and the hosts' own work are not in it. Run
it from the repository:

    python benchmarks/rollout_engine.py
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

REPO = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPO / "_utils")]

from livepatch_core.ledger.rollouts import Words
from livepatch_core.rollout import driver, journal, owner, status
from livepatch_core.rollout.clock import SystemClock
from livepatch_core.rollout.fleet import Verb
from livepatch_core.rollout.model import Gate, Grant, HostFacts, Plan
from livepatch_core.rollout.options import parse_options
from livepatch_core.rollout.planning import make_plan
from livepatch_core.rollout.state import State

DOMAINS = 40
BUILD = "a" * 40
LEVEL = 2
SIZES = (1_000, 10_000)
ROUNDS = 3  # of each size, in turn
MOST_MS = 1.0  # CPU per host transition
MOST_RESUME = 1.0  # seconds, of 10,000 hosts
# What each host goes through: staging, staged, approved, moving, healthy.
TRANSITIONS = 5
ANSWERS_AT_ONCE = 50  # returns that have come in between two looks of the driver


class Fleet:
    """Hosts that do as they are told, and whose returns trickle in."""

    def __init__(self) -> None:
        self.t = 1_795_521_600.0
        self.jobs = 0
        self.rev = 1
        self.boxes: dict[str, dict[str, Any]] = {}
        self.coming: list[tuple[str, str, Any]] = []

    def now(self) -> float:
        return self.t

    def monotonic(self) -> float:
        return self.t

    def new_jid(self) -> str:
        self.jobs += 1
        return f"20261124120000{self.jobs:06}"

    def publish(self, jid: str, verb: Verb, hosts: Sequence[str], arguments: Mapping[str, Any]) -> None:
        self.boxes[jid] = {}
        document = DOCUMENTS[verb]
        self.coming += [(jid, name, document) for name in hosts]

    def returns(self, jid: str) -> Mapping[str, Any]:
        return self.boxes.get(jid, {})

    def wait(self, seconds: float) -> None:
        self.t += min(seconds, 0.05) if self.coming else max(seconds, 0.001)
        for jid, name, document in self.coming[:ANSWERS_AT_ONCE]:
            self.boxes[jid][name] = document
        del self.coming[:ANSWERS_AT_ONCE]

    def approve(
        self,
        act: str,
        hosts: Sequence[str],
        grants: Mapping[str, Grant],
        by: Mapping[str, str],
        seen: Optional[int] = None,
    ) -> Mapping[str, Any]:
        self.rev += 1
        return {"ledger_id": "ledger", "rev": self.rev}

    def ledger(self, hosts: Sequence[str]) -> Words:
        return Words(self.rev, {}, {})

    def block(self, act: str, level: int, builds: Sequence[str], by: Mapping[str, str]) -> None:
        raise AssertionError("nothing fails here")

    def measure(self, gate: Gate, hosts: Sequence[str]) -> Mapping[str, Any]:
        raise AssertionError("there are no gates here")

    def tell(self, tag: str, data: Mapping[str, Any]) -> None:
        pass

    def unreleased(self, build_id: str, level: int) -> str:
        return ""


def look(level: int) -> dict[str, Any]:
    return {
        "verdict": "patched",
        "comment": "level is in force",
        "flags": [],
        "level": level,
        "boot_id": "0b0c2f9e-4b1c-4b7e-9c39-6a6d0b7f1c11",
        "build_id": BUILD,
        "rev": 1,
        "last": {},
        "health": {"verdict": "pass", "findings": []},
    }


def entry(document: Mapping[str, Any]) -> dict[str, Any]:
    return {"return": document, "retcode": 0, "success": True}


DOCUMENTS = {
    Verb.STAGE: entry({"result": True, "comment": "staged", "look": look(1)}),
    Verb.MOVE: entry({"result": True, "comment": "moved", "changes": {"level": {"old": 1, "new": LEVEL}}}),
    Verb.LOOK: entry(look(LEVEL)),
}


def a_plan(count: int) -> Plan:
    hosts = [
        HostFacts(
            f"hv{number:05}.example.com",
            True,
            True,
            "6.1.0-56-amd64",
            BUILD,
            "patched",
            1,
            domain=f"rack{number % DOMAINS}",
            role="compute",
            version="1",
        )
        for number in range(count)
    ]
    options = parse_options({"look_every": 300, "late": "report"}, level=LEVEL, seed=1)
    back = {BUILD: {1: Grant(1, "f" * 64)}}
    grants = {BUILD: Grant(LEVEL, "e" * 64)}
    now = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
    return make_plan("*", hosts, options, grants, back, now=now, version="1", blocked={})


def run(count: int, place: Path) -> tuple[float, float, Path]:
    """CPU seconds of a rollout from its start to its end, the longest turn, and its directory."""
    plan, fleet = a_plan(count), Fleet()
    directory = place / driver.start(place, plan, {"who": "bench", "at": "", "why": ""}, fleet)
    longest, last = [0.0], [time.process_time()]

    def timed(state: State) -> bool:
        now = time.process_time()
        longest[0], last[0] = max(longest[0], now - last[0]), now
        return False

    began = time.process_time()
    with owner.hold(directory, owner.OwnerKind.FOREGROUND, "bench", SystemClock()) as mine:
        state = driver.drive(directory, fleet, fleet, owner=mine, until_detached=timed)
    spent = time.process_time() - began
    assert str(state.standing) == "completed", state.reason
    return spent, longest[0], directory


def resume(directory: Path) -> float:
    """CPU seconds to read plan and journal again, and to know where everything stands: it waits for
    nothing."""
    began = time.process_time()
    status.read(directory)
    return time.process_time() - began


def main() -> int:
    per_transition: dict[int, list[float]] = {size: [] for size in SIZES}
    resumed: list[float] = []
    for number in range(ROUNDS):
        for size in SIZES:
            with tempfile.TemporaryDirectory() as place:
                spent, longest, directory = run(size, Path(place))
                per_transition[size].append(1000 * spent / size / TRANSITIONS)
                length = (directory / journal.FILE_NAME).stat().st_size
                if size == SIZES[-1]:
                    resumed.append(min(resume(directory) for _ in range(3)))
                each = per_transition[size][-1]
                print(
                    f"round {number + 1}, {size:6} hosts: {spent:6.2f} s CPU, {each:.3f} ms per transition, ",
                    end="",
                )
                print(f"longest turn {1000 * longest:.0f} ms, journal {length / 1e6:.2f} MB", flush=True)
    small, large = (min(per_transition[size]) for size in SIZES)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"CPU per host transition: {small:.3f} ms of {SIZES[0]}, {large:.3f} ms of {SIZES[1]} hosts, ", end=""
    )
    print(f"{large / small:.2f} times; allowed {MOST_MS}")
    print(f"resume of {SIZES[-1]} hosts: {min(resumed):.2f} s CPU, at most {max(resumed):.2f}")
    print(f"memory, at most: {peak:.0f} MB of the whole process, simulated hosts and their returns included")
    return int(large > MOST_MS or min(resumed) > MOST_RESUME)


if __name__ == "__main__":
    sys.exit(main())
