"""The live patches as the kernel shows them under ``/sys/kernel/livepatch``.

Layout: ``<patch>/{enabled,transition,replace,stack_order}``, ``<patch>/<object>/patched``,
``<patch>/<object>/<function>,<position>/`` (Documentation/ABI/testing/sysfs-kernel-livepatch). ``patched``
came in 6.1, ``replace`` in 6.11, ``stack_order`` in 6.14, and distributions backport: a file that is not
there gives None, the kernel's version is never asked.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from livepatch_core.kernel.attributes import read_flag, read_int
from livepatch_core.kernel.roots import Roots
from livepatch_core.words import Word

# Each scan that has to be repeated means that a patch appeared, vanished or turned round during it. The
# kernel allows one transition at a time, so several in a row within microseconds do not happen by
# themselves.
_SCANS = 8

# kernfs answers ENODEV to a read of a file that was open when its directory was removed.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ENODEV)

# What functions_in_force() answers where several patches own a function and the kernel does not say which
# is on top.
DOUBT = "?"


class PatchState(Word):
    """What one patch is, from ``enabled`` and ``transition``."""

    PATCHED = "patched"
    PATCHING = "patching"
    UNPATCHING = "unpatching"
    DISABLED = "disabled"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class FunctionPatch:
    """sympos: the position as sysfs shows it, never 0: a module's 0 ("must be unique") is shown as 1."""

    name: str
    sympos: int


@dataclass(frozen=True)
class ObjectPatch:
    """name: ``vmlinux`` or a module. patched: False while the target module is not loaded; None on kernels
    that do not say."""

    name: str
    patched: bool | None
    functions: tuple[FunctionPatch, ...]


@dataclass(frozen=True)
class Patch:
    """One directory of ``/sys/kernel/livepatch``. stack_order: 1 is the lowest; None where the kernel does
    not say."""

    name: str
    enabled: bool | None
    transition: bool | None
    replace: bool | None
    stack_order: int | None
    objects: tuple[ObjectPatch, ...]

    @property
    def state(self) -> PatchState:
        """The truth table of kernels since 5.1. ``disabled`` is passed through in an instant there (the
        directory goes away, klp_free_patch_async) and was a resting state before."""
        if self.enabled is None or self.transition is None:
            return PatchState.UNKNOWN
        if self.transition:
            return PatchState.PATCHING if self.enabled else PatchState.UNPATCHING
        return PatchState.PATCHED if self.enabled else PatchState.DISABLED


def read_patches(roots: Roots) -> tuple[Patch, ...]:
    """All patches, lowest first where the kernel tells the order, else by name; () without livepatch support.

    A patch can vanish, appear or be reversed while its files are read. Then everything is read again; if that
    does not settle, what was read last is returned, with None (state ``unknown``) for what could not be read.
    """
    directory = roots.sys / "kernel/livepatch"
    patches: tuple[Patch, ...] = ()
    for _ in range(_SCANS):
        names = _subdirectories(directory)
        scans = [_scan(directory / name) for name in names]
        patches = tuple(sorted((patch for patch, _steady in scans), key=_stacking))
        if all(steady for _patch, steady in scans) and _subdirectories(directory) == names:
            break
    return patches


def in_transition(patches: Iterable[Patch]) -> Patch | None:
    """The patch in transition; the kernel allows one at a time (klp_transition_patch)."""
    return next((patch for patch in patches if patch.transition), None)


def functions_in_force(patches: Iterable[Patch]) -> dict[tuple[str, str, int], str]:
    """``(object, function, position)`` -> name of the patch whose code runs when the function is called.

    Only patches in state ``patched`` count, and of these only objects that the kernel has patched (a target
    module that is not loaded has nothing in force). Of several owners the highest ``stack_order`` wins
    (klp_ops.func_stack). ``DOUBT`` where the kernel leaves it open: several owners without an order, or a
    target module on a kernel without ``patched`` files.
    """
    owners: dict[tuple[str, str, int], Patch | None] = {}
    for patch in patches:
        if patch.state is not PatchState.PATCHED:
            continue
        for target in patch.objects:
            if target.patched is False:
                continue
            known = target.patched or target.name == "vmlinux"
            for function in target.functions:
                key = (target.name, function.name, function.sympos)
                owners[key] = _upper(owners[key], patch) if key in owners else patch
                owners[key] = owners[key] if known else None
    return {key: DOUBT if owner is None else owner.name for key, owner in owners.items()}


def read_transition(roots: Roots, name: str) -> bool | None:
    """The one file to poll while a patch is in transition; None when its directory is gone, or never was.

    Raises OSError for anything but that: a poller must not take "may not read" for "has ended".
    """
    try:
        value = (roots.sys / "kernel/livepatch" / name / "transition").read_bytes()
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    return value.strip() != b"0"


def _upper(one: Patch | None, other: Patch) -> Patch | None:
    if one is None or one.stack_order is None or other.stack_order is None:
        return None
    return one if one.stack_order > other.stack_order else other


def _stacking(patch: Patch) -> tuple[bool, int, str]:
    return patch.stack_order is None, patch.stack_order or 0, patch.name


def _scan(directory: Path) -> tuple[Patch, bool]:
    """The patch, and whether it kept still: all that decides was there, and ``enabled`` did not change."""
    enabled = read_flag(directory / "enabled")
    patch = Patch(
        name=directory.name,
        enabled=enabled,
        transition=read_flag(directory / "transition"),
        replace=read_flag(directory / "replace"),
        stack_order=read_int(directory / "stack_order"),
        objects=tuple(_object(directory / name) for name in _subdirectories(directory)),
    )
    steady = patch.state is not PatchState.UNKNOWN and read_flag(directory / "enabled") is enabled
    return patch, steady


def _object(directory: Path) -> ObjectPatch:
    functions = (_function(name) for name in _subdirectories(directory))
    return ObjectPatch(
        name=directory.name,
        patched=read_flag(directory / "patched"),
        functions=tuple(function for function in functions if function is not None),
    )


def _function(directory_name: str) -> FunctionPatch | None:
    """``name,position``; None for a directory of another kind, which a later kernel may put there."""
    name, _comma, position = directory_name.rpartition(",")
    return FunctionPatch(name, int(position)) if name and position.isdecimal() else None


def _subdirectories(directory: Path) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
