"""What the catalog offers this kernel: a level, its module in memory, and proof that they belong together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from livepatch_core.catalog.model import Catalog, Level
from livepatch_core.catalog.read import parse_catalog
from livepatch_core.catalog.resolve import find_level, newest
from livepatch_core.errors import LivepatchError
from livepatch_core.host.approval import Target
from livepatch_core.host.context import Host
from livepatch_core.kernel.identity import Identity
from livepatch_core.modulefile.model import ModuleFile
from livepatch_core.modulefile.read import read_with_payload
from livepatch_core.words import Kind

CATALOG_FILE = "catalog.yaml"


@dataclass(frozen=True)
class Offer:
    """One level, its module as read, and the bytes that go into the kernel: all from the same buffer.

    stored: that buffer as the catalog has it, compressed if it is stored so; its digest is the level's.
    """

    level: Level
    module: ModuleFile
    image: bytes
    stored: bytes


@dataclass(frozen=True)
class Fetched:
    """A catalog, and the very bytes it was read from: a signature is checked on these."""

    catalog: Catalog
    data: bytes


def read_catalog(host: Host, release: str) -> Catalog:
    """The catalog of one kernel release; raises LivepatchError (catalog) when it is missing or malformed."""
    return fetch_catalog(host, release).catalog


def fetch_catalog(host: Host, release: str) -> Fetched:
    """``read_catalog`` for who is going to load one of its levels."""
    name = f"{release}/{CATALOG_FILE}"
    data = host.fetch(name)
    if data is None:
        raise LivepatchError(
            Kind.UNCOVERED,
            f"There is no catalog {host.settings.catalog}/{name}: no level was published for kernel "
            f"release {release}; nothing was changed.",
            remedy="Publish a level for this kernel, or boot a kernel that has one.",
        )
    catalog = parse_catalog(data)
    if catalog.release != release:
        raise LivepatchError(
            Kind.CATALOG,
            f"The catalog {name} says that it is for release {catalog.release}; nothing was changed.",
            remedy="Publish it in the directory of its own release.",
        )
    return Fetched(catalog, data)


def covered(host: Host, identity: Identity) -> bool | None:
    """Whether the catalog has released a level for this kernel build; None when that cannot be told."""
    try:
        catalog = read_catalog(host, identity.release)
    except LivepatchError as problem:
        return False if problem.kind is Kind.UNCOVERED else None
    return None if identity.build_id is None else newest(catalog, identity.build_id) is not None


def choose_level(catalog: Catalog, identity: Identity, target: Target) -> Level:
    """The level that ``target`` means for this kernel build; raises LivepatchError (uncovered ...)."""
    build_id = identity.build_id
    if build_id is None:
        raise LivepatchError(
            Kind.UNSUPPORTED,
            "The build-id of the running kernel could not be read, so no level can be chosen for it; "
            "nothing was changed.",
            remedy="See whether /sys/kernel/notes is readable.",
        )
    if target.level is not None:
        return find_level(catalog, build_id, target.level)
    level = newest(catalog, build_id)
    if level is None:
        raise LivepatchError(
            Kind.UNCOVERED,
            f"The catalog of {catalog.release} has released no level for this kernel build ({build_id}); "
            "nothing was changed.",
            remedy="Publish and promote a level for it.",
        )
    return level


def fetch_offer(host: Host, release: str, level: Level, approved_sha256: str | None) -> Offer:
    """Read the module once into memory and prove it: approval, catalog and bytes name one digest.

    The digest is that of the stored bytes (compressed, if it is stored so). Whatever happens to the file
    afterwards changes nothing: reading, checking and loading use this buffer.
    """
    if approved_sha256 is not None and approved_sha256 != level.sha256:
        raise LivepatchError(
            Kind.DIGEST,
            f"Level {level.number} was approved with SHA-256 {approved_sha256}, but the catalog now names "
            f"{level.sha256} for it; nothing was changed.",
            remedy="Find out who changed the catalog; approve the level again if the change was meant.",
        )
    name = f"{release}/{level.module}"
    data = host.fetch(name)
    if data is None:
        raise LivepatchError(
            Kind.CATALOG,
            f"The catalog names the module {name} for level {level.number}, but there is no such file; "
            "nothing was changed.",
            remedy="Publish the level again, or mend the file server.",
        )
    actual = hashlib.sha256(data).hexdigest()
    if actual != level.sha256:
        raise LivepatchError(
            Kind.DIGEST,
            f"The file {name} has SHA-256 {actual}, but level {level.number} is {level.sha256}; nothing "
            "was changed.",
            remedy=(
                "The file was changed or cut short after it was published: publish the level again from "
                "its source."
            ),
        )
    module, image = read_with_payload(data)
    return Offer(level, module, image, data)
