"""Stragglers in trees like /proc: who is found, what is said of it, and what bounds the search."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.kernel import stragglers
from livepatch_core.kernel.roots import Roots
from livepatch_core.kernel.stragglers import Frame, Owner, Reason, Stat, TaskKind

KTHREAD = 0x00200000
SLEEPING = "[<0>] msleep+0x2d/0x40\n[<0>] slow_show+0x1f/0x50 [lab_stall]\n[<0>] seq_read_iter+0x123/0x480\n"
ELSEWHERE = "[<0>] do_sys_poll+0x3a/0x90\n[<0>] entry_SYSCALL_64_after_hwframe+0x6e/0xd8\n"
HEX = "0123456789abcdef" * 4


class Proc:
    """A /proc that is made thread by thread."""

    def __init__(self, directory: Path) -> None:
        self.roots = Roots.under(directory)
        self.roots.proc.mkdir()

    def add(
        self,
        tid: int,
        patch_state: int,
        *,
        pid: int | None = None,
        comm: str = "sleep",
        state: str = "S",
        flags: int = 0x400000,
        stack: str = ELSEWHERE,
        cgroup: str = "0::/system.slice/cron.service\n",
    ) -> Path:
        process = self.roots.proc / str(pid or tid)
        task = process / "task" / str(tid)
        task.mkdir(parents=True)
        (task / "patch_state").write_text(f"{patch_state}\n")
        (task / "stat").write_text(f"{tid} ({comm}) {state} 1 1 1 0 -1 {flags} 0 0 0\n")
        (task / "stack").write_text(stack)
        (task / "cgroup").write_text(cgroup)
        (process / "cmdline").write_bytes(b"" if flags & KTHREAD else b"/bin/" + comm.encode() + b"\x0060\0")
        return task

    def scan(self, target: int = 1, functions: str = "slow_show", **bounds: object) -> stragglers.Scan:
        return stragglers.scan(self.roots, target, frozenset([functions]), **bounds)  # type: ignore[arg-type]


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_among_500_threads_exactly_the_sleeper_and_its_function_are_named(proc: Proc) -> None:
    for tid in range(1000, 1500):
        sleeper = tid == 1234
        proc.add(tid, 0 if sleeper else 1, pid=1000, state="D" if sleeper else "S", stack=SLEEPING)
    scan = proc.scan()
    assert (scan.scanned, scan.complete) == (500, True)
    (found,) = scan.stragglers
    assert (found.tid, found.pid, found.comm, found.state) == (1234, 1000, "sleep", "D")
    assert (found.function, found.reason, found.patch_state) == ("slow_show", Reason.SLEEPING_IN, 0)
    assert found.stack[1] == "slow_show+0x1f/0x50 [lab_stall]"
    assert (found.unit, found.kind) == ("cron.service", TaskKind.USER)


def test_a_stall_without_a_visible_task_is_an_empty_complete_scan(proc: Proc) -> None:
    proc.add(1, 1)
    assert proc.scan() == stragglers.Scan((), 1, True)


def test_without_a_transition_nobody_is_a_straggler(proc: Proc) -> None:
    proc.add(1, -1)
    assert proc.scan(target=1).stragglers == proc.scan(target=0).stragglers == ()


def test_a_reversal_is_held_up_by_those_on_the_new_functions(proc: Proc) -> None:
    proc.add(1, 0)
    proc.add(2, 1, stack="[<0>] msleep+0x2d/0x40\n[<0>] new_show+0x1/0x2 [lp_one]\n")
    scan = stragglers.scan(proc.roots, 0, frozenset(["slow_show"]), modules=frozenset(["lp_one"]))
    (found,) = scan.stragglers
    assert (found.tid, found.function, found.reason) == (2, "new_show", Reason.SLEEPING_IN)


@pytest.mark.parametrize(
    ("state", "stack", "reason", "function"),
    [
        ("R", "", Reason.RUNNING, None),
        ("R", SLEEPING, Reason.RUNNING, "slow_show"),
        ("S", ELSEWHERE, Reason.UNKNOWN, "do_sys_poll"),
        ("S", "", Reason.UNKNOWN, None),
    ],
)
def test_the_reason_says_no_more_than_what_was_seen(
    proc: Proc, state: str, stack: str, reason: Reason, function: str | None
) -> None:
    proc.add(1, 0, state=state, stack=stack)
    (found,) = proc.scan().stragglers
    assert (found.reason, found.function) == (reason, function)


def test_the_innermost_patched_function_counts(proc: Proc) -> None:
    proc.add(1, 0, stack="[<0>] msleep+0x1/0x2\n[<0>] inner+0x1/0x2\n[<0>] outer+0x1/0x2\n")
    scan = stragglers.scan(proc.roots, 1, frozenset(["outer", "inner"]))
    assert scan.stragglers[0].function == "inner"


def test_the_search_ends_at_its_limit_and_says_so(proc: Proc) -> None:
    for tid in range(1, 21):
        proc.add(tid, 0)
    scan = proc.scan(limit=5)
    assert (len(scan.stragglers), scan.complete) == (5, False)
    assert proc.scan(limit=21).complete


def test_the_search_ends_at_its_time_and_says_so(proc: Proc) -> None:
    for tid in range(1, 21):
        proc.add(tid, 0)
    ticks = iter(range(100))
    scan = proc.scan(seconds=10.0, clock=lambda: float(next(ticks)))
    assert (scan.scanned, scan.complete) == (9, False)


def test_a_thread_that_ended_is_no_error(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = proc.add(7, 0)
    proc.add(8, 0)
    listed = list(stragglers._threads(str(proc.roots.proc)))
    shutil.rmtree(ended.parent.parent)
    monkeypatch.setattr(stragglers, "_threads", lambda _proc: iter(listed))
    scan = proc.scan()
    assert [found.tid for found in scan.stragglers] == [8]
    assert scan.complete


def test_a_process_that_ended_before_its_threads_were_listed_is_no_error(proc: Proc) -> None:
    (proc.roots.proc / "7").mkdir()
    assert proc.scan() == stragglers.Scan((), 0, True)


def test_a_thread_that_hides_its_state_makes_the_search_incomplete(proc: Proc) -> None:
    (proc.add(7, 0) / "patch_state").unlink()
    assert proc.scan() == stragglers.Scan((), 0, False)


def test_a_hidden_stack_does_not_hide_the_straggler(proc: Proc) -> None:
    (proc.add(7, 0) / "stack").unlink()
    (found,) = proc.scan().stragglers
    assert (found.tid, found.reason, found.stack) == (7, Reason.UNKNOWN, ())


def test_a_running_thread_of_a_process_with_vcpus_is_a_vcpu(proc: Proc) -> None:
    proc.add(7, 0, comm="worker", state="R")
    descriptors = proc.roots.proc / "7/fd"
    descriptors.mkdir()
    (descriptors / "3").symlink_to("/dev/null")
    assert proc.scan().stragglers[0].kind is TaskKind.USER
    (descriptors / "12").symlink_to("anon_inode:kvm-vcpu:0")
    assert proc.scan().stragglers[0].kind is TaskKind.VCPU


def test_the_guest_of_a_hypervisor_is_named(proc: Proc) -> None:
    task = proc.add(
        7, 0, comm="CPU 0/KVM", cgroup="0::/machine.slice/machine-qemu\\x2d3\\x2dweb.scope/libvirt/vcpu0\n"
    )
    (found,) = proc.scan().stragglers
    assert (found.machine, found.unit, found.kind) == ("web", "machine-qemu-3-web.scope", TaskKind.VCPU)
    (task.parent.parent / "cmdline").write_bytes(b"/usr/bin/qemu\0-name\0guest=web01,debug-threads=on\0")
    assert proc.scan().stragglers[0].machine == "web01"


@pytest.mark.parametrize(
    ("comm", "flags", "kind"),
    [
        ("kworker/0:1", KTHREAD, TaskKind.KTHREAD),
        ("vhost-4711", KTHREAD, TaskKind.VHOST),
        ("vhost-4711", 0x4000, TaskKind.VHOST),
        ("vhost-4711", 0, TaskKind.USER),  # anybody may call himself so
        ("iou-wrk-4711", 0x10, TaskKind.IO_WORKER),
        ("CPU 12/KVM", 0, TaskKind.VCPU),
        ("CPU 12/KVM", KTHREAD, TaskKind.KTHREAD),
        ("CPU 12/KVMs", 0, TaskKind.USER),
        ("bash", 0x400000, TaskKind.USER),
    ],
)
def test_kinds(comm: str, flags: int, kind: TaskKind) -> None:
    assert stragglers.kind_of(Stat(comm, "S", flags), (), holds_vcpus=False) is kind


def test_a_vcpu_is_known_by_what_it_sleeps_in() -> None:
    frames = stragglers.parse_stack(
        "[<0>] kvm_vcpu_block+0x1/0x2 [kvm]\n[<0>] kvm_vcpu_ioctl+0x1/0x2 [kvm]\n"
    )
    assert stragglers.kind_of(Stat("x", "S", 0), frames, holds_vcpus=False) is TaskKind.VCPU


def test_a_module_in_which_nobody_sleeps(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    for tid in range(100, 120):
        proc.add(tid, -1)
    assert not stragglers.may_run_in(proc.roots, "lab_stall")
    gone = proc.add(7, -1, stack=SLEEPING)
    assert stragglers.may_run_in(proc.roots, "lab_stall")
    assert not stragglers.may_run_in(proc.roots, "lab")
    shutil.rmtree(gone)
    assert not stragglers.may_run_in(proc.roots, "lab_stall"), "it has ended"


def test_where_not_every_thread_can_be_looked_at_somebody_may_be_in_it(proc: Proc) -> None:
    hidden = proc.add(7, -1) / "stack"
    ticks = iter(range(100))
    assert stragglers.may_run_in(proc.roots, "x", seconds=0.5, clock=lambda: float(next(ticks)))
    assert not stragglers.may_run_in(proc.roots, "x")
    hidden.unlink()
    assert stragglers.may_run_in(proc.roots, "x")


def test_frames() -> None:
    assert stragglers.parse_stack(SLEEPING + "garbage\n[<ffffffff81000000>] 0xffffffffffffffff\n") == (
        Frame("msleep", None, "msleep+0x2d/0x40"),
        Frame("slow_show", "lab_stall", "slow_show+0x1f/0x50 [lab_stall]"),
        Frame("seq_read_iter", None, "seq_read_iter+0x123/0x480"),
        Frame("0xffffffffffffffff", None, "0xffffffffffffffff"),
    )


def test_a_frame_keeps_the_compilers_suffix() -> None:
    (frame,) = stragglers.parse_stack("[<0>] do_nanosleep.isra.0+0x1/0x2\n")
    assert frame.function == "do_nanosleep.isra.0"


@given(st.text())
def test_no_stack_is_an_error(text: str) -> None:
    assert all(frame.function for frame in stragglers.parse_stack(text))


@given(st.text(max_size=15), st.sampled_from("RSDTtZXIP"), st.integers(0, 2**32 - 1))
def test_any_name_can_stand_in_a_stat_line(comm: str, state: str, flags: int) -> None:
    line = f"7 ({comm}) {state} 1 1 1 0 -1 {flags} 0 0\n"
    assert stragglers.parse_stat(line) == Stat(comm, state, flags)


@given(st.text())
def test_no_stat_line_is_an_error(text: str) -> None:
    stragglers.parse_stat(text)


@pytest.mark.parametrize(
    ("cgroup", "owner"),
    [
        ("0::/system.slice/nginx.service\n", Owner("nginx.service")),
        ("0::/system.slice/system-getty.slice/getty@tty1.service\n", Owner("getty@tty1.service")),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", Owner("session-3.scope")),
        (f"0::/system.slice/docker-{HEX}.scope\n", Owner(f"docker-{HEX}.scope", HEX)),
        (
            "9:memory:/a/much/longer/path/of/other.service\n1:name=systemd:/system.slice/a.service\n0::/b.service\n",
            Owner("a.service"),
        ),
        (f"12:cpu:/\n1:name=systemd:/docker/{HEX}\n0::/\n", Owner(None, HEX)),
        (
            f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{HEX}.scope\n",
            Owner(f"cri-containerd-{HEX}.scope", HEX),
        ),
        ("0::/lxc.payload.web/system.slice/sshd.service\n", Owner("sshd.service", "web")),
        (
            "0::/machine.slice/machine-qemu\\x2d1\\x2dweb\\x2d01.scope/libvirt/emulator\n",
            Owner("machine-qemu-1-web-01.scope", None, "web-01"),
        ),
        ("4:memory:/machine/web-01.libvirt-qemu\n", Owner(None, None, "web-01")),
        ("0::/machine.slice/machine-debian.scope\n", Owner("machine-debian.scope", None, "debian")),
        ("0::/\n", Owner()),
        ("", Owner()),
    ],
)
def test_owners(cgroup: str, owner: Owner) -> None:
    assert stragglers.owner_from_cgroup(cgroup) == owner


@given(st.text())
def test_no_cgroup_is_an_error(text: str) -> None:
    stragglers.owner_from_cgroup(text)


@pytest.mark.parametrize(
    ("cmdline", "machine"),
    [
        (b"qemu\0-name\0web01\0", "web01"),
        (b"qemu\0-name\0web01,process=x\0", "web01"),
        (b"qemu\0-name\0debug-threads=on,guest=web01\0-m\0512\0", "web01"),
        (b"qemu\0-name\0debug-threads=on\0", None),
        (b"qemu\0-name", None),
        (b"find\0.\0-newer\0x\0", None),
        (b"", None),
    ],
)
def test_machine_names(cmdline: bytes, machine: str | None) -> None:
    assert stragglers.machine_from_cmdline(cmdline) == machine
