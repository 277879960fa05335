"""Who holds the lock, asked without taking it."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.host import lock as locking
from livepatch_core.host.lock import SOAK, exclusive, held
from livepatch_core.words import Kind

LOCKS = Path("/proc/locks")


def test_held_while_it_is_and_not_a_moment_longer(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not held(lock, LOCKS)
    with exclusive(lock, "a test"):
        assert held(lock, LOCKS)
        assert not held(tmp_path / "another", LOCKS)
    assert lock.exists() and not held(lock, LOCKS)


def test_who_waits_for_it_does_not_hold_it(tmp_path: Path) -> None:
    lock, locks = tmp_path / "lock", tmp_path / "locks"
    lock.write_bytes(b"")
    found = lock.stat()
    name = f"{found.st_dev >> 8:02x}:{found.st_dev & 0xFF:02x}:{found.st_ino}"
    locks.write_text(
        f"1: -> FLOCK  ADVISORY  WRITE 7 {name} 0 EOF\n2: POSIX  ADVISORY  WRITE 7 {name} 0 EOF\n"
    )
    assert not held(lock, locks)
    locks.write_text(f"1: FLOCK  ADVISORY  WRITE 7 {name} 0 EOF\n")
    assert held(lock, locks)


def test_the_soak_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A highstate that comes by while it writes is not to fail."""
    lock, asked = tmp_path / "lock", threading.Event()
    soaking = exclusive(lock, SOAK)
    soaking.__enter__()

    def again(_seconds: float) -> None:
        asked.set()
        soaking.__exit__(None, None, None)

    monkeypatch.setattr(locking, "time", SimpleNamespace(monotonic=time.monotonic, sleep=again))
    with exclusive(lock, "apply"):
        assert asked.is_set()


@pytest.mark.parametrize(("purpose", "asked"), [("apply", False), (SOAK, True)])
def test_nobody_is_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, purpose: str, asked: bool
) -> None:
    waits: list[float] = []
    clock = itertools.count(0.0, 10.0)
    monkeypatch.setattr(locking, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=waits.append))
    lock = tmp_path / "lock"
    with exclusive(lock, purpose), pytest.raises(LivepatchError, match=rf"\({purpose}\)") as caught:
        exclusive(lock, "revert").__enter__()
    assert caught.value.kind is Kind.BUSY and bool(waits) is asked
