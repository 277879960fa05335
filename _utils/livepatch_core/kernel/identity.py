"""Which kernel is running: a kernel build is its release *and* its GNU build-id."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from livepatch_core.kernel import notes
from livepatch_core.kernel.attributes import read_bytes, read_text
from livepatch_core.kernel.roots import Roots


@dataclass(frozen=True)
class Identity:
    """release: ``uname -r``; version: ``uname -v``; machine: ``uname -m``; build_id: lower-case hex of the
    running image, None if it was linked without one; boot_id: the kernel's own random UUID of this boot."""

    release: str
    version: str
    machine: str
    build_id: str | None
    boot_id: str | None


def read_identity(roots: Roots) -> Identity:
    """Raises OSError when procfs does not name the release: without it nothing else here means anything."""
    kernel = roots.proc / "sys/kernel"
    image_notes = read_bytes(roots.sys / "kernel/notes")
    return Identity(
        release=(kernel / "osrelease").read_text(encoding="utf-8").strip(),
        version=(kernel / "version").read_text(encoding="utf-8").strip(),
        machine=read_machine(roots),
        build_id=None if image_notes is None else notes.build_id(image_notes),
        boot_id=read_text(kernel / "random/boot_id"),
    )


def read_machine(roots: Roots) -> str:
    """``/proc/sys/kernel/arch`` (since 6.1) is not bent by a 32-bit personality, as uname(2) is; before
    that, uname."""
    return read_text(roots.proc / "sys/kernel/arch") or platform.machine()
