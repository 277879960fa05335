"""A writer killed anywhere leaves the ledger as it was before its write or as it is after it."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from livepatch_core.catalog.settings import Master
from livepatch_core.errors import LivepatchError
from livepatch_core.ledger import store
from livepatch_core.ledger.acts import approve, freeze, unfreeze
from livepatch_core.ledger.handout import hand_out
from livepatch_core.ledger.model import Grant
from livepatch_core.ledger.recover import JUMP, backup, parse_report, rebuild, restore
from livepatch_core.ledger.show import show
from livepatch_core.words import Kind
from tests.unit.ledger.grants import BUILD, BY, grants

ACTS: dict[str, Callable[[Master], object]] = {
    "approve": lambda master: approve(master, ["hv1", "hv2", "hv3"], grants(2), BY, while_frozen=True),
    "freeze": lambda master: freeze(master, None, BY),
    "unfreeze": lambda master: unfreeze(master, ["hv2"], BY),
    "restore": lambda master: restore(master, master.state_dir / "backup", BY),
}
REPORTS = [
    parse_report("hv1", {"approved": {"ledger_id": "a", "rev": 7, "level": 0}, "kernel": {"build_id": BUILD}})
]


def prepared(directory: Path) -> Master:
    master = Master(directory, "root")
    approve(master, ["hv1", "hv2"], grants(1), BY)
    freeze(master, ["hv2"], BY)
    backup(master, directory / "backup")
    return master


def killed_at(step: int, act: Callable[[Master], object], master: Master, monkeypatch: Any) -> bool:
    """Run it in a child that SQLite's virtual machine kills after ``step`` instructions; False if it ended
    before."""
    child = os.fork()
    if child == 0:
        real, count = store._open, 0

        def die() -> int:
            nonlocal count
            count += 1
            if count >= step:
                os.kill(os.getpid(), signal.SIGKILL)
            return 0

        def watched(path: Path) -> sqlite3.Connection:
            connection = real(path)
            connection.set_progress_handler(die, 1)
            return connection

        monkeypatch.setattr(store, "_open", watched)
        act(master)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("name", ACTS)
def test_killed_at_every_instruction(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    act = ACTS[name]
    whole = prepared(tmp_path / "whole")
    before = show(whole.state_dir)
    pristine = tmp_path / "pristine"
    shutil.copytree(whole.state_dir, pristine)
    act(whole)
    after = show(whole.state_dir)
    assert after["rev"] > before["rev"]
    deaths, step = 0, 1
    while True:
        directory = tmp_path / "victim"
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(pristine, directory)
        master = Master(directory, "root")
        died = killed_at(step, act, master, monkeypatch)
        seen = show(directory)
        assert comparable(seen) in (comparable(before), comparable(after)), step
        if not died:
            assert comparable(seen) == comparable(after)
            break
        deaths, step = deaths + 1, step + 1 + step // 25  # each of the first 25, then 4 % apart
    assert deaths > 20


def comparable(shown: dict[str, Any]) -> dict[str, Any]:
    """Without the path that a restore notes."""
    history = [{key: value for key, value in one.items() if key != "from"} for one in shown["history"]]
    return {**shown, "history": history}


def test_rebuild_killed_at_every_instruction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ledger that can be used, or the whole of the rebuilt one; and it can be done again."""
    released = {BUILD: {0: Grant(0, None)}}
    deaths, step = 0, 1
    while True:
        master = Master(tmp_path / str(step), "root")
        died = killed_at(step, lambda one: rebuild(one, REPORTS, released, BY), master, monkeypatch)
        seen = show(master.state_dir)
        assert (seen["rev"], list(seen["hosts"])) in ((0, []), (7 + JUMP, ["hv1"])), step
        if seen["rev"] == 0:
            assert "error" in hand_out(master.state_dir, "hv1")
            assert rebuild(master, REPORTS, released, BY)["minions"] == 1
        if not died:
            break
        deaths, step = deaths + 1, step + 1 + step // 5
    assert deaths > 20


def test_log_torn_at_every_sector(tmp_path: Path) -> None:
    """A power cut keeps any beginning of what was written to SQLite's log."""
    master = prepared(tmp_path / "state")
    path = store.ledger_file(master.state_dir)
    before = show(master.state_dir)
    reader = sqlite3.connect(path)  # while it is open the log is not folded into the database
    reader.execute("SELECT * FROM meta").fetchall()
    approve(master, ["hv1"], grants(7), BY)
    approve(master, ["hv1"], grants(8), BY)
    after = show(master.state_dir)
    log = Path(f"{path}-wal").read_bytes()
    states = []
    for size in [*range(0, len(log), 512), len(log)]:
        directory = tmp_path / "torn"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        shutil.copy(path, directory)
        Path(f"{store.ledger_file(directory)}-wal").write_bytes(log[:size])
        states.append(show(directory))
    reader.close()
    revs = [state["rev"] for state in states]
    assert set(revs) == {before["rev"], before["rev"] + 1, after["rev"]}
    assert revs == sorted(revs)
    assert states[-1] == after


def test_first_write_of_all_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in range(1, 2000, 40):
        master = Master(tmp_path / str(step), "root")
        died = killed_at(step, lambda one: approve(one, ["hv1"], grants(1), BY), master, monkeypatch)
        assert show(master.state_dir)["rev"] in (0, 1)
        if not died:
            break
        assert approve(master, ["hv1"], grants(1), BY)["rev"] == 1
    assert step > 100


@pytest.mark.parametrize("room", [0, 4096, 40_000])
def test_no_room_for_the_write(tmp_path: Path, room: int) -> None:
    """The file size limit plays the full disk: SQLite meets an error in the middle of its log."""
    master = prepared(tmp_path / "state")
    before = show(master.state_dir)
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        try:
            approve(master, [f"host{number}" for number in range(5000)], grants(2), BY)
        except LivepatchError as problem:
            os._exit(0 if problem.kind is Kind.JOURNAL else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert show(master.state_dir) == before
    assert approve(master, ["hv1"], grants(2), BY)["rev"] == before["rev"] + 1
