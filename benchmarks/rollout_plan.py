"""How long a plan for a large fleet takes, and what it needs.

    python -m benchmarks.rollout_plan [--hosts 10000] [--runs 9]

Pure computing, no Salt: the facts of the hosts are made up. Times are of the processor, so that what else
this machine does matters little. 40 domains, 8 kernel builds, 5 roles; one host in 20 is offline, one in 50
already there. Ends with status 1 where a plan of all hosts takes a second or more.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "_utils"))

from benchmarks.spread import Spread, spread, table
from livepatch_core.rollout.model import Grant, HostFacts, Plan
from livepatch_core.rollout.options import parse_options
from livepatch_core.rollout.plandoc import decode, encode, plan_hash
from livepatch_core.rollout.planning import make_plan
from livepatch_core.rollout.plantext import as_text

LIMIT = 1.0  # seconds
DOMAINS, BUILDS, ROLES = 40, 8, 5
NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
WINDOWS = [{"zone": "Europe/Berlin", "days": "mon-fri", "start": "22:00", "end": "06:00"}]


def fleet(hosts: int) -> list[HostFacts]:
    return [
        HostFacts(
            minion=f"hv{number:05}.dc1.example.org",
            seen=True,
            online=number % 20 != 0,
            release=f"6.1.0-{number % BUILDS}-amd64",
            build_id=f"{number % BUILDS:040x}",
            verdict="patched",
            level=2 if number % 50 == 1 else 1,
            domain=f"rack{number // BUILDS % DOMAINS}",
            role=f"role{number // BUILDS // DOMAINS % ROLES}",
            version="1.0",
        )
        for number in range(hosts)
    ]


def plan(hosts: Sequence[HostFacts], **options: Any) -> Plan:
    builds = [f"{number:040x}" for number in range(BUILDS)]
    return make_plan(
        "G@role:compute",
        hosts,
        parse_options({"windows": WINDOWS, **options}, level=2),
        {build: Grant(2, "2" * 64) for build in builds},
        {build: {1: Grant(1, "1" * 64)} for build in builds},
        now=NOW,
        version="1.0",
        blocked={},
    )


def measure(runs: int, act: Callable[[], object]) -> Spread:
    act()  # one that is not counted
    seconds = []
    for _ in range(runs):
        began = time.process_time()
        act()
        seconds.append(time.process_time() - began)
    return spread(seconds)


def measured(count: int, runs: int) -> Spread:
    """Prints a table; gives the times of the plan alone."""
    hosts = fleet(count)
    made = plan(hosts)
    data = encode(made)
    accepted = {"exposure": {"detection": "90m", "hosts": max(60, count // 50)}}
    planning = measure(runs, lambda: plan(hosts))
    rows = [
        ("plan", planning),
        ("plan, waves derived from exposure", measure(runs, lambda: plan(hosts, **accepted))),
        ("to bytes", measure(runs, lambda: encode(made))),
        ("hash", measure(runs, lambda: plan_hash(made))),
        ("from bytes", measure(runs, lambda: decode(data))),
        ("text", measure(runs, lambda: as_text(made))),
    ]
    print(table(f"{count} hosts, {DOMAINS} domains, CPU ms", rows))
    print(f"{len(data) / 1e6:.2f} MB of bytes, {len(data) / count:.0f} B a host; {memory(hosts)}\n")
    return planning


def memory(hosts: Sequence[HostFacts]) -> str:
    """The plan alone: the facts it is made of are there before. Tracing is slow, so it is not timed."""
    tracemalloc.start()
    made = plan(hosts)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return f"memory: {kept / 1e6:.1f} MB kept for {len(made.hosts)} hosts, {peak / 1e6:.1f} MB at most"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=9)
    chosen = parser.parse_args()
    small, large = measured(chosen.hosts // 10, chosen.runs), measured(chosen.hosts, chosen.runs)
    print(f"ten times the hosts take {large.median / small.median:.1f} times as long")
    print(f"a plan of {chosen.hosts} hosts: {large.median:.3f} s (wanted: less than {LIMIT:g} s)")
    return int(large.median >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
