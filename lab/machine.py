"""What machine a guest is, and the QEMU command line that makes it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from lab import scratch
from lab.accel import TCG

AGENT_PORT = "lab.agent"
# panic=-1 reboots at once, which -no-reboot turns into the end of QEMU. no_timer_check: under load the
# emulated timer is late enough for "MP-BIOS bug: 8254 timer not connected". random.trust_cpu: no wait for
# entropy in an emulated machine. cgroup/audit/ipv6 are left as Debian has them.
COMMAND_LINE = (
    "console=ttyS0",
    "quiet",
    "panic=-1",
    "no_timer_check",
    "random.trust_cpu=on",
    "net.ifnames=0",
)
OOPS_PANICS = "oops=panic"
# tb-size in MiB: the default costs 80 MB more memory per guest and is no faster. One thread for all
# processors: with one each, QEMU before 8.2 translates a page while another processor writes it and keeps the
# stale code ("accel/tcg: Always lock pages before translation"). A processor running through a function that
# ftrace is just patching then meets the old int3 for ever: both processors hung, in one run of many.
EMULATION = f"{TCG},thread=single,tb-size=64"


@dataclasses.dataclass(frozen=True)
class Machine:
    """A guest's hardware and kernel parameters; equal machines of one kernel share a snapshot.

    `memory` is in MiB. `icount` ties the guest's clock to instructions executed (one processor only): its
    times do not depend on how busy the host is. `oops_panics` False lets the guest live on after an oops.
    """

    cmdline: tuple[str, ...] = ()
    smp: int = 1
    memory: int = 512
    cpu: str = "max"
    icount: bool = False
    oops_panics: bool = True

    def __post_init__(self) -> None:
        if self.icount and self.smp != 1:
            raise ValueError("icount needs smp=1: instruction counting is for one processor")

    def command_line(self) -> str:
        return " ".join([*COMMAND_LINE, *([OOPS_PANICS] if self.oops_panics else []), *self.cmdline])


PLAIN = Machine()


@dataclasses.dataclass(frozen=True)
class Disk:
    """A virtio disk of raw bytes. `serial` says what it is for: root, modules or state (guestfiles/init
    reads it).
    """

    path: Path
    serial: str
    read_only: bool = True


@dataclasses.dataclass(frozen=True)
class Place:
    """A directory with a guest's sockets and logs."""

    directory: Path

    @property
    def qmp(self) -> Path:
        return self.directory / "qmp"

    @property
    def agent(self) -> Path:
        return self.directory / "agent"

    @property
    def console(self) -> Path:
        return self.directory / "console.log"

    @property
    def qemu_log(self) -> Path:
        return self.directory / "qemu.log"


def new_place() -> Place:
    return Place(scratch.make("guest"))


def qemu_arguments(
    machine: Machine,
    accel: str,
    place: Place,
    kernel: Path,
    initrd: Path,
    disks: tuple[Disk, ...],
    memory_file: Path | None = None,
    memory_shared: bool = False,
    reboots: bool = False,
) -> list[str]:
    """QEMU's arguments, without its name. `memory_file` holds the guest's memory: shared to fill it,
    private to start from it.
    """
    return [
        "-machine", "pc,memory-backend=ram", *_accelerator(machine, accel), "-cpu", machine.cpu, "-smp",
        str(machine.smp), "-m", str(machine.memory), "-object", _memory(machine, memory_file,
        memory_shared), "-nodefaults", "-display", "none", *([] if reboots else ["-no-reboot"]), "-kernel",
        str(kernel), "-initrd", str(initrd), "-append", machine.command_line(), "-chardev",
        f"file,id=console,path={place.console},append=on", "-serial", "chardev:console", "-qmp",
        f"unix:{place.qmp},server=on,wait=off", "-netdev", "user,id=net0", "-device",
        "virtio-net-pci,netdev=net0,romfile=", "-device", "virtio-serial-pci", "-chardev",
        f"socket,id=agent,path={place.agent},server=on,wait=off", "-device",
        _agent_port(named=reboots), "-device", "virtio-rng-pci", *(argument for
        index, disk in enumerate(disks) for argument in _disk(index, disk)), ]  # fmt: skip


def _agent_port(named: bool) -> str:
    """QEMU tells when a port that has a name of its own is opened and closed: all that shows a kexec."""
    return f"virtserialport,chardev=agent,name={AGENT_PORT}" + (",id=agent" if named else "")


def _accelerator(machine: Machine, accel: str) -> list[str]:
    if machine.icount:
        return ["-accel", EMULATION, "-icount", "shift=1,sleep=on"]
    return ["-accel", EMULATION if accel == TCG else accel]


def _memory(machine: Machine, file: Path | None, shared: bool) -> str:
    if file is None:
        return f"memory-backend-ram,id=ram,size={machine.memory}M"
    return (
        f"memory-backend-file,id=ram,size={machine.memory}M,mem-path={file},share={'on' if shared else 'off'}"
    )


def _disk(index: int, disk: Disk) -> list[str]:
    options = (
        f"if=none,id=disk{index},file={disk.path},format=raw,readonly={'on' if disk.read_only else 'off'}"
    )
    return ["-drive", options, "-device", f"virtio-blk-pci,drive=disk{index},serial={disk.serial}"]
