"""kexec on stock kernels: what is refused, and a host that leaves under Salt and comes back as another."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import kernels, systemd
from lab.fixtures import watched
from lab.kernels import Kernel
from lab.machine import Machine
from lab.master import Master
from tests.conftest import copy_of_the_tree
from tests.kernel.bootable import Bootable
from tests.kernel.booted import Booted
from tests.kernel.conftest import Start
from tests.kernel.livepatches import build, made_for
from tests.kernel.patchable import digest

pytestmark = pytest.mark.kernel

LOCKED = Machine(cmdline=("lockdown=integrity",))
WITH_CRASH_KERNEL = Machine(cmdline=("crashkernel=96M",), memory=768)
SECONDS = 240
BACK_SECONDS = 900  # idle 35: an emulated host whose two cores are shared


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


# -- under Salt


class Site:
    """A master with a catalog for three kernels, and one host that has them all installed."""

    def __init__(self, place: Path, stack: contextlib.ExitStack) -> None:
        self.roles = {role: kernels.kernel(role) for role in ("6.1", "6.1-cloud", "6.12")}
        catalog = place / "catalog/livepatch"
        for kernel in self.roles.values():
            publish(catalog, kernel)
        tree = copy_of_the_tree(place / "tree")
        (place / "pillar").mkdir()
        patient = {"timeout": 120, "gather_job_timeout": 60}
        self.master = stack.enter_context(Master([tree, place / "catalog"], [place / "pillar"], patient))
        self.guest = systemd.start(
            self.roles["6.1"], "hv", others=(self.roles["6.1-cloud"], self.roles["6.12"])
        )
        stack.callback(self.guest.close)
        stack.enter_context(watched(self.guest))
        Bootable(self.guest, *self.roles.values())
        Booted(self.guest, soak=3.0)
        self.guest.install_minion(self.master, "hv", {"livepatch": {"soak": 3.0}})
        self.call("saltutil.sync_all")

    def call(self, function: str, *arguments: Any, **keywords: Any) -> Any:
        answers = self.master.cmd("hv", function, *arguments, timeout=SECONDS, **keywords)
        assert "hv" in answers, self.guest.exec("tail -50 /var/log/salt/minion").text
        return answers["hv"]

    def leave(self, function: str, *arguments: Any, **keywords: Any) -> Any:
        """Make the host leave; what the call returned, once its minion is back."""
        with self.master.events() as events, self.guest.leaving_by_kexec(BACK_SECONDS):
            answer = self.call(function, *arguments, **keywords)
            events.wait("salt/minion/hv/start", BACK_SECONDS)
        return answer

    def key(self) -> bytes:
        return self.guest.get("/etc/salt/pki/minion/minion.pub")

    def release(self) -> str:
        return self.guest.exec(["uname", "-r"], check=True).text.strip()

    def prove(self) -> None:
        """Level 1 in force, healthy for its soak, and so kept over boots of this kernel."""
        assert self.call("livepatch.apply", level=1, reason="a test")["result"] is True
        assert self.call("livepatch.persist")["result"] is True
        for _ in range(20):
            if self.call("livepatch.status")["next_boot"]["level"] == 1:
                return
            self.call("livepatch.soaked")
        raise AssertionError("level 1 was never proven")


def publish(catalog: Path, kernel: Kernel) -> None:
    module = build(kernel)["lp_level_1"]
    directory = catalog / kernel.release
    directory.mkdir(parents=True)
    (directory / module.name).write_bytes(module.read_bytes())
    entry = {"status": "released", "module": module.name, "name": module.stem, "sha256": digest(module)}
    builds = {str(made_for(kernel).build_id): {"levels": {1: entry}}}
    document = {"schema": 1, "release": kernel.release, "builds": builds}
    (directory / "catalog.yaml").write_text(yaml.safe_dump(document))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        yield Site(tmp_path, stack)


def test_under_salt(site: Site) -> None:
    """6.1 to cloud in an orderly way, back without systemd's help, to 6.12 by the state: each time the minion
    is back under its key, and the new kernel's level comes into force."""
    stable, cloud, newer = (site.roles[role].release for role in ("6.1", "6.1-cloud", "6.12"))
    site.prove()
    key, boot_id = site.key(), site.guest.boot_id

    found = site.call("kexec.candidates")
    assert [one["release"] for one in found["kernels"]] == [newer, cloud, stable]
    assert (found["running"], found["newest"], found["newer"]) == (stable, newer, True)
    assert site.call("kexec.load", cloud)["changes"] == {"loaded": {"old": None, "new": cloud}}
    assert site.call("kexec.boot", reason="a test", test=True)["changes"] == {
        "boot": {"old": stable, "new": cloud}
    }
    assert site.guest.boot_id == boot_id

    ordered = site.leave("kexec.boot", reason="a test", delay=15)
    assert (ordered["result"], ordered["departure"]["how"]) == (True, "systemd")
    assert (site.release(), site.key()) == (cloud, key)
    last = site.call("kexec.status")["last"]
    assert (last["ended"], last["as_asked"], last["boot_id_before"]) == ("kexec", True, boot_id)
    assert last["away"]["kernel"] > 0
    assert last["level"]["level"] is None, "no level of this kernel is proven yet"
    assert site.call("livepatch.apply", level=1, reason="a test")["result"] is True
    assert (status := site.call("livepatch.status"))["verdict"] == "patched", status

    boot_id = site.guest.boot_id
    site.leave("kexec.boot", stable, reason="a test", how="direct", delay=15)
    assert (site.release(), site.key()) == (stable, key)
    last = site.call("kexec.status")["last"]
    assert (last["ended"], last["boot_id_before"], last["level"]["level"]) == ("kexec", boot_id, 1), last
    assert last["away"]["level"] >= last["away"]["kernel"]
    status = site.call("livepatch.status")
    assert (status["verdict"], status["level"]) == ("patched", 1), status

    def state(**options: Any) -> Any:
        (answer,) = site.call("state.single", "kexec.booted", name="newest", **options).values()
        return answer["result"], answer["changes"]

    changes = {"boot": {"old": stable, "new": newer}}
    assert state(test=True, reason="a test") == (None, changes)
    assert state(reason=None)[0] is False
    site.leave("state.single", "kexec.booted", name="newest", reason="a test", delay=15)
    assert (site.release(), site.key()) == (newer, key)
    assert state() == (True, {})
    assert site.call("livepatch.apply", level=1, reason="a test")["result"] is True
    assert site.call("livepatch.status")["verdict"] == "patched"
    acts = [one["act"] for one in site.call("livepatch.history") if one["act"] == "kexec"]
    assert len(acts) == 3
    assert site.call("livepatch.verify")["state"] == "whole"
