"""What the master knows of hosts and levels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.catalog.standing import block, promote
from livepatch_core.errors import LivepatchError
from livepatch_core.rollout import payloads
from livepatch_core.rollout.clock import SystemClock
from livepatch_core.rollout.fleet import Fleet, FleetError
from livepatch_core.rollout.inventory import ask, facts_of, offers
from livepatch_core.rollout.targets import resolve
from tests.unit.catalog.modules import BUILD, BY, OTHER_BUILD, master_in, published

GRAINS = ("failure_domain", "role")
LOOK = {
    "verdict": "patched",
    "level": 2,
    "build_id": BUILD,
    "release": "6.1",
    "flags": ["held"],
    "warded": [
        {"level": 3, "kernel": BUILD, "ward": "quarantined"},
        {"level": 4, "kernel": BUILD, "ward": "inconclusive"},
        {"level": 5, "kernel": OTHER_BUILD, "ward": "quarantined"},  # its level 5 is another one
        {"level": None, "kernel": BUILD, "ward": "quarantined"},
        "6 quarantined",
        {"kernel": BUILD},
    ],
    "version": "0.1.0",
    "grains": {"failure_domain": "rack1", "role": "db"},
}


def nothing(_minion: str) -> Mapping[str, Any]:
    return {}


def test_a_host_that_answers() -> None:
    facts = facts_of("a", LOOK, nothing, GRAINS, "frozen since", "r7")
    assert (facts.seen, facts.online, facts.level, facts.domain, facts.role) == (True, True, 2, "rack1", "db")
    assert (facts.quarantined, facts.flags, facts.version) == ((3, 4), ("held",), "0.1.0")
    assert (facts.frozen, facts.rollout) == ("frozen since", "r7")


def test_a_host_that_does_not_answer_is_known_from_its_grains() -> None:
    cached = {"livepatch": {"level": 1, "build_id": BUILD, "verdict": "patched"}, "a": {"b": "rack9"}}
    facts = facts_of("a", None, lambda _name: cached, ("a:b", "role"))
    assert (facts.seen, facts.online, facts.level, facts.domain) == (True, False, 1, "rack9")


def test_one_of_which_nothing_is_known() -> None:
    assert not facts_of("a", None, nothing, GRAINS).seen


@pytest.mark.parametrize("answer", ["'livepatch.brief' is not available.", {}, [], 3, {"level": 2}])
def test_what_is_no_answer_of_ours_says_only_that_it_answers(answer: Any) -> None:
    cached = {"livepatch": {"level": 1, "build_id": BUILD, "verdict": "patched"}}
    facts = facts_of("a", answer, lambda _name: cached, GRAINS)
    assert (facts.seen, facts.online, facts.level, facts.build_id) == (True, True, None, None)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*LOOK, "livepatch"]), inner, max_size=8)
    ),
)


@given(plain, plain)
def test_no_answer_raises(answer: Any, cached: Any) -> None:
    facts = facts_of("a", answer, lambda _name: cached if isinstance(cached, Mapping) else {}, GRAINS)
    assert facts.level is None or type(facts.level) is int
    assert isinstance(facts.domain, str)


def test_offers(tmp_path: Path) -> None:
    master = master_in(tmp_path)
    for number in (1, 2, 3):
        published(master, number)
    promote(master, 1, None, None, BY)
    promote(master, 2, None, None, BY)

    def offered(level: object) -> Any:
        return offers(tuple(payloads.standings(master)), level, {OTHER_BUILD})

    newest = offered("newest")
    assert (newest.level, newest.grants[BUILD].level, newest.testing) == (2, 2, ())
    assert set(newest.back[BUILD]) == {1, 2}
    assert offered(3).testing == (BUILD,)
    assert set(offered(0).grants) == {BUILD, OTHER_BUILD}
    block(master, 2, None, None, BY)
    assert (offered(2).grants, list(offered(2).blocked)) == ({}, [BUILD])
    assert offered("newest").level == 1
    for wrong in (9, -1, "two", None, True):
        with pytest.raises(LivepatchError):
            offered(wrong)


def accepted(names: set[str], cached: set[str]) -> Any:
    """As CkMinions does, of 3008: whoever has no cached grains is left out of a target by grains."""

    def check(tgt: Any, tgt_type: str) -> Mapping[str, Any]:
        if tgt_type == "list":
            wanted = tgt.split(",") if isinstance(tgt, str) else tgt
            return {"minions": [one for one in wanted if one in names], "missing": []}
        if tgt_type == "grain":
            return {"minions": sorted(cached), "missing": []}
        return {"minions": sorted(names) if tgt == "*" else [], "missing": []}

    return check


def test_targets_leave_nobody_out_silently() -> None:
    check = accepted({"a", "b", "c"}, {"a", "b"})
    assert resolve(check, "*", "glob", lambda name: name in {"a", "b"}) == (["a", "b", "c"], [])
    assert resolve(check, "os:Debian", "grain", lambda name: name in {"a", "b"}) == (["a", "b"], ["c"])
    assert resolve(check, ["a", "c"], "list", lambda name: True) == (["a", "c"], [])


@pytest.mark.parametrize(
    ("tgt", "tgt_type", "said"),
    [
        ("a,z", "list", "no accepted key of z"),
        ("none*", "glob", "matches no .*G@.*tgt_type=compound"),
        ("^none", "pcre", r"matches no accepted minion; nothing was changed\. salt-key"),
        (None, "glob", "None"),
        ([], "list", r"\[\]"),
    ],
)
def test_targets_that_are_none(tgt: Any, tgt_type: str, said: str) -> None:
    with pytest.raises(LivepatchError, match=said):
        resolve(accepted({"a"}, {"a"}), tgt, tgt_type, lambda name: True)


def test_hosts_that_cannot_be_asked_are_a_sentence() -> None:
    class Mute:
        def new_jid(self) -> str:
            return "1"

        def publish(self, *_: object) -> None:
            raise FleetError("the master is gone")

    with pytest.raises(LivepatchError, match="could not be asked.*the master is gone; nothing was changed"):
        ask(cast(Fleet, Mute()), SystemClock(), ["a"], [], 1.0)
