"""``kpatch`` as Debian 13 packages it, and the programs it calls, for a guest that runs Debian 12.

The package is a shell script: its version does not depend on the release it runs on. The programs that it
calls are Debian 12's.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from lab import apt, cache, host, progress, sources
from lab.guest import Guest

SUITE = "trixie"
# readelf, and the libraries it needs that a small image lacks; whatever else kpatch calls is in the image.
BINUTILS = ("binutils-x86-64-linux-gnu", "libbinutils", "libctf-nobfd0")
READELF = "usr/bin/x86_64-linux-gnu-readelf"
CALLED = (
    "bash",
    "readelf",
    "grep",
    "awk",
    "cat",
    "basename",
    "dirname",
    "readlink",
    "insmod",
    "rmmod",
    "sleep",
)
FOLDERS = (
    "lists/partial",
    "archives/partial",
    "state",
    "etc/sources.list.d",
    "etc/apt.conf.d",
    "etc/preferences.d",
)


def tree() -> Path:
    """A directory with the files to lay over a guest's root; fetched once, signatures checked by apt."""
    inputs = {"suite": SUITE, "binutils": BINUTILS, "layout": 1}
    return cache.artefact("kpatch", inputs, _fetch, "kpatch of Debian 13") / "root"


def _fetch(into: Path) -> None:
    apt.update()
    packages = into / "packages"
    debs = [*apt.download(BINUTILS, packages), _download_kpatch(into / "apt", packages)]
    unpacked = into / "unpacked"
    for deb in debs:
        apt.unpack(deb, unpacked)
    root = into / "root"
    _copy([unpacked / "usr/sbin/kpatch", unpacked / READELF, *_libraries(unpacked)], unpacked, root)
    (root / READELF).rename(root / "usr/bin/readelf")
    for rest in (packages, unpacked, into / "apt"):
        shutil.rmtree(rest)


def _libraries(unpacked: Path) -> list[Path]:
    folder = unpacked / "usr/lib/x86_64-linux-gnu"
    return [path for name in ("libctf-nobfd", "libsframe") for path in sorted(folder.glob(f"{name}.so.*"))]


def _copy(files: list[Path], source: Path, target: Path) -> None:
    for path in files:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)


def _download_kpatch(top: Path, into: Path) -> Path:
    """From a private apt of its own, which knows Debian 13 only: the lab's stays a Debian 12."""
    environment = lay_out(top)
    with progress.step("fetching the package index of Debian 13"):
        host.run(["apt-get", "-q", "update", "--error-on=any"], env=environment)
    into.mkdir(parents=True, exist_ok=True)
    host.run(["apt-get", "-q", "download", "kpatch"], env=environment, cwd=into)
    return next(into.glob("kpatch_*.deb"))


def lay_out(top: Path) -> dict[str, str]:
    """A private apt below ``top`` that knows Debian 13 only; the environment that makes apt use it."""
    for name in FOLDERS:
        (top / name).mkdir(parents=True)
    (top / "state/status").touch()
    main = sources.choose(sources.machine_sources()).main
    (top / "etc/sources.list.d/suite.sources").write_text(sources.format_deb822(main, [SUITE]))
    settings = {
        "Dir": top, "Dir::Etc": top / "etc", "Dir::State": top / "state", "Dir::State::lists": top / "lists",
        "Dir::State::status": top / "state/status", "Dir::Cache": top, "APT::Architecture": "amd64",
        "APT::Sandbox::User": "root", "Acquire::Languages": "none",
    }  # fmt: skip
    lines = [f'{key} "{value}";' for key, value in settings.items()]
    (top / "apt.conf").write_text("\n".join([*lines, *apt.acquire_options()]) + "\n")
    return {"APT_CONFIG": str(top / "apt.conf")}


def install(guest: Guest) -> None:
    """Puts kpatch into the guest. Raises CommandFailed if anything it calls is not there."""
    guest.put_tree(tree(), "/")
    for name in CALLED:
        guest.exec(["/bin/sh", "-c", 'command -v "$0"', name], check=True)
    guest.exec(["readelf", "--version"], check=True)
