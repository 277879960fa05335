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
class Build:
    """One kernel build of the release; ``version`` (``uname -v``) is for people."""

    build_id: str
    version: str
    levels: Mapping[int, Level] = field(hash=False)


@dataclass(frozen=True)
class Catalog:
    """One file: every build of one release that has levels."""

    schema: int
    release: str
    builds: Mapping[str, Build] = field(hash=False)
