"""The two places where levels of one release stand: what the fleet sees, and what is withheld from it.

A level in testing stands with its module among the withheld only. Promotion takes both to the served tree.
When a level in testing is blocked, hosts that were given it by a rollout have to learn of it: then the
served catalog has a *notice*, an entry of the required fields and the reason, without the module
(``withheld: true``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from livepatch_core.catalog import files, rewrite, signature
from livepatch_core.catalog.model import SCHEMA, Catalog, Level, LevelStatus
from livepatch_core.catalog.read import RELEASE, parse_catalog
from livepatch_core.catalog.settings import Master
from livepatch_core.durable import make_directory, write_atomically
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind

CATALOG_FILE = "catalog.yaml"
NOTICE = "withheld"


@dataclass
class Shelf:
    """One directory: a release's catalog and its modules."""

    directory: Path
    release: str
    node: yaml.MappingNode
    read: Catalog  # as it was found; ``node`` is what it becomes

    @property
    def path(self) -> Path:
        return self.directory / CATALOG_FILE

    def render(self) -> bytes:
        """The text of it, once a reader was seen to understand it; raises LivepatchError (catalog)."""
        data = rewrite.render(self.node)
        parse_catalog(data, str(self.path))
        return data

    def entry(self, build_id: str, number: int) -> yaml.MappingNode | None:
        levels = rewrite.get(rewrite.get(rewrite.get(self.node, "builds"), build_id), "levels")
        found = rewrite.get(levels, number)
        return found if isinstance(found, yaml.MappingNode) else None

    def put(self, build_id: str, version: str, number: int, entry: yaml.MappingNode) -> None:
        build = rewrite.inner(rewrite.inner(self.node, "builds"), build_id)
        if version and not rewrite.get(build, "version"):
            rewrite.put(build, "version", rewrite.node_of(version))
        rewrite.put(rewrite.inner(build, "levels"), number, entry)

    def drop(self, build_id: str, number: int) -> None:
        builds = rewrite.inner(self.node, "builds")
        levels = rewrite.inner(rewrite.inner(builds, build_id), "levels")
        rewrite.drop(levels, number)

    def sign(self, build_id: str, number: int, master: Master, act: str) -> None:
        """Sign an entry that was changed; refuses to leave a signed one behind without its signature."""
        entry = self.entry(build_id, number)
        assert entry is not None
        if master.sign_key is not None:
            key = signature.read_private_key(master.sign_key)
            signature.sign(entry, self.release, build_id, number, key)
        elif rewrite.get(entry, signature.FIELD) is not None:
            raise LivepatchError(
                Kind.SIGNATURE,
                f"Level {number} of kernel build {build_id} is signed by its publisher, and {act} would make "
                "the signature void; nothing was changed.",
                remedy="Name the publisher's key in the master's configuration (livepatch:sign_key).",
            )

    def save(self, master: Master) -> None:
        """Raises LivepatchError, OSError."""
        data = self.render()
        make_directory(self.directory, files.DIRECTORY, master.owner)
        write_atomically(self.path, data, files.FILE, master.owner)


@dataclass
class Standing:
    """One level, wherever it stands. status: as it is in force."""

    level: Level
    build_id: str
    release: str
    status: LevelStatus
    directory: Path  # where its module is
    entry: yaml.MappingNode
    version: str = ""


@dataclass
class Shelves:
    served: Shelf
    withheld: Shelf

    @property
    def release(self) -> str:
        return self.served.release

    def standings(self) -> Iterator[Standing]:
        """Every level of the release as it was read, by kernel build and number."""
        served, withheld = self.served.read, self.withheld.read
        for build_id in sorted({*served.builds, *withheld.builds}):
            public = served.builds[build_id].levels if build_id in served.builds else {}
            found = withheld.builds[build_id].levels if build_id in withheld.builds else {}
            private = {key: one for key, one in found.items() if self.withheld.entry(build_id, key)}
            for number in sorted({*public, *private}):
                shelf = self.withheld if number in private else self.served
                level = private.get(number) or public[number]
                entry = shelf.entry(build_id, number)
                build = withheld.builds[build_id] if number in private else served.builds[build_id]
                status = public[number].status if number in public else level.status
                assert entry is not None
                yield Standing(level, build_id, self.release, status, shelf.directory, entry, build.version)

    def find(self, build_id: str, number: int) -> Standing | None:
        matching = (one for one in self.standings() if (one.build_id, one.level.number) == (build_id, number))
        return next(matching, None)


def check_release(release: object) -> str:
    """A release becomes the name of a directory; raises LivepatchError (argument)."""
    if not isinstance(release, str) or not RELEASE.fullmatch(release):
        raise LivepatchError(
            Kind.ARGUMENT,
            f"{release!r} is not a kernel release; nothing was changed.",
            remedy="Give it as uname -r prints it: 6.1.0-56-amd64.",
        )
    return release


def read_shelves(master: Master, release: str) -> Shelves:
    """Both shelves of one release; empty ones where there are none. Raises LivepatchError.

    A level that stands on both, not as a notice, is one whose promotion was cut short after the fleet could
    see it: it counts as promoted.
    """
    check_release(release)
    shelves = Shelves(
        _read(master, master.served / release, release), _read(master, master.withheld / release, release)
    )
    for build_id, build in shelves.served.read.builds.items():
        for number in build.levels:
            public, private = shelves.served.entry(build_id, number), shelves.withheld.entry(build_id, number)
            if public is not None and private is not None and not is_notice(public):
                shelves.withheld.drop(build_id, number)
    return shelves


def releases(master: Master) -> list[str]:
    """Every release that has a catalog, served or withheld."""
    found: set[str] = set()
    for root in (master.served, master.withheld):
        if root.is_dir():
            found.update(path.parent.name for path in root.glob(f"*/{CATALOG_FILE}"))
    return sorted(found)


def is_notice(entry: yaml.Node) -> bool:
    field = rewrite.get(entry, NOTICE)
    return field is not None and str(field.value).lower() == "true"


def _read(master: Master, directory: Path, release: str) -> Shelf:
    path = directory / CATALOG_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        empty = {"schema": SCHEMA, "release": release, "builds": {}}
        data = rewrite.render(rewrite.node_of(empty))
    except OSError as problem:
        raise LivepatchError(
            Kind.CATALOG,
            f"{path} could not be read ({problem.strerror}); nothing was changed.",
            remedy=f"See that it belongs to {master.user}, as whom the master runs.",
        ) from problem
    catalog = parse_catalog(data, str(path))
    if catalog.release != release:
        raise LivepatchError(
            Kind.CATALOG,
            f"{path} says that it is for release {catalog.release}; nothing was changed.",
            remedy="Put it into the directory of its own release.",
        )
    return Shelf(directory, release, rewrite.compose(data, str(path)), catalog)
