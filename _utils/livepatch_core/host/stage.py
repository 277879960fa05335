"""Modules brought to the host ahead of the move: what was staged is loaded from here, by its digest.

A rollout stages a level on a wave's hosts before it approves it: fetching is spread out, and the move itself
needs only the catalog (which may have blocked the level meanwhile). A level in testing, which the file server
does not have, comes with the call: a catalog of this one entry, and the module's bytes.

``serving`` is a ``Fetch`` like the file client's, so whoever loads a level sees one catalog: the served one,
and what came with a call and is not in it.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from livepatch_core.catalog import rewrite
from livepatch_core.catalog.model import Catalog
from livepatch_core.catalog.read import parse_catalog
from livepatch_core.durable import make_directory, remove_durably, write_atomically
from livepatch_core.errors import LivepatchError
from livepatch_core.host import preflight, publisher, quarantine
from livepatch_core.host.approval import Grant, Source, Target, parse_approval
from livepatch_core.host.context import Fetch, Host
from livepatch_core.host.offer import CATALOG_FILE, choose_level, fetch_catalog, fetch_offer
from livepatch_core.host.settings import Settings
from livepatch_core.host.statefile import read_document, unreadable, write_document
from livepatch_core.kernel.identity import Identity, read_identity
from livepatch_core.words import Kind

KEPT = 2  # modules: the newest, and the one that a rollback may want
INDEX = "index.json"
MOST = 64 << 20  # bytes of a module that comes with a call, decompressed; debug information included


@dataclass(frozen=True)
class Staged:
    """One module kept. module: its file name in the catalog. catalog: a catalog of this entry alone, "" where
    the served one has it."""

    sha256: str
    release: str
    build_id: str
    level: int
    module: str
    catalog: str


def stage(host: Host, builds: object, payloads: object = None, spread: object = 0) -> dict[str, Any]:
    """Have the module of this kernel build's grant here: ``comment``, ``level``, ``sha256``.

    builds: as in an approval. payloads: by kernel build ``{"catalog": text, "module": zlib, then base64}``.
    spread: seconds over which hosts divide themselves before they fetch. Raises LivepatchError.
    """
    identity = read_identity(host.roots)
    grant = _grant(identity, builds)
    if grant.sha256 is None:
        return {"comment": "Level 0 needs no module.", "level": 0, "sha256": None}
    there = find(host.settings, grant.sha256)
    payload = payloads.get(identity.build_id) if isinstance(payloads, Mapping) else None
    if there is None and payload is not None:
        _take(host, identity, grant, payload)
    elif there is None:
        host.pause(delay(host.who.get("id", ""), grant.sha256, _seconds(spread)))
    _prove(host, identity, grant)
    return {"comment": f"Level {grant.level} is staged.", "level": grant.level, "sha256": grant.sha256}


def delay(minion: str, sha256: str, spread: float) -> float:
    """Each host's own moment, the same at every call. Pure."""
    digest = hashlib.sha256(f"{minion} {sha256}".encode()).digest()
    return spread * int.from_bytes(digest[:4], "big") / 2**32


def serving(settings: Settings, fetch: Fetch) -> Fetch:
    """``fetch`` with what is staged: a module by the digest that the catalog names, and catalog entries that
    the file server withholds. The served catalog decides wherever it knows a level, so a block is obeyed.
    """
    named: dict[tuple[str, str], set[str]] = {}

    def get(name: str) -> bytes | None:
        release, _, file = name.rpartition("/")
        here = [one for one in read_index(settings) if one.release == release]
        if not here:
            return fetch(name)
        if file == CATALOG_FILE:
            data = merged(fetch(name), here)
            named.update({(release, module): digests for module, digests in _digests(data).items()})
            return data
        for one in here:
            if one.module == file and one.sha256 in named.get((release, file), ()):
                return read_staged(settings, one.sha256) or fetch(name)
        return fetch(name)

    return get


def merged(served: bytes | None, staged: Iterable[Staged]) -> bytes | None:
    """The served catalog with the entries that came with a call and that it does not have. Pure.

    Where it cannot be read it is left as it is: whoever asked for it says so.
    """
    own = [one for one in staged if one.catalog]
    if served is None and own:
        served = own.pop(0).catalog.encode()
    if served is None or not own:
        return served
    read = parse_catalog(served)
    missing = [one for one in own if not _knows(read, one)]
    if not missing:
        return served
    root = rewrite.compose(served, CATALOG_FILE)
    for one in missing:
        build = rewrite.inner(rewrite.inner(root, "builds"), one.build_id)
        entry = _entry(one)
        rewrite.put(rewrite.inner(build, "levels"), one.level, entry)
    return rewrite.render(root)


def read_index(settings: Settings) -> tuple[Staged, ...]:
    """What is staged, the newest first. Raises LivepatchError (journal) where that cannot be understood."""
    path = _folder(settings) / INDEX
    try:
        return tuple(Staged(**one) for one in read_document(path).get("modules", ()))
    except (TypeError, ValueError) as problem:
        raise unreadable(path, problem) from problem


def find(settings: Settings, sha256: str) -> Staged | None:
    """The entry of a module that is here, whole."""
    found = next((one for one in read_index(settings) if one.sha256 == sha256), None)
    return found if found is not None and read_staged(settings, sha256) is not None else None


def read_staged(settings: Settings, sha256: str) -> bytes | None:
    """Its bytes; None where they are missing or damaged: they can be had again."""
    try:
        data = _file(settings, sha256).read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == sha256 else None


