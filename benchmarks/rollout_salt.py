"""A rollout of one wave without soak, against its own bare fan-outs, Salt's batch, and an orchestration.

    python -m benchmarks.rollout_salt [--minions 300] [--pairs 9]

A real master and 300 minions that are only a protocol (protocol_minions.py). benchmarks/README.md says what
figures are, and what such minions do not show.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "_utils")]

import psutil
import salt.client
import salt.config
import salt.exceptions
import salt.utils.event
import salt.utils.jid

from benchmarks.protocol_minions import BUILD, DOMAINS, RELEASE
from benchmarks.spread import Spread, spread, table
from lab.master import Master
from livepatch_core import __version__
from livepatch_core.catalog.author import Author
from livepatch_core.catalog.entry import Publication, parse_fixes
from livepatch_core.catalog.publish import publish
from livepatch_core.catalog.settings import parse_master
from livepatch_core.catalog.standing import promote
from livepatch_core.rollout import driver, inventory, owner, payloads, planning, verbs
from livepatch_core.rollout.clock import SystemClock
from livepatch_core.rollout.model import HostFacts
from livepatch_core.rollout.options import parse_options
from livepatch_core.rollout.owner import OwnerKind
from livepatch_core.rollout.saltfleet import SaltFleet, of_master
from tests.unit.catalog.modules import module

LEAST_PAIRS = 9
BY = Author("benchmark", "benchmark", "2026-11-24T10:00:00Z")
WITHIN = 300
ORCHESTRATION = """
stage:
  salt.function:
    - name: livepatch.stage
    - tgt: {hosts}
    - tgt_type: list
    - kwarg: {stage}
apply:
  salt.function:
    - name: livepatch.apply
    - tgt: {hosts}
    - tgt_type: list
    - kwarg: {apply}
    - require:
      - salt: stage
