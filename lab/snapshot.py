"""Guests that start in a fraction of a second: a machine is booted once, its state kept, and every guest
starts from there.

The guest's memory is a file. The guest that is booted to be kept fills it (mapped shared), the guests
started from it map it privately: they share its pages until they write. QEMU's capability
``x-ignore-shared`` leaves memory out of the state it saves. A snapshot is valid only with the exact image,
kernel, QEMU and arguments it was taken with: they are its key.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path

from lab import accel, cache, host, image, initrd, kernels
from lab.guest import Guest
from lab.kernels import Kernel, KernelFiles
from lab.machine import Disk, Machine, Place, new_place, qemu_arguments

BOOT_SECONDS = 240.0
GUEST_OVERHEAD = 250 << 20  # bytes a QEMU needs beside the guest's memory (translated code, its own)
SNAPSHOTS_KEPT = 40  # 160-250 MB each; a run of all tests uses about half as many
Prepare = Callable[[Guest], None]


@dataclasses.dataclass(frozen=True)
class Parts:
    """Everything a machine is booted from."""

    files: KernelFiles
    others: tuple[KernelFiles, ...]
    initrd: Path
    image: Path
    accel: str

    @property
    def disks(self) -> tuple[Disk, ...]:
        modules = (Disk(files.modules_image, "modules") for files in (self.files, *self.others))
        return (Disk(self.image, "root"), *modules)


def parts(kernel: Kernel, others: tuple[Kernel, ...] = ()) -> Parts:
    """Builds whatever of it is not there yet. `others` are kernels whose modules the guest has too (for
    kexec).
    """
    files = kernels.files(kernel)
    first = initrd.build(files)
    return Parts(
        files, tuple(map(kernels.files, others)), first, image.build(), accel.choose(files.vmlinuz, first)
    )


def boot(name: str, kernel: Kernel, machine: Machine, built: Parts) -> Guest:
    """A guest booted the long way (5-10 s); ready when its agent answers."""
    place = new_place()
    return ready(Guest(name, kernel, place, _arguments(machine, built, place)))


def ready(guest: Guest) -> Guest:
    """Waits until the agent answers, and gives the guest time and entropy; closes it if that fails."""
    try:
        guest.ping(BOOT_SECONDS)
        guest.wake()
    except BaseException:
        guest.close()
        raise
    return guest


def _arguments(machine: Machine, built: Parts, place: Place) -> list[str]:
    return qemu_arguments(machine, built.accel, place, built.files.vmlinuz, built.initrd, built.disks)


def _nothing(guest: Guest) -> None:
    pass


def restore(
    name: str, kernel: Kernel, machine: Machine, prepared: str = "", prepare: Prepare = _nothing
) -> Guest:
    """A guest from the snapshot of `machine` (taken now if there is none), awake and ready.

    `prepare` brings the guest into the state that is kept; `prepared` names that state for the cache.
    """
    built = parts(kernel)
    kept = _snapshot(kernel, machine, built, prepared, prepare)
    host.require_memory((machine.memory << 19) + GUEST_OVERHEAD)
    place = new_place()
    arguments = qemu_arguments(
        machine,
        built.accel,
        place,
        built.files.vmlinuz,
        built.initrd,
        built.disks,
        kept / "memory",
        memory_shared=False,
    )
    guest = Guest(name, kernel, place, [*arguments, "-incoming", "defer"])
    try:
        _set_capabilities(guest)
        guest.qmp.command("migrate-incoming", uri=f"exec:cat {shlex.quote(str(kept / 'state'))}")
        _wait_migrated(guest)
        guest.qmp.command("cont")
    except BaseException:
        guest.close()
        raise
    return ready(guest)


def _snapshot(kernel: Kernel, machine: Machine, built: Parts, prepared: str, prepare: Prepare) -> Path:
    inputs = {
        "kernel": [files.directory.name for files in (built.files, *built.others)],
        "initrd": built.initrd.parent.name,
        "disks": [file_identity(disk.path) for disk in built.disks],
        "image": built.image.parent.name,
        "machine": machine,
        "accel": built.accel,
        "qemu": accel.qemu_version(),
        "arguments": qemu_arguments(machine, built.accel, Place(Path()), Path(), Path(), ()),
        "prepared": prepared,
    }
    what = f"snapshot of {kernel.release} {' '.join(machine.cmdline)} {prepared}".strip()
    return cache.artefact("snapshot", inputs, lambda into: _take(kernel, machine, built, prepare, into), what)


def file_identity(path: Path) -> tuple[int, int]:
    """Size and time of writing (ns). An image built again from equal inputs has other bytes in other places:
    a guest resumed on it reads garbage.
    """
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _take(kernel: Kernel, machine: Machine, built: Parts, prepare: Prepare, into: Path) -> None:
    cache.keep_newest("snapshot", SNAPSHOTS_KEPT)
    place = new_place()
    arguments = qemu_arguments(
        machine,
        built.accel,
        place,
        built.files.vmlinuz,
        built.initrd,
        built.disks,
        into / "memory",
        memory_shared=True,
    )
    with ready(Guest("snapshot", kernel, place, arguments)) as guest:
        prepare(guest)
        guest.exec(["sync"], check=True)
        guest.qmp.command("stop")
        _set_capabilities(guest)
        guest.qmp.command("migrate", uri=f"exec:cat > {shlex.quote(str(into / 'state'))}")
        _wait_migrated(guest)
        guest.qmp.command("quit")
        guest.process.wait()


def _set_capabilities(guest: Guest) -> None:
    wanted = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]
    guest.qmp.command("migrate-set-capabilities", capabilities=wanted)


def _wait_migrated(guest: Guest) -> None:
    while True:
        status = guest.qmp.wait_event("MIGRATION")["data"]["status"]
        if status == "completed":
            return
        if status in ("failed", "cancelled"):
            raise RuntimeError(
                f"QEMU could not move the guest's state: {status}: {guest.qmp.command('query-migrate')}"
            )
