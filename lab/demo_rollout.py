"""The demo's last chapters: a rollout through canaries and waves in view, then one of a bad level that stops
at its first host and undoes itself; what is kept of both.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from lab import cache
from lab.errors import LabError
from lab.kernels import Kernel
from lab.levels import PATCHES
from lab.master import Master
from lab.progress import step
from livepatch_core.build import service

BAD = Path(__file__).with_name("patches") / "meminfo-bad.patch"
DOMAINS = {"hv1": "rack1", "hv2": "rack2", "hv3": "rack1"}
PACE = {
    "canary_soak": "5",
    "soak": "5",
    "look_every": "2",
    "max_per_domain": "1",
    "stage_spread": "0",
    "late": "report",
    "timeout": "120",
}
# What the site knows of a healthy host: it says how much memory is available.
GATE = {
    "name": "memory",
    "type": "function",
    "when": "host",
    "arguments": {"fun": "cmd.run", "args": ["grep MemAvailable /proc/meminfo"]},
    "predicate": {"path": "", "op": "matches", "value": " [1-9][0-9]* kB"},
}


class Stage(Protocol):
    """What these chapters need of the demo's stage (lab/demo.py)."""

    master: Master

    @property
    def levels(self) -> Mapping[str, Any]: ...

    def quietly(self, program: str, *words: str) -> None: ...

    def evidence(self, word: str) -> None: ...


class RolloutSurprised(LabError):
    """A rollout did not end as the project promises."""


def canaries_and_waves(stage: Stage) -> None:
    """Level 2 to every host: one canary for each kernel, then the rest, never two of a rack."""
    for host, domain in DOMAINS.items():
        stage.quietly("salt", host, "grains.setval", "failure_domain", domain)
    options = words(PACE)
    print_text(stage, "plan", "text", "hv*", "2", *options)
    typed(stage, 0, "rollout", "hv*", "2", "why=CVE-2026-0102", *options)
    stage.evidence("LivepatchLevel:        2")
    print_text(stage, "report", "report")


def bad_level(stage: Stage, kernels: Mapping[str, Kernel]) -> None:
    """Level 3 was built with a mistake in it; a gate finds it on the first canary."""
    for kernel in kernels.values():
        with step(f"building level 3 for {kernel.release}, from a diff with a mistake"):
            module = build_bad(kernel, cache.root() / "demo" / kernel.release)
        stage.quietly(
            "salt-run", "livepatch_catalog.publish", str(module), "why=built", "fixes=CVE-2026-0103"
        )
        stage.quietly(
            "salt-run", "livepatch_catalog.promote", "3", f"release={kernel.release}", "why=in a hurry"
        )
    gate = f"gates={json.dumps([GATE])}"
    typed(stage, 1, "rollout", "hv*", "3", "why=CVE-2026-0103", gate, "block_on_rollback=True", *words(PACE))
    stage.evidence("LivepatchLevel:        2")
    print_text(stage, "report", "report")


def build_bad(kernel: Kernel, output: Path) -> Path:
    diffs = [
        (path.name, path.read_text())
        for path in (PATCHES / "meminfo-1.patch", PATCHES / "meminfo-2.patch", BAD)
    ]
    order = service.Order(kernel.release, diffs, level=3)
    document = service.produce(order, cache.root() / "builder", output, progress=lambda text: None)
    return Path(document["path"])


def chapters(kernels: Mapping[str, Kernel]) -> tuple[tuple[str, Callable[[Any], None]], ...]:
    """For lab/demo.py: titles and what is played, on hosts that are at level 0."""
    return (
        ("level 2 is rolled out: canaries, then waves", canaries_and_waves),
        ("level 3 is bad: it stops at the first host and is undone", lambda stage: bad_level(stage, kernels)),
    )


def words(options: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in options.items()]


def typed(stage: Stage, code: int, verb: str, *arguments: str) -> None:
    """Type a verb and show what it says while it goes on."""
    show(verb, arguments)
    done = subprocess.Popen(
        [*salt_run(stage, "--quiet"), f"livepatch.{verb}", *arguments, "display_progress=True"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.stderr is not None
    for line in done.stderr:
        if line[:2].isdigit():  # the time: lines of the rollout, not Salt's own warnings
            print(f"  {line.rstrip()}", flush=True)
    if done.wait() != code:
        raise RolloutSurprised(f"livepatch.{verb} ended with {done.returncode}", "see what it said above")


def print_text(stage: Stage, verb: str, key: str, *arguments: str) -> None:
    """Type a verb that answers with a text for people, and print that."""
    show(verb, arguments)
    ended = stage.master.run("salt-run", "--out=json", f"livepatch.{verb}", *arguments, timeout=600)
    if ended.returncode:
        raise RolloutSurprised(f"livepatch.{verb} ended with {ended.returncode}", ended.stdout + ended.stderr)
    print(json.loads(ended.stdout)[key], flush=True)


def salt_run(stage: Stage, *options: str) -> list[str]:
    program = str(Path(sys.executable).with_name("salt-run"))
    return [program, "--config-dir", str(stage.master.config_file.parent), *options]


def show(verb: str, arguments: tuple[str, ...]) -> None:
    said = " ".join(f"'{word}'" if set(word) & set("* ;'|{[") else word for word in arguments)
    print(f"\n$ salt-run livepatch.{verb} {said}", flush=True)
