"""What the catalog says of a kernel build beside its levels: packages that amount to one, until when there
are live patches for it, and what none can fix. Told to the fleet at once: nothing of it can be loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import yaml

from livepatch_core.catalog import calls, files, rewrite, signature
from livepatch_core.catalog.author import Author
from livepatch_core.catalog.entry import CVE, fixes_document
from livepatch_core.catalog.model import Build, Fix
from livepatch_core.catalog.read import BUILD_ID, is_day
from livepatch_core.catalog.settings import Master
from livepatch_core.catalog.shelf import Shelf, check_release, read_shelves, releases

UNSURE = "the catalog is whole, and livepatch_catalog.builds shows what it says"


def map_package(
    master: Master,
    place: tuple[object, object],
    package: object,
    version: object,
    level: object,
    fixes: tuple[Fix, ...],
    by: Author,
) -> dict[str, Any]:
    """Give the patch of a distribution's package a level; level 0 takes that back. What was changed.

    place: release and kernel build. The fixes are those of the package, all of them. Raises LivepatchError.
    """
    name, number = _text("package", package), _text("version", version)
    if type(level) is not int or level < 0:
        raise calls.bad_argument(f"The level is {level!r}, not an integer from 0")

    def change(shelf: Shelf, build: yaml.MappingNode, build_id: str) -> None:
        listed = rewrite.get(build, "packages")
        entries = list(listed.value) if isinstance(listed, yaml.SequenceNode) else []
        kept = [one for one in entries if not signature.is_of_package(one, name, number)]
        if level:
            entry = rewrite.mapping_of({"package": name, "version": number, "level": level})
            rewrite.put(entry, "fixes", rewrite.node_of(fixes_document(fixes)))
            rewrite.put(entry, "history", rewrite.node_of([by.record("map")]))
            if master.sign_key is not None:
                key = signature.read_private_key(master.sign_key)
                signature.sign(entry, shelf.release, build_id, level, key)
            kept.append(entry)
        elif len(kept) == len(entries):
            raise calls.bad_argument(
                f"The catalog gives {name} {number} no level for kernel build {build_id}"
            )
        said = rewrite.node_of([])
        assert isinstance(said, yaml.SequenceNode)  # as a list is
        said.value, said.flow_style = kept, False
        rewrite.put(build, "packages", said)
        # The entry's own history goes with it, when it is replaced or taken back.
        rewrite.add(build, "history", by.record("map" if level else "unmap"))

    return _changed(master, place, change)


def describe(
    master: Master, place: tuple[object, object], expires: object, unpatchable: object, by: Author
) -> dict[str, Any]:
    """Say until when there are live patches for a build (a day; "" for nothing known), and which CVEs none
    can fix (a list, or separated by commas; it replaces the one there was). None leaves what is said.
    """
    if expires is None and unpatchable is None:
        raise calls.bad_argument("Neither expires nor unpatchable is given")
    if expires and (not isinstance(expires, str) or not is_day(expires)):
        raise calls.bad_argument(f"expires is {expires!r}, not a day (2027-03-31)")
    named = None if unpatchable is None else _cves(unpatchable)

    def change(shelf: Shelf, build: yaml.MappingNode, build_id: str) -> None:
        if expires is not None:
            rewrite.drop(build, "expires")
        if expires:
            rewrite.put(build, "expires", rewrite.node_of(expires))
        if named is not None:
            old = shelf.read.builds.get(build_id)
            known = {one.cve: asdict(one) for one in old.unpatchable} if old else {}
            new = {"why": by.why, "at": by.at}
            said = [known.get(cve) or {"cve": cve, **new} for cve in named]
            rewrite.put(build, "unpatchable", rewrite.node_of(said))
        rewrite.add(build, "history", by.record("describe"))

    return _changed(master, place, change)


def builds(master: Master, release: str | None = None) -> dict[str, Any]:
    """Release -> kernel build -> what is said of it."""
    return {
        name: {build_id: _shown(build) for build_id, build in sorted(_served(master, name).items())}
        for name in ([release] if release is not None else releases(master))
    }


def find(master: Master, release: str, build_id: str) -> Build | None:
    """What the fleet is told of one kernel build; None where nothing is. Raises LivepatchError (catalog)."""
    return _served(master, release).get(build_id)


def _served(master: Master, release: str) -> dict[str, Build]:
    return dict(read_shelves(master, release).served.read.builds)


def _shown(build: Build) -> dict[str, Any]:
    return {
        "version": build.version,
        "packages": [
            {
                "package": one.package,
                "version": one.version,
                "level": one.number,
                "fixes": [fix.cve or fix.summary for fix in one.fixes],
            }
            for one in build.packages
        ],
        "expires": build.expires or None,
        "unpatchable": [asdict(one) for one in build.unpatchable],
    }


def _changed(
    master: Master,
    place: tuple[object, object],
    change: Callable[[Shelf, yaml.MappingNode, str], None],
) -> dict[str, Any]:
    """One build's part of what the fleet sees, changed under the catalog's lock."""
    release, build_id = check_release(place[0]), place[1]
    if not isinstance(build_id, str) or not BUILD_ID.fullmatch(build_id):
        raise calls.bad_argument(
            f"kernel_build is {build_id!r}, not a GNU build-id in hex (livepatch.status shows it)"
        )
    with files.exclusive(master, master.catalog_lock), files.writable(master, UNSURE):
        shelf = read_shelves(master, release).served
        build = rewrite.inner(rewrite.inner(shelf.node, "builds"), build_id)
        rewrite.inner(build, "levels")  # which readers of the first form ask for
        change(shelf, build, build_id)
        shelf.save(master)
    found = find(master, release, build_id)
    assert found is not None
    return {"release": release, "kernel_build": build_id, **_shown(found)}


def _cves(value: object) -> list[str]:
    items = [one.strip() for one in value.split(",")] if isinstance(value, str) else value
    if not isinstance(items, list):
        raise calls.bad_argument(f"unpatchable is {value!r}, not a list of CVEs")
    for one in items:
        if not isinstance(one, str) or (one and not CVE.fullmatch(one)):
            raise calls.bad_argument(f"{one!r} is not a CVE (CVE-2026-12345)")
    return sorted({one for one in items if one})


def _text(name: str, value: object) -> str:
    text = (calls.text(name, value) or "").strip()
    if not text:
        raise calls.bad_argument(f"{name} is not given")
    return text