"""
BATCHED = "    - batch: 10%\n"
QUIET, QUIET_SECONDS, SETTLES = 0.02, 0.3, 200  # a master with nothing to do uses that much CPU in so long


class Ground:
    """The master, its options and clients, and the names of the minions."""

    def __init__(self, master: Master, place: Path, count: int) -> None:
        self.master, self.place = master, place
        self.opts = salt.config.client_config(str(master.config_file))
        self.names = [f"fake{number:04}" for number in range(count)]
        self.site = parse_master(self.opts["livepatch"], self.opts["cachedir"], self.opts["user"])
        self.level, self.rev = 1, 1000

    def publish(self) -> None:
        for number in (1, 2):
            data = module(f"livepatch_{number}", [f"f{one}" for one in range(1, number + 1)])
            wanted = Publication(BY, fixes=parse_fixes(f"CVE-2026-{number}"))
            publish(self.site, data, wanted)
            promote(self.site, number, None, None, BY)

    def grant(self) -> dict[str, Any]:
        """The level that nobody has now."""
        self.level = 3 - self.level
        found = payloads.find(self.site, BUILD, self.level)
        assert found is not None
        return {BUILD: {"level": self.level, "sha256": found.level.sha256}}

    def plan(self) -> str:
        """A plan of one wave over all hosts, kept; its hash."""
        before = self.level
        self.grant()
        facts = [
            HostFacts(
                name,
                True,
                True,
                RELEASE,
                BUILD,
                "patched",
                before,
                domain=f"rack{number % DOMAINS}",
                role="hypervisor",
                version=__version__,
            )
            for number, name in enumerate(self.names)
        ]
        given = {
            "canaries": self.names,
            "canary_soak": 0,
            "soak": 0,
            "stage_spread": 0,
            "max_per_domain": "100%",
            "parallel": 0,
            "late": "report",
        }
        offered = inventory.offers(tuple(payloads.standings(self.site)), self.level, {BUILD})
        options = parse_options(given, level=self.level)
        now = datetime.datetime.now(datetime.timezone.utc)
        drawn = planning.make_plan(
            "fake*",
            facts,
            options,
            offered.grants,
            offered.back,
            now=now,
            version=__version__,
            blocked=offered.blocked,
            testing=offered.testing,
        )
        return verbs.keep_plan(self.site, drawn)

    def settle(self) -> None:
        """Until the master has nothing left to do: what one way leaves behind is not for the next to pay."""
        leader, before = psutil.Process(self.master.process.pid), -1.0
        for _ in range(SETTLES):
            now = sum(processor_time(one) for one in (leader, *leader.children(recursive=True)))
            if before >= 0 and abs(now - before) <= QUIET:
                return
            before = now
            time.sleep(QUIET_SECONDS)
        raise AssertionError("the master never has nothing to do")

    # -- what is compared: each moves every host to the other level

    def rollout(self) -> Taken:
        """From a plan to its end, in this process, as runner and engine drive it; each phase is synced to
        disk. Client and bus are there already, as the client is for the two below."""
        plan = verbs.read_plan(self.site, self.plan())
        clock, by = SystemClock(), {"who": "benchmark", "at": BY.at, "why": "benchmark"}
        with of_master(self.opts, salt) as means:

            def drive() -> Any:
                directory = verbs.root(self.site) / driver.start(verbs.root(self.site), plan, by, clock)
                fleet = SaltFleet(means, self.site, directory.name, BY, directory / verbs.COMMANDS)
                with owner.hold(directory, OwnerKind.FOREGROUND, "benchmark", clock) as mine:
                    return driver.drive(directory, fleet, clock, owner=mine)

            taken, state = timed(drive)
        assert str(state.standing) == "completed", state.reason
        return taken

    def typed(self) -> Taken:
        """The same as somebody types it: ``salt-run livepatch.rollout plan=...``."""
        plan = self.plan()
        taken, done = self.salt_run("livepatch.rollout", f"plan={plan}", "why=benchmark")
        assert done["counts"] == {"healthy": len(self.names)}, done
        return taken

    def salt_run(self, *words: str) -> tuple[Taken, Any]:
        """Seconds from its start to its end, and what it said."""
        taken, ended = timed(lambda: self.master.run("salt-run", "--out=json", *words, timeout=WITHIN))
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return taken, json.loads(ended.stdout)

    def fan_outs(self) -> Taken:
        """The same two jobs, and nothing but them."""
        grant = self.grant()
        with salt.client.LocalClient(mopts=self.opts) as client:
            return timed(lambda: self._fan_outs(client, grant))[0]

    def _fan_outs(self, client: Any, grant: dict[str, Any]) -> None:
        for function, given in (
            ("livepatch.stage", {"builds": grant}),
            ("livepatch.apply", self.approval(grant)),
        ):
            answers = client.cmd_iter(self.names, function, tgt_type="list", kwarg=given, timeout=WITHIN)
            self.check([name for one in answers for name in one])

    def batch(self) -> Taken:
        """livepatch.apply in batches of 10 %, as ``salt --batch-size 10%`` does; nothing is staged."""
        given = self.approval(self.grant())
        with salt.client.LocalClient(mopts=self.opts) as client:
            taken, answered = timed(
                lambda: [
                    name
                    for one in client.cmd_batch(
                        self.names,
                        "livepatch.apply",
                        tgt_type="list",
                        kwarg=given,
                        batch="10%",
                        timeout=WITHIN,
                    )
                    for name in one
                ]
            )
        self.check(answered)
        return taken

    def orchestrate(self, more: str = "") -> Taken:
        """``salt-run state.orchestrate``: stage, then apply, as one wave is said in a few lines of SLS."""
        grant = self.grant()
        text = ORCHESTRATION.replace("    - require:", f"{more}    - require:").format(
            hosts=json.dumps(self.names),
            stage=json.dumps({"builds": grant}),
            apply=json.dumps(self.approval(grant)),
        )
        (self.place / "tree/benchmark.sls").write_text(text)
        taken, done = self.salt_run("state.orchestrate", "benchmark")
        results = [one["result"] for states in done["data"].values() for one in states.values()]
        assert results == [True, True], done
        return taken

    def approval(self, grant: dict[str, Any]) -> dict[str, Any]:
        self.rev += 1
        return {"approval": {"ledger_id": "benchmark", "rev": self.rev, "builds": grant}}

    def check(self, answered: list[str]) -> None:
        assert sorted(answered) == self.names, f"{len(answered)} of {len(self.names)} answered"


ROLLOUT, FAN_OUTS, BATCH = "rollout", "its two bare fan-outs", "cmd_batch 10%"
TYPED = "salt-run livepatch.rollout"
ORCHESTRATED, IN_BATCHES = "salt-run state.orchestrate", "state.orchestrate, batch 10%"
COMPARED = (
    (ROLLOUT, FAN_OUTS, 1.3),
    (ROLLOUT, BATCH, 1.0),
    (TYPED, ORCHESTRATED, 1.0),
    (TYPED, IN_BATCHES, 1.0),
)


def processor_time(process: psutil.Process) -> float:
    """Seconds; 0 of one that has ended: a master has short-lived children."""
    try:
        used = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(used.user + used.system)


class Taken(NamedTuple):
    """Seconds. cpu: processor time of this process, which drives."""

    wall: float
    cpu: float


def timed(act: Callable[[], Any]) -> tuple[Taken, Any]:
    began, used = time.perf_counter(), time.process_time()
    done = act()
    return Taken(time.perf_counter() - began, time.process_time() - used), done


@contextlib.contextmanager
def ground(count: int) -> Iterator[Ground]:
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lp-bench-", dir="/tmp")))
        for name in ("tree", "levels", "state", "minions"):
            (place / name).mkdir()
        config = {
            "livepatch": {"catalog_dir": str(place / "levels"), "state_dir": str(place / "state")},
            "module_dirs": [str(REPOSITORY)],
            "utils_dirs": [str(REPOSITORY / "_utils")],
            "open_mode": True,
            "worker_threads": 5,
            "timeout": 30,
        }
        master = stack.enter_context(Master([place / "tree"], config=config))
        program = [
            sys.executable,
            str(REPOSITORY / "benchmarks/protocol_minions.py"),
            str(master.config_file),
        ]
        swarm = subprocess.Popen(
            [*program, str(place / "minions"), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(end, swarm)
        assert swarm.stdout is not None
        assert swarm.stdout.readline() == "ready\n", "the minions did not come up"
        made = Ground(master, place, count)
        made.publish()
        yield made


def end(swarm: subprocess.Popen[str]) -> None:
    assert swarm.stdin is not None
    swarm.stdin.close()
    try:
        swarm.wait(20)
    except subprocess.TimeoutExpired:
        swarm.kill()


def measure(made: Ground, pairs: int) -> dict[str, Spread]:
    """Each in turn, in an order that turns round from pair to pair; the first round is not counted."""
    ways: dict[str, Callable[[], Taken]] = {
        ROLLOUT: made.rollout,
        FAN_OUTS: made.fan_outs,
        BATCH: made.batch,
        TYPED: made.typed,
        ORCHESTRATED: made.orchestrate,
        IN_BATCHES: lambda: made.orchestrate(BATCHED),
    }
    taken: dict[str, list[Taken]] = {name: [] for name in ways}
    for pair in range(pairs + 1):
        names = list(ways) if pair % 2 else list(reversed(ways))
        for name in names:
            made.settle()
            this = ways[name]()
            print(f"pair {pair}: {name} {this.wall:.2f} s", file=sys.stderr, flush=True)
            if pair:
                taken[name].append(this)
    found = {name: spread(one.wall for one in several) for name, several in taken.items()}
    for name in (ROLLOUT, FAN_OUTS):
        found[f"{name}: CPU here"] = spread(one.cpu for one in taken[name])
    return found


def ratios(whole: Spread, part: Spread) -> Spread:
    """Pair by pair; printed as thousandths, like everything else."""
    return Spread(tuple(one / other for one, other in zip(whole.seconds, part.seconds)))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minions", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=LEAST_PAIRS)
    given = parser.parse_args()
    with ground(given.minions) as made:
        found = measure(made, given.pairs)
    print(table(f"{given.minions} minions, {given.pairs} pairs (ms)", list(found.items())))
    missed = 0
    for one, other, wanted in COMPARED:
        ratio = ratios(found[one], found[other])
        low, high = min(ratio.seconds), max(ratio.seconds)
        kept = ratio.median <= wanted
        missed += not kept
        said = "kept" if kept else "MISSED"
        print(f"{one} / {other}: {ratio.median:.2f} (pairs {low:.2f} to {high:.2f}), wanted {wanted}: {said}")
    print("Such minions show what master and runner cost, and nothing of what a host costs.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
