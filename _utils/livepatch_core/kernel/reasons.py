"""Why a task has not switched, in the kernel's own words.

/proc shows where a task sleeps, but not why the kernel did not switch it: functions of the scheduler
(``__sched``, e.g. do_nanosleep) are left out of /proc/<pid>/stack, whether a stack is reliable is shown
nowhere, and idle tasks have no entry. The kernel knows, and tells it in debug messages only
(kernel/livepatch/transition.c, klp_try_switch_task), which can be switched on for a round or two.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from livepatch_core.kernel import kmsg
from livepatch_core.kernel.roots import Roots
from livepatch_core.kernel.stragglers import KernelReason, Reason, Scan

# klp_try_complete_transition() runs about once a second; round_jiffies_relative() moves it to a whole
# second, so that almost two can lie between two rounds.
WINDOW = 2.5
# The messages of one round follow each other at once: when the log has been quiet for so long after one,
# the round is over.
_QUIET = 0.1
_QUERY = "file kernel/livepatch/transition.c func klp_try_switch_task"
_SITE = re.compile(r"^kernel/livepatch/transition\.c:\d+ \[[^\]]*\]klp_try_switch_task =(\S+)", re.MULTILINE)

_MESSAGE = re.compile(
    r"klp_\w+: (?P<comm>.*):(?P<tid>\d+) (?:is (?P<running>running)|has an (?P<unreliable>unreliable) stack"
    r"|is sleeping on function (?P<function>\S+))\Z"
)


def parse_reason(text: str) -> KernelReason | None:
    """A kernel log text; None for any but the three messages about a task (klp_try_switch_task since 5.17,
    before that klp_check_stack names itself in two of them)."""
    match = _MESSAGE.search(text)
    if match is None:
        return None
    reason = Reason.RUNNING if match["running"] else Reason.SLEEPING_IN
    reason = Reason.UNRELIABLE_STACK if match["unreliable"] else reason
    return KernelReason(match["comm"], int(match["tid"]), reason, match["function"])


def explained(scan: Scan, reasons: Sequence[KernelReason]) -> Scan:
    """The scan with the kernel's reasons in place of those guessed from /proc, and the tasks that only the
    kernel names as ``unseen``."""
    by_tid = {reason.tid: reason for reason in reasons}
    stragglers = tuple(
        dataclasses.replace(
            straggler,
            reason=by_tid[straggler.tid].reason,
            function=by_tid[straggler.tid].function or straggler.function,
        )
        if straggler.tid in by_tid
        else straggler
        for straggler in scan.stragglers
    )
    shown = {straggler.tid for straggler in stragglers}
    unseen = tuple(reason for reason in reasons if reason.tid not in shown)
    return dataclasses.replace(scan, stragglers=stragglers, unseen=unseen)


def ask(
    roots: Roots,
    *,
    seconds: float = WINDOW,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[KernelReason, ...] | None:
    """The kernel's reasons in its next round, waiting at most ``seconds``; () when it gave none.

    None where it cannot be asked: no dynamic debug in this kernel, or no right to it or to the log. The
    kernel writes a line for each task, so do not ask while thousands are left. If this process dies here,
    the messages stay on: a line a second and straggler in the log until the transition ends.
    """
    control = roots.proc / "dynamic_debug/control"
    try:
        with kmsg.Tail(roots) as tail, _messages_on(control):
            return _collect(tail, clock() + seconds, clock)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EINVAL):
            return None
        raise


def _collect(tail: kmsg.Tail, ends: float, clock: Callable[[], float]) -> tuple[KernelReason, ...]:
    found: dict[tuple[str, int], KernelReason] = {}
    while (left := ends - clock()) > 0:
        if not tail.wait(min(left, _QUIET) if found else left) and found:
            break
        for record in tail.drain():
            reason = parse_reason(record.text)
            if reason is not None:
                found[reason.comm if reason.tid == 0 else "", reason.tid] = reason
    return tuple(found.values())


@contextmanager
def _messages_on(control: Path) -> Iterator[None]:
    """Switches the messages on and off again; off only if nobody had switched them on before."""
    flags = _SITE.findall(control.read_text("ascii", "replace"))
    ours = bool(flags) and not any("p" in found for found in flags)
    if ours:
        _write(control, f"{_QUERY} +p")
    try:
        yield
    finally:
        if ours:
            _write(control, f"{_QUERY} -p")


def _write(path: Path, query: str) -> None:
    """One query in one write(2), without creating the file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, query.encode())
    finally:
        os.close(descriptor)
