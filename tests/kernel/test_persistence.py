"""A level over a reboot, a crash and a power cut: on a guest that really boots."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.fixtures import SystemdGuests, systemd_guest  # noqa: F401  a fixture
from lab.systemd import WITH_PSTORE
from tests.kernel.booted import Booted

pytestmark = pytest.mark.kernel

SOAK = 3.0  # seconds; the site's is 15 minutes


def test_over_reboot_crash_and_power_cut(systemd_guest: SystemdGuests, modules: dict[str, Path]) -> None:  # noqa: F811
    guest = systemd_guest(machine=WITH_PSTORE)
    host = Booted(guest, soak=SOAK)
    host.publish({1: modules["lp_level_1"], 2: modules["lp_moody"]})

    assert host.to_level(1)["result"] is True
    assert host.ask("persist")["result"] is True
    assert host.status()["next_boot"]["level"] == 0, "not proven yet"
    host.proven(1)
    assert host.status()["next_boot"] == {"level": 1, "why": "it is the highest proven level"}

    guest.reboot()
    status = host.booted()
    assert status["level"] == 1
    assert "Level 1 was loaded at boot" in status["last_boot"]["comment"]

    # the boot unit fails, and a level is applied later: an orderly shutdown is one all the same
    guest.put("/var/lib/livepatch/blocks.json", "{torn")
    guest.reboot()
    host.until("systemctl is-failed livepatch-boot.service")
    guest.exec(["rm", "/var/lib/livepatch/blocks.json"], check=True)
    assert host.to_level(1)["result"] is True
    guest.reboot()
    status = host.booted()
    assert (status["level"], status["quarantine"]) == (1, [])

    host.proven(2)
    assert host.status()["next_boot"]["level"] == 2

    # it changes its mind: the guest goes down once, and comes back with the level below
    guest.put("/var/lib/moody-panic", "")
    guest.exec(["sync"], check=True)
    before = guest.resets
    guest.spawn(["systemctl", "reboot"])
    guest.wait_reset(before)
    status = host.booted()
    assert status["level"] == 1
    assert "quarantined" in status["flags"]
    assert status["next_boot"]["level"] == 1
    assert "as ordered" in "".join(status["quarantine"][0]["evidence"])
    assert status["last_boot"]["warded"]["ward"] == "quarantined"
    refused = host.ask("apply", level=2, reason="still approved")
    assert (refused["result"], refused["kind"]) == (False, "quarantined")
    guest.exec(["rm", "/var/lib/moody-panic"], check=True)

    # the same place, but the power goes
    assert host.ask("release", level=2)["result"] is True
    host.proven(2)
    guest.put("/var/lib/moody-hang", "")
    guest.exec(["sync"], check=True)
    guest.spawn(["systemctl", "reboot"])
    host.until_console("lp_moody: hangs as ordered")
    guest.power_cut()
    guest.power_on()
    status = host.booted()
    assert (status["level"], status["flags"]) == (1, ["held"])
    assert status["quarantine"][0]["ward"] == "inconclusive"
    refused = host.ask("apply", level=2, reason="still approved")
    assert (refused["result"], refused["kind"]) == (False, "quarantined")

    # switched off: by a file (said, without a boot), by the command line, by a unit that is not enabled
    guest.put("/etc/livepatch/off", "")
    said = host.status()["next_boot"]
    assert said["level"] == 0
    assert said["why"] == "loading at boot is switched off by the file /etc/livepatch/off"
    guest.exec(["rm", "/etc/livepatch/off"], check=True)
    guest.power_off()
    guest.power_on(cmdline=("livepatch.boot=off",))
    status = host.booted()
    assert (status["level"], status["next_boot"]["level"], host.patches()) == (0, 0, [])
    assert "switched off by livepatch.boot=off" in status["last_boot"]["comment"]

    guest.exec(["systemctl", "disable", "livepatch-boot.service"], timeout=120, check=True)
    guest.power_off()
    guest.power_on()
    status = host.status()
    assert (status["level"], host.patches()) == (0, [])
    assert status["last_boot"]["boot_id"] != status["kernel"]["boot_id"], "the unit ran"
    assert status["next_boot"]["why"] == "level 1 is kept, but the boot unit is not enabled"
