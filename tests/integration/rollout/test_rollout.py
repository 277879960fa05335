"""Rollouts typed on a real master over two real minions, without an engine."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.integration.rollout.conftest import QUICK, Ground
from tests.integration.rollout.typed import until

WHY = "why=a test"
STATE = """
at its level:
  livepatch.applied:
    - parallel: {{ pillar.get("alone", false) }}
"""


def test_plan_rollout_and_what_is_said_of_it(site: Ground) -> None:
    code, plan = site.run("plan", "hv*", "2", **QUICK)
    assert (code, plan["result"]) == (0, True), plan
    assert [site.level(name) for name in ("hv1", "hv2")] == [0, 0]
    code, done = site.run("rollout", f"plan={plan['plan']}", WHY)
    assert (code, done["state"], done["counts"]) == (0, "completed", {"healthy": 2}), done
    assert done["plan"] == plan["hash"]
    for name, rev in (("hv1", 1), ("hv2", 2)):  # the canary was approved first, by itself
        assert site.log(name) == [["stage", 2, []], ["apply", rev, 2]]
    assert site.run("status")[1]["comment"] == done["comment"]
    assert [one["id"] for one in site.run("list")[1]["rollouts"]] == [done["id"]]
    kinds = [one["type"] for one in site.run("history", limit="1000")[1]["records"]]
    assert kinds[0] == "planned"
    assert kinds[-1] == "ended"
    target = site.state_dir / "report.html"
    assert site.run("save_report", str(target))[0] == 0
    assert target.read_text().startswith("<!DOCTYPE html>")
    assert site.run("rollout", "hv*", "2", WHY, **QUICK)[1]["comment"].startswith(
        "All 2 hosts are at level 2"
    )


def test_a_level_that_is_bad_for_the_canary_reaches_nobody_else(site: Ground) -> None:
    site.behave("hv1", "health")
    code, done = site.run("rollout", "hv*", "2", WHY, block_on_rollback="True", **QUICK)
    assert (code, done["state"]) == (1, "rolled_back"), done
    assert site.log("hv1") == [["stage", 2, []], ["apply", 1, 2], ["apply", 2, 0]]
    assert site.log("hv2") == []
    code, refused = site.run("rollout", "hv*", "2", WHY, **QUICK)
    assert (code, refused["result"]) == (1, False), refused
    assert "blocked" in refused["comment"]
    assert site.run("livepatch_catalog.unblock", "2", WHY)[0] == 0


def test_a_level_in_testing_goes_no_further_than_the_canaries(site: Ground) -> None:
    code, paused = site.run("rollout", "hv*", "3", WHY, allow_testing="True", **QUICK)
    assert (code, paused["state"]) == (1, "paused"), paused
    assert "in testing" in paused["reason"]
    assert [site.level(name) for name in ("hv1", "hv2")] == [3, 0]
    assert site.log("hv1")[0][2] != []  # it came with the job
    code, other = site.run("rollout", "hv2", "1", WHY, waves="['100%']")
    assert code == 1
    assert paused["id"] in other["comment"]  # one active rollout for each host
    code, aborted = site.run("abort", WHY)
    assert (code, aborted["state"]) == (0, "aborted"), aborted
    assert [site.level(name) for name in ("hv1", "hv2")] == [3, 0]


def test_operators_words(site: Ground) -> None:
    """Ctrl-C is refused where nobody would go on, a second one pauses; then resume, promote, rollback."""
    slow = {**QUICK, "canary_soak": "3600"}
    rollout = site.begin("rollout", "hv*", "2", WHY, **slow)
    rollout.until_said("canaries: soak")
    rollout.interrupt()
    assert "No livepatch engine" in rollout.until_said("not detached")
    rollout.interrupt()
    code, paused, _ = rollout.ended()
    assert (code, paused["state"]) == (1, "paused"), paused
    assert site.run("resume", WHY, "acknowledge=failed", "nonsense=1")[0] == 1
    code, refused = site.run("pause", WHY)
    assert code == 1
    assert "paused" in refused["comment"]
    resumed = site.begin("resume", WHY)
    resumed.until_said("adopted")
    code, held = site.run("unlock")
    assert "foreground process" in held["comment"]
    code, said = site.run("promote", WHY)
    assert code == 0, said
    code, done, _ = resumed.ended()
    assert (code, done["state"]) == (0, "completed"), done
    assert [site.level(name) for name in ("hv1", "hv2")] == [2, 2]
    code, back = site.run("rollback", done["id"], WHY)
    assert (code, back["state"]) == (0, "rolled_back"), back
    assert [site.level(name) for name in ("hv1", "hv2")] == [0, 0]


def test_threshold_then_retry(site: Ground) -> None:
    site.behave("hv2", "reversed")
    code, paused = site.run("rollout", "hv*", "2", WHY, **{**QUICK, "move_deadline": "20"})
    assert (code, paused["state"], paused["counts"]) == (1, "paused", {"healthy": 1, "stalled": 1}), paused
    code, refused = site.run("retry", WHY)
    assert code == 1
    assert "acknowledge=stalled" in refused["comment"]
    site.behave("hv2", "well")
    code, done = site.run("retry", WHY, "acknowledge=stalled")
    assert (code, done["state"], site.level("hv2")) == (0, "completed", 2), done


@pytest.mark.parametrize("how", ["forgets", "garbage"])
def test_returns_that_do_not_come_or_are_none(site: Ground, how: str) -> None:
    """The host is looked at: what it is counts, not what was said."""
    site.behave("hv2", how)
    code, done = site.run("rollout", "hv*", "2", WHY, **{**QUICK, "move_deadline": "5"})
    if how == "forgets":
        assert (code, done["state"], site.level("hv2")) == (0, "completed", 2), done
    else:
        assert (code, done["state"], done["counts"]) == (1, "paused", {"healthy": 1, "failed": 1}), done
    assert [one for one in site.log("hv2") if one[0] == "apply"] == [["apply", 2, 2]]


def test_cache_directory_wiped_in_mid_wave(site: Ground) -> None:
    rollout = site.begin("rollout", "hv*", "2", WHY, **{**QUICK, "canary_soak": "5"})
    rollout.until_said("canaries: soak")
    for path in (site.top / "m/cache").glob("jobs/*"):
        shutil.rmtree(path, ignore_errors=True)
    code, done, _ = rollout.ended()
    assert (code, done["state"]) == (0, "completed"), done


def test_a_state_says_in_whose_job_it_runs(site: Ground) -> None:
    """As the function itself does when it is the job."""
    assert site.run("livepatch_ledger.approve", "hv1", "1", WHY)[0] == 0
    site.salt("hv1", "saltutil.refresh_pillar", "async=False")
    site.salt("hv1", "saltutil.sync_states")
    (site.tree / "whose.sls").write_text(STATE)
    site.salt("hv1", "livepatch.apply")
    seen = [site.who("hv1")]
    for alone in ("false", "true"):
        (states,) = site.salt("hv1", "state.apply", "whose", f"pillar={{alone: {alone}}}").values()
        assert [one["result"] for one in states.values()] == [True], states
        seen.append(site.who("hv1"))
    assert len({one["jid"] for one in seen if one["jid"]}) == len(seen), seen
    assert {(one["user"], one["id"]) for one in seen} == {(seen[0]["user"], "hv1")}
    assert seen[0]["user"] != ""


WRONG = [
    (["rollout", "hv*", "2"], "No reason was given"),
    (["rollout", "hv*", "2", WHY, "nonsense=1"], "no argument nonsense"),
    (["rollout", "hv*", "2", WHY, "waves=3"], "option waves is 3"),
    (["plan", "hv*", "two"], "neither an integer"),
    (["plan", "a", "2", "glob", "30", "False", "surplus"], "no argument 'surplus'"),
    (["plan", "nobody*", "2"], "matches no"),
    (["rollout", "plan=4be1a09f2c77", WHY, "max_per_domain=1"], "takes no other max_per_domain"),
    (["pause", "20200101-000000-abcd", WHY], "no rollout 20200101"),
    (["pause", "../../etc", WHY], "no rollout"),
    (["rollout", "hv*", "2", WHY, "detach=True"], "No livepatch engine"),
]


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_wrong_words_are_a_sentence_and_a_failure(site: Ground, words: list[str], said: str) -> None:
    code, answer = site.run(*words)
    assert (code, answer["result"]) == (1, False), answer
    assert said in answer["comment"]
    assert not list((site.state_dir / "rollouts").glob("2*"))


def test_orchestration(site: Ground) -> None:
    """The formula's example; its result is the rollout's."""
    pillar = {"rollout": {"level": 2, "target": "hv*", "why": "a test", "options": site.plain(QUICK)}}
    pillar["rollout"]["report"] = str(site.state_dir / "orchestrated.html")

    def orchestrate() -> int:
        return site.typed(
            "state.orchestrate", "formulas.livepatch.orch.rollout", f"pillar={json.dumps(pillar)}"
        ).returncode

    site.behave("hv1", "health")
    assert orchestrate() != 0
    assert site.level("hv2") == 0
    assert "rolled_back" in (site.state_dir / "orchestrated.html").read_text()
    site.behave("hv1", "well")
    assert orchestrate() == 0
    assert [site.level(name) for name in ("hv1", "hv2")] == [2, 2]


def test_from_a_level_that_is_blocked_to_the_one_that_mends_it(site: Ground) -> None:
    assert site.run("rollout", "hv*", "1", WHY, **QUICK)[1]["state"] == "completed"
    assert site.run("livepatch_catalog.block", "1", WHY)[0] == 0
    try:
        code, done = site.run("rollout", "hv*", "2", WHY, **QUICK)
    finally:
        assert site.run("livepatch_catalog.unblock", "1", WHY)[0] == 0
    assert (code, done["state"], done["counts"]) == (0, "completed", {"healthy": 2}), done


def test_a_minion_that_is_off_when_it_is_planned_catches_up(site: Ground) -> None:
    site.stop_minion("hv2")
    late = {**QUICK, "late": "catch_up", "late_for": "600", "stage_deadline": "10"}
    code, plan = site.run("plan", "hv*", "2", timeout="5", **late)
    assert "offline" in plan["text"], plan["text"]
    rollout = site.begin("rollout", "hv*", "2", WHY, timeout="5", **late)
    rollout.until_said("late")
    site.start_minions("hv2")
    code, done, _ = rollout.ended()
    assert (code, done["state"], site.level("hv2")) == (0, "completed", 2), done
    until(lambda: site.log("hv2"), "hv2 was told")