def _prove(host: Host, identity: Identity, grant: Grant) -> None:
    """What ``apply`` does up to the module's bytes; they are kept."""
    fetched = fetch_catalog(host, identity.release)
    level = choose_level(fetched.catalog, identity, _target(grant))
    quarantine.refuse(host, level.sha256)
    preflight.refuse(publisher.examine(host, fetched.data, identity.build_id or "", level), level.name)
    offer = fetch_offer(host, identity.release, level, grant.sha256)
    build_id = identity.build_id or ""
    if find(host.settings, level.sha256) is None:
        new = Staged(level.sha256, identity.release, build_id, level.number, level.module, "")
        _keep(host.settings, new, offer.stored)


def _take(host: Host, identity: Identity, grant: Grant, payload: object) -> None:
    """Keep a module that came with the call, if it is the one that was granted."""
    text, data = _unpacked(payload)
    if hashlib.sha256(data).hexdigest() != grant.sha256:
        raise _bad("the module that came with the call has another digest than the one approved")
    catalog = parse_catalog(text.encode(), "the catalog that came with the call")
    level = choose_level(catalog, identity, _target(grant))
    if level.sha256 != grant.sha256 or catalog.release != identity.release:
        raise _bad("the catalog entry that came with the call is that of another module")
    build_id = identity.build_id or ""
    _keep(
        host.settings,
        Staged(level.sha256, catalog.release, build_id, level.number, level.module, text),
        data,
    )


def _keep(settings: Settings, new: Staged, data: bytes) -> None:
    """The bytes first: what the index names is there."""
    try:
        with _alone(settings):
            write_atomically(_file(settings, new.sha256), data)
            kept = (new, *(one for one in read_index(settings) if one.sha256 != new.sha256))[:KEPT]
            write_document(_folder(settings) / INDEX, {"modules": [asdict(one) for one in kept]})
            wanted = {f"{one.sha256}.ko" for one in kept}
            for path in _folder(settings).glob("*.ko"):
                if path.name not in wanted:
                    remove_durably(path)
    except OSError as problem:
        raise LivepatchError(
            Kind.JOURNAL,
            f"The module could not be kept in {_folder(settings)} ({problem.strerror}); nothing was changed.",
            remedy="Make room there, then ask again.",
        ) from problem


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Jobs run beside each other on a minion; writers of the index wait for each other, for milliseconds."""
    make_directory(_folder(settings))
    descriptor = os.open(_folder(settings) / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _digests(catalog: bytes | None) -> dict[str, set[str]]:
    """Which digests the catalog names for each file."""
    found: dict[str, set[str]] = {}
    for build in parse_catalog(catalog).builds.values() if catalog is not None else ():
        for level in build.levels.values():
            found.setdefault(level.module, set()).add(level.sha256)
    return found


def _knows(catalog: Catalog, staged: Staged) -> bool:
    build = catalog.builds.get(staged.build_id)
    return build is not None and staged.level in build.levels


def _entry(staged: Staged) -> Any:
    root = rewrite.compose(staged.catalog.encode(), "a staged catalog")
    levels = rewrite.inner(rewrite.inner(rewrite.inner(root, "builds"), staged.build_id), "levels")
    return rewrite.inner(levels, staged.level)


def _grant(identity: Identity, builds: object) -> Grant:
    approval = parse_approval({"ledger_id": "not of a ledger", "rev": 1, "builds": builds})
    grant = approval.builds.get(identity.build_id or "")
    if grant is None:
        raise LivepatchError(
            Kind.UNCOVERED,
            f"No level was named for this kernel build ({identity.build_id}); nothing was changed.",
            remedy="Plan the rollout again: the host may have booted another kernel since.",
        )
    return grant


def _target(grant: Grant) -> Target:
    return Target(grant.level, grant.sha256, Source.APPROVAL)


def _unpacked(payload: object) -> tuple[str, bytes]:
    """The catalog's text and the module's bytes."""
    text, module = (
        (payload.get("catalog"), payload.get("module")) if isinstance(payload, Mapping) else (None, None)
    )
    if not isinstance(text, str) or not isinstance(module, str):
        raise _bad("the payload is not a catalog entry and a module")
    try:
        unpacking = zlib.decompressobj()
        data = unpacking.decompress(base64.b64decode(module, validate=True), MOST)
        if not unpacking.eof:
            raise _bad(f"the module that came with the call is cut short, or larger than {MOST >> 20} MiB")
    except (binascii.Error, zlib.error) as problem:
        raise _bad(f"the module that came with the call cannot be unpacked ({problem})") from problem
    return text, data


def _seconds(spread: object) -> float:
    if isinstance(spread, bool) or not isinstance(spread, (int, float)) or not 0 <= spread <= 3600:
        raise LivepatchError(
            Kind.ARGUMENT,
            f"spread is {spread!r}, not seconds from 0 to an hour; nothing was changed.",
            remedy="Give spread=60, for example; in a rollout it is the option stage_spread.",
        )
    return float(spread)


def _folder(settings: Settings) -> Path:
    return settings.state_dir / "staged"


def _file(settings: Settings, sha256: str) -> Path:
    return _folder(settings) / f"{sha256}.ko"


def _bad(why: str) -> LivepatchError:
    return LivepatchError(
        Kind.DIGEST,
        f"Nothing was staged: {why}.",
        remedy="Plan the rollout again, from the catalog as it is now.",
    )
