from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from livepatch_core.catalog.settings import Master, Owner
from livepatch_core.errors import LivepatchError
from livepatch_core.host.approval import parse_approval
from livepatch_core.ledger.acts import approve, freeze, unfreeze
from livepatch_core.ledger.handout import hand_out
from livepatch_core.ledger.rollouts import Words, words
from livepatch_core.ledger.show import show
from livepatch_core.ledger.store import ledger_file
from livepatch_core.words import Kind
from tests.unit.ledger.grants import BUILD, BY, OTHER, grants


def test_hosts_parse_what_is_handed_out(master: Master) -> None:
    done = approve(master, ["hv1", "hv2"], {**grants(2), **grants(0, OTHER)}, BY)
    document = hand_out(master.state_dir, "hv1")
    approval = parse_approval(document)
    assert (approval.ledger_id, approval.rev) == (done["ledger_id"], 1)
    assert approval.builds[BUILD].level == 2
    assert approval.builds[BUILD].sha256 == f"{2:064x}"
    assert (approval.builds[OTHER].level, approval.builds[OTHER].sha256) == (0, None)


def test_what_each_is_approved_for_and_since_when(master: Master) -> None:
    assert words(master.state_dir, ["hv1"]) == Words(0, {}, {}), "there is no ledger yet"
    approve(master, ["hv1", "hv2", "hv3"], {**grants(2), **grants(1, OTHER)}, BY)
    approve(master, ["hv2"], grants(0), BY)
    freeze(master, ["hv1", "hv3"], BY)
    found = words(master.state_dir, ["hv1", "hv2", "new"])
    assert found.approved == {"hv1": {BUILD: (2, 1), OTHER: (1, 1)}, "hv2": {BUILD: (0, 2), OTHER: (1, 1)}}
    assert list(found.frozen) == ["hv1"] and found.rev == 3


def test_every_write_raises_rev_but_only_of_the_hosts_it_is_about(master: Master) -> None:
    approve(master, ["hv1"], grants(1), BY)
    approve(master, ["hv2"], grants(1), BY)
    assert freeze(master, ["hv3"], BY)["rev"] == 3
    assert approve(master, ["hv2"], grants(2), BY)["rev"] == 4
    assert hand_out(master.state_dir, "hv1")["rev"] == 1
    assert hand_out(master.state_dir, "hv2")["rev"] == 4
    assert show(master.state_dir)["rev"] == 4


def test_other_kernel_builds_keep_what_they_had(master: Master) -> None:
    approve(master, ["hv1"], grants(1, OTHER), BY)
    approve(master, ["hv1", "hv2"], grants(2), BY)
    assert set(hand_out(master.state_dir, "hv1")["builds"]) == {BUILD, OTHER}
    assert set(hand_out(master.state_dir, "hv2")["builds"]) == {BUILD}


def test_what_is_handed_out_once_more_says_since_when(master: Master) -> None:
    """So that it does not end what was told by hand in between."""
    approve(master, ["hv1"], grants(1, OTHER), BY)
    for _ in range(2):
        approve(master, ["hv1"], grants(2), BY)
    approval = parse_approval(hand_out(master.state_dir, "hv1"))
    assert (approval.since(OTHER), approval.since(BUILD)) == (1, 3)
    approve(master, ["hv1"], grants(1, OTHER), BY)
    approval = parse_approval(hand_out(master.state_dir, "hv1"))
    assert (approval.since(OTHER), approval.since(BUILD)) == (4, 3)


def test_frozen_host_is_handed_the_reason(master: Master) -> None:
    approve(master, ["hv1", "hv2"], grants(1), BY)
    freeze(master, ["hv1"], BY)
    refused = hand_out(master.state_dir, "hv1")
    assert "this host is frozen since" in refused["error"]
    with pytest.raises(LivepatchError) as held:
        parse_approval(refused)
    assert held.value.kind is Kind.FROZEN
    assert "by alice (rev 2): a test" in held.value.message
    assert hand_out(master.state_dir, "hv2")["rev"] == 1
    unfreeze(master, ["hv1"], BY)
    assert hand_out(master.state_dir, "hv1")["rev"] == 1


