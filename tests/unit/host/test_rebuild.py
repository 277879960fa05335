"""A lost ledger is rebuilt from what real hosts return: the two formats fit, in every state of a host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livepatch_core.catalog.author import Author
from livepatch_core.catalog.settings import Master
from livepatch_core.host import status
from livepatch_core.host.byhand import Order, adopt_ledger
from livepatch_core.ledger.acts import unfreeze
from livepatch_core.ledger.handout import hand_out
from livepatch_core.ledger.model import Grant
from livepatch_core.ledger.recover import JUMP, Report, parse_report, rebuild
from livepatch_core.words import Kind
from tests.unit.host.conftest import levels
from tests.unit.host.fakekernel import BUILD_ID
from tests.unit.host.world import World, build_world, put_in_place

BY = Author("alice", "disk lost", "2026-11-24T10:00:00Z")


def reported(world: World, name: str) -> Report:
    """As livepatch.status returns it, over the wire and back."""
    return parse_report(name, json.loads(json.dumps(status.status(world.host, True))))


def test_a_fleet_is_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports, worlds = [], {}
    for name in ("obeys", "by hand", "adopted", "never acted", "unreadable"):
        world = worlds[name] = levels(build_world(tmp_path / name.replace(" ", "-"), monkeypatch))
        if name in ("obeys", "by hand"):
            assert world.apply(approval=world.approval(7, 1, "ledger-a")).result is True
        if name == "by hand":
            assert world.apply(2).result is True
        if name == "adopted":
            adopt_ledger(world.host, "ledger-a", 9, Order("a test"))
        if name == "unreadable":
            world.host.settings.record_file.parent.mkdir(parents=True, exist_ok=True)
            world.host.settings.record_file.write_text("{")
        reports.append(reported(world, name))
    master = Master(tmp_path / "master", "root")
    sha256 = worlds["obeys"].levels[1].sha256
    done = rebuild(master, reports, {BUILD_ID: {1: Grant(1, sha256)}}, BY)
    assert (done["ledger_id"], done["rev"], done["minions"]) == ("ledger-a", 9 + JUMP, 2)
    assert done["left_out"] == ["adopted", "never acted", "unreadable"]
    unfreeze(master, None, BY)
    for name in ("obeys", "by hand"):
        put_in_place(worlds[name], monkeypatch)
        outcome = worlds[name].apply(approval=hand_out(master.state_dir, name))
        there = (True, None, ["lp_1"]) if name == "obeys" else (False, Kind.SUPERSEDED, ["lp_2"])
        assert (outcome.result, outcome.kind, worlds[name].patches) == there
