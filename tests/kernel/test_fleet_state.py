"""Declared level with real minions: published, approved, by highstate, over a boot, blocked, signed, watched.

One fleet for the whole module; its tests follow each other, as the days of a site do.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import salt.utils.event
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lab import fleet as fleets
from lab import kernels, minion
from lab.fixtures import watched
from lab.guest import Guest
from lab.site import Site
from lab.systemd import SystemdGuest
from tests.kernel.livepatches import build

ROLES = {"hv1": "6.1", "hv2": "6.1-cloud", "hv3": "6.1"}
BOOTS = "hv3"
SOAK = 3.0
PATIENCE = 600  # seconds; emulated hosts on a busy machine
BEACON = 2  # seconds between its looks
DRIFT_SECONDS = 5.0  # what is promised, on a machine that answers a ping in PING_SECONDS
PING_SECONDS = 1.0
LOOKED = "/run/livepatch/beacon.json"  # by the beacon
STATE_RUNS = ("state.sls", "state.apply", "state.highstate")
WORDS = {0: "VmallocChunk", 1: "VMALLOCCHUNK", 2: "VMALLOCTOTAL"}


class Heard(threading.Thread):
    """The events of beacons that the master hears, from now on: (when, host, what, data)."""

    def __init__(self, site: Site) -> None:
        super().__init__(daemon=True)
        self.events: list[tuple[float, str, str, dict[str, Any]]] = []
        self.changed = threading.Condition()
        self.ended = threading.Event()
        self._bus = salt.utils.event.get_event("master", opts=site.master.opts(), listen=True)
        self._bus.connect_pub(timeout=10)
        self.start()

    def run(self) -> None:
        while not self.ended.is_set():
            event = self._bus.get_event(wait=1, tag="salt/beacon/", full=True)
            if event is not None and "/livepatch/" in event["tag"]:
                _, _, host, _, what = event["tag"].split("/")
                with self.changed:
                    self.events.append((time.monotonic(), host, what, event["data"]))
                    self.changed.notify_all()
        self._bus.destroy()

    def wait(self, host: str, what: str, since: float) -> tuple[float, dict[str, Any]]:
        """When the first such event came, and its data."""

        def found() -> list[tuple[float, dict[str, Any]]]:
            return [
                (at, data) for at, one, tag, data in self.events if (one, tag) == (host, what) and at > since
            ]

        with self.changed:
            assert self.changed.wait_for(found, 120), self.events
            return found()[0]

    def changes(self, host: str) -> list[tuple[str, Any, Any]]:
        """All but transitions, which a look every few seconds may meet or not."""
        return [
            (what, data["old"], data["new"])
            for _, one, what, data in self.events
            if one == host and what != "transition"
        ]


class Scene:
    """The site, its three hosts, and what is asked of them."""

    def __init__(self, place: Path, stack: contextlib.ExitStack) -> None:
        key = Ed25519PrivateKey.generate()
        self.minion = {"soak": SOAK, "publisher_key": public_text(key)}
        self.site = stack.enter_context(Site(place, master_settings(place, key)))
        self.site.set_pillar(pillar(self.minion))
        self.heard = Heard(self.site)
        stack.callback(self.heard.ended.set)
        wanted = {name: kernels.kernel(role) for name, role in ROLES.items()}
        # Those without systemd have no unit that restarts their minion: they start with their configuration.
        config = {**minion.lean(), "livepatch": self.minion}
        self.fleet = stack.enter_context(
            fleets.start_named(
                self.site.master, wanted, [BOOTS], config=minion.lean(), without_systemd=config
            )
        )
        self.guests: dict[str, Guest] = {name: one.guest for name, one in self.fleet.members.items()}
        for guest in self.guests.values():
            stack.enter_context(watched(guest))
        for kernel in {one.release: one for one in wanted.values()}.values():
            modules = build(kernel)
            self.site.publish(modules["lp_level_1"], "fixes=CVE-2026-1")
            self.site.publish(modules["lp_level_2"], "fixes=CVE-2026-2")
            self.site.publish(modules["lp_moody"], "fixes=CVE-2026-3", "loss=a test")
        self.site.bring_extension(self.fleet)
        for guest in self.guests.values():  # the first look tells nothing: it must not meet an act
            guest.exec(f"until [ -s {LOOKED} ]; do sleep 0.1; done", timeout=PATIENCE, check=True)

    def call(
        self, function: str, *arguments: Any, hosts: tuple[str, ...] = tuple(ROLES), **keywords: Any
    ) -> Any:
        """What each host returned."""
        found = self.site.master.cmd(
            list(hosts), function, *arguments, tgt_type="list", timeout=PATIENCE, **keywords
        )
        assert set(found) == set(hosts), f"{function}: {sorted(found)} answered"
        return found

    def approve(self, level: int) -> None:
        self.site.tell("livepatch_ledger.approve", "hv*", str(level), "why=a test")

    def highstate(self, hosts: tuple[str, ...] = tuple(ROLES), **keywords: Any) -> dict[str, Any]:
        """By host and ID of state. Every state succeeded."""
        returned = self.call("state.highstate", hosts=hosts, **keywords)
        return {host: by_id(states) for host, states in returned.items()}

    def traces(self) -> dict[str, tuple[list[str], bytes]]:
        """Of every host the lines of its kernel log that livepatch wrote, and its journal."""
        return {
            name: (
                [line for line in guest.dmesg().splitlines() if "livepatch" in line or "lp_" in line],
                guest.get("/var/lib/livepatch/journal.jsonl"),
            )
            for name, guest in self.guests.items()
        }

    def at_level(self, level: int) -> None:
        """By what the kernels print and by what the project says."""
        for guest in self.guests.values():
            assert WORDS[level] in guest.exec("cat /proc/meminfo", check=True).text
        status = self.call("livepatch.status")
        assert {one["level"] for one in status.values()} == {level}
        assert {one["verdict"] for one in status.values()} == {"patched"}

    def until_grain(self, host: str, key: str, value: Any) -> None:
        """The grain is read anew by the minion's main process, after the act has been answered."""
        deadline = time.monotonic() + 60
        while (seen := self.call("grains.get", f"livepatch:{key}", hosts=(host,))[host]) != value:
            assert time.monotonic() < deadline, f"{host}: livepatch:{key} is {seen!r}, not {value!r}"

    @property
    def booting(self) -> SystemdGuest:
        guest = self.guests[BOOTS]
        assert isinstance(guest, SystemdGuest)
        return guest


