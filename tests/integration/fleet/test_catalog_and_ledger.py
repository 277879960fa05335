"""From a module to a minion's pillar, typed on a real master that does not run as root."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

import pytest

from livepatch_core.host.approval import parse_approval
from tests.integration.fleet.conftest import Site
from tests.unit.catalog.modules import BUILD, RELEASE, module


def pillar_of(site: Site, minion: str) -> Any:
    """What the master compiles for a minion."""
    ended = site.master.run("salt-run", "--out=json", "pillar.show_pillar", minion)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)["livepatch"]["approval"]


@pytest.fixture(scope="module")
def levels(site: Site) -> Site:
    """Levels 1 (released) and 2 (in testing)."""
    site.accept("hv1", "hv2", "db1")
    for number in (1, 2):
        path = site.top / f"livepatch_{number}.ko"
        path.write_bytes(module(f"livepatch_{number}", [f"f{one}" for one in range(1, number + 1)]))
        path.chmod(0o644)
        code, answer = site.run("catalog.publish", str(path), f"fixes=CVE-2026-{number}", "why=a test")
        assert (code, answer.get("level")) == (0, number), answer
    code, answer = site.run("catalog.promote", "1", "why=soaked")
    assert (code, answer["new"]) == (0, "released"), answer
    return site


def test_from_module_to_pillar(levels: Site) -> None:
    assert "no approval for hv1" in pillar_of(levels, "hv1")["error"] or "no ledger yet" in str(
        pillar_of(levels, "hv1")
    )
    code, answer = levels.run("ledger.approve", "hv*", "1", "why=ticket 42")
    assert (code, answer["minions"]) == (0, 2), answer
    approval = parse_approval(pillar_of(levels, "hv1"))
    assert (approval.ledger_id, approval.rev) == (answer["ledger_id"], answer["rev"])
    assert approval.builds[BUILD].level == 1
    assert "no approval for db1" in pillar_of(levels, "db1")["error"]
    code, shown = levels.run("ledger.show", "hv1")
    assert (code, list(shown["hosts"])) == (0, ["hv1"])
    assert shown["history"][0]["why"] == "ticket 42"
    assert shown["history"][0]["who"] not in ("", "UNKNOWN")


def test_freeze_reaches_the_pillar(levels: Site) -> None:
    levels.run("ledger.approve", "hv2", "1", "why=a test")
    assert levels.run("ledger.freeze", "hv2", "why=disk array")[0] == 0
    assert "disk array" in pillar_of(levels, "hv2")["error"]
    assert levels.run("ledger.unfreeze", "hv2", "why=done")[0] == 0
    assert pillar_of(levels, "hv2")["builds"][BUILD]["level"] == 1


def test_fleet_sees_what_is_released(levels: Site) -> None:
    ended = levels.master.run("salt-run", "--out=json", "fileserver.file_list")
    found = [path for path in json.loads(ended.stdout) if path.startswith("livepatch/")]
    assert f"livepatch/{RELEASE}/catalog.yaml" in found
    assert [path for path in found if "livepatch_1" in path]
    assert not [path for path in found if "livepatch_2" in path]


def test_everything_belongs_to_the_masters_user(levels: Site) -> None:
    owner = os.stat(levels.catalog_dir).st_uid
    files = [path for top in (levels.catalog_dir, levels.state_dir) for path in top.rglob("*")]
    assert {path.stat().st_uid for path in files} == {owner}


def test_catalog_is_sound(levels: Site) -> None:
    code, answer = levels.run("catalog.verify")
    assert (code, answer["result"], answer["problems"]) == (0, True, [])
    code, listed = levels.run("catalog.list")
    assert {number: one["status"] for number, one in listed[RELEASE][BUILD].items()} == {
        "1": "released",
        "2": "testing",
    }


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (("catalog.publish", "/nowhere.ko", "why=x"), "argument"),
        (("catalog.publish",), "unapproved"),
        (("catalog.promote", "9", "why=x"), "catalog"),
        (("catalog.promote", "x", "why=x"), "argument"),
        (("catalog.block", "1"), "unapproved"),
        (("catalog.block", "1", "why=x", "relase=6.1"), "argument"),
        (("ledger.approve", "hv*", "2", "why=x"), "catalog"),
        (("ledger.approve", "hv*", "two", "why=x"), "argument"),
        (("ledger.approve", "nobody*", "1", "why=x"), "argument"),
        (("ledger.approve", "hv1,hv9", "1", "why=x", "tgt_type=list"), "argument"),
        (("ledger.approve", "hv*", "1"), "unapproved"),
        (("ledger.approve",), "unapproved"),
        (("ledger.freeze", "why=x"), "argument"),
        (("ledger.restore", "/nowhere", "why=x"), "argument"),
        (("ledger.rebuild", "reports=/nowhere", "why=x"), "argument"),
    ],
)
def test_refusal_is_a_sentence_and_exit_1(levels: Site, command: tuple[str, ...], kind: str) -> None:
    ended = levels.typed(*command)
    assert ended.returncode == 1, ended.stdout
    answer = json.loads(ended.stdout)
    assert (answer["result"], answer["kind"]) == (False, kind)
    assert answer["comment"].rstrip().endswith((".", ")"))
    assert "Traceback" not in ended.stdout + ended.stderr


def orchestrated(site: Site, level: int) -> tuple[int, Any]:
    """The exit code of an orchestration that approves a level, and the state's own return."""
    state = {
        "approve": {
            "salt.runner": [
                {"name": "livepatch_ledger.approve"},
                {"tgt": "hv1"},
                {"level": level},
                {"why": "orchestrated"},
            ]
        }
    }
    (site.tree / "approving.sls").write_text(json.dumps(state))
    ended = site.master.run("salt-run", "--out=json", "state.orchestrate", "approving")
    ((answer,),) = [list(states.values()) for states in json.loads(ended.stdout)["data"].values()]
    return ended.returncode, answer


