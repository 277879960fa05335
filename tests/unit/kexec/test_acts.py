"""Load, boot and unload over files that stand for the kernel: what is recorded, and what a death in between
leaves."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.host import programs
from livepatch_core.host.context import Host
from livepatch_core.host.programs import Said
from livepatch_core.host.settings import Settings
from livepatch_core.kernel.roots import Roots
from livepatch_core.kexec import boot, calls, candidates, checks, facts, leave, load, record, status
from livepatch_core.kexec.boot import Order
from livepatch_core.kexec.leave import How
from livepatch_core.kexec.load import Wish
from livepatch_core.words import Kind
from tests.unit.kexec.test_parts import handmade

OLD, NEW, ODD = "6.1.0-56-amd64", "6.1.0-57-amd64", "6.1.0-55-amd64"
FILES = {
    "proc/sys/kernel/osrelease": OLD,
    "proc/sys/kernel/version": "#1",
    "proc/sys/kernel/arch": "x86_64",
    "proc/sys/kernel/random/boot_id": "this-boot",
    "proc/sys/kernel/kexec_load_disabled": "0",
    "proc/cmdline": "root=/dev/vda quiet",
    "proc/meminfo": "MemAvailable: 900000 kB\n",
    "proc/stat": "btime 1700000100\n",
    "proc/1/comm": "systemd",
    "sys/kernel/kexec_loaded": "0",
    "sys/kernel/kexec_crash_loaded": "0",
    "sys/kernel/security/lockdown": "[none] integrity confidentiality",
    "sbin/kexec": "",
    **{f"boot/initrd.img-{release}": release for release in (NEW, ODD)},
    **{f"boot/config-{release}": "CONFIG_LIVEPATCH=y\n" for release in (OLD, NEW, ODD)},
    **{f"lib/modules/{release}/modules.dep": "" for release in (NEW, ODD)},
}


class World:
    """A host. dies: the kernel call after which its process is gone. told: commands given to systemd, which
    fail where it is deaf. timers: what systemd is to do, and when."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        self.dies = False
        self.refuses = 0
        self.told: list[list[str]] = []
        self.lines: list[str] = []
        self.seconds = 1_700_000_000.0
        for name, text in FILES.items():
            self.put(name, text)
        (place / "sbin/kexec").chmod(0o755)
        for release in (NEW, ODD):
            data = handmade()
            text = release.encode() + b" (x)\0"
            data[0x300 : 0x300 + len(text)] = text
            (place / f"boot/vmlinuz-{release}").write_bytes(data)
        monkeypatch.setattr(calls, "available", lambda: True)
        monkeypatch.setattr("livepatch_core.kexec.facts.read_machine.__defaults__", (lambda: True,))
        monkeypatch.setattr(calls, "load", self.load)
        monkeypatch.setattr(calls, "unload", lambda: self.put("sys/kernel/kexec_loaded", "0"))
        self.timers: dict[str, float] = {}
        self.systemd_is = "running"
        self.deaf = False
        self.real = programs.run
        monkeypatch.setattr(programs, "run", self.systemd)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        settings = Settings(state_dir=place / "state", run_dir=place / "rundir")
        self.host = Host(
            settings, lambda name: None, {"jid": "7"}, Roots.under(place),
            now=lambda: self.seconds, clock=lambda: self.seconds - 1_699_990_000.0,
        )  # fmt: skip

    def systemd(self, command: Sequence[str], timeout: float = 60.0) -> Said | None:
        """As systemctl answers: a timer that has elapsed is not loaded any more, and cannot be stopped."""
        if command[0] not in ("systemctl", "systemd-run"):
            return self.real(command, timeout)
        if command[1] == "is-system-running":
            return Said(0, f"{self.systemd_is}\n")
        if self.deaf:
            return Said(1, "", "Failed to connect to bus: Connection refused\n")
        self.told.append(list(command))
        given = dict(one.split("=", 1) for one in command if one.startswith(("--unit=", "--on-active=")))
        if given:
            self.timers[f"{given['--unit']}.timer"] = self.seconds + float(given["--on-active"].rstrip("s"))
        elif self.timers.pop(command[2], 0) <= self.seconds:
            return Said(5, "", f"Failed to stop {command[2]}: Unit {command[2]} not loaded.\n")
        return Said(0, "")

    def put(self, name: str, text: str) -> None:
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def load(self, image: int, initrd: int | None, cmdline: str) -> None:
        if self.refuses:
            raise OSError(self.refuses, os.strerror(self.refuses))
        self.lines.append(cmdline)
        self.put("sys/kernel/kexec_loaded", "1")
        if self.dies:
            raise KeyboardInterrupt

    def arrive(self, release: str, cmdline: str) -> None:
        """The host has booted."""
        for name, text in {
            "osrelease": release, "random/boot_id": "next-boot",
        }.items():  # fmt: skip
            self.put(f"proc/sys/kernel/{name}", text)
        self.put("proc/cmdline", cmdline)
        self.put("sys/kernel/kexec_loaded", "0")
        self.seconds += 200

    def last(self) -> Any:
        return status.status(self.host)["last"]

    def journal(self) -> list[Any]:
        path = self.host.settings.journal_file
        return [json.loads(line)["body"] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_newest_is_loaded_once(world: World) -> None:
    predicted = load.load(world.host, Wish(test=True))
    assert (predicted.result, world.lines) == (None, [])
    done = load.load(world.host, Wish())
    assert (done.result, done.changes) == (True, predicted.changes)
    assert load.load(world.host, Wish(NEW)).changes == {}
    (line,) = world.lines
    assert line.startswith(
        f"BOOT_IMAGE={world.place}/boot/vmlinuz-{NEW} root=/dev/vda quiet livepatch.kexec="
    )
    assert load.load(world.host, Wish(ODD)).changes == {"loaded": {"old": NEW, "new": ODD}}
    assert load.load(world.host, Wish(ODD, cmdline="other")).changes == {"loaded": {"old": ODD, "new": ODD}}
    assert load.unload(world.host).changes == {"loaded": {"old": ODD, "new": None}}
    assert load.unload(world.host).changes == {}


def test_newest_does_not_go_back(world: World) -> None:
    """The package of the kernel that runs is gone, older ones are there."""
    world.put("proc/sys/kernel/osrelease", "6.1.0-58-amd64")
    with pytest.raises(LivepatchError, match="that is not older than the running 6.1.0-58-amd64") as caught:
        load.load(world.host, Wish())
    assert caught.value.kind is Kind.ARGUMENT and world.lines == []
    found = candidates.candidates(world.host)
    assert (found["newest"], found["newer"], found["newest_since"]) == (None, False, None)
    assert load.load(world.host, Wish(NEW)).result is True, "it was named"


def test_a_newer_kernel_that_is_incomplete_is_named(world: World) -> None:
    for release in ("6.1.0-60-amd64", "6.1.0-60-cloud-amd64"):
        world.put(f"boot/vmlinuz-{release}", "")
    world.put("lib/modules/6.1.0-60-amd64/modules.dep", "")
    incomplete = [{"release": "6.1.0-60-amd64", "missing": ["initrd"]}]
    found = candidates.candidates(world.host)
    assert (found["newest"], found["incomplete_newer"]) == (NEW, incomplete)
    world.put("proc/sys/kernel/osrelease", NEW)
    found = candidates.candidates(world.host)
    assert (found["newer"], found["incomplete_newer"]) == (False, incomplete)
    world.put("proc/sys/kernel/osrelease", "6.1.0-61-amd64")
    assert candidates.candidates(world.host)["incomplete_newer"] == []


def test_what_the_kernel_refuses_leaves_what_was_loaded(world: World) -> None:
    load.load(world.host, Wish(NEW))
    world.refuses = errno.ENOMEM
    with pytest.raises(LivepatchError) as caught:
        load.load(world.host, Wish(ODD))
    assert caught.value.kind is Kind.HEALTH
    assert status.status(world.host)["loaded"]["release"] == NEW


def test_a_death_after_the_kernel_was_told(world: World) -> None:
    """The image then counts as somebody else's: nobody is misled about what would start."""
    load.load(world.host, Wish(NEW))
    world.dies = True
    with pytest.raises(KeyboardInterrupt):
        load.load(world.host, Wish(ODD))
    world.dies = False
    assert status.status(world.host)["loaded"] == {"by": "other"}
    with pytest.raises(LivepatchError) as caught:
        boot.boot(world.host, Order(None, "a test"))
    assert caught.value.kind is Kind.CONFLICT
    assert load.load(world.host, Wish(NEW, override=("image-loaded",))).result is True


def test_a_boot_loads_anew_what_it_names(world: World) -> None:
    """Another program may have put its own image there: the kernel says only that there is one."""
    load.load(world.host, Wish())
    boot.boot(world.host, Order(Wish(), "a test"))
    departure = record.read_notes(world.host).departure
    assert departure is not None and len(world.lines) == 2 and departure.token in world.lines[-1]


def test_a_file_that_is_replaced_while_it_is_judged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    load.load(world.host, Wish(NEW))
    refuse = checks.refuse

    def install(*arguments: Any) -> None:
        refuse(*arguments)
        world.put(f"boot/initrd.img-{ODD}", "another")

    monkeypatch.setattr(checks, "refuse", install)
    with pytest.raises(LivepatchError, match=f"initrd.img-{ODD} changed while it was read") as caught:
        load.load(world.host, Wish(ODD))
    assert caught.value.kind is Kind.BUSY and len(world.lines) == 1
    assert status.status(world.host)["loaded"]["release"] == NEW


@pytest.mark.parametrize(
    ("order", "same"),
    [
        (Order(Wish(), "again"), True),
        (Order(None, "again", How.SYSTEMD), True),
        (Order(Wish(), "again", How.DIRECT), False),
        (Order(Wish(cmdline="single"), "again"), False),
        (Order(Wish(initrd=None, override=("initrd",)), "again"), False),
    ],
)
def test_who_wants_the_same_waits_for_it_and_nobody_else(world: World, order: Order, same: bool) -> None:
    boot.boot(world.host, Order(Wish(), "a test"))
    if same:
        assert boot.boot(world.host, order).changes == {}
        return
    with pytest.raises(LivepatchError) as caught:
        boot.boot(world.host, order)
    assert caught.value.kind is Kind.BUSY and len(world.told) == 1


def test_where_loads_are_counted_a_question_is_none(world: World) -> None:
    """Each call of kexec_file_load counts (6.3 and newer), whatever it asks for."""
    asked: list[str] = []

    def probe() -> bool:
        asked.append("probe")
        return True

    def seen(limit: str, config: str) -> bool | None:
        world.put("proc/sys/kernel/kexec_load_limit_reboot", limit)
        world.put(f"boot/config-{OLD}", config)
        return facts.read_machine(world.host.roots, probe).file_load

    assert seen("-1", "") is True and asked == ["probe"]
    assert seen("2", "CONFIG_KEXEC_FILE=y\n") is True
    assert seen("2", "# CONFIG_KEXEC_FILE is not set\n") is False
    (world.place / f"boot/config-{OLD}").unlink()
    assert facts.read_machine(world.host.roots, probe).file_load is None
    assert asked == ["probe"]


def test_a_boot_that_works(world: World) -> None:
    order = Order(Wish(), "a test", delay=10)
    predicted = boot.boot(world.host, dataclasses.replace(order, test=True))
    assert (predicted.result, world.told, world.lines, world.journal()) == (None, [], [], [])
    done = boot.boot(world.host, order)
    assert (done.result, done.changes) == (True, predicted.changes)
    (command,) = world.told
    assert (
        command[0] == "systemd-run"
        and "--on-active=10s" in command
        and command[-2:] == ["systemctl", "kexec"]
    )
    (line,) = world.journal()
    assert (line["act"], line["from"], line["to"], line["who"]) == ("kexec", OLD, NEW, {"jid": "7"})
    assert world.last()["ended"] == "ordered"
    assert boot.boot(world.host, order).changes == {}, "an order is not given twice"
    assert len(world.told) == 1
    world.arrive(NEW, world.lines[0])
    last = world.last()
    assert (last["ended"], last["as_asked"], last["away"]["kernel"]) == ("kexec", True, 90.0)


def test_boots_that_do_not(world: World) -> None:
    boot.boot(world.host, Order(Wish(), "a test"))
    world.seconds += leave.PATIENCE + 10
    assert world.last()["ended"] == "stayed"
    assert boot.boot(world.host, Order(Wish(), "again")).changes, "after that it may be ordered again"
    world.arrive(OLD, "root=/dev/vda quiet")
    assert (world.last()["ended"], world.last()["as_asked"]) == ("otherwise", None)


def test_nothing_else_is_loaded_while_an_order_is_under_way(world: World) -> None:
    boot.boot(world.host, Order(Wish(NEW), "a test"))
    for act in (
        lambda: load.load(world.host, Wish(ODD)),
        lambda: boot.boot(world.host, Order(Wish(ODD), "x")),
    ):
        with pytest.raises(LivepatchError) as caught:
            act()
        assert caught.value.kind is Kind.BUSY
    assert load.unload(world.host).result is True
    assert world.told[-1] == ["systemctl", "stop", "livepatch-kexec.timer"]
    assert world.last() is None
    assert load.load(world.host, Wish(ODD)).result is True


def test_systemd_that_cannot_be_told(world: World) -> None:
    world.deaf = True
    with pytest.raises(LivepatchError, match="Connection refused"):
        boot.boot(world.host, Order(Wish(), "a test"))
    assert world.last() is None, "no order stands that nobody carries out"


def test_systemd_that_gives_no_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have made the timer: that is taken back, or the order stands as far as anybody knows."""
    answers = programs.run

    def late(command: Sequence[str], timeout: float = 60.0) -> Said | None:
        answers(command, timeout)
        if command[0] == "systemd-run" or world.deaf:
            raise LivepatchError(Kind.INTERNAL, f"{command[0]} did not end within 60 s.")
        return Said(0, "")

    monkeypatch.setattr(programs, "run", late)
    with pytest.raises(LivepatchError, match="did not end"):
        boot.boot(world.host, Order(Wish(), "a test"))
    assert world.timers == {} and world.last() is None
    world.deaf = True
    with pytest.raises(LivepatchError, match="may still be carried out"):
        boot.boot(world.host, Order(Wish(), "a test"))
    assert world.last()["ended"] == "ordered"


def test_an_order_whose_time_has_passed_is_taken_back(world: World) -> None:
    """systemd does not know its timer any more then."""
    boot.boot(world.host, Order(Wish(), "a test", delay=5))
    world.seconds += 6
    assert world.last()["ended"] == "ordered"
    assert load.unload(world.host).result is True
    assert status.status(world.host)["loaded"] is None and world.last() is None
    assert boot.boot(world.host, Order(Wish(), "again")).changes, "it can be ordered again"


def test_an_order_that_cannot_be_taken_back_finds_nothing_to_start(world: World) -> None:
    boot.boot(world.host, Order(Wish(), "a test"))
    world.deaf = True
    with pytest.raises(LivepatchError, match="may still be carried out"):
        load.unload(world.host)
    assert status.status(world.host)["loaded"] is None
    assert world.last()["ended"] == "ordered", "it stands, as far as anybody knows"
    with pytest.raises(LivepatchError) as caught:
        load.load(world.host, Wish())
    assert caught.value.kind is Kind.BUSY


def test_a_reboot_is_never_turned_into_a_kexec(world: World) -> None:
    leave.by_systemd("x", 1, "reboot", "a test")
    assert "--setenv=SYSTEMCTL_SKIP_AUTO_KEXEC=1" in world.told[0][: world.told[0].index("systemctl")]


def test_without_systemd(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("proc/1/comm", "init")
    with pytest.raises(LivepatchError, match="PID 1 is not systemd"):
        boot.boot(world.host, Order(Wish(), "a test", How.SYSTEMD))
    started: list[Any] = []
    monkeypatch.setattr("subprocess.Popen", lambda command, **options: started.append(command))
    boot.boot(world.host, Order(Wish(), "a test", delay=3))
    (command,) = started
    state, token, delay = command[-3:]
    assert (state, delay) == (str(world.host.settings.state_dir), "3")

    # what that process does: look whether its order still stands, then leave
    left: list[str] = []
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(calls, "leave", lambda: left.append("left"))
    for taken_back in (False, True):
        if taken_back:
            record.write_notes(world.host, record.Notes())
        monkeypatch.setattr("sys.argv", ["-c", "library", state, token, "0"])
        leave.main()
    assert left == ["left"]


def test_a_boot_needs_a_reason(world: World) -> None:
    with pytest.raises(LivepatchError, match="needs a reason"):
        boot.boot(world.host, Order(Wish(), None))


def test_notes_that_cannot_be_understood(world: World) -> None:
    for text in ('{"loaded": 3}', '{"departure": {"x": 1}}', "["):
        world.put("state/kexec.json", text)
        with pytest.raises(LivepatchError) as caught:
            load.load(world.host, Wish())
        assert caught.value.kind is Kind.JOURNAL
    assert world.lines == []
