"""The root file system of the guests: Debian 12, Python, Salt; read-only, shared by all of them."""

from __future__ import annotations

import shutil
from pathlib import Path

from lab import apt, cache, host, kernels, wheels

# systemd is there for the guests that boot with it; the others never start it.
PACKAGES = ("python3", "kmod", "kexec-tools", "procps", "iproute2", "busybox-static", "systemd-sysv", "udev")
SALT_PROGRAMS = {"salt-call": "salt_call", "salt-minion": "salt_minion"}
SALT_PROGRAM = """#!/usr/bin/python3 -sE
import sys
sys.path.insert(0, "/opt/salt/lib")
from salt.scripts import {function}
sys.exit({function}())
"""
PYTHON_PROGRAM = """#!/bin/sh
PYTHONPATH=/opt/salt/lib exec /usr/bin/python3 -s "$@"
"""


def build() -> Path:
    """The squashfs image (about a minute the first time, most of it waiting for mmdebstrap and pip)."""
    suites = kernels.resolved().suites
    salt = wheels.build(suites)
    inputs = {
        "packages": PACKAGES,
        "suites": {name: digest for name, digest in suites.items() if "backports" not in name},
        "wheels": sorted(path.name for path in salt.glob("*.whl")),
        "programs": SALT_PROGRAM + PYTHON_PROGRAM,
        "layout": 1,
    }
    place = cache.artefact(
        "image", inputs, lambda into: _build(salt, into), "root image of the guests (Debian 12, Salt)"
    )
    return place / "root.sqfs"


def _build(salt: Path, into: Path) -> None:
    overlay = into / "overlay"
    install_salt(salt, overlay)
    debootstrap(into, overlay, PACKAGES)
    with (into / "root.tar").open("rb") as archive:
        _pack(archive.read(), into / "root.sqfs")
    (into / "root.tar").unlink()
    shutil.rmtree(overlay)


def _pack(archive: bytes, image: Path) -> None:
    host.run(["sqfstar", "-comp", "lz4", "-quiet", "-no-progress", "-root-mode", "755", image], stdin=archive)


def install_salt(salt: Path, overlay: Path) -> None:
    """/opt/salt/lib with everything, and the programs that use it."""
    wheels.install(salt, overlay / "opt/salt/lib")
    programs = {name: SALT_PROGRAM.format(function=function) for name, function in SALT_PROGRAMS.items()}
    for name, text in {**programs, "salt-python": PYTHON_PROGRAM}.items():
        path = overlay / "usr/local/bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)


def debootstrap(into: Path, overlay: Path, packages: tuple[str, ...]) -> None:
    """``into/root.tar``: a minimal system with `packages` and `overlay`; Salt compiled by the guest's own
    Python.
    """
    source = into / "debian.sources"
    source.write_text(apt.rootfs_sources())
    options = into / "apt.conf"
    options.write_text(
        "\n".join([*apt.acquire_options(), 'APT::Install-Recommends "false";', 'Acquire::Languages "none";'])
        + "\n"
    )
    host.run([
        "mmdebstrap", "--quiet", "--variant=minbase", "--format=tar", f"--include={','.join(packages)}",
        f"--aptopt={options}", "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
        f"--customize-hook=sync-in {overlay} /",
        # Some of the wheels' files are for other Pythons and do not compile: that is no failure.
        '--customize-hook=chroot "$1" python3 -sE -m compileall -q -j2 /opt/salt/lib >/dev/null || true',
        '--customize-hook=test -d "$1"/opt/salt/lib/salt/__pycache__',
        '--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/etc/apt/apt.conf.d/99mmdebstrap',
        apt.SUITE, into / "root.tar", source,
    ])  # fmt: skip