def test_freeze_of_the_fleet_and_of_hosts_are_apart(master: Master) -> None:
    approve(master, ["hv1"], grants(1), BY)
    freeze(master, None, BY)
    freeze(master, ["hv1"], BY)
    assert "the fleet is frozen" in hand_out(master.state_dir, "hv1")["error"]
    assert "error" in hand_out(master.state_dir, "comes-later")
    assert unfreeze(master, None, BY)["still_frozen"] == 1
    assert "this host" in hand_out(master.state_dir, "hv1")["error"]
    with pytest.raises(LivepatchError, match="The fleet is not frozen"):
        unfreeze(master, None, BY)


def test_approval_of_frozen_hosts(master: Master) -> None:
    freeze(master, ["hv2"], BY)
    with pytest.raises(LivepatchError, match="1 of 2 hosts are frozen") as caught:
        approve(master, ["hv1", "hv2"], grants(1), BY)
    assert caught.value.kind is Kind.FORBIDDEN
    assert "no approval for hv1" in hand_out(master.state_dir, "hv1")["error"]
    approve(master, ["hv1", "hv2"], grants(1), BY, while_frozen=True)
    assert "frozen" in hand_out(master.state_dir, "hv2")["error"]
    unfreeze(master, ["hv2"], BY)
    assert hand_out(master.state_dir, "hv2")["rev"] == 2


@pytest.mark.parametrize(
    ("minions", "given"), [([], grants(1)), (["hv1"], {}), ([""], grants(1)), ([3], grants(1))]
)
def test_nobody_or_nothing(master: Master, minions: Any, given: Any) -> None:
    with pytest.raises(LivepatchError) as caught:
        approve(master, minions, given, BY)
    assert caught.value.kind is Kind.ARGUMENT
    assert show(master.state_dir)["rev"] == 0


def test_every_record_says_who_when_and_why(master: Master) -> None:
    approve(master, ["hv1"], grants(1), BY)
    freeze(master, None, BY)
    unfreeze(master, None, BY)
    history = show(master.state_dir)["history"]
    assert [(one["act"], one["rev"]) for one in history] == [("unfreeze", 3), ("freeze", 2), ("approve", 1)]
    assert {(one["who"], one["why"], one["at"]) for one in history} == {(BY.who, BY.why, BY.at)}
    assert history[2]["minions"] == ["hv1"]
    assert history[2]["levels"] == {BUILD: 1}


def test_ten_thousand_hosts(master: Master) -> None:
    approve(master, [f"hv{number}" for number in range(10_000)], grants(1), BY)
    with sqlite3.connect(ledger_file(master.state_dir)) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT rev FROM approval WHERE minion = 'hv7'"
        ).fetchall()
        assert connection.execute("SELECT count(*) FROM grants").fetchone() == (1,)
    assert "SEARCH" in str(plan)
    assert hand_out(master.state_dir, "hv9999")["rev"] == 1


def test_files_belong_to_the_masters_user(tmp_path: Path) -> None:
    """As root, which is how a container's CI runs; another user cannot give files away at all."""
    owner = Owner(os.getuid(), os.getgid()) if os.geteuid() else Owner(65534, 65534)
    master = Master(tmp_path / "state", "salt", owner)
    approve(master, ["hv1"], grants(1), BY)
    connection = sqlite3.connect(ledger_file(master.state_dir))
    connection.execute("SELECT * FROM meta").fetchall()
    for path in [master.state_dir, *master.state_dir.iterdir()]:
        assert path.stat().st_uid == owner.uid, path
        assert path.stat().st_mode & 0o077 == 0, path
    connection.close()
