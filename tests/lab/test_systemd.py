"""The guest that boots: what is on its disk outlives a reboot, a crash and a power cut."""

from __future__ import annotations

import pytest

from lab.errors import GuestReset
from lab.fixtures import SystemdGuests
from lab.systemd import WITH_PSTORE

pytestmark = pytest.mark.kernel


def test_reboot_crash_and_power_cut(systemd_guest: SystemdGuests) -> None:
    guest = systemd_guest(machine=WITH_PSTORE)
    assert guest.exec(["systemctl", "is-system-running", "--wait"]).text == "running"
    boots = [guest.boot_id]
    guest.put("/var/lib/kept", "kept")
    guest.exec(["sync"], check=True)
    waiting = guest.spawn(["sleep", "600"])

    guest.reboot()
    boots.append(guest.boot_id)
    with pytest.raises(GuestReset):
        waiting.wait()
    guest.put("/var/lib/not-synced", "lost")

    guest.exec(["modprobe", "ramoops"], check=True)
    guest.crash()
    boots.append(guest.boot_id)
    assert "sysrq triggered crash" in guest.console
    guest.exec(
        "modprobe ramoops; mountpoint -q /sys/fs/pstore || mount -t pstore pstore /sys/fs/pstore", check=True
    )
    assert guest.exec(["ls", "/sys/fs/pstore"]).text == "dmesg-ramoops-0"

    guest.power_cut()
    guest.power_on()
    boots.append(guest.boot_id)

    assert len(set(boots)) == 4
    assert guest.get("/var/lib/kept") == b"kept"
    assert guest.exec(["test", "-s", "/var/lib/not-synced"]).rc == 1
