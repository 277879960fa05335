"""Fetching what a Debian kernel was built from, through apt with a root of its own.

The machine's apt state is neither read nor changed; only its archive addresses and keyrings are taken from
its own sources. Everything lands below one cache directory, keyed by package version, written under a
temporary name and renamed, so that an interrupted fetch is repeated and never half used.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from livepatch_core.build.commands import run
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.target import Target

Progress = Callable[[str], None]
_RELEASE = re.compile(r"^(\d+\.\d+)[0-9A-Za-z.+~-]*$")


@dataclass(frozen=True)
class Archive:
    """One archive of the machine's sources: where, which suites, signed by what."""

    uri: str
    suites: tuple[str, ...]
    signed_by: str


def parse_deb822(text: str) -> list[Archive]:
    """The ``deb`` archives of a ``.sources`` file."""
    archives = []
    for paragraph in re.split(r"\n\s*\n", text):
        rows = (
            line.partition(":") for line in paragraph.split("\n") if ":" in line and line[0] not in "# \t"
        )
        fields = {key.strip().lower(): value.strip() for key, _, value in rows}
        if "deb" not in fields.get("types", "").split() or fields.get("enabled") == "no":
            continue
        for uri in fields.get("uris", "").split():
            archives.append(
                Archive(uri, tuple(fields.get("suites", "").split()), fields.get("signed-by", ""))
            )
    return archives


def parse_one_line(text: str) -> list[Archive]:
    """The ``deb`` archives of a ``sources.list`` file."""
    archives = []
    for match in re.finditer(r"^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)", text, re.MULTILINE):
        signed = re.search(r"signed-by=(\S+)", match[1] or "")
        archives.append(Archive(match[2], (match[3],), signed[1] if signed else ""))
    return archives


def machine_archives(apt: Path) -> list[Archive]:
    """All archives in the machine's apt configuration directory (``/etc/apt``)."""
    found = []
    for path in (apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))):
        if path.is_file() and path.suffix in (".list", ".sources"):
            text = path.read_text(encoding="utf-8", errors="replace")
            found += parse_deb822(text) if path.suffix == ".sources" else parse_one_line(text)
    return found


def kernel_sources(archives: list[Archive], codename: str) -> str:
    """``sources.list`` text: the suites of ``codename`` that the machine uses, and its backports beside the
    main one.
    """
    lines = []
    for archive in archives:
        ours = [suite for suite in archive.suites if suite == codename or suite.startswith(codename + "-")]
        if codename in archive.suites and codename + "-backports" not in ours:
            ours.append(codename + "-backports")
        option = f"[signed-by={archive.signed_by}] " if archive.signed_by else ""
        lines += [f"deb {option}{archive.uri} {suite} main" for suite in ours]
    return "\n".join(dict.fromkeys(lines)) + "\n"


def _codename(os_release: str) -> str:
    match = re.search(r"^VERSION_CODENAME=(\S+)$", os_release, re.MULTILINE)
    if match is None:
        raise Refused(
            Refusal.SOURCE,
            "This machine does not say which Debian release it is.",
            remedy="Give the parts by path.",
        )
    return match[1]


class PrivateApt:
    """apt with configuration, lists and cache below one directory."""

    def __init__(self, root: Path, *, etc: Path = Path("/etc")) -> None:
        root = root.absolute()  # apt resolves its own configuration from wherever it runs
        self.root = root
        for directory in ("lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"):
            (root / directory).mkdir(parents=True, exist_ok=True)
        (root / "status").touch()
        codename = _codename((etc / "os-release").read_text(encoding="utf-8"))
        sources = kernel_sources(machine_archives(etc / "apt"), codename)
        (root / "etc/sources.list").write_text(sources, encoding="utf-8")
        (root / "apt.conf").write_text(self._configuration(), encoding="utf-8")

    def _configuration(self) -> str:
        return (
            f'Dir::State "{self.root}";\nDir::State::lists "{self.root}/lists";\nDir::State::status '
            f'"{self.root}/status";\n'
            f'Dir::Cache "{self.root}/cache";\nDir::Etc "{self.root}/etc";\nDir::Etc::sourceparts '
            f'"/dev/null";\n'
            'Acquire::Languages "none";\nAPT::Sandbox::User "";\n'
        )

    def _run(self, *command: str, cwd: Path) -> str:
        done = run(command, cwd=cwd, environment={"APT_CONFIG": str(self.root / "apt.conf")}, deadline=1800)
        if done.status:
            raise Refused(
                Refusal.SOURCE,
                f"{command[0]} {command[1]} failed: {done.err.strip().splitlines()[-1:] or 'no message'}.",
                remedy="Check the network and the archive addresses of this machine, or give the parts "
                "by path.",
            )
        return done.out

    def update(self) -> None:
        self._run("apt-get", "update", "-q", cwd=self.root)

    def show(self, package: str) -> list[dict[str, str]]:
        """The records of a package, newest version first; empty when the archives do not have it."""
        names = self._run("apt-cache", "pkgnames", package, cwd=self.root).split()
        if package not in names:
            return []
        text = self._run("apt-cache", "show", package, cwd=self.root)
        records = []
        for paragraph in text.strip().split("\n\n"):
            rows = (line.partition(": ") for line in paragraph.split("\n") if ": " in line and line[0] != " ")
            records.append({key: value for key, _, value in rows})
        return records

    def download(self, package: str, version: str, into: Path) -> Path:
        """The .deb of exactly that version."""
        self._run("apt-get", "download", "-q", f"{package}={version}", cwd=into)
        return next(into.glob(f"{package}_*.deb"))


