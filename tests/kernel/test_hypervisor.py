"""The hypervisor's own case: a processor spinning in guest mode and a vhost worker as stragglers."""

from __future__ import annotations

import time

import pytest

from lab.machine import Machine
from tests.kernel import HERE
from tests.kernel.patchable import Patchable

SPINNING_VCPU = HERE / "spinning_vcpu.py"
VHOST_WORKER = """
import fcntl, os, signal
fcntl.ioctl(os.open("/dev/vhost-net", os.O_RDWR), 0xAF01)  # VHOST_SET_OWNER starts the worker
open("/run/vhost-worker", "w").close()
signal.pause()
"""


# Whatever shares the spinning processor preempts it at times, and a task that is not running can be switched.
LEAVE_CPU_1 = """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    if os.path.exists(f"/proc/{pid}/exe"):  # kernel threads have none
        os.sched_setaffinity(int(pid), {0})
"""


@pytest.fixture
def hypervisor(start) -> Patchable:
    """Two CPUs that offer SVM. Fails, rather than skips, where the emulator stops doing so."""
    host = start(Machine(smp=2))
    host.guest.exec("modprobe kvm_amd && test -c /dev/kvm", check=True)
    return host


def test_a_spinning_vcpu_switches_at_the_fake_signal(hypervisor, modules):
    hypervisor.publish({1: modules["lp_level_1"]})
    hypervisor.guest.python(LEAVE_CPU_1)
    spinner = hypervisor.guest.spawn_python(SPINNING_VCPU.read_text())
    # Its guest time (proc(5), field 43); a starting Python has user time as well, on a busy machine more.
    in_guest_mode = f"until [ $(cut -d' ' -f43 /proc/{spinner.pid}/stat) -gt 20 ]; do sleep 0.1; done"
    hypervisor.guest.exec(in_guest_mode, timeout=60, check=True)

    begun = hypervisor.begin("apply", level=1, reason="a test", settings={"deadline": 60})
    named = _stragglers(hypervisor, "lp_level_1", spinner.pid)
    done = hypervisor.result(begun)

    assert named["kind"] == "vcpu", named
    assert named["reason"] == "running", named
    assert done["result"] is True, done
    assert done["seconds"] > 14  # SIGNALS_TIMEOUT of the kernel: 15 rounds of a second
    assert spinner.poll() is None  # the virtual machine runs on
    spinner.kill()


def test_a_vhost_worker_in_the_patched_function(hypervisor, modules):
    hypervisor.guest.exec("modprobe vhost_net", check=True)
    owner = hypervisor.guest.spawn_python(VHOST_WORKER)
    hypervisor.guest.exec("until [ -e /run/vhost-worker ]; do sleep 0.05; done", timeout=60, check=True)
    hypervisor.publish({1: modules["lp_vhost"]})

    done = hypervisor.to_level(1, settings={"deadline": 2}, override=["target-build"])

    assert (done["result"], done["kind"]) == (False, "reversed"), done
    [worker] = done["stragglers"]
    assert (worker["kind"], worker["function"]) == ("vhost", "vhost_worker")
    assert str(owner.pid) in worker["comm"]  # vhost-<pid of the owner>
    assert hypervisor.status()["verdict"] == "unpatched"
    owner.kill()


def _stragglers(host: Patchable, patch: str, pid: int) -> dict[str, object]:
    """The straggler of that process, as livepatch.transition names it while the transition runs."""
    host.until_patching(patch)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        seen = host.ask("transition")
        for one in seen.get("stragglers", ()):
            if one["pid"] == pid:
                return one
    raise AssertionError(f"process {pid} was never named as a straggler: {seen}")
