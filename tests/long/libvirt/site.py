"""A libvirtd of our own, as an ordinary user, and small guests in it whose memory counts."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import apt, cache, host, kernels, scratch
from lab.initrd import DEVICE, DIRECTORY, REGULAR, Member, busybox, cpio
from livepatch_core.drain.virsh import Virsh
from livepatch_core.host.context import Host
from livepatch_core.host.settings import Settings

NOBODY = 65534
START_SECONDS = 60.0
BOOT_SECONDS = 240.0
CHUNK, CHUNK_SECONDS = 65536, 0.2  # of a slow disk: QEMU writes some 40 MB
DIRECTORIES = (
    "bin", "sbin", "dev", "proc", "sys", "run", "var", "var/run", "modules", "lib64", "lib",
    "lib/x86_64-linux-gnu", "usr", "usr/lib", "usr/lib/x86_64-linux-gnu",
)  # fmt: skip
# Counts in memory alone: a guest that boots again counts from 0.
INIT = b"""#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sysfs /sys; $b mount -t devtmpfs devtmpfs /dev
while read -r m; do $b insmod /modules/$m; done </modules/order
for p in /sys/class/virtio-ports/vport*; do
    [ "$($b cat $p/name)" = org.qemu.guest_agent.0 ] && port=/dev/${p##*/}
done
/bin/qemu-ga -m virtio-serial -p $port -t /run -l /dev/null &
n=0
while :; do echo "count $n at $($b date +%s)" >/dev/ttyS0; n=$((n+1)); $b sleep 0.3; done
"""
# What the agent calls for guest-set-time and guest-shutdown.
HWCLOCK = b'#!/bin/busybox sh\nexec /bin/busybox hwclock "$@"\n'
SHUTDOWN = b"#!/bin/busybox sh\nexec /bin/busybox poweroff -f\n"
DOMAIN = """<domain type='qemu'>
<name>{name}</name><memory unit='MiB'>160</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><kernel>{place}/vmlinuz</kernel>
<initrd>{place}/initrd</initrd><cmdline>console=ttyS0 quiet random.trust_cpu=on no_timer_check</cmdline></os>
<features><acpi/></features><clock offset='utc'/>
<devices><emulator>{emulator}</emulator>
<serial type='file'><source path='{place}/u/{name}.log' append='on'/></serial>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<memballoon model='none'/>{extra}</devices></domain>
"""
# Memory shared with another process, as its peer: nobody could say what is in it after a restore, so that
# libvirt refuses to save it.
SHARED = "lab-livepatch-peer"
UNSAVABLE = f"<shmem name='{SHARED}' role='peer'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>"
_COUNT = re.compile(r"count (\d+) at (\d+)")


class Site:
    """``virsh`` is the library's; ``host`` a host whose state lies in this place."""

    def __init__(self, place: Path, process: subprocess.Popen[bytes]) -> None:
        self.place = place
        self.process = process
        socket = place / "u/run/libvirt/libvirt-sock"
        self.virsh = Virsh(f"qemu+unix:///session?socket={socket}")
        settings = Settings(state_dir=place / "state", run_dir=place / "rundir")
        self.host = Host(settings, lambda name: None)
        until(lambda: socket.exists() and self.call("version"), START_SECONDS, self.log)

    def call(self, *words: str) -> bool:
        command = ["virsh", "-c", self.virsh.uri, *words]
        return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0

    def saved_at(self, name: str) -> Path:
        """Where libvirt saves this guest's memory."""
        return self.place / "u/CO/libvirt/qemu/save" / f"{name}.save"

    @contextmanager
    def full_disk(self, name: str) -> Iterator[None]:
        """There is no room to save this guest, which is seen when some of it has been written."""
        self.saved_at(name).symlink_to("/dev/full")
        try:
            yield
        finally:
            self.saved_at(name).unlink()

    @contextmanager
    def slow_disk(self, name: str) -> Iterator[None]:
        """Saving this guest takes minutes."""
        path, ended = self.saved_at(name), threading.Event()
        os.mkfifo(path)
        os.chown(path, NOBODY, NOBODY)

        def read() -> None:
            with path.open("rb", buffering=0) as stream:
                while stream.read(CHUNK):
                    ended.wait(CHUNK_SECONDS)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield
        finally:
            ended.set()
            path.unlink()
            reader.join(START_SECONDS)

    def log(self) -> str:
        return (self.place / "libvirtd.log").read_text(errors="replace")[-3000:]

    def guest(self, name: str, extra: str = "") -> None:
        """A guest that has booted: it counts, and its agent answers."""
        assert self.call("define", str(self.described(name, extra))), self.log()
        assert self.call("start", name), self.log()
        until(lambda: self.count(name) and self.call("domtime", name), BOOT_SECONDS, self.log)

    def described(self, name: str, extra: str = "") -> Path:
        emulator = host.program("qemu-system-x86_64")
        xml = DOMAIN.format(name=name, place=self.place, emulator=emulator, extra=extra)
        (self.place / f"{name}.xml").write_text(xml)
        return self.place / f"{name}.xml"

    def count(self, name: str) -> tuple[int, int] | None:
        """The last count that the guest wrote, and its own time then."""
        try:
            found = _COUNT.findall((self.place / f"u/{name}.log").read_text(errors="replace"))
        except FileNotFoundError:
            return None
        return (int(found[-1][0]), int(found[-1][1])) if found else None

    def counts_on(self, name: str) -> tuple[int, int]:
        """A count that was not there before."""
        before = self.count(name)
        until(lambda: self.count(name) != before, 60, self.log)
        found = self.count(name)
        assert found is not None
        return found


def until(condition: object, seconds: float, log: object) -> None:
    """Polls: what is waited for is another program's file or socket."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, log()  # type: ignore[operator]
        time.sleep(0.1)


@contextmanager
def libvirt() -> Iterator[Site]:
    """Everything ends with it: machines, daemon, files."""
    place = scratch.make("virt")
    place.chmod(0o755)
    image(place)
    user = place / "u"
    (user / "run").mkdir(parents=True)
    for path in (user, user / "run"):
        os.chown(path, NOBODY, NOBODY)
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(user),
        "XDG_RUNTIME_DIR": str(user / "run"),
        **{f"XDG_{kind}_HOME": str(user / kind[:2]) for kind in ("CONFIG", "CACHE", "DATA")},
    }
    with (place / "libvirtd.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "setpriv",
                f"--reuid={NOBODY}",
                f"--regid={NOBODY}",
                "--clear-groups",
                "libvirtd",
                "--timeout=0",
            ],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        site = Site(place, process)
        try:
            yield site
        finally:  # libvirt's guests are no children of ours: whatever happened, they end here
            for name in site.virsh.active():
                site.call("destroy", name)
    finally:
        process.terminate()
        process.wait(30)
        Path("/dev/shm", SHARED).unlink(missing_ok=True)


def image(place: Path) -> None:
    """Kernel and initrd of the guests: busybox, QEMU's guest agent, and the libraries it needs, which QEMU
    needs as well."""
    files = kernels.files(kernels.kernel("6.1-cloud"))
    (place / "vmlinuz").write_bytes(files.vmlinuz.read_bytes())
    agent = cache.artefact("qemu-ga", {"suite": apt.SUITE}, _fetch_agent, "QEMU's guest agent") / "qemu-ga"
    shown = subprocess.run(["ldd", agent], capture_output=True, text=True, check=True).stdout
    libraries = [Path(found) for found in re.findall(r"(/\S+\.so\S*)", shown)]
    dependencies = kernels.parse_modules_dep((files.modules / "modules.dep").read_text())
    order = kernels.load_order(dependencies, ("virtio_pci", "virtio_console"))
    modules = {f"{kernels.module_name(path)}.ko": kernels.read_module(files.modules / path) for path in order}
    programs = {
        "bin/busybox": busybox().read_bytes(), "bin/qemu-ga": agent.read_bytes(), "init": INIT,
        "sbin/hwclock": HWCLOCK, "sbin/shutdown": SHUTDOWN,
        **{str(path)[1:]: path.read_bytes() for path in libraries},
        **{f"modules/{name}": data for name, data in modules.items()},
        "modules/order": "".join(f"{name}\n" for name in modules).encode(),
    }  # fmt: skip
    members = [
        *(Member(name, DIRECTORY | 0o755) for name in DIRECTORIES),
        Member("dev/console", DEVICE | 0o600, device=(5, 1)),
        *(Member(name, REGULAR | 0o755, data) for name, data in programs.items()),
    ]
    (place / "initrd").write_bytes(cpio(members))


def _fetch_agent(into: Path) -> None:
    deb = apt.download(["qemu-guest-agent"], into)[0]
    apt.unpack(deb, into / "tree")
    (into / "tree/usr/sbin/qemu-ga").rename(into / "qemu-ga")
