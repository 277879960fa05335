"""Levels in force that the host's record does not know: it was lost, or they came by other means."""

from __future__ import annotations

from livepatch_core.catalog.model import Catalog, Level
from livepatch_core.errors import LivepatchError
from livepatch_core.host import preflight, publisher
from livepatch_core.host.context import Host
from livepatch_core.host.offer import fetch_catalog, fetch_offer
from livepatch_core.host.promise import promise
from livepatch_core.host.record import Loaded, Record
from livepatch_core.host.situation import observe
from livepatch_core.kernel.modules import module_build_id
from livepatch_core.kernel.running import Kernel


def recognise(host: Host, kernel: Kernel, record: Record) -> Record:
    """``record`` with an entry for each patch in the kernel that is a level of the catalog.

    By build-id: the module that the catalog has under the patch's name must be the one that is loaded. What
    the catalog cannot answer leaves the patch what it was, foreign.
    """
    for name in observe(host, kernel, record).foreign:
        loaded = _look_up(host, kernel, name)
        if loaded is not None:
            record = record.with_loaded(loaded)
    return record


def _look_up(host: Host, kernel: Kernel, name: str) -> Loaded | None:
    build_id, boot_id = module_build_id(host.roots, name), kernel.identity.boot_id
    if build_id is None or boot_id is None:
        return None
    release = kernel.identity.release
    try:
        fetched, build = fetch_catalog(host, release), kernel.identity.build_id or ""
        for level in _levels_named(fetched.catalog, build, name):
            module = fetch_offer(host, release, level, None).module
            if module.build_id == build_id:
                preflight.refuse(publisher.examine(host, fetched.data, build, level), name)
                return promise(host, module, boot_id, level)
    except LivepatchError:
        return None  # no catalog, not this module, or not the publisher's: then it is not known to be a level
    return None


def _levels_named(catalog: Catalog, build_id: str, name: str) -> list[Level]:
    build = catalog.builds.get(build_id)
    return [level for level in build.levels.values() if level.name == name] if build else []
