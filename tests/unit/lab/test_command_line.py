from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from lab import cache
from lab.__main__ import main
from lab.master import is_answer
from lab.rundir import RunDirectory, run_directory


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path))
    found = run_directory()
    found.path.mkdir()
    return found


def test_what_a_dead_supervisor_left_is_not_believed(
    directory: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.lock.touch()
    directory.state.write_text(json.dumps({"pid": 1, "guests": [], "master": "/x"}))
    assert not directory.is_running()
    assert main(["run", "guest1", "ls"]) == 1
    assert "no lab is up\n  -> start one: scripts/lab up" in capsys.readouterr().err


def test_a_living_supervisor_holds_its_lock(directory: RunDirectory) -> None:
    with directory.lock.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        directory.state.write_text(json.dumps({"pid": 1}))
        assert directory.read_state() == {"pid": 1}
    assert not directory.is_running()


def test_only_one_lab_is_up(directory: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    with directory.lock.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert main(["up"]) == 1
    assert "scripts/lab down" in capsys.readouterr().err


def test_down_without_a_lab_is_no_error(directory: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down"]) == 0
    assert "no lab is up" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "came"),
    [
        ({"ret": False, "retcode": 0, "jid": "1"}, True),
        (False, False),
        ({"out": "no_return", "ret": "Minion did not return. [No response]", "retcode": 1}, False),
    ],
)
def test_an_answer_is_told_from_salts_word_for_none(answer: object, came: bool) -> None:
    assert is_answer(answer) is came
