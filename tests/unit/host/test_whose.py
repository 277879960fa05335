"""Whose job a process runs, from the files that Salt keeps of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgpack
import pytest

from livepatch_core.host import calls, whose

OPTS = {"id": "hv1"}


def note(cache: Path, name: str, job: Any) -> None:
    (cache / whose.FOLDER).mkdir(exist_ok=True)
    data = job if isinstance(job, bytes) else msgpack.packb(job, use_bin_type=True)
    (cache / whose.FOLDER / name).write_bytes(data)


def who(cache: Path, **given: Any) -> tuple[str, str]:
    said = calls.who(given, {**OPTS, "cachedir": str(cache)})
    assert said["id"] == "hv1"
    return said["user"], said["jid"]


def test_a_job_of_the_function_itself_says_who(tmp_path: Path) -> None:
    note(tmp_path, "1", {"pid": os.getpid(), "jid": "1", "user": "other"})
    assert who(tmp_path, __pub_user="sudo_alice", __pub_jid="2") == ("sudo_alice", "2")
    assert who(tmp_path, __pub_jid="2") == ("", "2")  # salt-call names no user


@pytest.mark.parametrize("process", [os.getpid, os.getppid])
def test_a_state_is_in_the_job_that_its_process_runs(tmp_path: Path, process: Any) -> None:
    note(tmp_path, "1", {"pid": process(), "jid": "1", "user": "sudo_alice", "fun": "state.highstate"})
    note(tmp_path, "2", {"pid": 1, "jid": "2", "user": "bob", "fun": "test.sleep"})
    assert who(tmp_path) == ("sudo_alice", "1")


def test_what_a_schedule_starts_has_a_number_and_no_user(tmp_path: Path) -> None:
    note(tmp_path, "1", {"pid": os.getpid(), "jid": "1", "schedule": "nightly"})
    assert who(tmp_path) == ("", "1")


def test_nobody_is_named_where_it_is_not_certain(tmp_path: Path) -> None:
    """Two jobs of one process, one of which may have been killed long ago."""
    for jid in ("1", "2"):
        note(tmp_path, jid, {"pid": os.getpid(), "jid": jid, "user": "alice"})
    assert who(tmp_path) == ("", "")


@pytest.mark.parametrize(
    "damaged", [b"", b"\xc1", b"\x81\xa3pid", b"\x93\x01\x02\x03", b"text", b"\x81\x90\x90"]
)
def test_files_that_say_nothing(tmp_path: Path, damaged: bytes) -> None:
    assert who(tmp_path) == ("", "")  # there is no folder
    note(tmp_path, "1", damaged)
    assert who(tmp_path) == ("", "")
    note(tmp_path, "2", {"pid": os.getpid(), "jid": "2", "user": "alice"})
    assert who(tmp_path) == ("alice", "2")
