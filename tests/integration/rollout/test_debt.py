"""Who owes a reboot, asked on a real master over two real minions whose kernel is a stand-in."""

from __future__ import annotations

from tests.integration.rollout.conftest import QUICK, Ground
from tests.unit.catalog.modules import BUILD, RELEASE

WHY = "why=a test"


def test_reboot_debt(site: Ground) -> None:
    code, found = site.run("reboot_debt")
    assert (code, found["unread"]) == (0, []), found
    # kexec.candidates is the real one, of the machine that runs this, which may have a newer kernel installed
    newer = {row["minion"] for row in found["hosts"]}
    assert newer in (set(), {"hv1", "hv2"})

    site.behave("hv1", "forced")
    site.behave("hv2", "well")
    describe = ("livepatch_catalog.describe", RELEASE, BUILD, WHY)
    code, said = site.run(*describe, "expires=2020-01-01", "unpatchable=CVE-2026-99")
    assert (code, said["expires"]) == (0, "2020-01-01"), said
    code, found = site.run("reboot_debt", "hv*")
    assert (code, found["owing"], found["unknown"]) == (0, 2, 0), found
    first, second = found["hosts"]
    assert (first["minion"], first["why"][:3]) == ("hv1", ["unpatchable", "forced", "expired"])
    assert (second["minion"], second["why"][:2]) == ("hv2", ["unpatchable", "expired"])
    assert first["details"][1] == "patch livepatch_1 was forced: ticket 42"
    assert first["since"] == "2020-01-01"
    assert found["target"] == "hv1,hv2"
    code, plan = site.run("plan", found["target"], "2", tgt_type="list", **QUICK)
    assert (code, "hv1" in plan["text"]) == (0, True), plan

    assert site.run(*describe, "expires=''", "unpatchable=''")[0] == 0
    site.stop_minion("hv2")
    try:
        code, found = site.run("reboot_debt", timeout="5")
    finally:
        site.start_minions("hv2")
    assert (code, found["unknown"]) == (0, 1), found
    (silent,) = [row for row in found["hosts"] if row["minion"] == "hv2"]
    assert (silent["why"], silent["details"]) == (["unknown"], ["the host did not answer"])
    assert "hv2" not in found["target"].split(",")
    assert [row["why"][0] for row in found["hosts"]] == ["forced", "unknown"]


def test_refused(site: Ground) -> None:
    for words in (["nobody*"], ["hv*", "timeout=0"], ["hv*", "nonsense=1"]):
        code, answer = site.run("reboot_debt", *words)
        assert (code, answer["result"], answer["kind"]) == (1, False, "argument"), answer
