"""Rollouts over four guests with two kernels in two failure domains, held to their level all the while.

One site for the module; its tests follow each other. The last takes a kernel down.
"""

from __future__ import annotations

import contextlib
import getpass
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lab import kernels, minion
from lab.errors import GuestError
from lab.fixtures import watched
from lab.guest import Guest
from lab.site import Site
from livepatch_core.catalog import publish, standing
from livepatch_core.catalog.author import Author
from livepatch_core.catalog.calls import now
from livepatch_core.catalog.entry import Publication, parse_fixes
from livepatch_core.catalog.settings import parse_master
from tests.integration.rollout.typed import Begun, begun
from tests.kernel.livepatches import build

HOSTS = {  # kernel, domain
    "hv1": ("6.1", "rack1"),
    "hv2": ("6.1-cloud", "rack2"),
    "hv3": ("6.1", "rack1"),
    "hv4": ("6.1-cloud", "rack2"),
}
OTHERS = ("hv2", "hv3", "hv4")
LEVELS = {"lp_level_1": "", "lp_level_2": "", "lp_nanosleep": "a test", "lp_moody": "a test"}  # and its loss
WORDS = {0: "VmallocChunk", 1: "VMALLOCCHUNK", 2: "VMALLOCTOTAL"}
# Levels 1 and 2 are good. 3 patches what a sleeping task is in, which holds it up until the kernel's signal
# after 15 s: a host with a sleeper and a deadline below that stalls; where /root/picky is a probe does not
# like it. 4 panics where /var/lib/moody-panic is.
STALLS = ILL = 3
DEADLY = 4
PROBE = "#!/bin/sh\n[ -e /root/picky ] && ls /sys/kernel/livepatch | grep nanosleep\nexit 0\n"
# Every job is a fork of the minion's main process: what that has imported costs none of them the seconds that
# an emulated processor needs for it.
WHOLE_LIBRARY = """
import livepatch_core.host.apply, livepatch_core.host.byhand, livepatch_core.host.cves
import livepatch_core.host.lastact, livepatch_core.host.stage, livepatch_core.restart.kernel

def whole_library():
    return {}
"""
WITHIN = 900.0  # seconds for one rollout, on a machine that has much else to do
OPTIONS = {
    "canaries": "[hv1]",
    "waves": "['50%', '100%']",
    "canary_soak": "2",
    "soak": "2",
    "look_every": "2",
    "max_per_domain": "1",
    "stage_spread": "0",
    "stage_deadline": "180",  # nor these
    "move_deadline": "300",
    "late": "report",
    "thresholds": "{failed: 0, stalled: 0, unreachable: 0, lost: 0}",
    "timeout": "60",  # not waited for where all answer
}
ONE_IS_AWAY = {"timeout": "45"}  # waited for
ONE_WILL_DIE = {"move_deadline": "20", "stage_deadline": "30"}  # each is waited for twice: up, and back
STALL_DEADLINE = 8  # seconds
BREATH = 2.0  # seconds between two runs of states, each of which takes an emulated processor for as long
WHY = "why=a test"
TREE = "/root/livepatch"  # the extension, in a guest


