"""Who holds the lock, asked without taking it."""

from __future__ import annotations

from pathlib import Path

from livepatch_core.host.lock import exclusive, held

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
