"""Asking for reboot debt: who is silent, who answers nonsense, and what a plan is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

import pytest

from livepatch_core.catalog.model import Build, Unpatchable
from livepatch_core.catalog.settings import Master
from livepatch_core.errors import LivepatchError
from livepatch_core.report import owing
from livepatch_core.rollout.fleet import FleetError, Verb
from livepatch_core.words import Kind
from tests.unit.report.test_debt import FORCED, NEWER, WELL

NOW = datetime(2026, 11, 24, tzinfo=timezone.utc)
HERE = {**WELL, "kernel": {"release": "6.1", "build_id": "aa"}}


class Hosts:
    """A fleet in which each host answers what stands here, by function; who has none is silent."""

    def __init__(self, said: Mapping[str, Mapping[str, Any]]) -> None:
        self.said, self.jobs, self.waited = said, dict[str, tuple[str, Sequence[str]]](), 0.0

    def new_jid(self) -> str:
        return str(len(self.jobs))

    def publish(self, jid: str, verb: Verb, hosts: Sequence[str], arguments: Mapping[str, Any]) -> None:
        assert verb is Verb.ASK
        self.jobs[jid] = (arguments["fun"], list(hosts))

    def returns(self, jid: str) -> Mapping[str, Any]:
        function, hosts = self.jobs[jid]
        found = {name: self.said.get(name, {}) for name in hosts}
        return {name: {"return": one[function]} for name, one in found.items() if function in one}

    def wait(self, seconds: float) -> None:
        self.waited += seconds

    def monotonic(self) -> float:
        return self.waited


def both(status: Any, kernels: Any) -> dict[str, Any]:
    return {owing.STATUS: status, owing.CANDIDATES: kernels}


def answered(
    said: Mapping[str, Mapping[str, Any]], *silent: str, build: Optional[Build] = None
) -> dict[str, Any]:
    fleet: Any = Hosts(said)
    told = owing.ask(fleet, fleet, [*said, *silent], 5, lambda release, build_id: build)
    return owing.answer(told, NOW)


def test_nobody_owes() -> None:
    found = answered({"a": both(WELL, {**NEWER, "newer": False})})
    assert (found["owing"], found["unknown"], found["hosts"], found["plan"]) == (0, 0, [], None)
    assert found["comment"] == "0 of 1 hosts owe a reboot, of 0 it is not known."


def test_a_plan_for_those_that_owe() -> None:
    found = answered(
        {"a": both(WELL, NEWER), "b": both(FORCED, NEWER), "c": both(WELL, {"newer": False})}, "d"
    )
    assert [row["minion"] for row in found["hosts"]] == ["b", "d", "a"]
    assert (found["target"], found["owing"], found["unknown"]) == ("b,a", 2, 1)
    assert found["plan"] == "salt-run livepatch.plan b,a newest tgt_type=list method=kexec"


def test_a_host_that_does_not_answer_is_listed() -> None:
    (row,) = answered({}, "gone")["hosts"]
    assert (row["minion"], row["why"], row["details"]) == ("gone", ["unknown"], ["the host did not answer"])


@pytest.mark.parametrize("nonsense", ["'livepatch.status' is not available.", None, [], {"x": 1}])
def test_an_answer_that_is_none_leaves_it_open(nonsense: Any) -> None:
    found = answered({"a": both(nonsense, NEWER)})
    assert (found["hosts"][0]["why"], found["owing"]) == (["unknown"], 0)
    assert "livepatch.status answers" in found["hosts"][0]["details"][0]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"verdict": None}, "verdict is 'None'"),
        ({"kernel": None}, "kernel is 'None'"),
        ({"patches": {"p": 1}}, "patches is"),
        ({"fixes": None}, "fixes is 'None'"),
        ({"providers": None}, "providers is 'None'"),
        ({"providers": ["x"]}, "a provider is 'x'"),
        ({"reboot": "no"}, "reboot is 'no'"),
        ({"reboot": {"owed": True, "why": None}}, "why a reboot is owed is 'None'"),
    ],
)
def test_an_answer_of_another_shape_takes_nobody_else_down(wrong: dict[str, Any], named: str) -> None:
    build = Build("aa", "", {}, (), "", (Unpatchable("CVE-2026-9"),))
    found = answered({"a": both({**HERE, **wrong}, NEWER), "b": both(FORCED, NEWER)}, build=build)
    rows = {row["minion"]: row for row in found["hosts"]}
    assert (rows["b"]["why"], found["target"]) == (["forced", "newer"], "b")
    assert (rows["a"]["why"], found["unknown"]) == (["unknown"], 1)
    assert f"livepatch.status answers what is no status: {named}" in rows["a"]["details"][0]


def test_an_older_version_says_less() -> None:
    found = answered({"a": both({"verdict": "stalled"}, {"newer": False})})
    assert found["hosts"][0]["why"] == ["stuck", "unknown"]


def unread(release: str, build_id: str) -> Optional[Build]:
    raise LivepatchError(Kind.CATALOG, f"catalog.yaml of {release} is damaged")


def test_a_catalog_that_cannot_be_read_takes_nothing_from_what_hosts_say() -> None:
    fleet: Any = Hosts(
        {"a": both({**HERE, **FORCED, "kernel": HERE["kernel"]}, NEWER), "b": both(HERE, {"newer": False})}
    )
    rows = owing.answer(owing.ask(fleet, fleet, ["a", "b"], 5, unread), NOW)["hosts"]
    assert [(row["minion"], row["why"]) for row in rows] == [
        ("a", ["forced", "unknown", "newer"]),
        ("b", ["unknown"]),
    ]
    text = "what the catalog says of its kernel could not be read: catalog.yaml of 6.1 is damaged"
    assert text in rows[0]["details"] and rows[1]["details"] == [text]


def test_a_release_that_is_no_name_takes_nobody_else_down(tmp_path: Path) -> None:
    """With the real catalog, whose refusal of such a name is not the whole fleet's."""
    master = Master(tmp_path / "state", "root", catalog_dir=tmp_path / "catalog")
    strange = {**WELL, "kernel": {"release": "../x", "build_id": "aa"}}
    fleet: Any = Hosts({"a": both(strange, NEWER), "b": both(HERE, NEWER)})
    rows = owing.answer(owing.ask(fleet, fleet, ["a", "b"], 5, owing.of_catalog(master)), NOW)["hosts"]
    assert [(row["minion"], row["why"]) for row in rows] == [("a", ["unknown", "newer"]), ("b", ["newer"])]
    assert "'../x' is not a kernel release" in rows[0]["details"][0]


