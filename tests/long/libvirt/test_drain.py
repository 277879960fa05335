"""Virtual machines leave a real libvirtd and come back: what they had in memory, and their clocks.

Every scene begins and ends with all of them running.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from livepatch_core.drain import drain as subject
from livepatch_core.drain.drain import Order
from livepatch_core.drain.record import Means, Stage, read_drained
from livepatch_core.drain.returning import CLOCK_TOLERANCE
from livepatch_core.errors import LivepatchError
from livepatch_core.host.programs import Said, run
from livepatch_core.words import Kind
from tests.long.libvirt.site import UNSAVABLE, Site, libvirt

NAMES = ["first", "second", "third"]
AWAY = 12.0  # seconds: more than the clock's tolerance, as a host that leaves is away


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with libvirt() as found:
        for name in NAMES:
            found.guest(name)
        yield found


@pytest.fixture
def all_go_on(site: Site) -> Callable[[], None]:
    """Each guest still counts from where it was (another boot would count from 0), and its clock is right."""
    before = {name: site.counts_on(name)[0] for name in NAMES}

    def check() -> None:
        assert sorted(site.virsh.running()) == NAMES
        assert (site.virsh.saved(), read_drained(site.host)) == ((), None)
        for name in NAMES:
            count, clock = site.counts_on(name)
            assert count > before[name], name
            assert abs(clock - time.time()) < CLOCK_TOLERANCE, name

    return check


def stopped(site: Site, order: Order) -> LivepatchError:
    with pytest.raises(LivepatchError) as caught:
        subject.drain(site.host, site.virsh, order)
    return caught.value


def test_over_an_absence_of_the_host(site: Site, all_go_on: Callable[[], None]) -> None:
    predicted = subject.drain(site.host, site.virsh, Order(test=True))
    assert (predicted.result, sorted(site.virsh.active())) == (None, NAMES)
    done = subject.drain(site.host, site.virsh, Order())
    assert (done.result, done.changes) == (True, {"machines": {"old": NAMES, "new": []}})
    assert site.virsh.active() == ()
    time.sleep(AWAY)  # the host is away

    back = subject.undrain(site.host, site.virsh, Order()).document()
    guests = back["drained"]["guests"]
    assert (back["result"], {one["clock"] for one in guests}) == (True, {"set"}), back
    all_go_on()
    assert min(one["away"] for one in guests) >= AWAY
    print(f"interruptions: {[one['away'] for one in guests]} s, of which the host was away for {AWAY} s")


def test_no_room_for_the_last_one(site: Site, all_go_on: Callable[[], None]) -> None:
    with site.full_disk("third"):
        error = stopped(site, Order())
    assert "third could not leave: virsh managedsave failed" in error.message
    assert "every virtual machine runs as before" in error.message
    assert "clock" not in error.message
    all_go_on()


def test_the_last_one_takes_too_long(site: Site, all_go_on: Callable[[], None]) -> None:
    """libvirt goes on saving after virsh has been killed: it is told to stop. The others were away for longer
    than their clocks may be late."""
    with site.slow_disk("third"):
        error = stopped(site, Order(timeout=AWAY))
        assert not site.virsh.saving("third")
    assert f"did not end within {AWAY:.0f} s" in error.message
    assert "every virtual machine runs as before" in error.message
    assert {one["name"]: one["clock"] for one in error.evidence["drained"]["guests"]} == dict.fromkeys(
        NAMES, "set"
    )
    all_go_on()


def test_one_that_nobody_can_save(site: Site, all_go_on: Callable[[], None]) -> None:
    site.guest("unsavable", UNSAVABLE)
    try:
        error = stopped(site, Order())
        assert "unsavable could not leave" in error.message
        assert "every virtual machine runs as before" in error.message
        assert site.counts_on("unsavable")[0] > 0
    finally:
        site.call("destroy", "unsavable")
    all_go_on()


def test_a_drain_that_died_goes_on(site: Site, all_go_on: Callable[[], None]) -> None:
    def dies(command: Sequence[str], seconds: float) -> Said | None:
        said = run(command, seconds)
        if "managedsave" in command and command[-1] == "second":
            os.kill(os.getpid(), signal.SIGKILL)
        return said

    dying = multiprocessing.get_context("fork").Process(
        target=subject.drain, args=(site.host, replace(site.virsh, run=dies), Order())
    )
    dying.start()
    dying.join()
    assert dying.exitcode == -signal.SIGKILL
    drained = read_drained(site.host)
    assert drained is not None
    assert [one.stage for one in drained.guests] == [Stage.AWAY, Stage.LEAVING, Stage.PLANNED]
    assert stopped(site, Order(Means.SHUTDOWN)).kind is Kind.CONFLICT
    done = subject.drain(site.host, site.virsh, Order())
    assert (done.result, done.changes) == (True, {"machines": {"old": ["third"], "new": []}})
    back = subject.undrain(site.host, site.virsh, Order())
    assert (back.result, back.comment) == (True, "3 virtual machines are back.")
    all_go_on()


def test_a_transient_one_is_refused(site: Site, all_go_on: Callable[[], None]) -> None:
    assert site.call("create", str(site.described("transient"))), site.log()
    try:
        assert "when they end: transient. Nothing was changed" in stopped(site, Order()).message
    finally:
        site.call("destroy", "transient")
    all_go_on()


def test_shut_down_instead(site: Site) -> None:
    assert subject.drain(site.host, site.virsh, Order(Means.SHUTDOWN, timeout=120)).result is True
    assert (site.virsh.active(), site.virsh.saved()) == ((), ())
    assert subject.undrain(site.host, site.virsh, Order()).result is True
    assert sorted(site.virsh.running()) == NAMES
