"""The kernels of the lab: which releases they are today, and their files.

Debian's ABI numbers move every few weeks, so a kernel is asked for by its role and resolved from what the
suites serve. What was resolved is written down and kept for a week: within it, every run and every process
sees the same kernels.
"""

from __future__ import annotations

import dataclasses
import json
import lzma
import re
import shutil
import tarfile
import time
from collections.abc import Iterable, Sequence
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import Any

from lab import apt, cache, host
from lab.errors import LabError

RESOLUTION_LIFETIME = 7 * cache.DAY


class Role(str, Enum):
    """What a kernel is in the lab for."""

    STABLE = "6.1"
    """Debian 12's newest kernel: the one most tests run on."""
    CLOUD = "6.1-cloud"
    """The same source built with another configuration: same version, other flavour, other CRCs."""
    PREVIOUS = "6.1-previous"
    """The release before, if it has the same CRCs: it loads modules made for STABLE without a word."""
    BACKPORT = "6.12"
    """A newer line, with compressed modules and other data structures."""


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel Debian serves now. `module_layout` is the CRC that decides whether a foreign module can load
    at all.
    """

    role: Role
    release: str
    version: str
    module_layout: str

    @property
    def image_package(self) -> str:
        return f"linux-image-{self.release}"

    @property
    def headers_package(self) -> str:
        return f"linux-headers-{self.release}"


@dataclasses.dataclass(frozen=True)
class Resolution:
    """What the suites served when they were last asked: digests of their release files, and the kernels
    chosen.
    """

    suites: dict[str, str]
    kernels: tuple[Kernel, ...]


_IMAGE = re.compile(
    r"linux-image-(?P<release>(?P<line>\d+\.\d+)[.\d]*(?:-(?P<abi>\d+)|\+deb12(?:\.\d+)?)-(?P<flavour>amd64|cloud-amd64))"
)


def parse_images(names: Iterable[str], line: str, flavour: str) -> list[str]:
    """The releases (`uname -r`) of one line and flavour among package names, newest first; unsigned, rt and
    dbg are left out.
    """
    matches = [match for name in names if (match := _IMAGE.fullmatch(name))]
    wanted = {match["release"] for match in matches if match["line"] == line and match["flavour"] == flavour}
    return sorted(wanted, key=release_order, reverse=True)


def release_order(release: str) -> tuple[int, ...]:
    """A key that sorts releases of one flavour: 6.1.0-9 < 6.1.0-56, 6.12.95+deb12 < 6.12.117+deb12."""
    return tuple(int(number) for number in re.findall(r"\d+", release))


def parse_module_layout(symvers: str) -> str:
    """The CRC of ``module_layout`` in a Module.symvers, as ``0x`` and 8 hexadecimal digits."""
    for line in symvers.splitlines():
        crc, name, *_ = line.split("\t")
        if name == "module_layout":
            return crc
    raise ValueError("no module_layout in Module.symvers")


def kernel(role: Role | str) -> Kernel:
    """The kernel that has this role today."""
    return next(found for found in resolved().kernels if found.role == Role(role))


def table() -> tuple[Kernel, ...]:
    """All kernels of the lab."""
    return resolved().kernels


def _record() -> Path:
    return cache.root() / "resolved.json"


def resolved(refresh: bool = False) -> Resolution:
    """The kernels chosen at most a week ago; asks Debian (about 5 s) when there are none, or when
    `refresh`.
    """
    found = None if refresh else _recorded()
    if found is None:
        with cache.locked(cache.root() / "resolved.lock", "which kernels Debian serves"):
            found = None if refresh else _recorded()
            if found is None:
                found = _resolve()
                _write(found)
    return found


def _recorded() -> Resolution | None:
    try:
        age = time.time() - _record().stat().st_mtime
        text = _record().read_text()
    except FileNotFoundError:
        return None
    return parse_resolution(json.loads(text)) if age < RESOLUTION_LIFETIME else None


def parse_resolution(document: dict[str, Any]) -> Resolution:
    kernels = tuple(
        Kernel(Role(row["role"]), row["release"], row["version"], row["module_layout"])
        for row in document["kernels"]
    )
    return Resolution(document["suites"], kernels)


def _write(resolution: Resolution) -> None:
    unfinished = _record().with_suffix(".tmp")
    unfinished.write_text(json.dumps(dataclasses.asdict(resolution), indent=1) + "\n")
    unfinished.rename(_record())


def _resolve() -> Resolution:
    suites = apt.update()
    names = apt.package_names("linux-image-")
    stable = parse_images(names, "6.1", "amd64")
    cloud = parse_images(names, "6.1", "cloud-amd64")
    backport = parse_images(names, "6.12", "amd64")
    if len(stable) < 2 or not cloud or not backport:
        raise LabError(
            f"Debian 12 serves too few kernels for the lab: {stable[:3]} {cloud[:3]} {backport[:3]}",
            "look at the mirror",
        )
    newest = _describe(Role.STABLE, stable[0])
    kernels = (
        newest,
        _describe(Role.CLOUD, cloud[0]),
        _previous(newest, stable[1:]),
        _describe(Role.BACKPORT, backport[0]),
    )
    return Resolution(suites, kernels)


def _previous(newest: Kernel, older: Sequence[str]) -> Kernel:
    """The next older release with the same module_layout CRC; the next older one at all when there is none
    among five.
    """
    candidates = [_describe(Role.PREVIOUS, release) for release in older[:1]]
    for release in older[1:5]:
        if candidates[-1].module_layout == newest.module_layout:
            break
        candidates.append(_describe(Role.PREVIOUS, release))
    same = [found for found in candidates if found.module_layout == newest.module_layout]
    return (same or candidates)[0]


def _describe(role: Role, release: str) -> Kernel:
    versions = apt.served([f"linux-image-{release}"])
    if not versions:
        raise LabError(
            f"linux-image-{release} is named in the indexes but not served",
            "look again: python -m lab build --refresh",
        )
    version = versions[0].version
    return Kernel(role, release, version, _module_layout(release, version))


def _module_layout(release: str, version: str) -> str:
    package = f"linux-headers-{release}={version}"
    place = cache.artefact(
        "symvers", {"package": package}, lambda into: _keep_symvers(package, into), f"CRCs of {release}"
    )
    return parse_module_layout((place / "Module.symvers").read_text())


def _keep_symvers(package: str, into: Path) -> None:
    deb = apt.download([package], into)[0]
    with tarfile.open(fileobj=BytesIO(host.run(["dpkg-deb", "--fsys-tarfile", deb]))) as archive:
        member = next(found for found in archive if found.name.endswith("/Module.symvers"))
        stream = archive.extractfile(member)
        assert stream is not None, "Module.symvers is a regular file"
        (into / "Module.symvers").write_bytes(stream.read())
    deb.unlink()


@dataclasses.dataclass(frozen=True)
class KernelFiles:
    """A kernel's files on this machine: image, configuration, modules (tree for reading, squashfs for
    guests).
    """

    kernel: Kernel
    directory: Path

    @property
    def vmlinuz(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def config(self) -> Path:
        return self.directory / "config"

    @property
    def modules(self) -> Path:
        """The tree that is /lib/modules/<release> in a guest."""
        return self.directory / "tree/lib/modules" / self.kernel.release

    @property
    def modules_image(self) -> Path:
        """A squashfs with the directory <release> in it."""
        return self.directory / "modules.sqfs"


# Drivers for hardware no guest has: two thirds of the size, and of the time to pack it.
LEFT_OUT = (
    "sound", "drivers/gpu", "drivers/media", "drivers/net/wireless", "drivers/infiniband", "drivers/iio",
    "drivers/staging", "drivers/net/ethernet", "drivers/isdn", "drivers/usb", "drivers/hid",
    "drivers/input", "drivers/hwmon", "drivers/mtd", "drivers/scsi", "drivers/bluetooth", "drivers/comedi",
    "drivers/platform", "drivers/i2c", "drivers/mfd", "drivers/power", )  # fmt: skip


def files(wanted: Kernel) -> KernelFiles:
    """Fetches and unpacks a kernel (10 s the first time)."""
    inputs = {"package": wanted.image_package, "version": wanted.version, "left_out": LEFT_OUT, "layout": 3}
    place = cache.artefact(
        "kernel", inputs, lambda into: _build_files(wanted, into), f"kernel {wanted.release}"
    )
    return KernelFiles(wanted, place)


def _build_files(wanted: Kernel, into: Path) -> None:
    deb = apt.download([f"{wanted.image_package}={wanted.version}"], into)[0]
    tree = into / "tree"
    apt.unpack(deb, tree)
    deb.unlink()
    (tree / "boot" / f"vmlinuz-{wanted.release}").rename(into / "vmlinuz")
    (tree / "boot" / f"config-{wanted.release}").rename(into / "config")
    modules = tree / "lib/modules" / wanted.release
    for name in LEFT_OUT:
        shutil.rmtree(modules / "kernel" / name, ignore_errors=True)
    host.run(["depmod", "-b", tree, wanted.release])
    host.run(
        [
            "mksquashfs",
            modules.parent,
            into / "modules.sqfs",
            "-comp",
            "lz4",
            "-noappend",
            "-quiet",
            "-no-progress",
        ]
    )
    for name in ("boot", "usr"):
        shutil.rmtree(tree / name, ignore_errors=True)


def parse_modules_dep(text: str) -> dict[str, list[str]]:
    """modules.dep: each module's path to the paths it needs, the deepest last (as depmod writes them)."""
    pairs = [line.partition(":") for line in text.splitlines()]
    return {path: needed.split() for path, _, needed in pairs}


def module_name(path: str) -> str:
    """kernel/fs/overlayfs/overlay.ko.xz -> overlay; dashes are underscores to the kernel."""
    return Path(path).name.split(".ko")[0].replace("-", "_")


def load_order(dependencies: dict[str, list[str]], wanted: Sequence[str]) -> list[str]:
    """The paths to insert, in an order in which each finds what it needs; unknown names are taken as built
    in.
    """
    path_of = {module_name(path): path for path in dependencies}
    order: list[str] = []
    for name in wanted:
        path = path_of.get(name.replace("-", "_"))
        for needed in [*reversed(dependencies[path]), path] if path else []:
            if needed not in order:
                order.append(needed)
    return order


def read_module(path: Path) -> bytes:
    """A module's ELF bytes, whether it is stored plain or as .xz."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data
