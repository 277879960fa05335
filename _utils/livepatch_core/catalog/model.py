"""What the fleet may load: for each kernel build its levels. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from livepatch_core.words import Word

SCHEMA = 1


class LevelStatus(Word):
    """testing: withheld from the fleet, for the canaries a rollout names. blocked: no host may go there."""

    TESTING = "testing"
    RELEASED = "released"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class Fix:
    """What a level fixes; ``cve`` is the identifier that is reported, the rest is for people."""

    cve: str
    severity: str = ""
    url: str = ""
    summary: str = ""


@dataclass(frozen=True)
class Level:
    """module: the file, beside the catalog. name: the module's own name. sha256: of the file as stored.

    The other fields repeat what the module says, so that a catalog can be read without it; a host believes
    the module.
    """

    number: int
    status: LevelStatus
    module: str
    name: str
    sha256: str
    size: int | None = None
    fixes: tuple[Fix, ...] = ()
    replace: bool | None = None
    callbacks: bool = False
    shadow: bool = False
    states: tuple[tuple[int, int], ...] = ()
    functions: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    built_for: Mapping[str, str] = field(default_factory=dict, hash=False)
    notes: str = ""
    reason: str = ""


@dataclass(frozen=True)
class PackageLevel:
    """The patch that a distribution's package brings amounts to this level. version: as the package manager
    writes it (``2-2.1``)."""

    package: str
    version: str
    number: int
    fixes: tuple[Fix, ...] = ()


@dataclass(frozen=True)
class Unpatchable:
    """A CVE that no live patch can fix on this kernel build. at: since when that is known (ISO 8601)."""

    cve: str
    why: str = ""
    at: str = ""


@dataclass(frozen=True)
class Build:
    """One kernel build of the release; ``version`` (``uname -v``) is for people. expires: the day from which
    nobody makes live patches for it any more (ISO 8601), "" where nothing is said."""

    build_id: str
    version: str
    levels: Mapping[int, Level] = field(hash=False)
    packages: tuple[PackageLevel, ...] = ()
    expires: str = ""
    unpatchable: tuple[Unpatchable, ...] = ()

    def of_package(self, package: str, version: str) -> PackageLevel | None:
        return next((one for one in self.packages if (one.package, one.version) == (package, version)), None)


@dataclass(frozen=True)
class Catalog:
    """One file: every build of one release that has levels."""

    schema: int
    release: str
    builds: Mapping[str, Build] = field(hash=False)
