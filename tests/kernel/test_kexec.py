"""kexec on stock kernels: what is refused, and a host that leaves under Salt and comes back as another."""

from __future__ import annotations

import struct

import pytest

from lab import kernels
from lab.kernels import Kernel
from lab.machine import Machine
from tests.kernel.bootable import Bootable
from tests.kernel.conftest import Start

pytestmark = pytest.mark.kernel

LOCKED = Machine(cmdline=("lockdown=integrity",))
WITH_CRASH_KERNEL = Machine(cmdline=("crashkernel=96M",), memory=768)


@pytest.fixture
def cloud() -> Kernel:
    return kernels.kernel("6.1-cloud")


# -- refused, each with the state it leaves


def test_refused(start: Start, kernel: Kernel, cloud: Kernel) -> None:
    """One guest, which has a crash kernel: everything here leaves it alone."""
    host = Bootable(start(WITH_CRASH_KERNEL).guest, kernel, cloud)
    guest = host.guest
    initrd = f"/boot/initrd.img-{kernel.release}"
    assert host.ask("crash_kernel", image=f"/boot/vmlinuz-{kernel.release}", initrd=initrd)["result"]

    kind, text = host.refused("load", kernel="9.9.9-1-amd64")
    assert kind == "argument" and "There is no kernel 9.9.9-1-amd64" in text
    assert host.refused("boot", reason="a test") == (
        "argument",
        "No image is loaded; this kernel runs on. Name a kernel: kernel=newest.",
    )

    # another kernel's modules are not here, so it would boot without them
    kind, text = host.refused("load", kernel=cloud.release)
    assert kind == "dependency" and "check modules" in text

    guest.put("/boot/not-a-kernel", b"MZ" + bytes(8192))
    kind, text = host.refused("load", kernel=kernel.release, image="/boot/not-a-kernel")
    assert kind == "unsupported" and "no x86 kernel image" in text
    assert host.refused("bypass", image="/boot/not-a-kernel", initrd=initrd)[0] == "unsupported"
    guest.put("/boot/unified.efi", unified(guest.get(f"/boot/vmlinuz-{kernel.release}")))
    kind, text = host.refused("load", kernel=kernel.release, image="/boot/unified.efi")
    assert kind == "unsupported" and "unified image" in text
    kind, text = host.refused("load", kernel=kernel.release, image=f"/boot/vmlinuz-{cloud.release}")
    assert kind == "kernel-mismatch" and f"is a kernel {cloud.release}" in text
    kind, text = host.refused("load", kernel=kernel.release, initrd="/boot/none")
    assert kind == "dependency" and "/boot/none could not be read" in text
    kind, text = host.refused("load", kernel=kernel.release, cmdline="x" * 3000)
    assert kind == "argument" and "the kernel takes 2047" in text
    guest.exec(["mv", initrd, "/root/initrd"], check=True)
    kind, text = host.refused("load", kernel=kernel.release)
    assert kind == "dependency" and "has no initrd" in text
    assert host.ask("load", kernel=kernel.release, initrd=None)["result"] is True
    assert host.ask("unload")["result"] is True
    guest.exec(["mv", "/root/initrd", initrd], check=True)

    # a kernel that could not be patched live
    config = guest.get(f"/boot/config-{kernel.release}")
    guest.put(f"/boot/config-{kernel.release}", config.replace(b"CONFIG_LIVEPATCH=y", b""))
    kind, text = host.refused("load", kernel=kernel.release)
    assert kind == "unsupported" and "without livepatch support" in text
    guest.put(f"/boot/config-{kernel.release}", config)

    # predicted, done, done already, taken back
    predicted = host.ask("load", kernel=kernel.release, test=True)
    assert (predicted["test"], host.loaded()) == (True, False)
    done = host.ask("load", kernel=kernel.release)
    assert (done["result"], host.loaded(), done["changes"]) == (True, True, predicted["changes"])
    assert host.ask("load", kernel=kernel.release)["changes"] == {}
    assert host.ask("status")["loaded"]["release"] == kernel.release
    assert host.ask("unload")["changes"] == {"loaded": {"old": kernel.release, "new": None}}
    assert host.ask("unload")["changes"] == {}

    # somebody else's image
    assert host.ask("bypass", image=f"/boot/vmlinuz-{kernel.release}", initrd=initrd)["result"]
    assert host.ask("status")["loaded"] == {"by": "other"}
    assert host.refused("boot", reason="a test")[0] == "conflict"
    kind, text = host.refused("load", kernel=kernel.release)
    assert kind == "conflict" and "not by this project" in text
    assert host.ask("load", kernel=kernel.release, override=["image-loaded"])["result"] is True
    assert host.ask("unload")["result"] is True
    assert guest.get("/sys/kernel/kexec_crash_loaded").strip() == b"1", "the crash kernel was left alone"

    # and nothing more in this boot
    guest.exec("echo 1 > /proc/sys/kernel/kexec_load_disabled", check=True)
    kind, text = host.refused("load", kernel=kernel.release)
    assert kind == "forbidden" and "kexec_load_disabled is 1" in text
    assert host.refused("bypass", image=f"/boot/vmlinuz-{kernel.release}", initrd=initrd)[0] == "forbidden"


def unified(image: bytes) -> bytes:
    """The image with one of its PE sections named as a unified image names the kernel it carries."""
    head = struct.unpack_from("<I", image, 0x3C)[0]
    table = head + 24 + struct.unpack_from("<H", image, head + 20)[0]
    return image[:table] + b".linux\0\0" + image[table + 8 :]


def test_lockdown(start: Start, kernel: Kernel) -> None:
    """No guest has Secure Boot's keys, so a locked-down one trusts not even Debian's own signature: said
    before anything is loaded, and by the kernel itself."""
    host = Bootable(start(LOCKED).guest, kernel)
    kind, text = host.refused("load", kernel=kernel.release)
    assert kind == "lockdown"
    assert "a key that this kernel does not have, and lockdown=integrity asks for one it has" in text
    image, initrd = f"/boot/vmlinuz-{kernel.release}", f"/boot/initrd.img-{kernel.release}"
    kind, text = host.refused("bypass", image=image, initrd=initrd)
    assert kind == "lockdown" and "it does not trust who signed the image" in text
    assert "kexec of unsigned images is restricted" in host.guest.dmesg()

    data = bytearray(host.guest.get(image))
    struct.pack_into("<II", data, struct.unpack_from("<I", data, 0x3C)[0] + 24 + 112 + 32, 0, 0)
    host.guest.put("/boot/unsigned", bytes(data))
    kind, text = host.refused("load", kernel=kernel.release, image="/boot/unsigned")
    assert kind == "lockdown" and "is not signed" in text
