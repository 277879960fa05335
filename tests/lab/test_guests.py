"""The guests themselves: quick, separate, and dying in ways that can be told apart."""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import bare, kbuild, scratch
from lab.errors import BuildFailed, CommandFailed, CommandTimedOut, GuestHung, GuestLost, GuestPanicked
from lab.fixtures import BareGuests
from lab.guest import Guest
from lab.kernels import Kernel, Role
from lab.machine import Machine
from tests.lab.faults import SOURCES

pytestmark = pytest.mark.kernel
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def faults(lab_kernels: dict[Role, Kernel]) -> dict[str, Path]:
    return kbuild.build_modules(lab_kernels[Role.STABLE], SOURCES)


@pytest.fixture
def insert(faults: dict[str, Path]) -> Callable[[Guest, str], None]:
    def put_and_insert(guest: Guest, name: str) -> None:
        guest.put(f"/root/{name}.ko", faults[name].read_bytes())
        guest.exec(["insmod", f"/root/{name}.ko"], check=True)

    return put_and_insert


@pytest.mark.parametrize("role", list(Role))
def test_every_kernel_boots_with_livepatch(
    bare_guest: BareGuests, lab_kernels: dict[Role, Kernel], role: Role
) -> None:
    guest = bare_guest(role)
    assert guest.exec(["uname", "-r"]).text == lab_kernels[role].release
    assert guest.exec(["test", "-d", "/sys/kernel/livepatch"]).rc == 0
    guest.exec(["modprobe", "-a", "xfs", "vhost_net", "loop", "tun", "kvm_amd"], check=True)
    assert guest.exec(["test", "-c", "/dev/kvm"]).rc == 0


def test_guests_of_one_snapshot_differ_in_time_and_randomness(bare_guest: BareGuests) -> None:
    one, other = bare_guest(name="one"), bare_guest(name="other")
    assert abs(float(one.exec(["date", "+%s"]).text) - time.time()) < 5
    assert (
        one.python("import os; print(os.urandom(8).hex())").text
        != other.python("import os; print(os.urandom(8).hex())").text
    )


def test_a_panic_is_a_result(bare_guest: BareGuests, insert: Callable[[Guest, str], None]) -> None:
    guest = bare_guest()
    with pytest.raises(GuestPanicked, match="on purpose"):
        insert(guest, "lab_panic")
    with pytest.raises(GuestPanicked):
        guest.ping()


def test_an_oops_is_a_panic(bare_guest: BareGuests, insert: Callable[[Guest, str], None]) -> None:
    guest = bare_guest()
    with pytest.raises(GuestPanicked) as caught:
        insert(guest, "lab_oops")
    assert "NULL pointer dereference" in caught.value.console


def test_a_guest_can_be_made_to_survive_an_oops(
    bare_guest: BareGuests, insert: Callable[[Guest, str], None]
) -> None:
    guest = bare_guest(machine=Machine(oops_panics=False))
    with pytest.raises(CommandFailed):
        insert(guest, "lab_oops")
    assert "NULL pointer dereference" in guest.console


def test_a_hang_is_a_result(bare_guest: BareGuests, faults: dict[str, Path]) -> None:
    guest = bare_guest()
    guest.put("/root/lab_hang.ko", faults["lab_hang"].read_bytes())
    guest.spawn(["insmod", "/root/lab_hang.ko"])
    with pytest.raises(GuestHung):
        answers_until_it_hangs(guest)


def answers_until_it_hangs(guest: Guest) -> None:
    """Until the module gets to run, the guest answers: how often depends on which of them is quicker."""
    begun = time.monotonic()
    while time.monotonic() < begun + 60:
        guest.ping(timeout=3)


def test_a_guest_that_switches_itself_off_is_lost(bare_guest: BareGuests) -> None:
    guest = bare_guest()
    guest.spawn("sleep 0.2; echo o > /proc/sysrq-trigger")
    assert type(guest.wait_end()) is GuestLost