@pytest.mark.parametrize(
    "kernels",
    [
        "'kexec.candidates' is not available.",
        None,
        {"newer": True},
        {"newer": True, "newest": None},
        {"newer": "yes", "newest": "6.1"},
        {"newer": False, "incomplete_newer": {}},
        {"newer": False, "incomplete_newer": ["6.1"]},
        {"newer": False, "incomplete_newer": [{"release": "6.1", "missing": None}]},
    ],
)
def test_where_its_kernels_are_not_known(kernels: Any) -> None:
    found = answered({"a": both(FORCED, kernels)})
    assert (found["target"], found["unread"]) == ("a", ["a"])
    assert "Whether a newer kernel is installed is not known of a." in found["comment"]


def test_what_the_catalog_says_of_its_kernel() -> None:
    build = Build("aa", "", {}, (), "2026-11-01", (Unpatchable("CVE-2026-9"),))
    (row,) = answered({"a": both(HERE, {"newer": False})}, build=build)["hosts"]
    assert (row["why"], row["since"]) == (["unpatchable", "expired"], "2026-11-01")


def test_they_could_not_be_asked() -> None:
    class Broken(Hosts):
        def publish(self, *arguments: Any) -> None:
            raise FleetError("the master is gone")

    fleet: Any = Broken({"a": both(WELL, NEWER)})
    with pytest.raises(LivepatchError, match="could not be asked"):
        owing.ask(fleet, fleet, ["a"], 5, lambda release, build_id: None)
