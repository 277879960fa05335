"""The project on real kernels: a master, three hosts with two kernels, and what an operator types.

What is printed comes from the guests' kernels and from Salt's own programs; nothing is played back. Each
chapter is a function of the stage; ``CHAPTERS`` is the play, with the rollouts of demo_rollout.py in it.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import demo_rollout, fleet, kernels, minion
from lab.errors import GuestError, LabError
from lab.levels import Level, build_levels
from lab.progress import step
from lab.site import Site
from lab.systemd import SystemdGuest

HOSTS = {"hv1": "6.1", "hv2": "6.1-cloud", "hv3": "6.1"}
BOOTS = "hv3"  # has systemd and a disk
EVIDENCE = "uname -r; grep Livepatch /proc/meminfo || echo /proc/meminfo knows no level"
# A site's soak is 15 minutes; nobody wants to watch that.
SOAK = 5
# The guests' Salt is no onedir; its Python has a name of its own. The minion's configuration is in force
# from the beginning, so the formula need not restart it: half a minute, emulated, and the reboot does it too.
MINION = {"soak": SOAK}
FORMULA = {"python": "/usr/local/bin/salt-python", "config": MINION, "restart_minion": False}
COMMAND_SECONDS = 600.0  # on a machine with nothing else to do none takes a minute
STATE_RUNS = ("state.sls", "state.apply", "state.highstate")


class DemoFailed(Exception):
    """A step did not end as the project promises."""


def main() -> int:
    started = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            show(stack, started)
    except (DemoFailed, LabError, GuestError, TimeoutError, subprocess.TimeoutExpired) as problem:
        print(f"\nscripts/demo: FAILED after {time.monotonic() - started:.0f} s: {problem}")
        return 1
    except KeyboardInterrupt:
        print(f"\nscripts/demo: interrupted after {time.monotonic() - started:.0f} s; nothing left running")
        return 130
    print(f"\nscripts/demo: worked, {time.monotonic() - started:.0f} s in all; nothing is left running")
    return 0


def show(stack: contextlib.ExitStack, started: float) -> None:
    used = {role: kernels.kernel(role) for role in sorted(set(HOSTS.values()))}
    place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lab-demo-", dir="/tmp")))
    print("Two levels for each kernel, built from the diffs in examples/patches:", flush=True)
    levels = {one.release: build_levels(one, place / "built" / one.release) for one in used.values()}
    with step("starting a salt-master with catalog, ledger and external pillar"):
        site = stack.enter_context(Site(place / "site"))
    site.set_pillar({"livepatch": {"formula": FORMULA}})
    hosts = {name: used[role] for name, role in HOSTS.items()}
    with step(f"starting {', '.join(hosts)} with a salt-minion each; {BOOTS} boots with systemd"):
        members = stack.enter_context(
            fleet.start_named(
                site.master, hosts, booting=[BOOTS], config={**minion.lean(), "livepatch": MINION}
            )
        )
    stage = Stage(site, members, levels)
    for title, play in (*CHAPTERS, *demo_rollout.chapters(used), LAST):
        seconds = int(time.monotonic() - started)
        stamp = f"{seconds // 60}:{seconds % 60:02}"
        print(f"\n--- [{stamp}] {title} {'-' * max(3, 85 - len(title))}", flush=True)
        play(stage)


class Stage:
    """The fleet, and commands typed on its master."""

    def __init__(self, site: Site, members: fleet.Fleet, levels: Mapping[str, Sequence[Level]]) -> None:
        self.site, self.members, self.levels = site, members, levels
        self.master = site.master

    def salt(self, *words: str, succeeds: bool = True) -> str:
        """Type a command for minions, show it and what it printed."""
        return self._typed("salt", words, succeeds, "--no-color")

    def salt_run(self, *words: str) -> str:
        """Type a command for the master, show it and what it printed."""
        return self._typed("salt-run", words, True, "--no-color")

    def quietly(self, program: str, *words: str) -> None:
        """Type a command of which only a failure is worth reading."""
        print(f"\n$ {shown(program, words)}", flush=True)
        ended = self.master.run(program, *words, timeout=COMMAND_SECONDS)
        if ended.returncode:
            raise DemoFailed(
                f"{shown(program, words)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}"
            )

    def _typed(self, program: str, words: Sequence[str], succeeds: bool, *options: str) -> str:
        print(f"\n$ {shown(program, words)}", flush=True)
        ended = self.master.run(program, *options, *words, timeout=COMMAND_SECONDS)
        print(ended.stdout.rstrip(), flush=True)
        if (ended.returncode == 0) != succeeds:
            raise DemoFailed(
                f"{shown(program, words)} ended with {ended.returncode}:\n{ended.stderr[-2000:]}"
            )
        return ended.stdout

    def highstate(self) -> str:
        """What is done is read on the screen: states that changed something, or failed."""
        return self.salt("--state-output=terse", "--state-verbose=False", "*", "state.highstate")

    def evidence(self, word: str) -> None:
        """Every guest's kernel prints the word that its level stands for."""
        said = self.salt("*", "cmd.run", EVIDENCE)
        if said.count(word) != len(HOSTS):
            raise DemoFailed(f"not every kernel says {word}")

    def status(self, host: str = "*") -> None:
        self.salt("--static", "--out=livepatch", host, "livepatch.status")

    def ask_all(self, function: str) -> dict[str, Any]:
        """By host."""
        said = self.members.call(function, timeout=int(COMMAND_SECONDS))
        if set(said) != set(HOSTS):
            raise DemoFailed(f"{function}: only {', '.join(sorted(said)) or 'nobody'} answered")
        return said

    def ask(self, host: str, function: str) -> Any:
        return self.members[host].call(function, timeout=int(COMMAND_SECONDS))


