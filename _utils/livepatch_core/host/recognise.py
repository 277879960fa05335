"""Levels in force that the host's record does not know, or not enough of: it was lost, is that of an older
version, or they came by other means."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

from livepatch_core.catalog.model import Catalog, Level
from livepatch_core.errors import LivepatchError
from livepatch_core.host import packages, preflight, publisher
from livepatch_core.host.context import Host
from livepatch_core.host.offer import Fetched, fetch_catalog, fetch_offer
from livepatch_core.host.packages import Package
from livepatch_core.host.promise import promise
from livepatch_core.host.record import Loaded, Record
from livepatch_core.host.situation import observe
from livepatch_core.host.status import Origin, Recognise
from livepatch_core.kernel.modules import module_build_id
from livepatch_core.kernel.roots import Roots
from livepatch_core.kernel.running import Kernel
from livepatch_core.modulefile.model import ModuleFile
from livepatch_core.modulefile.read import read_module

WHEN_IS_NOT_KNOWN = ""


# -- packages of the distribution ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Brought:
    """A module that is loaded, and the package that brought its file."""

    package: Package
    module: ModuleFile


def brought(roots: Roots, release: str, name: str) -> Brought | None:
    """The package that a loaded patch came with: its file is the very module that is loaded (build-id), and
    unchanged since it was installed. None where that is not known."""
    build_id = module_build_id(roots, name)
    if build_id is None:
        return None
    for path in packages.module_files(roots, release, name):
        try:
            data = path.read_bytes()
            module = read_module(data)
            package = packages.owner(roots, path, data) if module.build_id == build_id else None
        except (OSError, LivepatchError):
            continue  # not to be read, or rpm hangs: then it is not known whose it is
        if package is not None:
            return Brought(package, module)
    return None


Bringer = Callable[[Roots, str, str], "Brought | None"]


# -- levels --------------------------------------------------------------------------------------------------


def recognise(host: Host, kernel: Kernel, record: Record, bringer: Bringer = brought) -> Record:
    """``record`` with an entry for each patch in the kernel that is a level of the catalog, or that came with
    a package to which the catalog gives one; and with the builds that its modules were made for, in entries
    that lack these.

    By build-id: the module that the catalog has under the patch's name, or the package's file, must be the
    one that is loaded. What cannot be answered leaves the patch what it was, foreign or in doubt.
    """
    situation = observe(host, kernel, record)
    lacking = {one.patch for one in situation.unrecorded}
    if not situation.foreign and not lacking:
        return record
    try:
        fetched = fetch_catalog(host, kernel.identity.release)
    except LivepatchError:
        return record  # no catalog, or none that can be used: then nothing is known to be a level
    for name in (*situation.foreign, *sorted(lacking)):
        loaded = _look_up(host, kernel, fetched, name) or _of_package(host, kernel, fetched, name, bringer)
        if loaded is not None:
            record = record.complete(loaded) if name in lacking else record.with_loaded(loaded)
    return record


def _look_up(host: Host, kernel: Kernel, fetched: Fetched, name: str) -> Loaded | None:
    build_id, boot_id = module_build_id(host.roots, name), kernel.identity.boot_id
    if build_id is None or boot_id is None:
        return None
    release, build = kernel.identity.release, kernel.identity.build_id or ""
    try:
        for level in _levels_named(fetched.catalog, build, name):
            module = fetch_offer(host, release, level, None).module
            if module.build_id == build_id:
                preflight.refuse(publisher.examine(host, fetched.data, build, level), name)
                return replace(promise(host, module, boot_id, level), at=WHEN_IS_NOT_KNOWN)
    except LivepatchError:
        return None  # not this module, or not the publisher's: then it is not known to be a level
    return None


def _levels_named(catalog: Catalog, build_id: str, name: str) -> list[Level]:
    build = catalog.builds.get(build_id)
    return [level for level in build.levels.values() if level.name == name] if build else []


def origin(host: Host, kernel: Kernel, name: str, bringer: Bringer = brought) -> str:
    """Name and version of the package that a patch came with, "" where none is known."""
    found = bringer(host.roots, kernel.identity.release, name)
    return str(found.package) if found else ""


def for_one_look() -> tuple[Recognise, Origin]:
    """``recognise`` and ``origin`` that ask for the package of a patch once between them: finding it reads
    the package database."""
    once = functools.cache(brought)
    return functools.partial(recognise, bringer=once), functools.partial(origin, bringer=once)


def _of_package(host: Host, kernel: Kernel, fetched: Fetched, name: str, bringer: Bringer) -> Loaded | None:
    identity = kernel.identity
    build = fetched.catalog.builds.get(identity.build_id or "")
    if build is None or not build.packages or identity.boot_id is None:
        return None
    found = bringer(host.roots, identity.release, name)
    level = build.of_package(found.package.name, found.package.version) if found else None
    if found is None or level is None:
        return None
    try:
        preflight.refuse(publisher.examine_package(host, fetched.data, build.build_id, level), name)
    except LivepatchError:
        return None  # not the publisher's word
    loaded = promise(host, found.module, identity.boot_id, level, str(found.package))
    return replace(loaded, at=WHEN_IS_NOT_KNOWN)
