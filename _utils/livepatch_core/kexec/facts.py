"""What is known before a kernel is loaded: read once, judged elsewhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from livepatch_core.errors import LivepatchError
from livepatch_core.kernel import keyring
from livepatch_core.kernel.attributes import read_flag, read_int, read_text
from livepatch_core.kernel.environment import read_environment
from livepatch_core.kernel.identity import read_identity
from livepatch_core.kernel.roots import Roots
from livepatch_core.kexec import calls, installed
from livepatch_core.kexec.image import Image, parse
from livepatch_core.kexec.order import split
from livepatch_core.words import Kind

SHUTDOWN_TOOL = "sbin/kexec"  # what systemd's shutdown program calls at the very end


@dataclass(frozen=True)
class Machine:
    """This host, whatever is to be loaded. None: could not be read.

    file_load: the kernel has kexec_file_load. disabled: kernel.kexec_load_disabled. limit: how many loads are
    left (kernel.kexec_load_limit_reboot, since 6.3), negative for no limit. loaded, crash_loaded: an image
    for the next boot, and one for a crash, are there. available: bytes of memory to be had. sig_force: takes
    signed images only. systemd: PID 1 is systemd. tool: the kexec program is installed.
    """

    root: bool
    machine: str
    release: str
    boot_id: str | None
    cmdline: str | None
    lockdown: str | None
    file_load: bool | None
    disabled: bool | None
    limit: int | None
    loaded: bool | None
    crash_loaded: bool | None
    available: int | None
    sig_force: bool | None
    systemd: bool
    tool: bool


@dataclass(frozen=True)
class Files:
    """The files of the kernel to be loaded. initrd_size: bytes, 0 without one. trusted: whether this kernel
    has the key that signed the image; None where that cannot be told. error: why a file could not be read.
    """

    release: str
    image: Path
    initrd: Path | None
    described: Image
    sha256: str
    initrd_sha256: str
    initrd_size: int
    modules: bool
    livepatch: bool | None
    trusted: bool | None = None
    error: str = ""


def read_machine(roots: Roots, probe: Callable[[], bool | None] = calls.available) -> Machine:
    """Raises OSError where procfs does not even name the kernel."""
    environment, identity = read_environment(roots), read_identity(roots)
    sysctl, kernel = roots.proc / "sys/kernel", roots.sys / "kernel"
    config = installed.read_config(roots, identity.release)
    top = roots.lib_modules.parent.parent
    limit = read_int(sysctl / "kexec_load_limit_reboot")
    return Machine(
        root=os.geteuid() == 0,
        machine=identity.machine,
        release=identity.release,
        boot_id=identity.boot_id,
        cmdline=environment.cmdline,
        lockdown=environment.lockdown,
        file_load=_has_file_load(os.path.exists(kernel / "kexec_loaded"), limit, config, probe),
        disabled=read_flag(sysctl / "kexec_load_disabled"),
        limit=limit,
        loaded=read_flag(kernel / "kexec_loaded"),
        crash_loaded=read_flag(kernel / "kexec_crash_loaded"),
        available=available_bytes(read_text(roots.proc / "meminfo")),
        sig_force=None if config is None else installed.demands_signature(config),
        systemd=read_text(roots.proc / "1/comm") == "systemd",
        tool=os.access(top / SHUTDOWN_TOOL, os.X_OK),
    )


def _has_file_load(
    core: bool, limit: int | None, config: str | None, probe: Callable[[], bool | None]
) -> bool | None:
    """Where loads are counted, the question would count as one (kexec_load_permitted() of
    kernel/kexec_core.c, since 6.3): then the kernel's configuration is asked."""
    if not core:
        return False
    if limit is None or limit < 0:
        return probe()
    return None if config is None else installed.has_file_load(config)


def available_bytes(meminfo: str | None) -> int | None:
    """MemAvailable of /proc/meminfo. Pure."""
    for line in (meminfo or "").splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "MemAvailable:" and words[1].isdecimal():
            return int(words[1]) * 1024
    return None


def read_files(roots: Roots, kernel: installed.Installed, machine: Machine) -> Files:
    """Reads the whole image and initrd, for their digests. Raises nothing for files that cannot be read."""
    try:
        data = kernel.image.read_bytes()
        initrd = b"" if kernel.initrd is None else kernel.initrd.read_bytes()
    except OSError as problem:
        nothing = Image(0, problem="it could not be read")
        text = f"{problem.filename} could not be read ({problem.strerror})"
        return Files(
            kernel.release, kernel.image, kernel.initrd, nothing, "", "", 0, kernel.modules, kernel.livepatch,
            error=text,
        )  # fmt: skip
    described = parse(data, machine.machine)
    signature = described.signature
    return Files(
        release=kernel.release,
        image=kernel.image,
        initrd=kernel.initrd,
        described=described,
        sha256=hashlib.sha256(data).hexdigest(),
        initrd_sha256=hashlib.sha256(initrd).hexdigest() if kernel.initrd else "",
        initrd_size=len(initrd),
        modules=kernel.modules,
        livepatch=kernel.livepatch,
        trusted=keyring.finds(roots, signature.identifier) if signature and signature.identifier else None,
    )


def find(kernels: tuple[installed.Installed, ...], running: str, wanted: str) -> installed.Installed:
    """Raises LivepatchError (argument) with what there is."""
    found = installed.choose(kernels, running, wanted)
    if found is not None:
        return found
    flavour = split(running)[1] or "the running flavour"
    newest = f"no complete kernel of {flavour} that is not older than the running {running}"
    asked = newest if wanted == "newest" else f"no kernel {wanted}"
    there = ", ".join(one.release for one in kernels) or "none"
    raise LivepatchError(
        Kind.ARGUMENT,
        f"There is {asked} on this host (there are: {there}); nothing was changed.",
        remedy="Install its package, or name one that is there (kexec.candidates lists them).",
    )
