"""What the execution module tells the master beside its return, and that telling never fails an act."""

from __future__ import annotations

from typing import Any

import pytest
from salt.exceptions import SaltReqTimeoutError

from livepatch_core.host import quarantine
from livepatch_core.host.quarantine import Ward, Warded
from tests.unit.shells.conftest import Minion

CRASH = Warded("ab" * 32, 2, "aa" * 20, Ward.INCONCLUSIVE, "went down", "2026-11-24T10:00:00Z")


def tags(minion: Minion) -> list[str]:
    return [tag.removeprefix("salt/livepatch/host/hv1/") for tag, _ in minion.sent]


def test_each_act_tells_what_it_changed(minion: Minion) -> None:
    call = minion.module
    minion.approve(1, 1)
    assert call.apply(test=True)["test"] is True
    assert tags(minion) == []
    assert call.apply()["result"] is True
    assert call.apply()["changes"] == {}
    assert call.persist()["result"] is True
    assert call.quarantine(2, reason="stalls")["result"] is True
    assert call.release(2, reason="innocent")["result"] is True
    assert call.revert(reason="a test")["result"] is True
    assert call.unhold(reason="a test")["result"] is True
    assert call.status()["level"] == 0
    assert tags(minion) == ["apply", "persist", "quarantine", "release", "revert", "unhold"]
    assert minion.refreshed == [{"refresh_pillar": False}] * 6  # never compiles a pillar


def test_a_refusal_tells_nothing(minion: Minion) -> None:
    assert minion.module.apply()["kind"] == "unapproved"
    assert (minion.sent, minion.refreshed) == ([], [])


@pytest.mark.parametrize("problem", [SaltReqTimeoutError("timed out"), OSError("no bus")])
def test_what_cannot_be_sent_is_logged(
    minion: Minion, problem: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    minion.fails = problem
    answer = minion.module.apply(level=1, reason="a test")
    assert (answer["result"], minion.world.patches) == (True, ["lp_1"])
    assert "retcode" not in minion.context
    assert str(problem) in caplog.text


@pytest.mark.parametrize("first", ["status", "apply"])
def test_a_crash_is_told_by_whatever_comes_first(minion: Minion, first: str) -> None:
    """At boot nobody could be told; nor while the minion has no master."""
    quarantine.add(minion.world.host, CRASH)
    minion.fails = SaltReqTimeoutError("no master")
    getattr(minion.module, first)()
    minion.fails = None
    getattr(minion.module, first)()
    getattr(minion.module, first)()
    assert tags(minion) == ["crash"]
    assert minion.sent[0][1]["reason"] == "went down"
    assert len(minion.refreshed) == 1


def test_told_file_that_is_damaged(minion: Minion, caplog: pytest.LogCaptureFixture) -> None:
    quarantine.add(minion.world.host, CRASH)
    minion.world.host.settings.told_file.write_text("{")
    minion.approve(1, 1)
    assert minion.module.apply()["result"] is True
    assert tags(minion) == ["apply"]
    assert "told.json" in caplog.text


def test_expected_is_for_predictions(minion: Minion) -> None:
    for wrong in ({"expected": 1}, {"expected": "1", "test": True}, {"expected": -1, "test": True}):
        with pytest.raises(Exception, match="expected"):
            minion.module.persist(**wrong)


def test_a_frozen_host_says_so(minion: Minion) -> None:
    why: dict[str, Any] = {
        "error": "the fleet is frozen since T by alice (rev 3): incident 7",
        "kind": "frozen",
    }
    minion.pillar["livepatch"] = {"approval": why}
    answer = minion.module.apply()
    assert (answer["result"], answer["kind"], answer["changes"]) == (False, "frozen", {})
    assert "frozen since T by alice (rev 3): incident 7" in answer["comment"]
    assert "unfreeze" in answer["comment"]
