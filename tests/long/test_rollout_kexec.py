"""Rollouts that restart hosts: with another kernel, over three guests with systemd that come from 6.1, and
with the same one.

One site for the module; its tests follow each other, and each kexec takes minutes under emulation. The
catalog knows levels for 6.12 alone, so 6.1 cannot be patched live here.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lab import kernels, minion, systemd
from lab.fixtures import watched
from lab.site import Site
from lab.systemd import SystemdGuest
from tests.integration.rollout.typed import Begun, begun, until
from tests.kernel.bootable import Bootable
from tests.kernel.booted import Booted
from tests.kernel.livepatches import build
from tests.kernel.patchable import Patchable
from tests.kernel.test_stalls import let_go, sleeper

HOSTS = ("hv1", "hv2", "hv3")
WITHIN = 1500.0  # seconds for one rollout, on a machine that has much else to do
AWAY = "300"  # idle 60: an emulated host whose two cores are shared
# What the operator names: they note that they were called, and the drain fails where /root/stuck is.
DRAIN = "date >> /root/drained; [ ! -e /root/stuck ]"
UNDRAIN = "date >> /root/undrained"
OPTIONS = {
    "canaries": "[hv1]",
    "waves": "['100%']",
    "canary_soak": "2",
    "soak": "2",
    "look_every": "5",
    "max_per_domain": "1",
    "stage_spread": "0",
    "stage_deadline": "180",
    "move_deadline": "240",
    "drain_deadline": "120",
    "restart_deadline": AWAY,
    "late": "report",
    "thresholds": "{failed: 0, stalled: 0, unreachable: 0, lost: 0}",
    "timeout": "120",
    "drain": f"{{fun: cmd.run, args: ['{DRAIN}'], kwargs: {{python_shell: true}}}}",
    "undrain": f"{{fun: cmd.run, args: ['{UNDRAIN}'], kwargs: {{python_shell: true}}}}",
}
WHY = "why=a test"
TREE = "/root/livepatch"  # the extension, in a guest


class Scene:
    """Site, guests, and what is typed on the master."""

    def __init__(self, place: Path, stack: contextlib.ExitStack) -> None:
        self.site = stack.enter_context(Site(place, {"engines": [{"livepatch": {"interval": 1}}]}))
        self.stack = stack
        self.old, self.new = kernels.kernel("6.1"), kernels.kernel("6.12")
        modules = build(self.new)
        self.site.publish(modules["lp_level_1"], "fixes=CVE-2026-1")
        self.modules = modules
        self.guests: dict[str, SystemdGuest] = {}
        self.left = "hv2"  # one that no test has started with 6.12 yet

    def have(self, *names: str, new: str = "") -> None:
        """These hosts run, and answer; ``new``, where no test before has started it, with 6.12."""
        missing = [name for name in names if name not in self.guests]
        with ThreadPoolExecutor(max_workers=len(HOSTS)) as pool:
            started = pool.map(lambda name: self._start(name, name == new), missing)
            for name, guest in zip(missing, started):
                self.guests[name] = guest
                self.stack.callback(guest.close)
                self.stack.enter_context(watched(guest))
        for name in missing:
            self.call(name, "saltutil.refresh_modules", **{"async": False})

    def _start(self, name: str, new: bool) -> SystemdGuest:
        kernel, other = (self.new, self.old) if new else (self.old, self.new)
        guest = systemd.start(kernel, name, others=(other,))
        try:
            Bootable(guest, self.old, self.new)
            Booted(guest, soak=3.0, allow_force=True)
            for folder in ("_modules", "_states", "_utils"):
                guest.put_tree(self.site.project / folder, f"{TREE}/{folder}")
            config: dict[str, Any] = {
                **minion.lean(),
                "grains": {"failure_domain": "rack1", "role": "hypervisor"},
                "livepatch": {"soak": 3.0},
                "module_dirs": [TREE],
                "utils_dirs": [f"{TREE}/_utils"],
            }
            guest.install_minion(self.site.master, name, config)
        except BaseException:
            guest.close()
            raise
        return guest

    def reset_starts_new(self, name: str) -> None:
        """This host runs 6.12, and so after a reset: QEMU starts the kernel again that it was given."""
        if name not in self.guests:
            return self.have(name, new=name)
        with self.site.master.events() as events:
            self.guests[name].power_off()
            self.guests[name].power_on(self.new)
            events.wait(f"salt/minion/{name}/start", WITHIN)

    # -- commands

    def begin(self, verb: str, *words: str, **options: str) -> Begun:
        return begun(self.site.master, verb, *words, within=WITHIN, **options)

    def over(self) -> Any:
        """The newest rollout, once it has ended or waits for a person."""
        code, answer, _ = begun(self.site.master, "watch", within=WITHIN, progress=False).ended()
        return answer

    def rollout(self, target: str, level: str, **options: str) -> Any:
        code, answer, said = self.begin("rollout", target, level, WHY, **{**OPTIONS, **options}).ended()
        assert isinstance(answer, dict), said
        return answer

    def hosts(self, rollout: str) -> Any:
        code, answer = self.site.ask("livepatch.status", rollout, "hosts=True")
        assert code == 0
        return answer["hosts"]

    def call(self, name: str, function: str, *arguments: Any, **keywords: Any) -> Any:
        found = self.site.master.cmd(name, function, *arguments, timeout=600, **keywords)
        assert name in found, f"{function}: {name} did not answer"
        return found[name]

    # -- what the guests say

    def seen(self, name: str) -> tuple[str, str]:
        """Release and boot id."""
        guest = self.guests[name]
        return guest.exec(["uname", "-r"], check=True).text.strip(), guest.boot_id

    def noted(self, name: str, what: str) -> int:
        """How often it was drained or undrained."""
        return len(self.guests[name].exec(f"cat /root/{what} 2>/dev/null").text.splitlines())

    def restart(self, name: str) -> Any:
        """What the host has written down about its restart."""
        found = self.guests[name].exec("cat /var/lib/livepatch/restart.json 2>/dev/null").text
        return json.loads(found or "{}")

    def stage(self, name: str) -> str:
        return str(self.restart(name).get("stage", ""))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with contextlib.ExitStack() as stack:
        place = tmp_path_factory.mktemp("rollout") / "site"
        place.mkdir()
        yield Scene(place, stack)


def test_a_drain_that_fails_boots_nobody(scene: Scene) -> None:
    scene.have("hv1")
    before = scene.seen("hv1")
    scene.guests["hv1"].put("/root/stuck", "")
    done = scene.rollout("hv1", "newest", method="kexec")
    scene.guests["hv1"].exec("rm /root/stuck", check=True)
    assert done["state"] == "paused", done
    failed = done["hosts"]["hv1"]
    assert (failed["state"], failed["kind"]) == ("failed", "health"), failed
    assert "The drain" in failed["text"] and "Nothing was booted" in failed["text"], failed
    assert scene.noted("hv1", "drained") == scene.noted("hv1", "undrained") == 1, failed
    assert scene.seen("hv1") == before
    assert scene.guests["hv1"].get("/sys/kernel/kexec_loaded").strip() == b"0"
    assert scene.site.ask("livepatch.abort", WHY)[0] == 0
    assert scene.over()["state"] == "aborted"


def test_one_of_three_never_comes_back_and_the_master_dies(scene: Scene) -> None:
    """The canary arrives at the level of the new kernel; the second host is gone for good while the master
    is dead: it holds its place, the wave stops, and the third is left alone."""
    scene.have(*HOSTS)
    before = {name: scene.seen(name) for name in HOSTS}
    drained = scene.noted("hv1", "drained")
    rollout = scene.begin("rollout", "hv*", "newest", WHY, **OPTIONS, method="kexec")
    with scene.guests["hv1"].leaving_by_kexec(WITHIN):
        until(lambda: scene.stage("hv1") == "leaving", "hv1 to leave", WITHIN)
    rollout.until_said("wave 1 dispatch")
    rollout.kill()
    until(lambda: "leaving" in {scene.stage("hv2"), scene.stage("hv3")}, "another to leave", WITHIN)
    gone, left = ("hv2", "hv3") if scene.stage("hv2") == "leaving" else ("hv3", "hv2")
    scene.site.master.kill()
    scene.guests[gone].power_cut()
    scene.site.master.start_again()
    stopped = scene.over()
    assert stopped["state"] == "paused" and stopped["tripped"][0]["counter"] == "lost", stopped
    assert stopped["domains"]["rack1"] == {"occupied": 1, "limit": 1}, stopped
    hosts = scene.hosts(stopped["id"])
    assert hosts[gone]["state"] == "lost_after_patch" and left not in hosts, hosts
    assert (scene.seen(left), scene.noted(left, "drained")) == (before[left], 0)
    arrived = hosts["hv1"]
    assert (arrived["state"], arrived["kernel"]) == ("healthy", scene.new.release), arrived
    assert arrived["away"] > 0
    assert scene.seen("hv1")[0] == scene.new.release, f"{scene.guests['hv1'].resets} resets"
    status = scene.call("hv1", "livepatch.status")
    assert (status["verdict"], status["level"]) == ("patched", 1), status
    last = scene.call("hv1", "kexec.status")["last"]
    assert (last["ended"], last["as_asked"], last["boot_id_before"]) == ("kexec", True, before["hv1"][1])
    assert scene.noted("hv1", "drained") == scene.noted("hv1", "undrained") == drained + 1
    assert scene.site.ask("livepatch.abort", stopped["id"], WHY)[0] == 0
    assert scene.over()["state"] == "aborted"
    scene.site.master.forget(gone)
    scene.left = left


def test_a_live_rollout_falls_back_where_no_level_can_be_loaded(scene: Scene) -> None:
    """The host on 6.12 is patched live; the one on 6.1, for which the catalog has nothing, is started with
    6.12 and arrives at the same level."""
    left = scene.left
    scene.have("hv1", left, new="hv1")
    assert scene.site.publish(scene.modules["lp_level_2"], "fixes=CVE-2026-2") == 2
    boot = scene.seen("hv1")
    plan = scene.site.tell("livepatch.plan", "hv*", "2", "fallback=kexec", "timeout=120")["text"]
    said = " ".join(plan.split())
    assert f"by kexec from kernel {scene.old.release} to {scene.new.release}, to level 2 there" in said, plan
    rollout = scene.begin("rollout", "hv*", "2", WHY, **OPTIONS, fallback="kexec")
    with scene.guests[left].leaving_by_kexec(WITHIN):
        until(lambda: scene.stage(left) == "leaving", f"{left} to leave", WITHIN)
    rollout.ended()
    done = scene.over()
    assert (done["state"], done["counts"]) == ("completed", {"healthy": 2}), done
    assert scene.seen("hv1") == boot and scene.seen(left)[0] == scene.new.release
    for name in ("hv1", left):
        assert scene.call(name, "livepatch.status")["level"] == 2
    assert scene.noted(left, "drained") == scene.noted(left, "undrained") == 1


def test_lockdown_refuses_before_anything_is_drained(scene: Scene) -> None:
    scene.have("hv1", new="hv1")
    guest = scene.guests["hv1"]
    guest.exec("echo integrity > /sys/kernel/security/lockdown", check=True)
    before, drained = scene.seen("hv1"), scene.noted("hv1", "drained")
    other = scene.old.release if before[0] == scene.new.release else scene.new.release
    done = scene.rollout("hv1", "0", method="kexec", kernel=other)
    failed = done["hosts"]["hv1"]
    assert (failed["state"], failed["kind"]) == ("failed", "lockdown"), failed
    assert (scene.seen("hv1"), scene.noted("hv1", "drained")) == (before, drained)
    assert scene.site.ask("livepatch.abort", WHY)[0] == 0
    assert scene.over()["state"] == "aborted"


def test_a_host_that_owes_a_reboot_is_rebooted(scene: Scene) -> None:
    """A task slept in the old code, and the patch was forced: a live rollout falls back to a reboot, after
    which the host has the same kernel and the level without force."""
    scene.reset_starts_new("hv1")
    guest = scene.guests["hv1"]
    level = scene.site.publish(scene.modules["lp_stall"], "fixes=CVE-2026-3", "loss=a test")
    guest.put("/root/lab_stall.ko", scene.modules["lab_stall"].read_bytes())
    guest.exec("insmod /root/lab_stall.ko", check=True)
    asleep = sleeper(Patchable(guest), "u")
    kept = scene.call("hv1", "livepatch.apply", level=level, reason="a test", on_stall="keep", deadline=2)
    assert kept["kind"] == "stalled", kept
    forced = scene.call("hv1", "livepatch.force", "lp_stall", reason="a test")
    assert forced["result"] is True, forced
    let_go(Patchable(guest))  # nothing that cannot be killed keeps the host from leaving
    asleep.wait(60)
    assert "reboot-owed" in scene.call("hv1", "livepatch.status")["flags"]
    release, boot_id = scene.seen("hv1")
    drained, undrained = scene.noted("hv1", "drained"), scene.noted("hv1", "undrained")
    done = scene.rollout("hv1", str(level), fallback="reboot")
    assert (done["state"], done["counts"]) == ("completed", {"healthy": 1}), done
    evidence = scene.restart("hv1")["evidence"]
    assert (evidence["ended"], evidence["as_asked"]) == ("reboot", True), evidence
    assert scene.seen("hv1") == (release, evidence["boot_id"]) and evidence["boot_id"] != boot_id
    status = scene.call("hv1", "livepatch.status")
    assert (status["verdict"], status["level"], status["flags"]) == ("patched", level, []), status
    assert (scene.noted("hv1", "drained"), scene.noted("hv1", "undrained")) == (drained + 1, undrained + 1)