def by_id(states: Any) -> dict[str, Any]:
    assert isinstance(states, dict), states  # a list of what could not be rendered
    failed = [one for one in states.values() if one["result"] is False]
    assert not failed, failed
    return {one["__id__"]: one for one in states.values()}


def public_text(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()  # fmt: skip


def master_settings(place: Path, key: Ed25519PrivateKey) -> dict[str, Any]:
    """Signs what it publishes, and reacts to beacons as the formula's example says."""
    file = place.with_name("sign.pem")
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    file.chmod(0o600)
    return {
        "livepatch": {
            "catalog_dir": str(place / "levels"), "state_dir": str(place / "state"), "sign_key": str(file),
        },
        "reactor": [{"salt/beacon/*/livepatch/*": ["salt://livepatch/reactor/changed.sls"]}],
    }  # fmt: skip


def pillar(config: dict[str, Any]) -> dict[str, Any]:
    """The formula's example with this minion configuration; the guests' Salt has a Python of its own."""
    formula = {"python": "/usr/local/bin/salt-python", "config": config}
    return {"livepatch": {"formula": formula}, "beacons": {"livepatch": [{"interval": BEACON}]}}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with contextlib.ExitStack() as stack:
        place = tmp_path_factory.mktemp("fleet") / "site"
        place.mkdir()
        yield Scene(place, stack)


def test_highstate_takes_three_hosts_to_their_level(scene: Scene) -> None:
    """As test=True said before; and the second time there is nothing to do, and nothing is written."""
    scene.approve(1)
    predicted = scene.highstate(test=True)
    with scene.site.master.events() as events:
        done = scene.highstate()
        for host, states in done.items():
            for name in {"livepatch-level", "livepatch-kept"} & set(states):
                assert states[name]["changes"] == predicted[host][name]["changes"], (host, name)
            changed = {name for name, one in states.items() if one["changes"]}
            foreseen = {name for name, one in predicted[host].items() if one["changes"]}
            assert foreseen <= changed, (host, foreseen - changed)
        assert {"livepatch-boot.service-enabled", "livepatch-kept"} < set(done[BOOTS])
        before = scene.traces()
        # the formula gave its minion a configuration; it starts anew, and applies the formula by itself
        events.wait(f"salt/minion/{BOOTS}/start", PATIENCE)
        by_itself = by_id(events.wait_return(BOOTS, STATE_RUNS, PATIENCE)["return"])
    scene.at_level(1)
    again = {**scene.highstate(hosts=("hv1", "hv2")), BOOTS: by_itself}
    for host, states in again.items():
        assert {name: one["changes"] for name, one in states.items() if one["changes"]} == {}, host
    assert scene.traces() == before
    for host in ROLES:
        scene.until_grain(host, "level", 1)


def test_a_host_that_was_off_gets_there_by_itself(scene: Scene) -> None:
    guest = scene.booting
    guest.exec(["systemctl", "start", "livepatch-soak.service"], check=True, timeout=120)
    assert scene.call("livepatch.status", hosts=(BOOTS,))[BOOTS]["next_boot"]["level"] == 1
    guest.power_off()

    scene.approve(2)
    targets = '{"livepatch_targets": ["hv1", "hv2"], "livepatch_sync": false}'
    scene.site.tell("state.orchestrate", "livepatch.orch.highstate", f"pillar={targets}")
    with scene.site.master.events() as events:
        guest.power_on()
        events.wait(f"salt/minion/{BOOTS}/start", PATIENCE)
        boot = scene.call("livepatch.status", hosts=(BOOTS,))[BOOTS]["last_boot"]
        states = by_id(events.wait_return(BOOTS, STATE_RUNS, PATIENCE)["return"])
    assert "Level 1 was loaded at boot" in boot["comment"]
    assert states["livepatch-level"]["changes"]["level"] == {"old": 1, "new": 2}
    assert stamp(guest, "livepatch-boot.service", "ActiveEnter") < stamp(
        guest, "salt-minion.service", "ExecMainStart"
    )
    scene.at_level(2)


def stamp(guest: Guest, unit: str, what: str) -> int:
    """Microseconds since the kernel started."""
    shown = guest.exec(["systemctl", "show", "-P", f"{what}TimestampMonotonic", unit], check=True)
    return int(shown.text)


def test_one_block_and_every_host_refuses(scene: Scene) -> None:
    scene.approve(3)
    for build_id in {one["kernel"]["build_id"] for one in scene.call("livepatch.status").values()}:
        scene.site.tell("livepatch_catalog.block", "3", f"kernel_build={build_id}", "why=oopses")
    scene.call("saltutil.refresh_pillar", wait=True)
    for answer in scene.call("livepatch.apply").values():
        assert (answer["result"], answer["kind"], answer["changes"]) == (False, "blocked", {})
        assert "oopses" in answer["comment"]
    scene.at_level(2)


def test_a_level_that_the_publisher_did_not_sign(scene: Scene) -> None:
    """All until here was signed by him, and the hosts had his key."""
    scene.approve(1)
    scene.call("saltutil.refresh_pillar", wait=True)
    kept = {}
    for file in scene.site.levels.rglob("catalog.yaml"):
        kept[file] = file.read_text()
        document = yaml.safe_load(kept[file])
        for offered in document["builds"].values():
            assert offered["levels"][1].pop("signature")
        file.write_text(yaml.safe_dump(document))
    for answer in scene.call("livepatch.apply").values():
        assert (answer["result"], answer["kind"], answer["changes"]) == (False, "signature", {})
    for file, text in kept.items():
        file.write_text(text)
    assert {one["result"] for one in scene.call("livepatch.apply").values()} == {True}
    scene.at_level(1)


def test_a_foreign_module_is_heard_of(scene: Scene) -> None:
    """And the beacons were silent but for what the tests before this one changed."""
    guest = scene.guests["hv1"]
    foreign = build(guest.kernel)["lp_stacked"]
    guest.put("/root/lp_stacked.ko", foreign.read_bytes())
    slower = ping(scene)
    guest.exec(["insmod", "/root/lp_stacked.ko"], check=True)
    since = time.monotonic()
    at, said = scene.heard.wait("hv1", "drift", since)
    slower = max(slower, ping(scene), PING_SECONDS) / PING_SECONDS
    assert at - since < DRIFT_SECONDS * slower
    assert (said["old"], said["new"]) == ([], ["lp_stacked"])
    status = scene.call("livepatch.status", hosts=("hv1",))["hv1"]
    assert "drifted" in status["flags"]
    scene.until_grain("hv1", "flags", status["flags"])  # the reactor saw to it

    since = time.monotonic()
    guest.exec("echo 0 > /sys/kernel/livepatch/lp_stacked/enabled", check=True)
    _, said = scene.heard.wait("hv1", "drift", since)
    assert (said["old"], said["new"]) == (["lp_stacked"], [])
    moves = [("level", 0, 1), ("level", 1, 2), ("level", 2, 1)]
    drift = [("drift", [], ["lp_stacked"]), ("drift", ["lp_stacked"], [])]
    assert scene.heard.changes("hv1") == [*moves, *drift]
    assert scene.heard.changes("hv2") == moves
    # Where the first look of a boot falls, before or after the minion's own highstate, is chance.
    assert scene.heard.changes(BOOTS) in (moves, [one for one in moves if one != ("level", 1, 2)])


def ping(scene: Scene) -> float:
    """Seconds; how busy this machine is."""
    began = time.monotonic()
    scene.call("test.ping", hosts=("hv1",))
    return time.monotonic() - began
