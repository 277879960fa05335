"""Virtual machines leave a real libvirtd and come back: what they had in memory, and their clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from livepatch_core.drain import drain as subject
from livepatch_core.drain.drain import Order
from livepatch_core.drain.record import Means
from livepatch_core.errors import LivepatchError
from tests.long.libvirt.site import UNSAVABLE, Site, libvirt

AWAY = 12.0  # seconds: more than the clock's tolerance, as a host that leaves is away


@pytest.fixture
def site() -> Iterator[Site]:
    with libvirt() as found:
        found.guest("saved")
        yield found


def test_over_an_absence_of_the_host(site: Site) -> None:
    before = site.counts_on("saved")
    predicted = subject.drain(site.host, site.virsh, Order(test=True))
    assert (predicted.result, site.virsh.active()) == (None, ("saved",))
    done = subject.drain(site.host, site.virsh, Order())
    assert (done.result, done.changes) == (True, {"machines": {"old": ["saved"], "new": []}})
    assert site.virsh.active() == ()
    time.sleep(AWAY)  # the host is away

    back = subject.undrain(site.host, site.virsh, Order()).document()
    (guest,) = back["drained"]["guests"]
    assert (back["result"], guest["clock"]) == (True, "set"), back
    count, clock = site.counts_on("saved")
    assert count > before[0], "it goes on where it was: another boot would count from 0"
    assert abs(clock - time.time()) < subject.CLOCK_TOLERANCE
    assert guest["away"] >= AWAY
    print(f"interruption: {guest['away']} s, of which the host was away for {AWAY} s")

    # one that cannot be saved: nobody leaves
    site.guest("stuck", UNSAVABLE)
    count = site.counts_on("saved")[0]
    with pytest.raises(LivepatchError, match="stuck could not leave") as caught:
        subject.drain(site.host, site.virsh, Order())
    assert "every virtual machine runs" in caught.value.message
    assert sorted(site.virsh.active()) == ["saved", "stuck"]
    assert site.counts_on("saved")[0] > count
    assert site.counts_on("stuck")[0] > 0

    # shut down instead
    assert subject.drain(site.host, site.virsh, Order(Means.SHUTDOWN, timeout=120)).result is True
    assert (site.virsh.active(), site.virsh.saved()) == ((), ())
    assert subject.undrain(site.host, site.virsh, Order()).result is True
    assert sorted(site.virsh.active()) == ["saved", "stuck"]
