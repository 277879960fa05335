"""A guest that its firmware starts with Secure Boot on: the kernel is verified, locked down, and has the
firmware's keys.

Debian's ``ovmf`` has a variable store in which one key ("snakeoil": its private half is published with it) is
PK, KEK and db. The stock kernel gets that key's signature beside Debian's own; its code is untouched. QEMU
hands it to the firmware, which starts it through its EFI stub, as a boot loader would. Here the key is also
the one that publishes modules: it is in db, so the kernel has it in ``.platform``.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from lab import apt, cache, host, snapshot
from lab.guest import Guest
from lab.kernels import Kernel
from lab.machine import PLAIN, Machine, new_place, qemu_arguments

PACKAGES = ("ovmf", "sbsigntool")
# OVMF_CODE_4M.secboot.fd wants SMM, which protects the variables from the guest's kernel; nothing here
# attacks them.
CODE, VARIABLES = "usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd"
CERTIFICATE, LOCKED_KEY = "usr/share/ovmf/PkKek-1-snakeoil.pem", "usr/share/ovmf/PkKek-1-snakeoil.key"
PASSPHRASE = "pass:snakeoil"


@dataclasses.dataclass(frozen=True)
class Firmware:
    """The files of the firmware and of the key that it trusts (PEM)."""

    directory: Path

    @property
    def code(self) -> Path:
        return self.directory / "tree" / CODE

    @property
    def variables(self) -> Path:
        """A template: each guest writes to a copy of its own."""
        return self.directory / "tree" / VARIABLES

    @property
    def certificate(self) -> Path:
        return self.directory / "tree" / CERTIFICATE

    @property
    def key(self) -> Path:
        return self.directory / "key.pem"


def files() -> Firmware:
    """Fetched once (8 MB)."""
    return Firmware(cache.artefact("firmware", {"suite": apt.SUITE, "layout": 1}, _fetch, "firmware"))


def _fetch(into: Path) -> None:
    for package in apt.download(PACKAGES, into):
        apt.unpack(package, into / "tree")
        package.unlink()
    key = ("-in", into / "tree" / LOCKED_KEY, "-passin", PASSPHRASE, "-out", into / "key.pem")
    host.run(["openssl", "rsa", *key])


def signed_kernel(firmware: Firmware, vmlinuz: Path) -> Path:
    """The kernel with a signature of the firmware's key added."""

    def sign(into: Path) -> None:
        pair = ("--key", firmware.key, "--cert", firmware.certificate)
        host.run([firmware.directory / "tree/usr/bin/sbsign", *pair, "--output", into / "vmlinuz", vmlinuz])

    inputs = {"firmware": firmware.directory.name, "kernel": vmlinuz.parent.name}
    return cache.artefact("signed", inputs, sign, "signature on the kernel") / "vmlinuz"


def start(kernel: Kernel, machine: Machine = PLAIN, name: str = "firmware") -> Guest:
    """A new guest, booted (10 s): its state is not kept as a snapshot, the firmware would not take part."""
    firmware, built, place = files(), snapshot.parts(kernel), new_place()
    variables = place.directory / "variables"
    shutil.copyfile(firmware.variables, variables)
    image = signed_kernel(firmware, built.files.vmlinuz)
    arguments = qemu_arguments(machine, built.accel, place, image, built.initrd, built.disks)
    flash = [*_flash(0, firmware.code, read_only=True), *_flash(1, variables, read_only=False)]
    return snapshot.ready(Guest(name, kernel, place, [*arguments, *flash]))


def _flash(unit: int, chip: Path, *, read_only: bool) -> list[str]:
    return [
        "-drive",
        f"if=pflash,unit={unit},format=raw,readonly={'on' if read_only else 'off'},file={chip}",
    ]