def test_a_command_past_its_time(bare_guest: BareGuests) -> None:
    guest = bare_guest()
    with pytest.raises(CommandTimedOut, match="begun"):
        guest.exec("echo begun; sleep 60", timeout=0.5)
    guest.ping()


def test_commands_overlap(bare_guest: BareGuests) -> None:
    guest = bare_guest()
    guest.exec(["mkfifo", "/root/gate"], check=True)
    waiting = [guest.spawn(f"cat /root/gate; echo {number}") for number in range(4)]
    assert guest.exec("echo > /root/gate").rc == 0
    for number, process in enumerate(waiting):
        if process.poll() is None:
            guest.exec("timeout 1 sh -c 'echo > /root/gate'")
        assert process.wait(20).text.endswith(str(number))


def test_two_processors(bare_guest: BareGuests) -> None:
    assert bare_guest(machine=Machine(smp=2)).exec(["nproc"]).text == "2"


def test_signatures_can_be_enforced(bare_guest: BareGuests, insert: Callable[[Guest, str], None]) -> None:
    guest = bare_guest(machine=Machine(cmdline=("module.sig_enforce=1",)))
    with pytest.raises(CommandFailed, match="Key was rejected by service"):
        insert(guest, "lab_harmless")


def test_the_release_before_takes_a_module_made_for_the_newest(
    bare_guest: BareGuests, lab_kernels: dict[Role, Kernel], insert: Callable[[Guest, str], None]
) -> None:
    """Why the project compares build-ids: with equal CRCs the kernel itself does not object."""
    same = lab_kernels[Role.PREVIOUS].module_layout == lab_kernels[Role.STABLE].module_layout
    with contextlib.nullcontext() if same else pytest.raises(CommandFailed, match="Invalid module format"):
        insert(bare_guest(Role.PREVIOUS), "lab_harmless")


def test_a_module_that_does_not_compile(lab_kernels: dict[Role, Kernel]) -> None:
    with pytest.raises(BuildFailed, match="undeclared"):
        kbuild.build_module(lab_kernels[Role.STABLE], {"bad.c": "int x = y;"})


def test_trees_and_large_files_arrive_whole(bare_guest: BareGuests, tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    data = os.urandom(3 << 20)
    (tmp_path / "a/b/data").write_bytes(data)
    guest = bare_guest()
    guest.put_tree(tmp_path, "/root/tree")
    assert guest.get("/root/tree/a/b/data") == data


def test_a_guest_outlives_the_thread_that_started_it(lab_kernels: dict[Role, Kernel]) -> None:
    """The kernel's parent-death signal is sent when the *thread* that forked ends."""
    started: list[Guest] = []
    thread = threading.Thread(target=lambda: started.append(bare.start(lab_kernels[Role.STABLE])))
    thread.start()
    thread.join()
    with started[0] as guest:
        guest.ping()


# A job in the background of a shell is born with SIGINT ignored, and so are its children.
OWNER = """
import signal, time
from lab import bare, kernels
signal.signal(signal.SIGINT, signal.default_int_handler)
guest = bare.start(kernels.kernel("6.1"))
print(guest.process.pid, guest.place.directory, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_guest_outlives_its_owner(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, cwd=REPOSITORY) as owner:
        assert owner.stdout is not None
        pid, directory = io.TextIOWrapper(owner.stdout).readline().split()
        watched = os.pidfd_open(int(pid))
        owner.send_signal(number)
    assert wait_readable(watched, 20), "QEMU is still running"
    scratch.sweep()
    assert not Path(directory).exists()


def wait_readable(pidfd: int, timeout: float) -> bool:
    """A process's file descriptor becomes readable when it ends (pidfd_open(2))."""
    ready = select.select([pidfd], [], [], timeout)[0]
    os.close(pidfd)
    return bool(ready)
