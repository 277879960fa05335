"""
Tell the master when the kernel shows a change, and at nothing else
===================================================================

.. code-block:: yaml

    beacons:
      livepatch:
        - interval: 3

Events (tag ``salt/beacon/<id>/livepatch/<what>``), each with verdict, flags, level, boot_id, and ``old`` and
``new``:

``transition``
    A transition began, stalled or ended (verdict ``patching``, ``stalled``, ``reverting`` or none of these).
``drift``
    A patch that is not ours appeared or went, a promised function is no longer in force, or a module that
    ours patches was loaded anew as another build.
``level``
    The level in force changed.
``quarantine``
    A level was quarantined or held, at boot for example, or released.

Events are hints: a minion can send any. What decides asks ``livepatch.status``.
"""

from __future__ import annotations

import livepatch_core

livepatch_core.refresh()

from livepatch_core.host.looked import swap
from livepatch_core.host.settings import parse_settings

__virtualname__ = "livepatch"

MOVING = ("patching", "stalled", "reverting")


def __virtual__():
    if "livepatch.brief" not in __salt__:
        return False, "the execution module livepatch is not available"
    return __virtualname__


def validate(config):
    """Options: ``interval`` and ``disable_during_state_run``, which Salt itself reads."""
    if not isinstance(config, list):
        return False, "Configuration for livepatch beacon must be a list."
    return True, "Valid beacon configuration"


def beacon(config):
    """One event for each thing that is other than at the last look, also if that was before the minion (or
    only its beacons) started anew."""
    seen = __salt__["livepatch.brief"]()
    # While a transition runs, and until whoever acts has written it down, the level is neither the old nor
    # the new one, and a patch of ours looks like somebody else's.
    now = {**seen, "settled": seen["verdict"] not in MOVING and not seen["acting"]}
    before = swap(parse_settings(__opts__.get("livepatch")), now)
    if before is None:  # at the first look of a boot only what the boot brought is news
        before = {**now, "warded": []} if now["boot_is_news"] else now
    common = {key: now[key] for key in ("verdict", "flags", "level", "boot_id", "comment")}
    return [
        {"tag": what, **common, "old": old, "new": new}
        for what, old, new in _compared(before, now)
        if old != new
    ]


def _compared(before, now):
    def moving(seen):
        return seen["verdict"] if seen["verdict"] in MOVING else None

    yield "transition", moving(before), moving(now)
    if now["settled"] and before["settled"]:
        yield "level", before["level"], now["level"]
        yield "drift", before["drift"], now["drift"]
    yield "quarantine", before["warded"], now["warded"]
