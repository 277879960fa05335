"""A guest that boots with systemd on a disk of its own: may reboot, crash, lose its power, and start again
on the same disk.

Its root is the read-only image with an ext4 layer over it; the layer is the disk. The disk is a file that
QEMU writes through the host's page cache, so a power cut (QEMU killed) loses what the guest's kernel had
not yet written, not what a drive would.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import host, snapshot
from lab.errors import GuestError, GuestHung, GuestLost, GuestReset
from lab.guest import Guest
from lab.kernels import Kernel
from lab.machine import Disk, Machine, Place, new_place, qemu_arguments
from lab.master import Master
from lab.minion import CONFIG, minion_settings
from lab.qmp import QmpClosed

DISK_SIZE = "2G"  # sparse
BOOT_SECONDS = 240.0
MINION_SECONDS = 240.0
# Units that only cost time in a guest nobody logs in to. systemd-udev-trigger looks for hardware: the
# initrd knows it all.
MASKED = (
    "getty@tty1.service", "serial-getty@ttyS0.service", "systemd-logind.service", "systemd-networkd.service",
    "systemd-resolved.service", "systemd-timesyncd.service", "systemd-pcrphase.service",
    "e2scrub_reap.service", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer",
    "fstrim.timer", "systemd-binfmt.service", "systemd-update-utmp.service",
    "systemd-journal-flush.service", "getty-static.service", "kexec-load.service", "dev-mqueue.mount",
    "dev-hugepages.mount", "sys-fs-fuse-connections.mount", "systemd-udev-trigger.service",
)  # fmt: skip
# panic=1: after a panic wait a second, then reset (the last panic= on the line counts).
COMMAND_LINE = (
    "lab.init=systemd", "panic=1", "systemd.show_status=false", *(f"systemd.mask={unit}" for unit in MASKED),
)  # fmt: skip
MACHINE = Machine(memory=768)
# A megabyte near the top of memory that the kernel leaves alone and a reset does not clear: after `modprobe
# ramoops` in both boots, a panic's log is found in /sys/fs/pstore (Documentation/admin-guide/ramoops.rst).
WITH_PSTORE = dataclasses.replace(
    MACHINE,
    cmdline=(
        "memmap=0x100000$0x2f000000", "ramoops.mem_address=0x2f000000", "ramoops.mem_size=0x100000",
        "ramoops.record_size=0x20000",
    ),
)  # fmt: skip


class SystemdGuest(Guest):
    """Besides what a guest can: ``reboot``, ``crash``, ``power_off``, ``power_cut`` and ``power_on``;
    ``boot_id`` tells boots apart.
    """

    def __init__(
        self, name: str, kernel: Kernel, place: Place, machine: Machine, built: snapshot.Parts, disk: Path
    ) -> None:
        self._machine = dataclasses.replace(machine, cmdline=(*COMMAND_LINE, *machine.cmdline))
        self._built = built
        self.disk = disk
        self._resets = 0
        self._kexec_expected = False
        self._changed = threading.Condition()
        super().__init__(name, kernel, place, self._arguments(place))
        self._watch()

    def _arguments(self, place: Place, cmdline: tuple[str, ...] = ()) -> list[str]:
        disks = (*self._built.disks, Disk(self.disk, "state", read_only=False))
        machine = dataclasses.replace(self._machine, cmdline=(*self._machine.cmdline, *cmdline))
        return qemu_arguments(
            machine,
            self._built.accel,
            place,
            self._built.files.vmlinuz,
            self._built.initrd,
            disks,
            reboots=True,
        )

    def _watch(self) -> None:
        """From here on the control socket belongs to a thread that waits for resets."""
        threading.Thread(
            target=self._follow_resets, args=(self._qmp,), name=f"lab-resets-{self.name}", daemon=True
        ).start()

    def _follow_resets(self, session: Any) -> None:
        """A reset ends whatever the old boot was asked; a new connection cannot hold half a message of the
        old agent.
        """
        try:
            while True:
                event = session.wait_event("RESET", "VSERPORT_CHANGE", timeout=None)
                if event["event"] == "RESET" or (self._kexec_expected and event["data"]["open"]):
                    self._start_anew()
        except (QmpClosed, GuestLost, OSError, ValueError):
            return  # QEMU ended, or the guest was closed

    def _start_anew(self) -> None:
        with self._changed:
            self._resets += 1  # before the channel ends: whoever waits on it learns that it was a reset
            if self._channel is not None:
                self._channel.close()
            self._channel = self._open_channel()
            self._changed.notify_all()

    @contextlib.contextmanager
    def leaving_by_kexec(self, timeout: float = BOOT_SECONDS) -> Iterator[None]:
        """What runs inside makes the guest start another kernel by itself, which is no reset: afterwards
        waits until that has booted. Counts as one in `resets`. The new kernel's agent opening its port is
        what shows it: nothing else in the guest may restart the agent meanwhile.
        """
        before = self.resets
        self._kexec_expected = True
        try:
            yield
            self.wait_reset(before, timeout)
        finally:
            self._kexec_expected = False

    @property
    def boot_id(self) -> str:
        return self.get("/proc/sys/kernel/random/boot_id").decode().strip()

    def reboot(self, timeout: float = BOOT_SECONDS) -> None:
        """Reboots in an orderly way and waits until the agent answers again."""
        self._reset_by(["systemctl", "reboot"], timeout)

    def crash(self, timeout: float = BOOT_SECONDS) -> None:
        """Makes the kernel panic (sysrq c) and waits until it has booted again."""
        self._reset_by("echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger", timeout)

    def _reset_by(self, command: Sequence[str] | str, timeout: float) -> None:
        before = self.resets
        self.spawn(command)  # its end is the reset, not a status
        self.wait_reset(before, timeout)

    @property
    def resets(self) -> int:
        """How often the machine was reset or powered on again. One reboot resets it several times: the
        kernel tries several ways.
        """
        return self._resets

    def wait_reset(self, before: int, timeout: float = BOOT_SECONDS) -> None:
        """Waits until there were more than `before` resets and the system booted after the last of them
        answers; GuestHung.
        """
        deadline = time.monotonic() + timeout
        while True:
            before = self._next_reset(before, deadline - time.monotonic())
            try:
                self.ping(deadline - time.monotonic())
                self.wake()
                return
            except GuestReset:
                pass  # the next of the kernel's ways: wait for what boots after it

    def _next_reset(self, before: int, timeout: float) -> int:
        with self._changed:
            if not self._changed.wait_for(lambda: self._resets > before, timeout):
                raise GuestHung(self.name, f"no reset within {timeout:.0f} s", self.console)
            return self._resets

    def power_cut(self) -> None:
        """Ends the machine at once; what its kernel had not written to its disk is lost."""
        self.kill()
        self._disconnect()

    def power_off(self, timeout: float = BOOT_SECONDS) -> None:
        """Shuts down in an orderly way and waits until the machine is off; GuestHung."""
        self.spawn(["systemctl", "poweroff"])
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise GuestHung(self.name, f"not off within {timeout:.0f} s", self.console) from None
        self._disconnect()

    def power_on(
        self, kernel: Kernel | None = None, timeout: float = BOOT_SECONDS, cmdline: tuple[str, ...] = ()
    ) -> None:
        """Starts the machine on its disk again, with another kernel if given; `cmdline` holds kernel
        parameters that are added until it is off again.
        """
        if kernel is not None:
            self.kernel = kernel
            self._built = snapshot.parts(kernel, tuple(files.kernel for files in self._built.others))
        self._resets += 1
        self._start(self._arguments(self.place, cmdline))
        self._watch()
        self.ping(timeout)
        self.wake()

    def _ended(self, what: str) -> GuestError:
        """A closed port can be a reset of a machine that lives on."""
        if self.process.poll() is None and self._resets:
            return GuestReset(self.name, f"{what}: the machine was reset meanwhile", self.console)
        return super()._ended(what)

    def install_minion(self, master: Master, identity: str, config: Mapping[str, Any] | None = None) -> None:
        """Enables a real minion as a systemd unit, starts it, and waits until the master hears it (20-30
        s).
        """
        with master.events() as events:
            self.exec(["hostname", identity], check=True)
            self.put(CONFIG, json.dumps(minion_settings(master, identity, config or {})) + "\n")
            self.exec(["systemctl", "enable", "--now", "--no-block", "salt-minion.service"], check=True)
            events.wait(f"salt/minion/{identity}/start", MINION_SECONDS)


def start(
    kernel: Kernel,
    name: str = "systemd",
    machine: Machine = MACHINE,
    others: tuple[Kernel, ...] = (),
    disk: Path | None = None,
) -> SystemdGuest:
    """Boots a new guest (on a new disk, unless one is given, which is then kept when the guest is closed)."""
    built = snapshot.parts(kernel, others)
    host.require_memory((machine.memory << 19) + snapshot.GUEST_OVERHEAD)
    place = new_place()
    guest = SystemdGuest(name, kernel, place, machine, built, disk or make_disk(place.directory / "disk"))
    snapshot.ready(guest)
    return guest


def make_disk(path: Path) -> Path:
    """An empty ext4 in a sparse file."""
    host.run(["mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=1,lazy_journal_init=1", path, DISK_SIZE])
    return path
