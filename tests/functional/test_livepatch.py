"""The execution module in Salt's loaders, on the machine the tests run on; nothing touches its kernel."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError
from saltfactories.utils.functional import Loaders

LEVELS = {"level": 2, "reason": "a test"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("host")


@pytest.fixture(scope="module")
def minion_overrides(place: Path) -> dict[str, Any]:
    return {
        "livepatch": {"state_dir": str(place / "state"), "run_dir": str(place / "run")},
        "pillar_roots": {"base": [str(place / "pillar")]},
    }


@pytest.fixture
def livepatch(loaders: Loaders, place: Path) -> Iterator[Any]:
    """The functions, with a clean return code and no record."""
    loaders.context.pop("retcode", None)
    yield loaders.modules.livepatch
    for path in place.glob("state/*"):
        path.unlink()


@pytest.fixture
def configured(loaders: Loaders) -> Iterator[dict[str, Any]]:
    """The minion's own configuration, to be changed by a test."""
    own = loaders.opts["livepatch"]
    kept = dict(own)
    yield own
    own.clear()
    own.update(kept)


def code(loaders: Loaders) -> int:
    return int(loaders.context.get("retcode", 0))


def test_a_bare_apply_holds(livepatch: Any, loaders: Loaders) -> None:
    answer = livepatch.apply()
    assert (answer["result"], answer["kind"], answer["changes"]) == (False, "unapproved", {})
    assert "no approval was given" in answer["comment"]
    assert code(loaders) == 1


@pytest.mark.parametrize(
    ("approval", "kind"),
    [
        ({"error": "the ledger is locked"}, "unapproved"),
        ({"ledger_id": "a", "rev": 0, "builds": {}}, "unapproved"),
        ("level 2", "unapproved"),
    ],
)
def test_what_is_no_approval_holds(livepatch: Any, loaders: Loaders, approval: Any, kind: str) -> None:
    answer = livepatch.apply(approval=approval)
    assert (answer["result"], answer["kind"]) == (False, kind)
    assert code(loaders) == 1


def test_by_hand_needs_a_reason(livepatch: Any, loaders: Loaders) -> None:
    for answer in (livepatch.apply(level=2), livepatch.revert()):
        assert answer["kind"] == "unapproved"
        assert "without a reason" in answer["comment"]
    assert code(loaders) == 1


def test_a_level_that_no_catalog_has(livepatch: Any, loaders: Loaders) -> None:
    """Or a kernel without livepatch, or without a build-id: nothing happens, and one word says why."""
    answer = livepatch.apply(**LEVELS)
    assert answer["result"] is False
    assert answer["kind"] in ("uncovered", "unsupported")
    assert answer["comment"].count("nothing was changed") == 1
    assert code(loaders) == 1


def test_level_0_where_nothing_is_in_force(livepatch: Any, loaders: Loaders) -> None:
    if livepatch.list_patches():
        pytest.fail("this machine has live patches in force: run the tests on another")
    answer = livepatch.apply(level=0, reason="a test", test=True)
    assert (answer["result"], answer["changes"]) == (True, {})
    assert code(loaders) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"level": "2", "reason": "r"},
        {"level": 1.5, "reason": "r"},
        {"level": True, "reason": "r"},
        {"on_stall": "force"},
        {"deadline": 0},
        {"deadline": "soon"},
        {"deadline": True},
        {"override": 3},
        {"override": [3]},
        {"lvl": 2},
    ],
)
def test_arguments_are_checked_first(livepatch: Any, place: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(SaltInvocationError) as caught:
        livepatch.apply(**arguments)
    assert next(iter(arguments)) in str(caught.value)
    assert not (place / "state/record.json").exists()


def test_other_functions_check_theirs(livepatch: Any) -> None:
    for call in (
        lambda: livepatch.wait(timeout=0),
        lambda: livepatch.wait(timeout="a while"),
        lambda: livepatch.history(limit=0),
        lambda: livepatch.history(limit="all"),
        lambda: livepatch.verify(seq=3),
        lambda: livepatch.status(wrong=1),
        lambda: livepatch.info(""),
    ):
        with pytest.raises(SaltInvocationError):
            call()


def test_a_head_that_is_none_is_refused(livepatch: Any) -> None:
    with pytest.raises(CommandExecutionError, match="integer and a text"):
        livepatch.verify(seq="three", hash="x")


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("load", ("/nowhere.ko",)),
        ("unload", ("livepatch_2",)),
        ("force", ("livepatch_2",)),
    ],
)
def test_verbs_that_need_an_opt_in(
    livepatch: Any, loaders: Loaders, verb: str, arguments: tuple[str]
) -> None:
    answer = getattr(livepatch, verb)(*arguments, reason="a test")
    assert answer["result"] is False
    assert answer["kind"] in ("forbidden", "argument")  # load reads its file first
    assert code(loaders) == 1


def test_load_with_a_file_and_no_opt_in(livepatch: Any, tmp_path: Path) -> None:
    file = tmp_path / "x.ko"
    file.write_bytes(b"no module")
    answer = livepatch.load(str(file), reason="a test")
    assert answer["kind"] == "forbidden"
    assert "livepatch:allow_load" in answer["comment"]


def test_what_is_no_module(livepatch: Any, configured: dict[str, Any], tmp_path: Path) -> None:
    configured["allow_load"] = True
    file = tmp_path / "x.ko"
    file.write_bytes(b"no module")
    assert livepatch.load(str(file), reason="a test", test=True)["kind"] == "module-format"
    with pytest.raises(CommandExecutionError):
        livepatch.info(str(file))
    assert livepatch.load("salt://nothing.ko", reason="a test")["kind"] == "argument"


