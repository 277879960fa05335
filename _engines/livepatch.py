"""
Go on with rollouts whose process has ended
===========================================

.. code-block:: yaml

    # master configuration
    engines:
      - livepatch: {}
      # or, to look every 10 seconds instead of every 3 for rollouts that nobody drives:
      - livepatch:
          interval: 10

A rollout in the foreground (``salt-run livepatch.rollout``) that is detached, killed, or lost with its
terminal is taken over here: the hosts are asked how they are, and it goes on. So are those that were started
with ``detach=True``, and those that a verb set going again. A rollout that waits for a person is left alone.

There is one engine for each master; it runs as the master's user. Where the extension is synced rather than
installed: run ``salt-run saltutil.sync_all``, then restart the master, also after each update of the
extension: an engine keeps the code that it was started with.
"""

from __future__ import annotations

import logging
import signal
import time

import salt.client
import salt.exceptions
import salt.utils.event
import salt.utils.jid

import livepatch_core

livepatch_core.refresh()

from livepatch_core.catalog import calls
from livepatch_core.catalog.author import Author
from livepatch_core.durable import make_directory
from livepatch_core.errors import LivepatchError
from livepatch_core.rollout import adoption, driver, events, keeper, owner, saltfleet, verbs
from livepatch_core.rollout import status as standing
from livepatch_core.rollout.clock import SystemClock
from livepatch_core.rollout.owner import OwnerKind

log = logging.getLogger(__name__)

__virtualname__ = "livepatch"

CLOCK = SystemClock()
INTERVAL = 3.0
CONFIGURATION_PAUSE = 60.0  # before a configuration that cannot be used is looked at again


def __virtual__():
    if __opts__.get("__role") != "master":
        return False, "the engine livepatch is the master's"
    return __virtualname__


def start(interval=INTERVAL):
    """
    Run until the master stops.

    interval
        Seconds between two looks for rollouts that nobody drives; an event of a rollout is a reason to look
        at once.
    """
    every = float(interval) if isinstance(interval, (int, float)) and interval > 0 else INTERVAL
    while True:
        try:
            master = _master()
            folder = verbs.root(master)
            make_directory(folder, owner=master.owner)
            with adoption.engine(folder) as lock:
                _keep(folder, every, lock)
        except (LivepatchError, OSError) as problem:
            log.error("livepatch engine: %s", problem)
            time.sleep(CONFIGURATION_PAUSE)


def _keep(folder, interval, lock):
    kept = keeper.Keeper(folder, _drive, CLOCK, lambda text: log.info("livepatch engine: %s", text), lock)
    bus = salt.utils.event.get_event("master", opts=__opts__, listen=True)
    try:
        while True:
            try:
                kept.turn()
            except (LivepatchError, OSError) as problem:
                log.error("livepatch engine: %s", problem)
            began = time.monotonic()
            heard = bus.get_event(wait=interval, tag=f"{events.PREFIX}/", auto_reconnect=True)
            if heard is None and time.monotonic() - began < interval / 2:
                time.sleep(interval)  # the bus is not there yet, or not any more
    finally:
        bus.destroy()


def _drive(directory):
    """In a process of its own: drive one rollout until it has ended or waits for a person."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # the engine's own handlers would stop its other processes
    master = _master()
    by = Author(**{"who": "engine", "why": "", "at": calls.now(), **standing.read(directory).by})
    with saltfleet.of_master(__opts__, salt) as means:
        fleet = saltfleet.SaltFleet(means, master, directory.name, by, directory / verbs.COMMANDS)
        try:
            with owner.if_free(directory, OwnerKind.ENGINE, master.user, CLOCK) as mine:
                if mine is None:
                    return  # somebody else was faster
                driver.drive(
                    directory,
                    fleet,
                    CLOCK,
                    owner=mine,
                    until_detached=lambda state: not adoption.wanted(state),
                )
        except LivepatchError as problem:
            log.error("livepatch engine: rollout %s: %s", directory.name, problem)
            raise SystemExit(1) from problem


def _master():
    return calls.master_of(__opts__)