class Scene:
    """Site, guests, and what is typed on the master."""

    def __init__(self, place: Path, stack: contextlib.ExitStack) -> None:
        self.site = stack.enter_context(Site(place, {"engines": [{"livepatch": {"interval": 1}}]}))
        self.members = {}
        with ThreadPoolExecutor(max_workers=len(HOSTS)) as pool:
            for host in pool.map(self._start, HOSTS):
                self.members[host.id] = stack.enter_context(host)
                stack.enter_context(watched(host.guest))
        for role in sorted({role for role, _ in HOSTS.values()}):
            self._publish(role)
        self.levels()

    def _start(self, name: str) -> minion.Minion:
        role, domain = HOSTS[name]
        own: dict[str, Any] = {"probes": [{"fun": "cmd.run", "args": ["/bin/sh /root/probe"], "equals": ""}]}
        if name == "hv4":
            own.update(deadline=STALL_DEADLINE, reversal_deadline=60)
        config = {
            **minion.lean(),
            "grains": {"failure_domain": domain, "role": "hypervisor"},
            "livepatch": own,
            # The same files as sync_all brings, which asks the master for each of them: minutes, for four.
            "module_dirs": [TREE],
            "utils_dirs": [f"{TREE}/_utils"],
        }
        return minion.start(self.site.master, kernels.kernel(role), name, config=config, bring=self._bring)

    def _bring(self, guest: Guest) -> None:
        guest.put("/root/probe", PROBE)
        for folder in ("_grains", "_modules", "_states", "_utils"):
            guest.put_tree(self.site.project / folder, f"{TREE}/{folder}")
        guest.put(f"{TREE}/_grains/whole_library.py", WHOLE_LIBRARY)

    def _publish(self, role: str) -> None:
        """As livepatch_catalog does it, which needs seconds each time to start."""
        modules, by = build(kernels.kernel(role)), Author("root", "a test", now())
        own = {"catalog_dir": str(self.site.levels), "state_dir": str(self.site.state)}
        master = parse_master(own, str(self.site.master.directory / "cache"), getpass.getuser())
        for number, (name, loss) in enumerate(LEVELS.items(), 1):
            wanted = Publication(by, number, fixes=parse_fixes(f"CVE-2026-{number}"), loss=loss)
            build_id = publish.publish(master, modules[name].read_bytes(), wanted)["kernel_build"]
            standing.promote(master, number, build_id, None, by)

    # -- commands

    def begin(self, verb: str, *words: str, **options: str) -> Begun:
        return begun(self.site.master, verb, *words, within=WITHIN, **options)

    def rollout(self, level: int, **options: str) -> tuple[int, Any]:
        code, answer, _ = self.begin("rollout", "hv*", str(level), WHY, **{**OPTIONS, **options}).ended()
        return code, answer

    def verb(self, verb: str, *words: str) -> tuple[int, Any]:
        return self.site.ask(f"livepatch.{verb}", *words)

    def over(self) -> Any:
        """The newest rollout, once it has ended or waits for a person."""
        code, answer, _ = self.begin_quietly("watch").ended()
        return answer

    def begin_quietly(self, verb: str) -> Begun:
        return begun(self.site.master, verb, within=WITHIN, progress=False)

    def call(
        self, function: str, *arguments: Any, hosts: tuple[str, ...] = tuple(HOSTS), **keywords: Any
    ) -> Any:
        found = self.site.master.cmd(
            list(hosts), function, *arguments, tgt_type="list", timeout=int(WITHIN), **keywords
        )
        assert set(found) == set(hosts), f"{function}: only {sorted(found)} answered"
        return found

    # -- what the guests say

    def levels(self, hosts: tuple[str, ...] = tuple(HOSTS)) -> dict[str, int]:
        return {name: one["level"] for name, one in self.call("livepatch.brief", hosts=hosts).items()}

    def kernels_say(self, level: int, hosts: tuple[str, ...] = tuple(HOSTS)) -> bool:
        said = (self.members[name].guest.exec("cat /proc/meminfo", check=True).text for name in hosts)
        return all(WORDS[level] in text for text in said)

    def acts(self, hosts: tuple[str, ...] = tuple(HOSTS)) -> dict[str, list[str]]:
        """What each host wrote down, in a word for each act."""
        found = self.call("livepatch.history", hosts=hosts, limit=1000)
        return {name: [f"{one['act']} {one['patch']}" for one in entries] for name, entries in found.items()}


