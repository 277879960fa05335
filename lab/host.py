"""What the lab needs from the machine it runs on: programs, memory; and running them with their output
kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.errors import BuildFailed, LabError

PACKAGE_OF = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "sqfstar": "squashfs-tools",
    "mksquashfs": "squashfs-tools",
    "depmod": "kmod",
    "mke2fs": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
    "apt-cache": "apt",
    "apt-config": "apt",
    "setpriv": "util-linux",
    "make": "make",
    "openssl": "openssl",
    "gcc-12": "gcc-12",
    "ld": "binutils",
}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing_packages(programs: Sequence[str] = tuple(PACKAGE_OF)) -> list[str]:
    """The Debian packages to install so that all `programs` are there."""
    return sorted({PACKAGE_OF[name] for name in programs if shutil.which(name, path=_path()) is None})


def program(name: str) -> str:
    """The full path of a program; a LabError naming the Debian package when it is missing."""
    found = shutil.which(name, path=_path())
    if found is None:
        raise LabError(
            f"the program {name} is not installed",
            f"apt-get install --no-install-recommends {' '.join(missing_packages()) or PACKAGE_OF[name]}",
        )
    return found


def _path() -> str:
    """PATH with the system's own directories behind it: depmod and mke2fs live in /usr/sbin, which users
    often lack.
    """
    return f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"


def run(
    argv: Sequence[str | Path],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
) -> bytes:
    """Runs a program to its end and returns what it printed on stdout; BuildFailed with all its output
    otherwise.
    """
    done = subprocess.run(
        [program(str(argv[0])) if "/" not in str(argv[0]) else str(argv[0]), *map(str, argv[1:])],
        env={**os.environ, "PATH": _path(), "LC_ALL": "C.UTF-8", **(env or {})},
        cwd=cwd,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        output = (done.stdout + done.stderr).decode(errors="replace")
        raise BuildFailed(f"{Path(str(argv[0])).name} ended with status {done.returncode}", output)
    return done.stdout


def parse_available_memory(meminfo: str) -> int:
    """Bytes the kernel could give without swapping, from the text of /proc/meminfo."""
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    raise ValueError("no MemAvailable line")


def require_memory(wanted: int) -> None:
    """LabError when fewer than `wanted` bytes are available."""
    available = parse_available_memory(Path("/proc/meminfo").read_text())
    if available < wanted:
        raise LabError(
            f"{available >> 20} MiB of memory are available; the next guest needs about {wanted >> 20} MiB",
            "close some guests (python -m lab list, python -m lab down)",
        )
