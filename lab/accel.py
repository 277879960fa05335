"""How guests' processors are run: by the hardware where it really works, else emulated."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from lab import cache, host, progress
from lab.errors import LabError

ACCEL_VARIABLE = "LIVEPATCH_LAB_ACCEL"
PROBE_SECONDS = 20.0  # a kernel gets to its first program in under 2 s with hardware virtualisation
PROBE_WORD = "lab.probe"
PROBE_ANSWER = "lab: alive"
KVM, TCG = "kvm", "tcg"


def choose(kernel: Path, initrd: Path) -> str:
    """``kvm`` if a guest was seen to run on this machine since it started, else ``tcg``; probed once per
    boot.

    ``$LIVEPATCH_LAB_ACCEL`` (kvm or tcg) decides without a probe.
    """
    wanted = os.environ.get(ACCEL_VARIABLE, "")
    if wanted not in ("", KVM, TCG):
        raise LabError(f"{ACCEL_VARIABLE} is {wanted!r}", f"set it to {KVM} or {TCG}, or leave it out")
    if wanted or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return wanted or TCG
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    inputs = {"boot": boot, "qemu": qemu_version()}
    place = cache.artefact(
        "accel", inputs, lambda into: _probe(kernel, initrd, into), "probing hardware virtualisation"
    )
    return (place / "accel").read_text()


def _probe(kernel: Path, initrd: Path, into: Path) -> None:
    works = _kvm_boots(kernel, initrd)
    progress.say(
        "hardware virtualisation works"
        if works
        else "hardware virtualisation does not run a kernel here: emulating"
    )
    (into / "accel").write_text(KVM if works else TCG)


def _kvm_boots(kernel: Path, initrd: Path) -> bool:
    """Boots a kernel as guests do. Less is no proof: where /dev/kvm is itself emulated, real-mode code was
    seen to run and QEMU to abort later, setting a register (`failed to set MSR 0x10a`).
    """
    argv = [
        host.program("qemu-system-x86_64"), "-machine", "pc", "-accel", "kvm", "-cpu", "max", "-m", "256",
        "-nodefaults", "-display", "none", "-no-reboot", "-kernel", str(kernel), "-initrd", str(initrd),
        "-serial", "stdio", "-append", f"console=ttyS0 quiet panic=-1 {PROBE_WORD}",
    ]  # fmt: skip
    with tempfile.TemporaryFile() as output:
        try:
            subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=PROBE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
        output.seek(0)
        return PROBE_ANSWER.encode() in output.read()


def qemu_version() -> str:
    """First line of ``qemu-system-x86_64 --version``: part of a snapshot's key."""
    return host.run(["qemu-system-x86_64", "--version"]).decode().splitlines()[0]