def _required(apt: PrivateApt, package: str, version: str = "") -> dict[str, str]:
    records = [r for r in apt.show(package) if not version or r.get("Version") == version]
    if not records:
        raise Refused(
            Refusal.SOURCE,
            f"The archives of this machine do not serve {package}{' ' + version if version else ''}.",
            remedy="Give the kernel's parts by path, or add an archive that still has that version.",
        )
    return records[0]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One fetcher at a time for one cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _unpack(apt: PrivateApt, package: str, version: str, destination: Path) -> None:
    """The contents of a package at ``destination``, all or nothing."""
    if destination.exists():
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=destination.parent, prefix=".unpacking-"))
    try:
        deb = apt.download(package, version, scratch)
        _check(run(["dpkg-deb", "-x", str(deb), "root"], cwd=scratch).err)
        for tarball in scratch.glob("root/usr/src/*.tar.xz"):
            _check(run(["tar", "-xf", str(tarball)], cwd=scratch / "root").err)
            tarball.unlink()
        os.rename(scratch / "root", destination)
    finally:
        shutil.rmtree(scratch)


def _check(errors: str) -> None:
    if errors.strip():
        raise Refused(
            Refusal.SOURCE,
            f"Unpacking failed: {errors.strip()[:200]}",
            remedy="Check the free space of the cache.",
        )


def kbuild_package(apt: PrivateApt, headers: dict[str, str]) -> tuple[str, str]:
    """The package with kbuild's programs and its version: the headers' own, else the oldest that is served
    and that their dependency admits.

    Debian's 6.1 headers depend on ``linux-kbuild-6.1 (>= VERSION)``: once a newer kernel is out, the archives
    keep the older kernel's source and headers, but of kbuild only the newest. Raises ``Refused`` (SOURCE).
    """
    match = re.search(r"(?:^|[\s,])(linux-kbuild-[^\s,]+)(?: \(>= ([^)]+)\))?", headers.get("Depends", ""))
    if match is None:
        raise Refused(
            Refusal.SOURCE,
            f"{headers.get('Package')} names no linux-kbuild package.",
            remedy="Give the parts by path.",
        )
    name, least = match.groups()
    served = [record["Version"] for record in apt.show(name)]
    admitted = [version for version in served if least and _not_older(version, least)]
    if headers["Version"] in served or not admitted:
        return name, _required(apt, name, headers["Version"])["Version"]
    return name, admitted[-1]


def _not_older(version: str, other: str) -> bool:
    return not run(["dpkg", "--compare-versions", version, "ge", other], cwd=Path("/")).status


def _target(release: str, version: str, base: str, cache: Path, kbuild: str) -> Target:
    kernel = cache / "kernel" / f"{release}_{version}"
    return Target(
        release=release,
        source=cache / "source" / f"{base}_{version}" / f"linux-source-{base}",
        headers=kernel / "headers/usr/src" / f"linux-headers-{release}",
        kbuild=kernel / "kbuild/usr/lib" / kbuild,
        image=kernel / f"image/boot/vmlinuz-{release}",
        modules=kernel / "image/lib/modules" / release,
        version=version,
    )


def cached_target(release: str, cache: Path) -> Target | None:
    """The parts of ``release`` if all of them are in the cache already (then nothing is asked of the
    network).
    """
    marker = cache / "kernel" / f"{release}.fetched"
    if not marker.exists():
        return None
    version, base, kbuild = marker.read_text(encoding="utf-8").split()
    return _target(release, version, base, cache, kbuild)


def fetch(release: str, cache: Path, progress: Progress) -> Target:
    """Everything for ``release``. Raises ``Refused`` (SOURCE) when the archives do not serve it.

    The source package's version must equal the image's exactly: a security respin changes code without
    changing the release. kbuild's programs may be newer, see ``kbuild_package``: what they do to the code
    is compared with the image like all else.
    """
    match = _RELEASE.match(release)
    if match is None:
        raise Refused(
            Refusal.ARGUMENT, f"{release!r} is not a kernel release.", remedy="Give the output of uname -r."
        )
    base = match[1]
    cache = cache.absolute()  # apt and dpkg-deb are run in directories of their own
    with locked(cache / "lock"):
        found = cached_target(release, cache)
        if found is not None:
            return found
        progress("asking the archives")
        apt = PrivateApt(cache / "apt")
        apt.update()
        version = _required(apt, f"linux-image-{release}")["Version"]
        headers = _required(apt, f"linux-headers-{release}", version)
        kbuild, tools = kbuild_package(apt, headers)
        _required(apt, f"linux-source-{base}", version)
        kernel = cache / "kernel" / f"{release}_{version}"
        for package, exactly, place in (
            (f"linux-source-{base}", version, cache / "source" / f"{base}_{version}"),
            (f"linux-headers-{release}", version, kernel / "headers"),
            (kbuild, tools, kernel / "kbuild"),
            (f"linux-image-{release}", version, kernel / "image"),
        ):
            progress(f"fetching {package} {exactly}")
            _unpack(apt, package, exactly, place)
        marker = cache / "kernel" / f"{release}.fetched"
        marker.write_text(f"{version} {base} {kbuild}\n", encoding="utf-8")
    return _target(release, version, base, cache, kbuild)


def fetch_source(base: str, version: str, cache: Path, progress: Progress) -> Path:
    """The source tree of any version that the archives still serve (``base``: "6.1")."""
    cache = cache.absolute()
    place = cache / "source" / f"{base}_{version}"
    if not place.exists():
        with locked(cache / "lock"):
            apt = PrivateApt(cache / "apt")
            apt.update()
            _required(apt, f"linux-source-{base}", version)
            progress(f"fetching linux-source-{base} {version}")
            _unpack(apt, f"linux-source-{base}", version, place)
    return place / f"linux-source-{base}"
