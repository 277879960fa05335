"""Rollouts that start hosts with another kernel, typed on a real master over two real minions; what stands in
for the kernel and its boot is standin_restart.py."""

from __future__ import annotations

import json

from tests.integration.rollout.conftest import QUICK, Ground
from tests.integration.rollout.standin_restart import RELEASE
from tests.unit.catalog.modules import OTHER_BUILD

WHY = "why=a test"
OLD = "6.1.0-55-amd64"


def options(site: Ground, drain: str = "test.true") -> dict[str, str]:
    undrain = f"{{fun: file.touch, args: ['{site.top}/undrained']}}"
    return {**QUICK, "restart_deadline": "60", "drain_deadline": "60", "drain": drain, "undrain": undrain}


def uncovered(site: Ground, name: str) -> None:
    """That host runs a kernel for which the catalog has nothing, and has another."""
    state = {"level": 0, "rev": 0, "ledger_id": "", "boot_id": "boot-1", "last": {}}
    state.update(release=OLD, build_id=OTHER_BUILD)
    (site.place(name) / "state.json").write_text(json.dumps(state))
    (site.top / "undrained").unlink(missing_ok=True)


def test_a_live_rollout_that_falls_back(site: Ground) -> None:
    uncovered(site, "hv2")
    code, plan = site.run("plan", "hv*", "2", fallback="kexec", **options(site))
    text = " ".join(plan["text"].split())
    assert f"by kexec from kernel {OLD} to {RELEASE}, to level 2 there: hv2" in text, plan
    code, done = site.run("rollout", f"plan={plan['plan']}", WHY)
    assert (code, done["state"], done["counts"]) == (0, "completed", {"healthy": 2}), done
    assert [site.level(name) for name in ("hv1", "hv2")] == [2, 2]
    assert (site.top / "undrained").exists()
    code, shown = site.run("status", "hosts=True")
    host = shown["hosts"]["hv2"]
    assert (host["method"], host["kernel"], host["away"]) == ("kexec", RELEASE, 1.0)
    assert "it was away for 1 s" in site.run("report")[1]["report"]
    code, ledger = site.run("livepatch_ledger.show")
    assert RELEASE in json.dumps(ledger), "the kernel stands in the approval"


def test_a_drain_that_fails(site: Ground) -> None:
    uncovered(site, "hv2")
    code, stopped = site.run("rollout", "hv2", "2", WHY, method="kexec", **{
        **options(site, "test.false"), "canaries": "[]",
    })  # fmt: skip
    assert (code, stopped["state"]) == (1, "paused"), stopped
    failed = stopped["hosts"]["hv2"]
    assert (failed["state"], failed["kind"], failed["text"]) == ("failed", "health", "The drain failed.")
    state = json.loads((site.place("hv2") / "state.json").read_text())
    assert (state["boot_id"], state["release"]) == ("boot-1", OLD)
    assert (site.top / "undrained").exists()
    assert site.run("abort", WHY)[0] == 0