def test_status_of_this_machine(livepatch: Any, loaders: Loaders) -> None:
    document = livepatch.status()
    assert document["kernel"]["release"] == os.uname().release
    assert document["verdict"] in ("unpatched", "uncovered", "unsupported", "unknown", "patched")
    assert document["flags"] == []
    assert document["approved"] == {"ledger_id": None, "rev": 0, "level": None}
    assert document["journal"]["seq"] == 0
    assert code(loaders) == 0
    json.dumps(document)  # plain data: every outputter can show it


def test_the_mine_may_hold_the_brief(livepatch: Any, loaders: Loaders) -> None:
    """As formulas/livepatch/pillar.example has it, for those who opt in."""
    assert loaders.modules.mine.send("livepatch.brief")
    (kept,) = loaders.modules.mine.get("*", "livepatch.brief").values()
    assert kept["verdict"] == livepatch.brief()["verdict"]


def test_questions_on_a_host_that_never_acted(livepatch: Any, loaders: Loaders) -> None:
    assert livepatch.history() == []
    assert livepatch.verify()["state"] == "whole"
    assert livepatch.transition() == {"patch": None, "comment": "No transition is running."}
    assert livepatch.wait(timeout=1)["result"] is True
    assert code(loaders) == 0


@pytest.mark.parametrize(
    ("key", "value"), [("polcy", "newest"), ("policy", "latest"), ("deadline", -1), ("allow_force", "yes")]
)
def test_settings_are_refused_by_name(
    livepatch: Any, configured: dict[str, Any], key: str, value: object
) -> None:
    configured[key] = value
    for act in (livepatch.status, livepatch.apply, livepatch.revert, livepatch.list_patches):
        with pytest.raises(CommandExecutionError, match=f"livepatch:{key}"):
            act()


# -- the record, through the loader ------------------------------------------------------------------------


def test_adopt_ledger(livepatch: Any, loaders: Loaders, place: Path) -> None:
    answer = livepatch.adopt_ledger("ledger-7", rev=3, reason="master rebuilt")
    assert answer["result"] is True
    assert answer["changes"] == {
        "ledger": {"old": {"ledger_id": None, "rev": 0}, "new": {"ledger_id": "ledger-7", "rev": 3}}
    }
    assert json.loads((place / "state/record.json").read_text())["ledger_id"] == "ledger-7"
    assert livepatch.adopt_ledger("ledger-7", rev=3, reason="again")["changes"] == {}
    assert livepatch.adopt_ledger("ledger-7", rev=1, reason="back")["changes"] == {}
    assert livepatch.status()["approved"]["rev"] == 3
    assert code(loaders) == 0
    old = livepatch.apply(approval={"ledger_id": "ledger-7", "rev": 2, "builds": {}})
    foreign = livepatch.apply(approval={"ledger_id": "ledger-8", "rev": 9, "builds": {}})
    assert (old["kind"], foreign["kind"]) == ("superseded", "foreign-ledger")


def test_adopt_ledger_needs_a_reason(livepatch: Any, loaders: Loaders, place: Path) -> None:
    assert livepatch.adopt_ledger("ledger-7")["kind"] == "argument"
    assert code(loaders) == 1
    assert not (place / "state/record.json").exists()


def test_an_approval_that_names_no_level_here_outranks_older_ones(livepatch: Any) -> None:
    """There is no catalog, so there is no level that it could name; or the kernel takes none."""
    silent = {"ledger_id": "a", "rev": 5, "builds": {}}
    kind = "uncovered" if os.path.isdir("/sys/kernel/livepatch") else "unsupported"
    assert livepatch.apply(approval=silent)["kind"] == kind
    assert livepatch.apply(approval={**silent, "rev": 4})["kind"] == "superseded"
    assert livepatch.apply(approval={**silent, "rev": 9}, test=True)["kind"] == kind
    assert livepatch.status()["approved"]["rev"] == 5


def test_a_damaged_record_holds_and_status_says_so(livepatch: Any, place: Path) -> None:
    (place / "state").mkdir(exist_ok=True)
    (place / "state/record.json").write_text("{")
    assert livepatch.apply()["kind"] == "journal"
    assert livepatch.adopt_ledger("a", reason="r")["kind"] == "journal"
    document = livepatch.status()
    assert "held" in document["flags"]
    assert livepatch.verify()["result"] is False


def test_two_at_once(livepatch: Any, loaders: Loaders, place: Path) -> None:
    livepatch.apply()  # makes the directory of the lock
    with (place / "run/lock").open("r+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        json.dump({"pid": 4711, "purpose": "a rollout"}, other)
        other.flush()
        answer = livepatch.apply()
    assert (answer["kind"], answer["holder"]) == ("busy", "process 4711 (a rollout)")
    assert code(loaders) == 1
    assert livepatch.apply()["kind"] == "unapproved"


def test_the_pillar_gives_the_approval(livepatch: Any, loaders: Loaders, place: Path) -> None:
    pillar = place / "pillar"
    pillar.mkdir(exist_ok=True)
    (pillar / "top.sls").write_text(json.dumps({"base": {"*": ["approved"]}}))
    approval = {"ledger_id": "p", "rev": 2, "builds": {}}
    (pillar / "approved.sls").write_text(json.dumps({"livepatch": {"approval": approval}}))
    loaders.refresh_pillar()
    loaders.reload_all()
    try:
        answer = loaders.modules.livepatch.apply()
    finally:
        (pillar / "approved.sls").write_text("{}")
        loaders.refresh_pillar()
        loaders.reload_all()
    assert "approval rev 2" in answer["comment"]
    assert "no approval was given" in loaders.modules.livepatch.apply()["comment"]
