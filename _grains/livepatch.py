"""
What the kernel of this host is, to target by: ``salt -G 'livepatch:verdict:patched' ...``

The grain ``livepatch`` has verdict, flags, level, kernel build and provider: klp, or the other system that
patches this kernel. It is read when the minion starts and by
``saltutil.refresh_grains refresh_pillar=False``, which recompiles no pillar. It is as old as that: what
decides reads ``livepatch.status``.
"""

from __future__ import annotations

import logging

import livepatch_core

livepatch_core.refresh()

from livepatch_core.errors import LivepatchError
from livepatch_core.host.context import Host
from livepatch_core.host.settings import parse_settings
from livepatch_core.providers import face, whole

log = logging.getLogger(__name__)


def livepatch():
    """One key, or none where the kernel could not be read (no Linux), and none on the master: its programs
    read grains too, and what stands under ``livepatch`` in its configuration is the master's."""
    if __opts__.get("__role") == "master":
        return {}
    try:
        host = Host(parse_settings(__opts__.get("livepatch")), lambda name: None)
        return {"livepatch": whole.grain(host, face.Site(host.roots))}
    except (LivepatchError, OSError) as problem:
        log.warning("the grain livepatch could not be read: %s", problem)
        return {}
