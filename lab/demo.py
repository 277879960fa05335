"""The project on real kernels: a master, three guests with two kernels, two levels on and off again.

What is printed comes from the guests' kernels and from Salt's own programs; nothing is played back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lab import kernels, minion
from lab.errors import GuestError, LabError
from lab.levels import Level, build_levels
from lab.master import Master
from lab.progress import step

REPOSITORY = Path(__file__).resolve().parent.parent
SHIPPED = ("_modules", "_output", "_utils")
HOSTS = {"hv1": "6.1", "hv2": "6.1", "hv3": "6.1-cloud"}
EVIDENCE = "uname -r; grep Livepatch /proc/meminfo || echo /proc/meminfo knows no level"
LEDGER = "demo"
# Three emulated machines on a small host answer late; Salt gives up after 5 s by default.
PATIENT = {"timeout": 90, "gather_job_timeout": 60}


class DemoFailed(Exception):
    """A step did not end as the project promises."""


def main() -> int:
    started = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            show(stack)
    except (DemoFailed, LabError, GuestError) as problem:
        print(f"\nscripts/demo: FAILED after {time.monotonic() - started:.0f} s: {problem}")
        return 1
    except KeyboardInterrupt:
        print(f"\nscripts/demo: interrupted after {time.monotonic() - started:.0f} s; nothing left running")
        return 130
    print(f"\nscripts/demo: worked, {time.monotonic() - started:.0f} s in all; nothing is left running")
    return 0


def show(stack: contextlib.ExitStack) -> None:
    used = {role: kernels.kernel(role) for role in sorted(set(HOSTS.values()))}
    place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lab-demo-", dir="/tmp")))
    print("Two levels for each kernel, built from the diffs in examples/patches:", flush=True)
    levels = {one.release: build_levels(one, place / "built" / one.release) for one in used.values()}
    stage = Stage(place, levels)
    with step("starting a salt-master"):
        stage.master = stack.enter_context(Master([stage.tree, stage.served], [stage.pillar], PATIENT))
    for name, role in HOSTS.items():
        with step(f"starting {name} with {used[role].release} and a salt-minion"):
            stack.enter_context(minion.start(stage.master, used[role], name))
    play(stage)


class Stage:
    """What the fleet sees: the extension, a catalog per kernel, and the pillar with its approval."""

    def __init__(self, place: Path, levels: Mapping[str, Sequence[Level]]) -> None:
        self.tree, self.served, self.pillar = (place / name for name in ("tree", "catalog", "pillar"))
        self.levels = levels
        self.pillar.mkdir()
        for folder in SHIPPED:
            shutil.copytree(
                REPOSITORY / folder, self.tree / folder, ignore=shutil.ignore_patterns("__pycache__")
            )
        for release, those in levels.items():
            self._publish(release, those)

    master: Master

    def _publish(self, release: str, levels: Sequence[Level]) -> None:
        """JSON is YAML, also for the catalog."""
        directory = self.served / "livepatch" / release
        directory.mkdir(parents=True)
        for level in levels:
            shutil.copy(level.module, directory / level.module.name)
        entries = {level.number: entry(level) for level in levels}
        build = {"version": release, "levels": entries}
        document = {"schema": 1, "release": release, "builds": {levels[0].kernel_build: build}}
        (directory / "catalog.yaml").write_text(json.dumps(document, indent=1))

    def approve(self, rev: int, number: int) -> None:
        """Level `number` for every kernel build, in the pillar of every host."""
        builds = {}
        for those in self.levels.values():
            level = next((one for one in those if one.number == number), None)
            builds[those[0].kernel_build] = {
                "level": number,
                "sha256": sha256(level.module) if level else None,
            }
        approval = {"ledger_id": LEDGER, "rev": rev, "builds": builds}
        (self.pillar / "top.sls").write_text(json.dumps({"base": {"*": ["livepatch"]}}))
        (self.pillar / "livepatch.sls").write_text(json.dumps({"livepatch": {"approval": approval}}))

    def quietly(self, *words: str) -> None:
        """Type a command for all hosts; only its failure is worth reading."""
        print(f"\n$ salt '*' {' '.join(words)}", flush=True)
        ended = self.master.run("salt", "--out=json", "*", *words, timeout=300)
        if ended.returncode:
            raise DemoFailed(
                f"salt '*' {' '.join(words)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}"
            )

    def salt(self, *words: str, succeeds: bool = True) -> str:
        """Type a command, show it and what it printed."""
        shown = " ".join(f"'{word}'" if set(word) & set("* ;'|") else word for word in words)
        print(f"\n$ salt {shown}", flush=True)
        ended = self.master.run("salt", "--no-color", *words, timeout=300)
        print(ended.stdout.rstrip(), flush=True)
        if (ended.returncode == 0) != succeeds:
            raise DemoFailed(f"salt {shown} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
        return ended.stdout


def entry(level: Level) -> dict[str, object]:
    return {
        "status": "released",
        "module": level.module.name,
        "name": level.module.name.partition(".")[0],
        "sha256": sha256(level.module),
        "fixes": [{"cve": fix, "severity": "high"} for fix in level.fixes],
    }


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextlib.contextmanager
def chapter(title: str) -> Iterator[None]:
    print(f"\n{'-' * 3} {title} {'-' * max(3, 90 - len(title))}", flush=True)
    yield


def play(stage: Stage) -> None:
    with chapter("the extension reaches master and minions"):
        stage.master.run("salt-run", "saltutil.sync_all")
        stage.quietly("saltutil.sync_all")
    with chapter("before: what the running kernels say"):
        evidence(stage, "knows no level")
        stage.salt("--static", "--out=livepatch", "*", "livepatch.status")
    with chapter("without an approval no host moves"):
        stage.salt("--out=livepatch", "*", "livepatch.apply", succeeds=False)
    with chapter("level 1 is approved: tried, then applied"):
        stage.approve(1, 1)
        stage.quietly("saltutil.refresh_pillar", "wait=True")
        stage.salt("--out=livepatch", "*", "livepatch.apply", "test=True")
        stage.salt("--out=livepatch", "*", "livepatch.apply")
        evidence(stage, "LivepatchLevel:        1")
        stage.salt("--static", "--out=livepatch", "*", "livepatch.status")
    with chapter("again: nothing to do, nothing changed"):
        stage.salt("--out=livepatch", "*", "livepatch.apply")
    with chapter("level 2 replaces level 1 in one transition"):
        stage.approve(2, 2)
        stage.quietly("saltutil.refresh_pillar", "wait=True")
        stage.salt("--out=livepatch", "*", "livepatch.apply")
        evidence(stage, "LivepatchLevel:        2")
    with chapter("back to the kernel as it booted"):
        stage.salt("--out=livepatch", "*", "livepatch.revert", "reason=end of the demo")
        evidence(stage, "knows no level")
        stage.salt("--static", "--out=livepatch", "*", "livepatch.status")
    with chapter("what the hosts wrote down"):
        stage.salt("hv1", "livepatch.history", "--out=yaml")
        stage.salt("*", "livepatch.verify", "--out=yaml")


def evidence(stage: Stage, word: str) -> None:
    """Every guest's kernel prints the word that its level stands for."""
    said = stage.salt("*", "cmd.run", EVIDENCE)
    if said.count(word) != len(HOSTS):
        raise DemoFailed(f"not every kernel says {word}")


if __name__ == "__main__":
    sys.exit(main())
