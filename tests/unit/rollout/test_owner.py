"""One owner at a time, for as long as its process lives."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.rollout import owner
from livepatch_core.rollout.clock import SystemClock
from livepatch_core.rollout.owner import OwnerKind
from livepatch_core.words import Kind

FORK = multiprocessing.get_context("fork")


def holding(directory: Path, there: Any) -> None:
    with owner.hold(directory, OwnerKind.ENGINE, "salt", SystemClock()):
        there.set()
        signal.pause()


@pytest.fixture
def other(tmp_path: Path) -> Any:
    """A process that owns the rollout."""
    there = FORK.Event()
    process = FORK.Process(target=holding, args=(tmp_path, there))
    process.start()
    assert there.wait(60)
    yield process
    process.kill()  # an event that a killed process waited for could never be set: set() waits for it
    process.join()


def take(directory: Path) -> None:
    with owner.hold(directory, OwnerKind.FOREGROUND, "alice", SystemClock()):
        pass


def test_the_second_is_told_who_is_first(tmp_path: Path, other: Any) -> None:
    with pytest.raises(LivepatchError, match=f"the engine process {other.pid} of salt") as caught:
        take(tmp_path)
    assert caught.value.kind is Kind.BUSY
    found = owner.holder(tmp_path)
    assert found is not None and (found.pid, found.kind, found.user) == (other.pid, "engine", "salt")
    assert f"kill {other.pid}" in owner.explain(tmp_path)


def test_a_stopped_owner_keeps_it_and_a_killed_one_does_not(tmp_path: Path, other: Any) -> None:
    """Who is stopped may wake up and dispatch; who is dead cannot."""
    os.kill(other.pid, signal.SIGSTOP)
    with pytest.raises(LivepatchError):
        take(tmp_path)
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    take(tmp_path)
    assert owner.holder(tmp_path) is None
    assert "Nobody holds" in owner.explain(tmp_path)


def test_a_heartbeat_decides_nothing(tmp_path: Path, other: Any) -> None:
    """Neither one that is damaged nor one that names somebody else."""
    for text in ("{", json.dumps({"host": "x", "pid": 1, "user": "u", "kind": "engine", "at": "then"})):
        (tmp_path / owner.HEARTBEAT).write_text(text)
        with pytest.raises(LivepatchError):
            take(tmp_path)


def test_asking_is_never_in_the_way(tmp_path: Path) -> None:
    """Whoever asks for the holder tries the lock for a moment; nobody may fail for that."""
    over = threading.Event()
    askers = [
        threading.Thread(target=lambda: [owner.holder(tmp_path) for _ in iter(over.is_set, True)])
        for _ in "ab"
    ]
    for one in askers:
        one.start()
    try:
        for _ in range(200):
            take(tmp_path)
    finally:
        over.set()
        for one in askers:
            one.join()
