"""Which crashes the master was told of: found at boot, when nobody can be told, they wait for a minion."""

from __future__ import annotations

from collections.abc import Callable, Collection

from livepatch_core.host.context import Host
from livepatch_core.host.events import is_crash
from livepatch_core.host.quarantine import Warded, read_warded
from livepatch_core.host.statefile import MISFITS, read_document, texts, unreadable, write_document


def tell(host: Host, send: Callable[[Warded], bool]) -> tuple[Warded, ...]:
    """Send the crashes of which the master was not told yet; those that could not be sent wait on.

    They are noted as told before they are sent: where the disk is full nothing is sent, or it would be sent
    at every act. Two acts at once may both send one. Raises LivepatchError (journal).
    """
    warded = read_warded(host)
    known = _known(host)
    untold = tuple(one for one in warded if is_crash(one) and _name(one) not in known)
    if not untold:
        return ()
    there = {_name(one) for one in warded}
    _write(host, (known & there) | {_name(one) for one in untold})
    sent = tuple(one for one in untold if send(one))
    if sent != untold:
        _write(host, _known(host) - {_name(one) for one in untold if one not in sent})
    return sent


def _known(host: Host) -> set[str]:
    path = host.settings.told_file
    try:
        return set(texts(read_document(path).get("crashes", ())))
    except MISFITS as problem:
        raise unreadable(path, problem) from problem


def _write(host: Host, names: Collection[str]) -> None:
    write_document(host.settings.told_file, {"crashes": sorted(names)})


def _name(warded: Warded) -> str:
    """One module can crash a host twice, with a release in between."""
    return f"{warded.sha256} {warded.at}"
