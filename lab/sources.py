"""Where this machine gets Debian from: read from its own apt sources, never written down here."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

from lab.errors import LabError

ARCHIVE_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclasses.dataclass(frozen=True)
class Source:
    """One apt source: addresses, suites, and what its signatures are checked with ('' when it does not
    say).
    """

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str


@dataclasses.dataclass(frozen=True)
class Mirrors:
    """Debian's main archive and its security archive."""

    main: Source
    security: Source


def parse_deb822(text: str) -> list[Source]:
    """The enabled binary sources of a ``.sources`` file (sources.list(5), DEB822-STYLE FORMAT)."""
    stanzas = re.split(r"\n\s*\n", _without_comments(text))
    fields = [_fields(stanza) for stanza in stanzas if stanza.strip()]
    return [_from_fields(found) for found in fields if _is_enabled_binary(found)]


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def _fields(stanza: str) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line[:1].isspace() and name:
            found[name] += "\n" + line
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            found[name] = value.strip()
    return found


def _is_enabled_binary(fields: dict[str, str]) -> bool:
    return "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() not in (
        "no",
        "false",
        "0",
    )


def _from_fields(fields: dict[str, str]) -> Source:
    return Source(
        tuple(fields.get("uris", "").split()),
        tuple(fields.get("suites", "").split()),
        tuple(fields.get("components", "").split()),
        fields.get("signed-by", ""),
    )


def parse_one_line(text: str) -> list[Source]:
    """The binary sources of a ``.list`` file (sources.list(5), ONE-LINE-STYLE FORMAT)."""
    return [_from_line(match) for line in text.splitlines() if (match := _ONE_LINE.match(line))]


_ONE_LINE = re.compile(
    r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>(?:\s+[^\s#]+)*)"
)


def _from_line(match: re.Match[str]) -> Source:
    options = dict(option.split("=", 1) for option in (match["options"] or "").split() if "=" in option)
    return Source(
        (match["uri"],), (match["suite"],), tuple(match["components"].split()), options.get("signed-by", "")
    )


def choose(sources: Iterable[Source]) -> Mirrors:
    """The machine's Debian archive and security archive, whichever Debian release it runs itself."""
    debian = [source for source in sources if "main" in source.components]
    main = [source for source in debian if _RELEASE_SUITES & set(source.suites)]
    security = [source for source in debian if any(suite.endswith("-security") for suite in source.suites)]
    if not main or not security:
        raise LabError(
            "this machine's apt sources name no Debian archive together with a Debian security archive",
            "add both to /etc/apt/sources.list.d (sources.list(5)): the lab takes its packages from there",
        )
    return Mirrors(_with_key(main[0]), _with_key(security[0]))


_RELEASE_SUITES = {"bookworm", "trixie", "forky", "sid", "unstable", "testing", "stable", "oldstable"}


def _with_key(source: Source) -> Source:
    return source if source.signed_by else dataclasses.replace(source, signed_by=ARCHIVE_KEYRING)


def machine_sources(etc: Path = Path("/etc/apt")) -> list[Source]:
    """Every enabled apt source of this machine."""
    lists = [etc / "sources.list", *sorted(etc.glob("sources.list.d/*.list"))]
    found = [source for path in lists if path.is_file() for source in parse_one_line(path.read_text())]
    for path in sorted(etc.glob("sources.list.d/*.sources")):
        found += parse_deb822(path.read_text())
    return found


def format_deb822(source: Source, suites: Iterable[str]) -> str:
    """A ``.sources`` stanza that takes `suites` from where `source` is, checked with the same key."""
    return (
        f"Types: deb\nURIs: {' '.join(source.uris)}\nSuites: {' '.join(suites)}\nComponents: main\n"
        f"Signed-By: {source.signed_by}\n"
    )
