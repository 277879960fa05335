"""The beacon's last look, in /run: it outlives the beacon, which Salt loads anew whenever modules are
refreshed (each act has that done, for the grain), and is gone with the boot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from livepatch_core.errors import LivepatchError
from livepatch_core.host.settings import Settings
from livepatch_core.host.statefile import read_document, write_document

KEPT = ("verdict", "level", "drift", "settled", "warded", "boot_id")


def swap(settings: Settings, now: Mapping[str, Any]) -> Optional[Mapping[str, Any]]:
    """The look before this one, None if this is the first of the boot; ``now`` is kept for the next.

    settled: whether level and drift of this look mean anything; if not those of the look before are kept.

    A file that cannot be understood counts as none, and is replaced. Raises LivepatchError (journal) when
    it cannot be written: the next look would tell the same again.
    """
    kept = {key: now[key] for key in KEPT}
    try:
        document = read_document(settings.looked_file)
    except LivepatchError:
        document = {}
    stored = {key: document[key] for key in KEPT if key in document}
    before = stored if stored.keys() == kept.keys() and stored["boot_id"] == now["boot_id"] else None
    if before is not None and not now["settled"]:
        kept.update({key: before[key] for key in ("level", "drift", "settled")})
    if stored != kept:
        write_document(settings.looked_file, kept)
    return before
