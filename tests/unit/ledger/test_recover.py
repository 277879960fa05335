from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from livepatch_core.catalog.settings import Master
from livepatch_core.errors import LivepatchError
from livepatch_core.ledger.acts import approve, freeze, unfreeze
from livepatch_core.ledger.handout import hand_out
from livepatch_core.ledger.model import Grant
from livepatch_core.ledger.recover import JUMP, backup, parse_report, rebuild, restore
from livepatch_core.ledger.show import show
from livepatch_core.ledger.store import ledger_file
from tests.unit.ledger.grants import BUILD, BY, OTHER, grants

RELEASED = {BUILD: {0: Grant(0, None), 2: Grant(2, f"{2:064x}")}}


def status(level: Any = 2, rev: Any = 41, ledger_id: Any = "ledger-a") -> dict[str, Any]:
    return {
        "approved": {"ledger_id": ledger_id, "rev": rev, "level": level},
        "kernel": {"build_id": BUILD, "release": "6.1"},
    }


def lose(master: Master) -> None:
    ledger_file(master.state_dir).unlink()


def test_old_backup_moves_nobody(master: Master, tmp_path: Path) -> None:
    approve(master, ["hv1"], grants(1), BY)
    backup(master, tmp_path / "backup")
    approve(master, ["hv1"], grants(2), BY)
    freeze(master, ["hv2"], BY)
    done = restore(master, tmp_path / "backup", BY)
    assert (done["rev"], done["adopt"]) == (4, False)
    assert "restored from a backup" in hand_out(master.state_dir, "hv1")["error"]
    assert "hv2" in show(master.state_dir)["frozen"]
    assert [one["act"] for one in show(master.state_dir)["history"]][:2] == ["restore", "freeze"]
    unfreeze(master, None, BY)
    document = hand_out(master.state_dir, "hv1")
    assert (document["rev"], document["builds"][BUILD]["level"]) == (4, 1)
    assert document["builds"][BUILD]["since"] == 1, "a level by hand that is newer stays the newest"


def test_lost_ledger_with_what_hosts_have_seen(master: Master, tmp_path: Path) -> None:
    approve(master, ["hv1"], grants(1), BY)
    before = backup(master, tmp_path / "backup")
    lose(master)
    done = restore(master, tmp_path / "backup", BY, seen_rev=812)
    assert (done["ledger_id"], done["rev"]) == (before["ledger_id"], 812 + JUMP)


def test_lost_ledger_in_doubt_gets_a_new_id(master: Master, tmp_path: Path) -> None:
    """Its hosts adopt it, and the revs of the old one mean nothing there."""
    approve(master, ["hv1"], grants(1, OTHER), BY)
    approve(master, ["hv1"], grants(1), BY)
    before = backup(master, tmp_path / "backup")
    lose(master)
    done = restore(master, tmp_path / "backup", BY)
    assert done["ledger_id"] != before["ledger_id"]
    assert done["adopt"]
    unfreeze(master, None, BY)
    builds = hand_out(master.state_dir, "hv1")["builds"]
    assert {name: "since" in one for name, one in builds.items()} == {BUILD: False, OTHER: False}


def test_backup_of_another_ledger(master: Master, tmp_path: Path) -> None:
    other = Master(tmp_path / "other", "root")
    approve(other, ["hv1"], grants(1), BY)
    backup(other, tmp_path / "backup")
    approve(master, ["hv1"], grants(2), BY)
    with pytest.raises(
        LivepatchError, match="the one in force is .*move .*ledger.sqlite with its -wal and -shm"
    ):
        restore(master, tmp_path / "backup", BY)
    assert show(master.state_dir)["rev"] == 1


@pytest.mark.parametrize("content", [None, b"", b"SQLite format 3\0" + bytes(4096)])
def test_bad_backup(master: Master, tmp_path: Path, content: bytes | None) -> None:
    approve(master, ["hv1"], grants(2), BY)
    path = tmp_path / "backup"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LivepatchError, match="livepatch_ledger.backup wrote|If it is damaged"):
        restore(master, path, BY)
    assert show(master.state_dir)["rev"] == 1


def test_backup_overwrites_nothing(master: Master, tmp_path: Path) -> None:
    with pytest.raises(LivepatchError, match="no ledger yet.*livepatch_ledger.approve"):
        backup(master, tmp_path / "backup")
    approve(master, ["hv1"], grants(2), BY)
    backup(master, tmp_path / "backup")
    with pytest.raises(LivepatchError, match="does not exist yet.*path of a new file"):
        backup(master, tmp_path / "backup")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "state"]


def test_rebuilt_from_hosts(master: Master) -> None:
    reports = [
        parse_report("hv1", status()),
        parse_report("hv2", status(level=0, rev=17)),
        parse_report("hv3", status(level=3)),  # not released any more
        parse_report("hv4", "Minion did not return"),
        parse_report("hv5", status(ledger_id=None, rev=0, level=None)),
    ]
    done = rebuild(master, reports, RELEASED, BY)
    assert (done["ledger_id"], done["rev"], done["minions"]) == ("ledger-a", 41 + JUMP, 2)
    assert done["left_out"] == ["hv3", "hv4", "hv5"]
    assert "rebuilt" in hand_out(master.state_dir, "hv1")["error"]
    unfreeze(master, None, BY)
    assert hand_out(master.state_dir, "hv1") == {
        "ledger_id": "ledger-a",
        "rev": 41 + JUMP,
        "builds": {BUILD: {"level": 2, "sha256": f"{2:064x}", "since": 41}},
    }
    assert hand_out(master.state_dir, "hv2")["builds"] == {BUILD: {"level": 0, "sha256": None, "since": 17}}
    with pytest.raises(LivepatchError, match="is not replaced.*move .*ledger.sqlite with its -wal and -shm"):
        rebuild(master, reports, RELEASED, BY)


def test_hosts_of_several_ledgers(master: Master) -> None:
    reports = [parse_report("hv1", status()), parse_report("hv2", status(ledger_id="ledger-b", rev=99))]
    with pytest.raises(LivepatchError, match="ledger-a, ledger-b.*ledger_id="):
        rebuild(master, reports, RELEASED, BY)
    assert rebuild(master, reports, RELEASED, BY, "ledger-b")["rev"] == 99 + JUMP
    with pytest.raises(LivepatchError, match="No host that answered obeys a ledger.*approve anew"):
        rebuild(Master(master.state_dir / "x", "root"), [], RELEASED, BY)


def test_a_host_that_lies_about_its_rev_does_not_end_the_ledger(master: Master, tmp_path: Path) -> None:
    """It may say what it likes of itself; every later write needs a higher rev."""
    liars = [parse_report(f"liar{rev}", status(rev=rev)) for rev in (10**30, 2**63 - 1, 2**62 + 1)]
    done = rebuild(master, [parse_report("hv1", status()), *liars], RELEASED, BY)
    assert (done["rev"], len(done["left_out"])) == (41 + JUMP, 3)
    copy = tmp_path / "copy"
    backup(master, copy)
    with pytest.raises(LivepatchError, match="seen_rev.*approved:rev"):
        restore(master, copy, BY, 2**62 + 1)
    assert restore(master, copy, BY, 2**62)["rev"] > 2**62
    assert approve(master, ["hv1"], grants(1), BY, while_frozen=True)["rev"] > 2**62


@pytest.mark.parametrize(
    "document", [None, [], {}, {"approved": 1, "kernel": 2}, status("2", "x", 3), status(-1)]
)
def test_reports_that_say_nothing(document: object) -> None:
    report = parse_report("hv1", document)
    assert report.level is None
    assert report.rev in (0, 41)