class Holding(threading.Thread):
    """Somebody runs ``livepatch.applied`` on one host after the other, without end."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(daemon=True)
        self.scene, self.runs = scene, 0
        self.away: set[str] = set()  # left out
        self.ended = threading.Event()
        self.start()

    def run(self) -> None:
        for host in itertools.cycle(HOSTS):
            if self.ended.wait(BREATH):
                return
            if host not in self.away:
                arguments = ("livepatch.applied", "held")
                done = self.scene.site.master.cmd(
                    [host], "state.single", *arguments, tgt_type="list", timeout=60
                )
                self.runs += bool(done)

    def end(self) -> None:
        self.ended.set()
        self.join()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with contextlib.ExitStack() as stack:
        place = tmp_path_factory.mktemp("rollout") / "site"
        place.mkdir()
        yield Scene(place, stack)


@pytest.fixture
def holding(scene: Scene) -> Iterator[Holding]:
    thread = Holding(scene)
    try:
        yield thread
    finally:
        thread.end()


def test_canary_waves_done_and_a_host_that_was_away(scene: Scene, holding: Holding) -> None:
    """hv3 is off when it is planned; it comes back and catches up, under the same soak. Meanwhile whoever
    drives the rollout is killed."""
    holding.away.add("hv3")
    away = scene.members["hv3"].guest.process.pid
    os.kill(away, signal.SIGSTOP)
    try:
        rollout = scene.begin(
            "rollout", "hv*", "1", WHY, **{**OPTIONS, **ONE_IS_AWAY, "late": "catch_up", "late_for": "3600"}
        )
        rollout.until_said("canaries: soak")
        assert scene.kernels_say(1, ("hv1",))
        assert scene.kernels_say(0, ("hv2", "hv4"))  # in spite of whoever holds them to their level
        rollout.until_said("wave 1 dispatch")
        rollout.kill()
        watching = scene.begin_quietly("watch")
        watching.until_said(": late")
    finally:
        os.kill(away, signal.SIGCONT)
    _, done, _ = watching.ended()
    assert (done["state"], done["counts"]) == ("completed", {"healthy": 4}), done
    assert scene.kernels_say(1)
    assert scene.acts() == dict.fromkeys(HOSTS, ["load lp_level_1"])
    assert holding.runs > 0


def test_owner_and_master_killed_in_mid_wave(scene: Scene, holding: Holding) -> None:
    """Paused, resumed and promoted by hand; then both are killed: nobody is told anything twice."""
    rollout = scene.begin("rollout", "hv*", "2", WHY, **{**OPTIONS, "canary_soak": "3600"})
    rollout.until_said("canaries: soak")
    assert scene.verb("pause", WHY)[0] == 0
    code, paused, _ = rollout.ended()
    assert (code, paused["state"]) == (1, "paused"), paused
    assert scene.levels() == {"hv1": 2, "hv2": 1, "hv3": 1, "hv4": 1}
    assert scene.verb("resume", WHY)[0] == 0
    watching = scene.begin_quietly("watch")
    assert scene.verb("promote", WHY)[0] == 0
    watching.until_said("wave 1: dispatch")
    watching.kill()
    holding.end()
    scene.site.master.kill()  # the engine that drives it among the rest
    scene.site.master.start_again()
    done = scene.over()
    assert (done["state"], done["counts"]) == ("completed", {"healthy": 4}), done
    assert scene.kernels_say(2)
    assert scene.acts() == dict.fromkeys(HOSTS, ["load lp_level_1", "load lp_level_2"])


def test_a_host_that_stalls_then_aborted_and_rolled_back_by_hand(scene: Scene) -> None:
    sleeper = scene.members["hv4"].guest.spawn(["sleep", "3600"])
    code, stopped = scene.rollout(STALLS, waves="['100%']", max_per_domain="2")
    assert (code, stopped["state"]) == (1, "paused"), stopped
    assert stopped["hosts"]["hv4"]["state"] == "stalled", stopped
    there = {"hv1": 3, "hv2": 3, "hv3": 3, "hv4": 2}
    assert scene.levels() == there
    sleeper.kill()
    code, aborted = scene.verb("abort", stopped["id"], WHY)
    assert code == 0, aborted
    assert scene.levels() == there
    code, back = scene.verb("rollback", stopped["id"], WHY)
    assert code == 0, back
    done = scene.over()
    assert done["state"] == "rolled_back", done
    assert set(scene.levels().values()) == {2}
    assert scene.kernels_say(2)


def test_a_probe_that_fails_on_the_canary(scene: Scene, holding: Holding) -> None:
    before = scene.acts()
    scene.members["hv1"].guest.put("/root/picky", "")
    code, undone = scene.rollout(ILL)
    scene.members["hv1"].guest.exec("rm /root/picky", check=True)
    assert (code, undone["state"]) == (1, "rolled_back"), undone
    assert set(scene.levels().values()) == {2}
    assert scene.kernels_say(2)
    after = scene.acts()
    assert {name: after[name] for name in OTHERS} == {name: before[name] for name in OTHERS}
    assert after["hv1"][len(before["hv1"])] == "load lp_nanosleep"


def test_a_level_that_takes_its_host_down(scene: Scene) -> None:
    """Lost after the patch: nobody else gets it, who has it goes back, and it is blocked for the fleet."""
    before = scene.acts()
    victim = scene.members["hv2"].guest
    victim.put("/var/lib/moody-panic", "")
    code, done = scene.rollout(
        DEADLY,
        canaries="[hv1, hv2]",
        on_fail_canary="rollback_all",
        block_on_rollback="True",
        **ONE_WILL_DIE,
    )
    assert code == 1
    assert done["tripped"][0]["counter"] == "lost", done
    with pytest.raises(GuestError, match="panic"):
        victim.check_alive()
    alive = ("hv1", "hv3", "hv4")
    assert set(scene.levels(alive).values()) == {2}
    assert scene.kernels_say(2, alive)
    after = scene.acts(alive)
    assert after["hv1"][len(before["hv1"])] == "load lp_moody"
    assert {name: after[name] for name in ("hv3", "hv4")} == {name: before[name] for name in ("hv3", "hv4")}
    states = {
        name: one["state"] for name, one in scene.verb("status", done["id"], "hosts=True")[1]["hosts"].items()
    }
    assert (states["hv1"], states["hv2"]) == ("rolled_back", "lost_after_patch"), states
    code, refused, _ = scene.begin("rollout", "hv[134]", str(DEADLY), WHY, **OPTIONS).ended()
    assert code == 1
    assert "blocked" in refused["comment"]
