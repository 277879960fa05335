"""Guests with real minions."""

from __future__ import annotations

import pytest

from lab.errors import GuestPanicked
from lab.fixtures import Fleets, MinionGuests
from lab.kernels import Kernel, Role
from lab.master import Master

pytestmark = pytest.mark.kernel


def test_a_minion_answers_by_api_and_by_command(
    minion_guest: MinionGuests, salt_master: Master, lab_kernels: dict[Role, Kernel]
) -> None:
    minion = minion_guest("alone")
    assert minion.call("grains.get", "kernelrelease") == lab_kernels[Role.STABLE].release
    asked = salt_master.run("salt", "--out=txt", "alone", "cmd.run", "uname -r")
    assert asked.stdout.strip() == f"alone: {lab_kernels[Role.STABLE].release}"


def test_a_minion_whose_kernel_panicked_says_so(minion_guest: MinionGuests) -> None:
    minion = minion_guest("doomed")
    minion.guest.spawn("echo c > /proc/sysrq-trigger")
    minion.guest.process.wait(60)
    with pytest.raises(GuestPanicked, match="sysrq triggered crash"):
        minion.call("test.ping", timeout=5)


def test_a_fleet_of_two_kernels(fleet: Fleets, lab_kernels: dict[Role, Kernel]) -> None:
    members = fleet(2, kernels=(Role.STABLE, Role.CLOUD), prefix="pair")
    assert members.call("grains.get", "kernelrelease") == {
        "pair1": lab_kernels[Role.STABLE].release,
        "pair2": lab_kernels[Role.CLOUD].release,
    }
