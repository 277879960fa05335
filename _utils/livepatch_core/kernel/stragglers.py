"""Which threads hold up a transition, on which function they sleep, and whose they are.

Threads, not processes: each thread has its own ``patch_state`` (-1 no transition, 0 on the old
functions, 1 on the new ones). Idle tasks ("swapper") count for the kernel too but are not in /proc, so a
stall without any straggler is possible.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from livepatch_core.kernel.roots import Roots
from livepatch_core.words import Word

# include/linux/sched.h; PF_USER_WORKER exists since 6.4 (before, the bit said something unrelated about
# a task's first use of asynchronous calls, which is why no kind rests on it alone).
_PF_IO_WORKER = 0x00000010
_PF_USER_WORKER = 0x00004000
_PF_KTHREAD = 0x00200000

# QEMU names its vCPU threads so when told `-name ...,debug-threads=on`, which libvirt always does.
_VCPU_COMM = re.compile(r"CPU \d+/KVM\Z")
_VCPU_FUNCTIONS = ("kvm_vcpu_ioctl", "kvm_arch_vcpu_ioctl_run", "kvm_arch_vcpu_ioctl")
# A hypervisor's process holds its vCPUs' descriptors among at most some thousand others.
_DESCRIPTORS_MAX = 4096
# /proc files read here are a page at most, except a command line: QEMU's -name stands early.
_READ_MAX = 65536

# A task that ended, or a file that this kernel or this user's rights do not offer.
_NOT_SHOWN = (errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM)

_FRAME = re.compile(r"\[<[0-9a-f]*>\] ([^\s+]+)(?:\+0x[0-9a-f]+/0x[0-9a-f]+)?(?: \[([^\]\s]+)[^\]]*\])?\s*\Z")
_UNIT = re.compile(r".+\.(?:service|scope|socket|mount|swap)\Z")
_CONTAINER = re.compile(r"(?:docker-|libpod-|cri-containerd-|crio-)?([0-9a-f]{64})(?:\.scope)?\Z")
_LXC = re.compile(r"lxc\.payload\.(.+)\Z")
_MACHINE_SCOPE = re.compile(r"machine-(.+)\.scope\Z")
_LIBVIRT_NAME = re.compile(r"(?:qemu|lxc)-\d+-(.+)\Z")
_LIBVIRT_OLD = re.compile(r"(.+)\.libvirt-(?:qemu|lxc)\Z")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


class TaskKind(Word):
    """What sort of task a straggler is: who can do something about it."""

    USER = "user"
    KTHREAD = "kthread"  # cannot be helped by the kernel's fake signal
    VCPU = "vcpu"  # switches when it leaves guest mode: at the fake signal, 15 s
    VHOST = "vhost"
    IO_WORKER = "io-worker"


class Reason(Word):
    """Why it has not switched."""

    SLEEPING_IN = "sleeping-in"  # a patched function is on its stack
    RUNNING = "running"  # a running task's stack cannot be checked
    UNRELIABLE_STACK = "unreliable-stack"  # only the kernel can tell (``reasons.ask``)
    UNKNOWN = "unknown"  # it sleeps, and nothing patched is seen on its stack, or that cannot be read


@dataclass(frozen=True)
class Frame:
    """One line of /proc/<pid>/stack; ``text`` as printed, without the address."""

    function: str
    module: str | None
    text: str


@dataclass(frozen=True)
class Stat:
    """The fields of /proc/<pid>/task/<tid>/stat that matter here."""

    comm: str
    state: str
    flags: int


@dataclass(frozen=True)
class Owner:
    """Whose a task is, from its cgroup: systemd unit, container id or name, virtual machine name."""

    unit: str | None = None
    container: str | None = None
    machine: str | None = None


@dataclass(frozen=True)
class Straggler:
    """A thread whose ``patch_state`` is not the transition's target. ``function`` is the innermost patched
    function on its stack, or, without one, the function it sleeps in; ``stack`` innermost first."""

    tid: int
    pid: int
    comm: str
    kind: TaskKind
    state: str
    patch_state: int
    function: str | None
    stack: tuple[str, ...]
    reason: Reason
    unit: str | None
    container: str | None
    machine: str | None


@dataclass(frozen=True)
class KernelReason:
    """What the kernel itself said of one task; ``tid`` is 0 for the idle tasks ("swapper/<cpu>")."""

    comm: str
    tid: int
    reason: Reason
    function: str | None


@dataclass(frozen=True)
class Scan:
    """``scanned`` threads were asked; not ``complete`` when a bound ended the scan or a thread refused.

    unseen: tasks that only the kernel names (kernel/reasons.py): idle ones, those of another PID namespace,
    those past the bounds.
    """

    stragglers: tuple[Straggler, ...]
    scanned: int
    complete: bool
    unseen: tuple[KernelReason, ...] = ()


def scan(
    roots: Roots,
    target: int,
    functions: frozenset[str],
    *,
    modules: frozenset[str] = frozenset(),
    seconds: float = 2.0,
    limit: int = 50,
    clock: Callable[[], float] = time.monotonic,
) -> Scan:
    """The threads that hold up the transition to ``target`` (the patch's ``enabled``: 1 or 0).

    functions: names of the functions the patch replaces; modules: names of livepatch modules, in whose
    code a task sleeps when it is the *new* function that holds up a reversal. The scan ends after
    ``seconds`` or ``limit`` stragglers, so that it is bounded on a host with 100,000 threads. A thread
    that ends while it is looked at is no error. Without root, stacks and states of others are refused.
    """
    ends = clock() + seconds
    proc = os.fspath(roots.proc)
    found: list[Straggler] = []
    scanned = 0
    complete = True
    for pid, tid in _threads(proc):
        if clock() >= ends or len(found) >= limit:
            return Scan(tuple(found), scanned, False)
        task = f"{proc}/{pid}/task/{tid}"
        try:
            state = _patch_state(task)
            if state is not None:
                scanned += 1
                if state in (0, 1) and state != target:
                    found.append(_straggler(proc, int(pid), int(tid), state, functions, modules))
        except OSError as error:
            if not _vanished(error, task):
                complete = False
    return Scan(tuple(found), scanned, complete)


def may_run_in(
    roots: Roots, module: str, *, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic
) -> bool:
    """Whether a thread has code of the module on its stack, or it cannot be told of all of them in time.

    The kernel lets a livepatch go when no task has one of its functions on its stack; of code that these only
    jump to it does not know (build/cover.py). A thread that runs at this moment shows no stack.
    """
    ends = clock() + seconds
    proc = os.fspath(roots.proc)
    for pid, tid in _threads(proc):
        if clock() >= ends:
            return True
        task = f"{proc}/{pid}/task/{tid}"
        try:
            frames = _stack(task)
        except OSError as error:
            if _vanished(error, task):
                continue
            return True
        if frames is None or any(frame.module == module for frame in frames):
            return True
    return False


def parse_stack(text: str) -> tuple[Frame, ...]:
    """The frames of a /proc/<pid>/stack, innermost first; lines that are none are skipped."""
    matches = (_FRAME.match(line.strip()) for line in text.splitlines())
    return tuple(
        Frame(match.group(1), match.group(2), match.group(0).split("] ", 1)[1].strip())
        for match in matches
        if match is not None
    )


def parse_stat(text: str) -> Stat | None:
    """A stat line; the name may hold anything, parentheses and newlines too, so the last one counts."""
    opening, closing = text.find("("), text.rfind(")")
    fields = text[closing + 1 :].split()
    if not 0 < opening < closing or len(fields) < 7 or not fields[6].isdigit():
        return None
    return Stat(text[opening + 1 : closing], fields[0], int(fields[6]))


def kind_of(stat: Stat, frames: tuple[Frame, ...], *, holds_vcpus: bool) -> TaskKind:
    """The kind of a task. A name alone proves nothing (prctl sets it), except that of a vCPU thread, which
    is believed when its process holds vCPU descriptors or it is a user task that QEMU would name so."""
    if stat.comm.startswith("vhost-") and stat.flags & (_PF_KTHREAD | _PF_USER_WORKER):
        return TaskKind.VHOST
    if stat.flags & _PF_IO_WORKER:
        return TaskKind.IO_WORKER
    if stat.flags & _PF_KTHREAD:
        return TaskKind.KTHREAD
    if _VCPU_COMM.match(stat.comm) or any(frame.function in _VCPU_FUNCTIONS for frame in frames):
        return TaskKind.VCPU
    # A user task that runs and never returns to user mode, in a process with vCPUs: it is in the guest.
    return TaskKind.VCPU if holds_vcpus and stat.state == "R" else TaskKind.USER


def owner_from_cgroup(text: str) -> Owner:
    """The owner by /proc/<pid>/cgroup: version 2's line, or systemd's or the first named of version 1."""
    parts = [part for part in _cgroup_path(text).split("/") if part]
    owner = Owner()
    for part in parts:  # the innermost of each wins
        name = _ESCAPE.sub(lambda found: chr(int(found.group(1), 16)), part)
        owner = Owner(
            name if _UNIT.match(name) else owner.unit,
            _container(name) or owner.container,
            _machine(name) or owner.machine,
        )
    return owner


def machine_from_cmdline(cmdline: bytes) -> str | None:
    """The guest's name by QEMU's ``-name [guest=]NAME[,...]``; None for other command lines."""
    arguments = cmdline.split(b"\0")
    for option, value in zip(arguments, arguments[1:]):
        if option in (b"-name", b"--name"):
            fields = dict(field.partition("=")[::2] for field in value.decode(errors="replace").split(","))
            first = value.decode(errors="replace").split(",", 1)[0]
            return fields.get("guest") or (first if "=" not in first else None)
    return None


def _container(name: str) -> str | None:
    match = _CONTAINER.match(name) or _LXC.match(name)
    return match.group(1) if match else None


def _machine(name: str) -> str | None:
    """libvirt: machine-qemu-<n>-<name>.scope, earlier <name>.libvirt-qemu; nspawn: machine-<name>.scope."""
    scope = _MACHINE_SCOPE.match(name)
    if scope is None:
        old = _LIBVIRT_OLD.match(name)
        return old.group(1) if old else None
    libvirt = _LIBVIRT_NAME.match(scope.group(1))
    return libvirt.group(1) if libvirt else scope.group(1)


def _cgroup_path(text: str) -> str:
    lines = [line.split(":", 2) for line in text.splitlines()]
    paths = {controllers: path for _, controllers, path in (line for line in lines if len(line) == 3)}
    for controllers in ("name=systemd", ""):
        if paths.get(controllers, "/") != "/":
            return paths[controllers]
    return max(paths.values(), key=len, default="")


def _threads(proc: str) -> Iterator[tuple[str, str]]:
    for pid in _numbers_in(proc):
        for tid in _numbers_in(f"{proc}/{pid}/task"):
            yield pid, tid


def _numbers_in(directory: str) -> list[str]:
    try:
        return [name for name in os.listdir(directory) if name.isdigit()]
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            return []
        raise


def _patch_state(task: str) -> int | None:
    text = _read(f"{task}/patch_state").strip()
    return int(text) if text.lstrip(b"-").isdigit() else None


def _straggler(
    proc: str, pid: int, tid: int, patch_state: int, functions: frozenset[str], modules: frozenset[str]
) -> Straggler:
    task = f"{proc}/{pid}/task/{tid}"
    stat = parse_stat(_read(f"{task}/stat").decode(errors="replace")) or Stat("?", "?", 0)
    frames = _stack(task)
    patched = next((f for f in frames or () if f.function in functions or f.module in modules), None)
    shown = patched or (frames[0] if frames else None)
    holds_vcpus = stat.state == "R" and not stat.flags & _PF_KTHREAD and _holds_vcpus(f"{proc}/{pid}/fd")
    owner = owner_from_cgroup(_read_or_nothing(f"{task}/cgroup").decode(errors="replace"))
    return Straggler(
        tid=tid,
        pid=pid,
        comm=stat.comm,
        kind=kind_of(stat, frames or (), holds_vcpus=holds_vcpus),
        state=stat.state,
        patch_state=patch_state,
        function=shown.function if shown else None,
        stack=tuple(frame.text for frame in frames or ()),
        reason=_reason(stat.state, patched),
        unit=owner.unit,
        container=owner.container,
        machine=machine_from_cmdline(_read_or_nothing(f"{proc}/{pid}/cmdline")) or owner.machine,
    )


def _reason(state: str, patched: Frame | None) -> Reason:
    """As far as /proc tells: it leaves functions of the scheduler (``__sched``) out of a stack, so that
    seeing nothing patched there does not prove an unreliable stack."""
    if state == "R":
        return Reason.RUNNING
    return Reason.UNKNOWN if patched is None else Reason.SLEEPING_IN


def _stack(task: str) -> tuple[Frame, ...] | None:
    """None where the stack is refused (not root) or the kernel does not offer it."""
    try:
        return parse_stack(_read(f"{task}/stack").decode(errors="replace"))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM) and os.path.exists(task):
            return None
        raise


def _holds_vcpus(directory: str) -> bool:
    """Whether a process has vCPU descriptors (virt/kvm/kvm_main.c names them kvm-vcpu:<n>)."""
    try:
        numbers = os.listdir(directory)[:_DESCRIPTORS_MAX]
    except OSError as error:
        if error.errno not in _NOT_SHOWN:
            raise
        return False
    return any(_link(f"{directory}/{number}").startswith("anon_inode:kvm-vcpu") for number in numbers)


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError as error:
        if error.errno in _NOT_SHOWN:
            return ""
        raise


def _read_or_nothing(path: str) -> bytes:
    """What only adds to the picture of a straggler must not hide it."""
    try:
        return _read(path)
    except OSError as error:
        if error.errno in _NOT_SHOWN:
            return b""
        raise


def _read(path: str) -> bytes:
    """A small file by bare system calls: this runs once for every thread of the host."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _READ_MAX)
    finally:
        os.close(descriptor)


def _vanished(error: OSError, task: str) -> bool:
    """Whether the thread ended while it was read; ENOENT of a file in a directory that stays is a refusal."""
    return error.errno in (errno.ENOENT, errno.ESRCH) and not os.path.exists(task)
