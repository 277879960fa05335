"""What is told of a rollout and its engine on every kind of master that there is."""

from __future__ import annotations

from typing import Any

from tests.integration.rollout.conftest import QUICK, Ground

WHY = "why=a test"
ENGINE: dict[str, Any] = {"engines": [{"livepatch": {"interval": 1}}]}


def a_rollout_and_its_engine(site: Ground) -> None:
    """One that is undone, one whose owner is killed, a plan with a host that is off."""
    site.behave("hv1", "health")
    code, undone = site.run("rollout", "hv*", "2", WHY, **QUICK)
    assert (code, undone["state"]) == (1, "rolled_back"), undone
    assert site.run("rollout", "hv*", "2", WHY, "nonsense=1")[0] == 1
    site.reset()
    rollout = site.begin("rollout", "hv*", "2", WHY, **{**QUICK, "canary_soak": "5"})
    rollout.until_said("canaries: soak")
    rollout.kill()
    code, done = site.run("watch")
    assert (code, done["state"], done["counts"]) == (0, "completed", {"healthy": 2}), done
    traces = [(site.place(name) / "trace").read_text() for name in ("hv1", "hv2")]
    assert [site.level(name) for name in ("hv1", "hv2")] == [2, 2], "\n".join(traces)
    site.stop_minion("hv2")
    code, plan = site.run("plan", "role:hypervisor", "1", tgt_type="grain", timeout="5", **QUICK)
    assert code == 0, plan
    assert "offline" in plan["text"]
