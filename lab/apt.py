"""A private apt: its own sources, lists, cache and state, so that the machine's apt is neither asked nor
changed.

It serves Debian 12 whatever the host runs. Signatures are checked with the key the machine's own sources
name.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lab import cache, host, progress, sources
from lab.errors import BuildFailed, LabError

SUITE = "bookworm"
MAIN_SUITES = (SUITE, f"{SUITE}-updates", f"{SUITE}-backports")
SECURITY_SUITES = (f"{SUITE}-security",)
ROOTFS_SUITES = (SUITE, f"{SUITE}-updates")


@dataclasses.dataclass(frozen=True)
class Served:
    """One version of a package that a suite offers."""

    package: str
    version: str
    origin: str


def parse_madison(text: str) -> list[Served]:
    """The lines of ``apt-cache madison``: package | version | address suite/component arch Packages."""
    rows = [[part.strip() for part in line.split("|")] for line in text.splitlines() if line.count("|") >= 2]
    return [
        Served(package, version, origin)
        for package, version, origin, *_ in rows
        if origin.endswith("Packages")
    ]


def parse_acquire_options(dump: str) -> list[str]:
    """The machine's own ``Acquire::`` settings (proxies, certificates, date checks) from ``apt-config
    dump``.
    """
    return [
        line
        for line in dump.splitlines()
        if re.match(r'Acquire::(http|https|ftp|Check|Retries|Proxy|Force)[\w:.-]* "', line, re.I)
    ]


def directory() -> Path:
    return cache.root() / "apt"


def _configuration() -> Path:
    return directory() / "apt.conf"


def _environment() -> dict[str, str]:
    return {"APT_CONFIG": str(_configuration())}


def rootfs_sources() -> str:
    """The ``.sources`` text an image is built from: release, updates and security, without backports."""
    mirrors = sources.choose(sources.machine_sources())
    return "\n".join(
        [
            sources.format_deb822(mirrors.main, ROOTFS_SUITES),
            sources.format_deb822(mirrors.security, SECURITY_SUITES),
        ]
    )


def _all_sources() -> str:
    mirrors = sources.choose(sources.machine_sources())
    return "\n".join(
        [
            sources.format_deb822(mirrors.main, MAIN_SUITES),
            sources.format_deb822(mirrors.security, SECURITY_SUITES),
        ]
    )


def acquire_options() -> list[str]:
    return parse_acquire_options(host.run(["apt-config", "dump"], env={"APT_CONFIG": "/dev/null"}).decode())


def _lay_out() -> None:
    """Writes the private root. ``APT::Sandbox::User root``: apt's own user could not enter a home
    directory.
    """
    top = directory()
    for name in (
        "lists/partial",
        "archives/partial",
        "state",
        "etc/sources.list.d",
        "etc/apt.conf.d",
        "etc/preferences.d",
    ):
        (top / name).mkdir(parents=True, exist_ok=True)
    (top / "state/status").touch()
    (top / "etc/sources.list.d/lab.sources").write_text(_all_sources())
    lines = [
        f'Dir "{top}";',
        f'Dir::Etc "{top}/etc";',
        f'Dir::State "{top}/state";',
        f'Dir::State::lists "{top}/lists";',
        f'Dir::State::status "{top}/state/status";',
        f'Dir::Cache "{top}";',
        'APT::Architecture "amd64";',
        'APT::Architectures { "amd64"; };',
        'APT::Sandbox::User "root";',
        'Acquire::Languages "none";',
        *(f"{option}" for option in acquire_options()),
    ]
    _configuration().write_text("\n".join(lines) + "\n")


def update() -> dict[str, str]:
    """Fetches the suites' indexes; gives for each suite the sha256 of its signed release file."""
    with (
        cache.locked(directory() / "lock", "apt indexes"),
        progress.step("fetching the package indexes of Debian 12"),
    ):
        _lay_out()
        host.run(["apt-get", "-q", "update", "--error-on=any"], env=_environment())
        return {
            path.name.split("_dists_")[-1]: cache.file_digest(path)
            for path in (directory() / "lists").glob("*_InRelease")
        }


def package_names(prefix: str) -> list[str]:
    return host.run(["apt-cache", "pkgnames", prefix], env=_environment()).decode().split()


def served(packages: Sequence[str]) -> list[Served]:
    """Every version of `packages` on offer, newest first for each package."""
    return (
        parse_madison(host.run(["apt-cache", "madison", *packages], env=_environment()).decode())
        if packages
        else []
    )


def depends(package: str, version: str) -> list[str]:
    """The names in a package version's Depends field, first alternatives only."""
    text = host.run(["apt-cache", "show", f"{package}={version}"], env=_environment()).decode()
    return parse_depends(text)


def parse_depends(text: str) -> list[str]:
    found = re.search(r"^Depends: (.*)$", text, re.M)
    return [re.split(r"[\s(|:]", part.strip())[0] for part in found[1].split(",")] if found else []


def download(packages: Iterable[str], into: Path) -> list[Path]:
    """Fetches .deb files (``name`` or ``name=version``), their checksums verified by apt; returns their
    paths.
    """
    if not _configuration().exists():
        update()
    into.mkdir(parents=True, exist_ok=True)
    before = set(into.glob("*.deb"))
    try:
        host.run(["apt-get", "-q", "download", *packages], env=_environment(), cwd=into)
    except BuildFailed as error:
        raise LabError(
            f"Debian no longer serves what the lab last found there:\n{error.output.rstrip()}",
            "look again: python -m lab build --refresh",
        ) from error
    return sorted(set(into.glob("*.deb")) - before)


def unpack(package: Path, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    host.run(["dpkg-deb", "-x", package, into])
