"""The kernel's own reasons: its messages, what they add to a scan, and that the messages go off again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.kernel import kmsg, reasons
from livepatch_core.kernel.reasons import KernelReason
from livepatch_core.kernel.roots import Roots
from livepatch_core.kernel.stragglers import Reason, Scan, Straggler, TaskKind

SITE = (
    'kernel/livepatch/transition.c:{line} [livepatch]klp_try_switch_task ={flags} "%s: %s:%d is running\\n"\n'
)


def straggler(tid: int) -> Straggler:
    return Straggler(
        tid, tid, "cat", TaskKind.USER, "S", 0, "hrtimer_nanosleep", (), Reason.UNKNOWN, None, None, None
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "livepatch: klp_try_switch_task: sleep:663 is sleeping on function do_nanosleep",
            KernelReason("sleep", 663, Reason.SLEEPING_IN, "do_nanosleep"),
        ),
        (
            "livepatch: klp_try_switch_task: swapper/1:0 is running",
            KernelReason("swapper/1", 0, Reason.RUNNING, None),
        ),
        (
            "livepatch: klp_check_stack: a: is running:7 has an unreliable stack",
            KernelReason("a: is running", 7, Reason.UNRELIABLE_STACK, None),
        ),
        ("livepatch: signaling remaining tasks", None),
        ("livepatch: klp_try_switch_task: x:y is running", None),
    ],
)
def test_messages(text: str, expected: KernelReason | None) -> None:
    assert reasons.parse_reason(text) == expected


@given(st.text())
def test_no_message_is_an_error(text: str) -> None:
    reasons.parse_reason(text)


def test_the_kernels_word_replaces_the_guess_and_the_unseen_are_told_apart() -> None:
    scan = Scan((straggler(663), straggler(664)), 50, True)
    told = (
        KernelReason("sleep", 663, Reason.SLEEPING_IN, "do_nanosleep"),
        KernelReason("swapper/1", 0, Reason.RUNNING, None),
    )
    better = reasons.explained(scan, told)
    assert [(s.tid, s.reason, s.function) for s in better.stragglers] == [
        (663, Reason.SLEEPING_IN, "do_nanosleep"),
        (664, Reason.UNKNOWN, "hrtimer_nanosleep"),
    ]
    assert (better.scanned, better.complete) == (50, True)
    assert better.unseen == (told[1],)


class Kernel:
    """A log and a control file; the log has grown by one line each time it is waited for."""

    def __init__(self, directory: Path, flags: str, lines: list[str]) -> None:
        self.roots = Roots.under(directory)
        self.control = self.roots.proc / "dynamic_debug/control"
        self.control.parent.mkdir(parents=True)
        self.control.write_text('mm/slub.c:1 [slub]x =_ ""\n' + SITE.format(line=1, flags=flags))
        self.log = self.roots.dev / "kmsg"
        self.log.parent.mkdir()
        self.log.write_text("6,1,1,-;livepatch: klp_try_switch_task: old:1 is running\n")
        self.lines = lines
        self.waited: list[float] = []
        self.queries: list[str] = []
        self.time = 0.0

    def wait(self, _tail: kmsg.Tail, seconds: float) -> bool:
        self.waited.append(seconds)
        if not self.lines:
            self.time += seconds
            return False
        with self.log.open("a") as log:
            log.write(f"7,2,2,-;{self.lines.pop(0)}\n")
        return True

    def ask(self) -> tuple[KernelReason, ...] | None:
        return reasons.ask(self.roots, seconds=2.0, clock=lambda: self.time)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return watched(Kernel(tmp_path, "_", []), monkeypatch)


def watched(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr(kmsg.Tail, "wait", lambda tail, seconds: kernel.wait(tail, seconds))
    monkeypatch.setattr(reasons, "_write", lambda _path, query: kernel.queries.append(query))
    return kernel


RUNNING = "livepatch: klp_try_switch_task: a:7 is running"
IDLE = "livepatch: klp_try_switch_task: swapper/{}:0 is running"


def test_the_reasons_of_one_round_are_collected_and_the_messages_go_off(kernel: Kernel) -> None:
    kernel.lines = [RUNNING, IDLE.format(0), IDLE.format(1), "something else", RUNNING]
    assert kernel.ask() == (
        KernelReason("a", 7, Reason.RUNNING, None),
        KernelReason("swapper/0", 0, Reason.RUNNING, None),
        KernelReason("swapper/1", 0, Reason.RUNNING, None),
    )
    assert kernel.waited[0] == 2.0  # a round may be two seconds away
    assert kernel.waited[-1] == 0.1  # but the rest of it is not
    assert [query[-2:] for query in kernel.queries] == ["+p", "-p"]


def test_without_a_round_it_ends_at_its_time(kernel: Kernel) -> None:
    assert kernel.ask() == ()
    assert kernel.time == 2.0
    assert [query[-2:] for query in kernel.queries] == ["+p", "-p"]


def test_messages_that_somebody_switched_on_stay_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = watched(Kernel(tmp_path, "pf", [RUNNING]), monkeypatch)
    answer = kernel.ask()
    assert answer is not None
    assert len(answer) == 1
    assert kernel.queries == []


def test_the_messages_go_off_when_reading_fails(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_tail: kmsg.Tail, _seconds: float) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(kmsg.Tail, "wait", failing)
    with pytest.raises(KeyboardInterrupt):
        kernel.ask()
    assert [query[-2:] for query in kernel.queries] == ["+p", "-p"]


def test_a_kernel_that_cannot_be_asked_gives_none(kernel: Kernel) -> None:
    kernel.control.unlink()
    assert kernel.ask() is None
    kernel.log.unlink()
    assert kernel.ask() is None
