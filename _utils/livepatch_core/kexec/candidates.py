"""The kernels that this host could be started with."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Any

from livepatch_core.host.context import Host
from livepatch_core.kernel.identity import read_identity
from livepatch_core.kexec import fixes
from livepatch_core.kexec.installed import Installed, choose, incomplete_newer, is_newer, read_installed


def candidates(host: Host) -> dict[str, Any]:
    """Installed kernels, newest first, and the one that ``newest`` means.

    fixes: None where the catalog says nothing about kernels. incomplete_newer: releases that would be the
    newest, and what each lacks. Raises LivepatchError (catalog).
    """
    running = read_identity(host.roots).release
    data = host.fetch(fixes.FILE)
    known = None if data is None else fixes.parse(data)
    kernels = read_installed(host.roots)
    newest = choose(kernels, running, "newest")
    return {
        "running": running,
        "newest": newest.release if newest else None,
        "newer": bool(newest and is_newer(newest.release, running)),
        "newest_since": _since(newest) if newest else None,
        "incomplete_newer": [
            {"release": one.release, "missing": list(one.missing)}
            for one in incomplete_newer(kernels, running)
        ],
        "kernels": [_document(one, running, known) for one in kernels],
    }


def _since(one: Installed) -> str | None:
    """When its image came (UTC, ISO 8601): a package keeps the time of its building as the time of the last
    change, the inode tells when it was put there."""
    try:
        moment = os.stat(one.image).st_ctime
    except OSError:
        return None
    return (
        datetime.fromtimestamp(moment, tz=timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    )


def _document(one: Installed, running: str, known: dict[str, tuple[str, ...]] | None) -> dict[str, Any]:
    return {
        "release": one.release,
        "running": one.release == running,
        "flavour": one.flavour,
        "image": str(one.image),
        "initrd": str(one.initrd) if one.initrd else None,
        "missing": list(one.missing),
        "livepatch": one.livepatch,
        "fixes": None if known is None else fixes.carried(one.release, known),
    }
