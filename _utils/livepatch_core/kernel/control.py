"""The two files of /sys/kernel/livepatch/<patch>/ that change the kernel (kernel/livepatch/core.c)."""

from __future__ import annotations

import os
from pathlib import Path

from livepatch_core.errors import LivepatchError
from livepatch_core.kernel.roots import Roots
from livepatch_core.words import Kind


def write_enabled(roots: Roots, patch: str, value: bool) -> None:
    """Start enabling or disabling ``patch``; during its transition: reverse it. Returns when started.

    Raises OSError (enabled_store): EINVAL when ``enabled`` has this value already, when a patch that is
    disabled and not in transition is told to enable again (since 5.1 it must be removed and loaded
    anew), or when a vendor's policy forbids it; EBUSY while *another* patch is in transition; ENOENT or
    ENODEV when the patch is gone.
    """
    _write(_directory(roots, patch) / "enabled", b"1" if value else b"0")


def write_force(roots: Roots, patch: str) -> None:
    """End the transition of ``patch`` by declaring every task switched: unsafe, and never undone. The
    transition ends in the kernel's next round, about a second later.

    Raises OSError (force_store): EINVAL unless ``patch`` is the one in transition; ENOENT or ENODEV when
    it is gone, or on kernels before 4.15, which have no such file.
    """
    _write(_directory(roots, patch) / "force", b"1")


def _directory(roots: Roots, patch: str) -> Path:
    """A patch name comes out of a module file, which may be hostile: it must not lead elsewhere."""
    if patch in ("", ".", "..") or "/" in patch or "\0" in patch:
        raise LivepatchError(
            Kind.ARGUMENT,
            f"{patch!r} cannot be the name of a patch; nothing was written.",
            remedy="livepatch.list_patches shows the patches there are.",
        )
    return roots.sys / "kernel/livepatch" / patch


def _write(path: Path, value: bytes) -> None:
    """One write(2) without creating or truncating: sysfs takes the whole value in one call or none."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value)
    finally:
        os.close(descriptor)
