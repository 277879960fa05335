"""Verbs that go around levels: opt-in, with a reason, governed."""

from __future__ import annotations

from tests.kernel.test_stalls import SHORT, bring_stall, let_go, sleeper

ALLOWED = {"allow_load": True, "allow_force": True}


def test_load_and_unload_need_an_opt_in_and_a_reason(host, modules):
    host.guest.put("/root/lp.ko", modules["lp_level_1"].read_bytes())
    assert host.ask("load", path="/root/lp.ko", reason="a test")["kind"] == "forbidden"
    assert host.ask("load", path="/root/lp.ko", settings=ALLOWED)["kind"] == "argument"
    predicted = host.ask("load", path="/root/lp.ko", reason="a test", test=True, settings=ALLOWED)
    done = host.ask("load", path="/root/lp.ko", reason="a test", settings=ALLOWED)
    assert (done["result"], done["changes"]) == (True, predicted["changes"])
    status = host.status()
    assert (status["verdict"], status["level"]) == ("patched", None)

    assert host.ask("unload", name="lp_level_1", reason="a test")["kind"] == "forbidden"
    predicted = host.ask("unload", name="lp_level_1", reason="a test", test=True, settings=ALLOWED)
    done = host.ask("unload", name="lp_level_1", reason="a test", settings=ALLOWED)
    assert (done["result"], done["changes"]) == (True, predicted["changes"])
    assert (host.patches(), "lp_level_1" in host.modules()) == ([], False)
    assert [one["act"] for one in host.ask("history")] == ["load", "disable"]


def test_force_is_governed_and_leaves_the_host_reboot_owed(host, modules):
    bring_stall(host, modules)
    assert host.ask("force", name="lp_stall", reason="a test", settings=ALLOWED)["kind"] == "argument"
    process = sleeper(host, "u")
    host.to_level(1, settings=SHORT, on_stall="keep")
    assert host.ask("force", name="lp_stall", reason="a test")["kind"] == "forbidden"
    assert host.ask("force", name="lp_stall", settings=ALLOWED)["kind"] == "argument"
    assert host.status()["verdict"] == "patching"

    done = host.ask("force", name="lp_stall", reason="ticket 42", settings=ALLOWED)

    assert done["result"] is True, done
    assert "owes a reboot" in done["comment"]
    status = host.status()
    assert (status["verdict"], status["flags"]) == ("patched", ["held", "reboot-owed"])
    reboot = status["reboot"]
    assert (reboot["owed"], reboot["why"]) == (True, ["patch lp_stall was forced: ticket 42"])
    assert reboot["since"]
    evidence = host.ask("history")[-1]
    assert (evidence["act"], evidence["reason"]) == ("force", "ticket 42")
    assert any("lab_stall_u_show" in line for line in evidence["evidence"])
    assert host.to_level(2)["kind"] == "reboot-owed"
    let_go(host)
    process.wait(60)
