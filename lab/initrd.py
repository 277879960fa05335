"""The first file system of a guest: busybox, the modules its root needs, and the lab's own guest files.

The guest files travel here and not in the image, so that a change to the agent costs a second and not a new
image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from lab import apt, cache, kernels
from lab.kernels import KernelFiles

GUEST_FILES = Path(__file__).parent / "guestfiles"
# virtio_console, virtio_net: the agent and the network of a systemd guest need no udev then.
# crc32c_generic: squashfs and ext4 ask for "crc32c" by name through the crypto API, which no dependency in
# modules.dep tells.
ROOT_MODULES = (
    "virtio_pci",
    "virtio_blk",
    "overlay",
    "squashfs",
    "crc32c_generic",
    "ext4",
    "virtio_console",
    "virtio_net",
)
CPIO_MAGIC = "070701"
REGULAR, DIRECTORY, DEVICE = 0o100000, 0o040000, 0o020000


@dataclasses.dataclass(frozen=True)
class Member:
    """One entry of a cpio archive; `device` is (major, minor) of a character device."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def cpio(members: Iterable[Member]) -> bytes:
    """A cpio archive in the format the kernel reads
    (Documentation/driver-api/early-userspace/buffer-format.rst).
    """
    entries = [_entry(number, member) for number, member in enumerate(members, start=1)]
    return b"".join([*entries, _entry(0, Member("TRAILER!!!", 0))])


def _entry(number: int, member: Member) -> bytes:
    name = member.name.encode() + b"\0"
    links = 2 if member.mode & DIRECTORY == DIRECTORY else 1
    fields = (number, member.mode, 0, 0, links, 0, len(member.data), 0, 0, *member.device, len(name), 0)
    head = CPIO_MAGIC.encode() + b"".join(b"%08X" % field for field in fields) + name
    return _padded(head) + _padded(member.data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def busybox() -> Path:
    """The statically linked busybox, from Debian's package."""
    place = cache.artefact("busybox", {"suite": apt.SUITE}, _fetch_busybox, "busybox")
    return place / "busybox"


def _fetch_busybox(into: Path) -> None:
    deb = apt.download(["busybox-static"], into)[0]
    apt.unpack(deb, into / "tree")
    (into / "tree/bin/busybox").rename(into / "busybox")


def build(files: KernelFiles) -> Path:
    """The initrd of a kernel."""
    inputs = {
        "kernel": files.directory.name,
        "guest files": {
            path.name: path.read_bytes() for path in sorted(GUEST_FILES.iterdir()) if path.is_file()
        },
        "modules": ROOT_MODULES,
        "layout": 1,
    }
    place = cache.artefact(
        "initrd", inputs, lambda into: _write(files, into), f"initrd for {files.kernel.release}"
    )
    return place / "initrd"


def _write(files: KernelFiles, into: Path) -> None:
    order = kernels.load_order(
        kernels.parse_modules_dep((files.modules / "modules.dep").read_text()), ROOT_MODULES
    )
    modules = [
        (kernels.module_name(path) + ".ko", kernels.read_module(files.modules / path)) for path in order
    ]
    names = "".join(f"{name}\n" for name, _ in modules)
    members = [
        *(
            Member(name, DIRECTORY | 0o755)
            for name in ("bin", "dev", "lab", "modules", "proc", "root", "run", "sys")
        ),
        Member("dev/console", DEVICE | 0o600, device=(5, 1)),
        Member("bin/busybox", REGULAR | 0o755, busybox().read_bytes()),
        Member("init", REGULAR | 0o755, (GUEST_FILES / "init").read_bytes()),
        *(
            Member(f"lab/{path.name}", REGULAR | 0o644, path.read_bytes())
            for path in sorted(GUEST_FILES.iterdir())
            if path.is_file()
        ),
        *(Member(f"modules/{name}", REGULAR | 0o644, data) for name, data in modules),
        Member("modules/order", REGULAR | 0o644, names.encode()),
    ]
    (into / "initrd").write_bytes(cpio(members))
