"""Processes that die in the act: the next one ends at the level, each change is journaled once."""

from __future__ import annotations

import pytest

from tests.kernel.patchable import Patchable
from tests.kernel.test_stalls import bring_stall, let_go, sleeper

# Where the process kills itself: after which call of the library. In the order of an apply.
MOMENTS = {
    "intent written": ("livepatch_core.host.change", "write_record"),
    "module loaded": ("livepatch_core.kernel.loading", "init_module"),
    "transition watched": ("livepatch_core.kernel.transition", "wait"),
    "journal written": ("livepatch_core.host.journal", "append"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at(host, modules, moment):
    host.publish({1: modules["lp_level_1"], 2: modules["lp_level_2"]})
    assert host.to_level(1)["result"] is True
    died = host.begin("apply", level=2, reason="a test", die_after=MOMENTS[moment]).wait(120)
    assert died.rc == -9, died

    done = host.to_level(2)

    assert done["result"] is True, done
    assert (host.status()["level"], host.patches()) == (2, ["lp_level_2"])
    assert "lp_level_1" not in host.modules()
    history = host.ask("history")
    assert [(one["act"], one["patch"], one["ending"]) for one in history] == [
        ("load", "lp_level_1", "complete"),
        ("load", "lp_level_2", "complete"),
    ]
    assert host.ask("verify")["state"] == "whole"


@pytest.fixture
def stalling(host, modules) -> Patchable:
    bring_stall(host, modules)
    return host


def test_killed_in_the_transition(stalling):
    process = sleeper(stalling, "u")
    begun = stalling.begin("apply", level=1, reason="a test")
    stalling.until_patching("lp_stall")
    begun.kill()
    assert stalling.status()["verdict"] == "patching"
    let_go(stalling)
    process.wait(60)
    assert stalling.to_level(1)["result"] is True
    assert [(one["act"], one["ending"]) for one in stalling.ask("history")] == [("load", "complete")]
    assert stalling.ask("verify")["state"] == "whole"


def test_killed_in_the_reversal(stalling):
    """The reversal is held up by a reader in the new code while the process that reverses is killed."""
    old = sleeper(stalling, "u")
    limits = {"deadline": 5, "reversal_deadline": 60}
    begun = stalling.begin("apply", level=1, reason="a test", settings=limits)
    stalling.until_patching("lp_stall")
    stalling.guest.exec("echo 1 > /sys/module/lp_stall/parameters/hold", check=True)
    new = stalling.guest.spawn(["cat", "/proc/lab_stall/k"])
    reversing = 'until [ "$(cat /sys/kernel/livepatch/lp_stall/enabled)" = 0 ]; do sleep 0.05; done'
    stalling.guest.exec(reversing, timeout=60, check=True)
    begun.kill()
    assert stalling.status()["verdict"] == "reverting"

    stalling.guest.exec("echo 0 > /sys/module/lp_stall/parameters/hold", check=True)
    new.wait(60)
    let_go(stalling)
    old.wait(60)
    assert stalling.to_level(1)["result"] is True
    assert [(one["act"], one["ending"]) for one in stalling.ask("history")] == [
        ("load", "reversed"),
        ("load", "complete"),
    ]
    assert stalling.ask("verify")["state"] == "whole"


def test_a_journal_that_was_cut_and_one_that_was_edited_are_told_apart(host, modules):
    host.publish({1: modules["lp_level_1"], 2: modules["lp_level_2"]})
    for level in (1, 2, 1):
        assert host.to_level(level)["result"] is True
    whole = host.journal()
    for data, state in [
        (whole[: whole.rstrip(b"\n").rindex(b"\n") + 1], "truncated"),
        (whole.replace(b'"level":2', b'"level":3', 1), "tampered"),
        (whole[:-20], "truncated"),  # the record knows that this line was whole once
        (whole + b'{"body":{"act":"lo', "torn"),
        (whole, "whole"),
    ]:
        host.guest.put("/var/lib/livepatch/journal.jsonl", data)
        assert host.ask("verify")["state"] == state
