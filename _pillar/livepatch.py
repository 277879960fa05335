"""
Hand each minion its own approval
=================================

.. code-block:: yaml

    # master configuration
    ext_pillar:
      - livepatch: {}

Each minion gets ``livepatch:approval``: the approval that the ledger holds for it
(``livepatch_ledger.approve``), or ``{"error": why}``, and then it holds the level it has. This never raises,
which would refuse every highstate of the minion, and never guesses.
"""

from __future__ import annotations

from collections.abc import Mapping

import livepatch_core

livepatch_core.refresh()

from livepatch_core.catalog.settings import parse_master
from livepatch_core.errors import LivepatchError
from livepatch_core.ledger.handout import error, hand_out

__virtualname__ = "livepatch"


def __virtual__():
    return __virtualname__


def ext_pillar(minion_id, pillar, *args, **kwargs):
    """
    ``{"livepatch": {"approval": ...}}`` for one minion. Takes no arguments from the configuration.
    """
    return {"livepatch": {"approval": _approval(minion_id, pillar)}}


def _approval(minion_id, pillar):
    other = pillar.get("livepatch") if isinstance(pillar, Mapping) else None
    if isinstance(other, Mapping) and "approval" in other:
        return error("the pillar's SLS files give an approval beside that of the ledger")
    try:
        master = parse_master(__opts__.get("livepatch"), __opts__["cachedir"], __opts__.get("user") or "root")
    except LivepatchError as problem:
        return error(str(problem))
    return hand_out(master.state_dir, minion_id)
