from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.catalog.settings import Master
from livepatch_core.errors import LivepatchError
from livepatch_core.ledger.acts import approve
from livepatch_core.ledger.handout import hand_out
from livepatch_core.ledger.recover import backup, restore
from livepatch_core.ledger.show import show
from livepatch_core.ledger.store import ledger_file
from tests.unit.ledger.grants import BY, grants


def test_no_ledger(tmp_path: Path) -> None:
    assert "there is no ledger yet" in hand_out(tmp_path / "nowhere", "hv1")["error"]
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE grants SET builds = 'x'",
        "UPDATE grants SET builds = '[]'",
        "UPDATE grants SET builds = '{\"a\": 1}'",
        "UPDATE grants SET builds = replace(builds, '1', '2')",
        f"UPDATE grants SET builds = '{'[' * 100_000}'",
        "UPDATE approval SET rev = 7",
        "DELETE FROM entry",
        "DELETE FROM meta",
        "DROP TABLE approval",
        "PRAGMA user_version = 2",
        "PRAGMA application_id = 2",
    ],
)
def test_spoilt_ledger(master: Master, statement: str) -> None:
    approve(master, ["hv1"], grants(1), BY)
    with sqlite3.connect(ledger_file(master.state_dir)) as connection:
        connection.execute(statement)
    connection.close()
    assert list(hand_out(master.state_dir, "hv1")) == ["error"]


@pytest.mark.parametrize("builds", ["x", "[]", '{"a": 1}', "[" * 100_000])
def test_a_spoilt_ledger_is_said_by_every_verb(master: Master, tmp_path: Path, builds: str) -> None:
    approve(master, ["hv1"], grants(1), BY)
    with sqlite3.connect(ledger_file(master.state_dir)) as connection:
        connection.execute("UPDATE grants SET builds = ?", (builds,))
    connection.close()
    copy = tmp_path / "copy"
    backup(master, copy)
    acts = (
        lambda: show(master.state_dir),
        lambda: approve(master, ["hv1"], grants(1), BY),
        lambda: restore(master, copy, BY),
    )
    for act in acts:
        with pytest.raises(LivepatchError, match="damaged or"):
            act()


def test_damaged_anywhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever a disk makes of it: the approval as it was, or an error; never another approval."""
    master = Master(tmp_path_factory.mktemp("ledger"), "root")
    approve(master, ["hv1"], grants(1), BY)
    path = ledger_file(master.state_dir)
    sound, right = path.read_bytes(), hand_out(master.state_dir, "hv1")

    @given(st.integers(0, len(sound) - 1), st.binary(min_size=1, max_size=64))
    def damaged(at: int, garbage: bytes) -> None:
        path.write_bytes(sound[:at] + garbage + sound[at + len(garbage) :])
        got = hand_out(master.state_dir, "hv1")
        assert got == right or "error" in got or set(got) == set(right)

    damaged()


@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"SQLite format 3\0"])
def test_something_else_in_its_place(master: Master, content: bytes) -> None:
    master.state_dir.mkdir()
    ledger_file(master.state_dir).write_bytes(content)
    assert "cannot be used" in hand_out(master.state_dir, "hv1")["error"]
    with pytest.raises(LivepatchError, match="cannot be used"):
        approve(master, ["hv1"], grants(1), BY)


def test_log_of_a_ledger_that_is_gone(master: Master) -> None:
    approve(master, ["hv1"], grants(1), BY)
    path = ledger_file(master.state_dir)
    os.replace(path, f"{path}-wal")
    with pytest.raises(LivepatchError, match="is still there"):
        approve(master, ["hv1"], grants(1), BY)
