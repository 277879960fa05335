"""Waiting, in a time of the test's own: each pause moves the clock and may change the kernel's files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livepatch_core.kernel import transition
from livepatch_core.kernel.roots import Roots
from livepatch_core.kernel.transition import Outcome, Watched


class Kernel:
    """A patch directory and a module directory that change at set times (seconds) of a clock of its own."""

    def __init__(self, directory: Path) -> None:
        self.roots = Roots.under(directory)
        self.patch = self.roots.sys / "kernel/livepatch/lp_one"
        self.module = self.roots.sys / "module/lp_one"
        self.time = 1000.0
        self.pauses: list[float] = []
        self.events: list[tuple[float, Callable[[], None]]] = []

    def show(self, *, enabled: str, transition: str) -> None:
        self.patch.mkdir(parents=True, exist_ok=True)
        (self.patch / "enabled").write_text(f"{enabled}\n")
        (self.patch / "transition").write_text(f"{transition}\n")

    def show_module(self, *, refcnt: str | None, initstate: str = "live") -> None:
        self.module.mkdir(parents=True, exist_ok=True)
        (self.module / "initstate").write_text(f"{initstate}\n")
        if refcnt is not None:
            (self.module / "refcnt").write_text(f"{refcnt}\n")

    def at(self, seconds: float, event: Callable[[], None]) -> None:
        self.events.append((1000.0 + seconds, event))

    def clock(self) -> float:
        return self.time

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time += seconds
        due = [event for when, event in self.events if when <= self.time]
        self.events = [(when, event) for when, event in self.events if when > self.time]
        for event in due:
            event()

    def wait(self, *, target: bool, deadline: float = 75.0) -> Watched:
        return transition.wait(
            self.roots, "lp_one", target=target, deadline=deadline, clock=self.clock, poll=self.pause
        )

    def wait_unloadable(self, deadline: float = 15.0) -> bool:
        return transition.wait_unloadable(self.roots, "lp_one", deadline, clock=self.clock, poll=self.pause)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_a_patch_that_is_through_is_complete_without_a_pause(kernel: Kernel) -> None:
    kernel.show(enabled="1", transition="0")
    assert kernel.wait(target=True) == Watched(Outcome.COMPLETE, 0.0)
    assert kernel.pauses == []


def test_the_end_of_a_transition_is_noticed_within_20_ms(kernel: Kernel) -> None:
    kernel.show(enabled="1", transition="1")
    kernel.at(1.4, lambda: kernel.show(enabled="1", transition="0"))
    watched = kernel.wait(target=True)
    assert watched.outcome is Outcome.COMPLETE
    assert 1.4 <= watched.seconds <= 1.42


def test_a_disabled_patch_is_complete_when_its_directory_goes(kernel: Kernel) -> None:
    kernel.show(enabled="0", transition="1")
    kernel.at(0.5, lambda: shutil.rmtree(kernel.patch))
    assert kernel.wait(target=False).outcome is Outcome.COMPLETE


def test_a_disabled_patch_is_complete_before_its_directory_goes(kernel: Kernel) -> None:
    kernel.show(enabled="0", transition="0")
    assert kernel.wait(target=False).outcome is Outcome.COMPLETE


@pytest.mark.parametrize("target", [True, False])
def test_the_opposite_value_at_the_end_means_reversed(kernel: Kernel, target: bool) -> None:
    kernel.show(enabled=str(int(target)), transition="1")
    kernel.at(0.2, lambda: kernel.show(enabled=str(int(not target)), transition="1"))
    kernel.at(0.4, lambda: kernel.show(enabled=str(int(not target)), transition="0"))
    assert kernel.wait(target=target).outcome is Outcome.REVERSED


def test_an_enabled_patch_whose_directory_goes_has_vanished(kernel: Kernel) -> None:
    kernel.show(enabled="1", transition="1")
    kernel.at(0.3, lambda: shutil.rmtree(kernel.patch))
    assert kernel.wait(target=True).outcome is Outcome.VANISHED


def test_a_directory_that_goes_between_the_two_reads_is_gone(kernel: Kernel) -> None:
    kernel.show(enabled="1", transition="0")
    (kernel.patch / "enabled").unlink()
    assert kernel.wait(target=True).outcome is Outcome.VANISHED
    assert kernel.wait(target=False).outcome is Outcome.COMPLETE


def test_a_value_that_cannot_be_read_is_not_taken_for_gone(kernel: Kernel) -> None:
    kernel.show(enabled="1", transition="0")
    (kernel.patch / "enabled").unlink()
    (kernel.patch / "enabled").mkdir()
    with pytest.raises(IsADirectoryError):
        kernel.wait(target=False)


def test_only_the_transition_file_is_polled(kernel: Kernel) -> None:
    """`enabled` is a directory here, so that any read of it before the end would be an error."""
    kernel.show(enabled="1", transition="1")
    (kernel.patch / "enabled").unlink()
    (kernel.patch / "enabled").mkdir()
    assert kernel.wait(target=True, deadline=1.0).outcome is Outcome.DEADLINE


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1))
def test_a_stall_ends_at_the_deadline(deadline: float) -> None:
    with tempfile.TemporaryDirectory() as directory:
        kernel = Kernel(Path(directory))
        kernel.show(enabled="1", transition="1")
        watched = kernel.wait(target=True, deadline=deadline)
    assert watched.outcome is Outcome.DEADLINE
    assert deadline <= watched.seconds <= deadline + 0.001 + 1e-6
    assert all(0 < pause <= 0.020 for pause in kernel.pauses)
    assert kernel.pauses[:-2] == sorted(kernel.pauses[:-2])
    assert len(kernel.pauses) <= 10 + deadline / 0.020 + 1


@given(st.integers(0, 4096), st.integers(0, 10**6), st.integers(0, 100), st.integers(0, 10**5))
def test_a_bigger_host_gets_no_less_time(cpus: int, threads: int, more_cpus: int, more: int) -> None:
    deadline = transition.deadline_for(cpus, threads)
    assert 75.0 <= deadline <= transition.deadline_for(cpus + more_cpus, threads + more)


def test_the_deadline_of_known_hosts() -> None:
    assert transition.deadline_for(2, 150) == pytest.approx(78.2, abs=0.1)
    assert transition.deadline_for(112, 3000) == pytest.approx(247.5, abs=0.1)
    assert transition.deadline_for(0, 0, base=10.0) == 10.0


def test_a_module_is_free_when_nothing_holds_it(kernel: Kernel) -> None:
    kernel.show_module(refcnt="1")
    kernel.at(0.1, lambda: kernel.show_module(refcnt="0"))
    assert kernel.wait_unloadable()
    assert 0.1 <= sum(kernel.pauses) <= 0.12


@pytest.mark.parametrize(
    ("refcnt", "state"), [("1", "live"), ("0", "going"), ("0", "coming"), ("-1", "live")]
)
def test_a_module_in_use_or_on_its_way_is_not_free(kernel: Kernel, refcnt: str, state: str) -> None:
    kernel.show_module(refcnt=refcnt, initstate=state)
    assert not kernel.wait_unloadable(deadline=2.0)
    assert sum(kernel.pauses) == pytest.approx(2.0)


def test_a_module_that_is_gone_is_free(kernel: Kernel) -> None:
    kernel.show_module(refcnt="1")
    kernel.at(0.1, lambda: shutil.rmtree(kernel.module))
    assert kernel.wait_unloadable()


def test_a_kernel_that_cannot_unload_is_not_waited_for(kernel: Kernel) -> None:
    kernel.show_module(refcnt=None)
    assert not kernel.wait_unloadable()
    assert kernel.pauses == []
