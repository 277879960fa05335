"""The kernels that are installed on this host, by the names distributions give their files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from livepatch_core.kernel.roots import Roots
from livepatch_core.kexec.order import compare, newest_first, split

_IMAGE = re.compile(r"(?:vmlinuz|vmlinux|image|Image|bzImage)-(?P<release>[0-9].*)")
# Debian and Ubuntu; Fedora and RHEL; SUSE.
_INITRDS = ("initrd.img-{0}", "initramfs-{0}.img", "initrd-{0}")
_COPIES = (".old", ".bak", ".dpkg-new", ".dpkg-tmp", ".dpkg-old", ".rpmnew", ".rpmsave", ".sig", ".efi")


@dataclass(frozen=True)
class Installed:
    """A kernel on this host. initrd: None where it has none. modules: its directory of modules is there.

    livepatch: whether it was built with CONFIG_LIVEPATCH; None where its configuration is not on the host.
    """

    release: str
    image: Path
    initrd: Path | None
    modules: bool
    livepatch: bool | None

    @property
    def flavour(self) -> str:
        return split(self.release)[1]

    @property
    def missing(self) -> tuple[str, ...]:
        """What it lacks to be started."""
        lacking = {"initrd": self.initrd is None, "modules": not self.modules}
        return tuple(name for name, lacks in lacking.items() if lacks)


def boot_directory(roots: Roots) -> Path:
    """/boot; Roots has no field for it, /lib/modules lies two below the root it has."""
    return roots.lib_modules.parent.parent / "boot"


def read_installed(roots: Roots) -> tuple[Installed, ...]:
    """All, newest first."""
    found = images(roots)
    return tuple(_read(roots, release, found[release]) for release in sorted(found, key=newest_first))


def images(roots: Roots) -> dict[str, Path]:
    """Release -> image. In /boot, and where newer distributions keep it: beside its modules."""
    boot = boot_directory(roots)
    found = {release: boot / name for release, name in named(_names(boot)).items()}
    for release in _names(roots.lib_modules):
        beside = roots.lib_modules / release / "vmlinuz"
        if release not in found and beside.is_file():
            found[release] = beside
    return found


def named(names: Iterable[str]) -> dict[str, str]:
    """Release -> file name, of names in /boot; copies that package tools leave are no kernels. Pure."""
    matches = ((match["release"], name) for name in sorted(names) if (match := _IMAGE.fullmatch(name)))
    return {release: name for release, name in matches if not release.endswith(_COPIES)}


def choose(kernels: Iterable[Installed], running: str, wanted: str) -> Installed | None:
    """The kernel of that release; ``newest``: the newest complete one of the running kernel's flavour, never
    an older one than runs. None where there is no such. Pure."""
    if wanted != "newest":
        return next((one for one in kernels if one.release == wanted), None)
    fit = [
        one
        for one in kernels
        if one.flavour == split(running)[1] and not one.missing and not is_newer(running, one.release)
    ]
    return min(fit, key=lambda one: newest_first(one.release), default=None)


def incomplete_newer(kernels: Iterable[Installed], running: str) -> tuple[Installed, ...]:
    """Kernels that would be the newest if they lacked nothing. Pure."""
    kernels = tuple(kernels)
    newest = choose(kernels, running, "newest")
    than = running if newest is None else newest.release
    return tuple(
        one
        for one in kernels
        if one.flavour == split(running)[1] and one.missing and is_newer(one.release, than)
    )


def is_newer(release: str, than: str) -> bool:
    """By version alone; flavours are not compared. Pure."""
    return compare(split(release)[0], split(than)[0]) > 0


def has_livepatch(config: str) -> bool:
    """Whether the kernel of this configuration (the text of its .config) can be live-patched. Pure."""
    return re.search(r"^CONFIG_LIVEPATCH=y$", config, re.MULTILINE) is not None


def demands_signature(config: str) -> bool:
    """Whether it takes signed images only, locked down or not. Pure."""
    return re.search(r"^CONFIG_KEXEC_SIG_FORCE=y$", config, re.MULTILINE) is not None


def has_file_load(config: str) -> bool:
    """Whether it was built with kexec_file_load. Pure."""
    return re.search(r"^CONFIG_KEXEC_FILE=y$", config, re.MULTILINE) is not None


def read_config(roots: Roots, release: str) -> str | None:
    """The configuration a kernel was built with, from where distributions put it."""
    for path in (boot_directory(roots) / f"config-{release}", roots.lib_modules / release / "config"):
        try:
            return path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
    return None


def _read(roots: Roots, release: str, image: Path) -> Installed:
    initrds = [boot_directory(roots) / name.format(release) for name in _INITRDS]
    config = read_config(roots, release)
    return Installed(
        release,
        image,
        next((path for path in initrds if path.is_file()), None),
        (roots.lib_modules / release).is_dir(),
        None if config is None else has_livepatch(config),
    )


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