def test_orchestration_names_its_user_and_fails_with_the_runner(levels: Site) -> None:
    code, answer = orchestrated(levels, 1)
    assert (code, answer["result"]) == (0, True), answer
    (entry,) = levels.run("ledger.show", "hv1", "history=1")[1]["history"]
    assert (entry["who"], entry["why"]) == (levels.user, "orchestrated")
    code, answer = orchestrated(levels, 2)
    assert (code, answer["result"]) == (1, False), answer
    assert "only released levels" in json.dumps(answer["changes"])


def test_directory_that_is_not_the_masters(levels: Site) -> None:
    """Where the master runs as root nobody's directory stops it: there a file in its place does."""
    moved = levels.state_dir.with_name("moved")
    levels.state_dir.rename(moved)
    if levels.user == "root":
        levels.state_dir.touch()
    else:
        levels.state_dir.mkdir(mode=0o755)
    try:
        code, answer = levels.run("ledger.freeze", "fleet=True", "why=x")
        left = list(levels.state_dir.iterdir()) if levels.state_dir.is_dir() else []
    finally:
        shutil.rmtree(levels.state_dir) if levels.user != "root" else levels.state_dir.unlink()
        moved.rename(levels.state_dir)
    assert (code, answer["result"], left) == (1, False, [])
    assert f"must belong to {levels.user}" in answer["comment"] or levels.user == "root"
    assert str(levels.state_dir) in answer["comment"]


def test_backup_restore_rebuild(levels: Site) -> None:
    levels.run("ledger.approve", "hv1", "1", "why=a test")
    file = str(levels.state_dir / "backup")
    code, made = levels.run("ledger.backup", file)
    assert (code, made.get("path")) == (0, file), made
    code, restored = levels.run("ledger.restore", file, "why=a drill")
    assert (code, restored["rev"], restored["adopt"]) == (0, made["rev"] + 1, False), restored
    assert "a drill" in pillar_of(levels, "hv1")["error"]
    assert levels.run("ledger.unfreeze", "fleet=True", "why=looked")[0] == 0
    for path in levels.state_dir.glob("ledger.sqlite*"):
        path.unlink()
    status = {
        "approved": {"ledger_id": made["ledger_id"], "rev": 77, "level": 1},
        "kernel": {"build_id": BUILD},
    }
    reports = levels.top / "reports.json"
    reports.write_text(json.dumps({"hv1": status, "hv2": None}))
    code, rebuilt = levels.run("ledger.rebuild", f"reports={reports}", "why=ledger lost")
    assert (code, rebuilt["ledger_id"], rebuilt["left_out"]) == (0, made["ledger_id"], ["hv2"]), rebuilt
    assert rebuilt["rev"] > 77
    assert levels.run("ledger.unfreeze", "fleet=True", "why=looked")[0] == 0
    assert levels.run("ledger.approval", "hv1")[1]["builds"][BUILD]["level"] == 1


def test_block_export_and_import(levels: Site) -> None:
    assert levels.run("catalog.block", "1", "why=oopses")[1]["new"] == "blocked"
    assert levels.run("ledger.approve", "hv1", "1", "why=x")[1]["kind"] == "blocked"
    tree = str(levels.state_dir / "tree")
    code, written = levels.run("catalog.export", tree)
    assert (code, len(written["files"])) == (0, 2), written
    code, taken = levels.run("catalog.import_dir", tree, "why=a test")
    assert (code, taken["imported"]) == (0, []), taken
    assert levels.run("catalog.unblock", "1", "why=it was not")[1]["new"] == "released"