def shown(program: str, words: Sequence[str]) -> str:
    """As one types it in a shell."""
    return " ".join([program, *(f"'{word}'" if set(word) & set("* ;'|") else word for word in words)])


def arrive(stage: Stage) -> None:
    with step("bringing the extension to the minions, as saltutil.sync_all does file by file"):
        stage.site.bring_extension(stage.members)
    stage.evidence("knows no level")
    stage.status()


def publish(stage: Stage) -> None:
    for release, levels in stage.levels.items():
        for level in levels:
            stage.quietly(
                "salt-run", "livepatch_catalog.publish", str(level.module), f"fixes={level.fixes[-1]}",
                "why=built from its diff",
            )  # fmt: skip
            stage.quietly(
                "salt-run", "livepatch_catalog.promote", str(level.number), f"release={release}",
                "why=ran for a day on a host of ours",
            )  # fmt: skip
    stage.salt_run("livepatch_catalog.verify")


def unapproved(stage: Stage) -> None:
    stage.salt("--out=livepatch", "*", "livepatch.apply", succeeds=False)


def first_level(stage: Stage) -> None:
    stage.salt_run("livepatch_ledger.approve", "hv*", "1", "why=ticket 42")
    stage.highstate()
    stage.evidence("LivepatchLevel:        1")


def started(stage: Stage, events: Any) -> None:
    """The minion of the guest with systemd has started, and applied the formula by itself."""
    events.wait(f"salt/minion/{BOOTS}/start", COMMAND_SECONDS)
    done = events.wait_return(BOOTS, STATE_RUNS, COMMAND_SECONDS)
    failed = [key for key, one in done["return"].items() if one["result"] is False]
    if failed:
        raise DemoFailed(f"what {BOOTS} did at its start failed: {done['return'][failed[0]]}")


def nothing_to_do(stage: Stage) -> None:
    before = stage.ask_all("livepatch.history")
    said = stage.highstate()
    if said.count("Succeeded:") != len(HOSTS) or "(changed=" in said:
        raise DemoFailed("the second highstate changed something")
    if before != stage.ask_all("livepatch.history"):
        raise DemoFailed("the second highstate wrote into a journal")


def second_level(stage: Stage) -> None:
    stage.salt_run("livepatch_ledger.approve", "hv*", "2", "why=ticket 43")
    stage.highstate()
    stage.evidence("LivepatchLevel:        2")


def reboot(stage: Stage) -> None:
    """The level was well for its soak, so it is kept; the boot unit loads it before there is a minion."""
    guest = stage.members[BOOTS].guest
    assert isinstance(guest, SystemdGuest)
    stage.salt("--out=livepatch", BOOTS, "livepatch.soaked")
    if stage.ask(BOOTS, "livepatch.status")["next_boot"]["level"] != 2:
        raise DemoFailed(f"level 2 is not kept on {BOOTS}")
    with stage.master.events() as events, step(f"rebooting {BOOTS}"):
        guest.reboot()
        started(stage, events)
    print(f"\n{boot_order(guest)}", flush=True)
    stage.evidence("LivepatchLevel:        2")
    stage.status()


def boot_order(guest: SystemdGuest) -> str:
    """Seconds since the kernel started, by its own log and by systemd."""
    patched = guest.exec("dmesg | grep -m1 'patching complete'", check=True).text
    unit = "systemctl show -P ExecMainStartTimestampMonotonic salt-minion.service"
    minion = int(guest.exec(unit, check=True).text) / 1e6
    level = float(patched.partition("[")[2].partition("]")[0])
    if level >= minion:
        raise DemoFailed(f"the level was there {level:.1f} s after the kernel, the minion {minion:.1f} s")
    return (
        f"{BOOTS} booted: the level was in force {level:.1f} s after its kernel started, "
        f"salt-minion started after {minion:.1f} s."
    )


def back(stage: Stage) -> None:
    stage.salt_run("livepatch_ledger.approve", "hv*", "0", "why=end of the demo")
    stage.quietly("salt", "*", "saltutil.refresh_pillar", "wait=True")
    stage.salt("--out=livepatch", "*", "livepatch.apply")
    stage.evidence("knows no level")


def records(stage: Stage) -> None:
    stage.salt("hv1", "livepatch.history", "--out=yaml")
    stage.salt("*", "livepatch.verify", "--out=yaml")


CHAPTERS = (
    ("the extension reaches the minions; what the running kernels say", arrive),
    ("published, tried, released", publish),
    ("without an approval no host moves", unapproved),
    ("level 1 is approved; highstate takes every host there", first_level),
    ("highstate again: nothing to do, nothing changed", nothing_to_do),
    ("level 2 replaces level 1 in one transition", second_level),
    ("a host reboots: the level is back before its minion", reboot),
    ("back to the kernel as it booted", back),
)
LAST = ("what the hosts wrote down", records)


if __name__ == "__main__":
    sys.exit(main())
