"""Up, down and nothing to do: levels on a stock kernel, each kernel of the lab."""

from __future__ import annotations

import gzip
import lzma

import pytest

from lab import kernels
from tests.kernel.livepatches import build
from tests.kernel.patchable import Patchable

BEFORE = ["VmallocTotal", "VmallocChunk"]
LEVEL_1 = ["VmallocTotal", "VMALLOCCHUNK"]
LEVEL_2 = ["VMALLOCTOTAL", "VMALLOCCHUNK"]


def labels(host: Patchable) -> list[str]:
    found = host.guest.exec("grep -iE 'vmalloc(total|chunk)' /proc/meminfo | cut -d: -f1", check=True)
    return found.text.split()


@pytest.mark.parametrize("role", ["6.1", "6.1-cloud", "6.12"])
def test_one_two_one_zero(start, role):
    kernel = kernels.kernel(role)
    built, host = build(kernel), start(kernel=kernel)
    host.publish({1: built["lp_level_1"], 2: built["lp_level_2"]})
    assert labels(host) == BEFORE
    assert host.status()["verdict"] == "unpatched"

    for rev, (level, module, expected) in enumerate(
        [
            (1, built["lp_level_1"], LEVEL_1),
            (2, built["lp_level_2"], LEVEL_2),
            (1, built["lp_level_1"], LEVEL_1),
            (0, None, BEFORE),
        ],
        1,
    ):
        approval = host.approval(rev, level, module)
        predicted = host.ask("apply", approval=approval, test=True)
        assert (predicted["result"], predicted["test"]) == (True, True)
        done = host.ask("apply", approval=approval)
        assert done["result"] is True, done
        assert done["changes"] == predicted["changes"]
        assert labels(host) == expected
        status = host.status()
        assert (status["level"], status["verdict"]) == (level, "patched" if level else "unpatched")
        assert status["fixes"] == ([f"CVE-2026-{level:04}"] if level else [])
        assert status["flags"] == []

    assert host.patches() == []
    assert not {"lp_level_1", "lp_level_2"} & host.modules()
    history = host.ask("history")
    assert [(one["act"], one["level"], one["ending"]) for one in history] == [
        ("load", 1, "complete"), ("load", 2, "complete"), ("load", 1, "complete"), ("disable", 1, "complete"),
    ]  # fmt: skip
    assert host.ask("verify")["state"] == "whole"
    assert not any(word in host.guest.dmesg() for word in ("WARNING", "BUG", "Oops"))


def test_a_second_apply_leaves_no_trace(host, modules):
    host.publish({1: modules["lp_level_1"]})
    approval = host.approval(1, 1, modules["lp_level_1"])
    assert host.ask("apply", approval=approval)["result"] is True
    log, journal, record = host.log_length(), host.journal(), host.record()

    again = host.ask("apply", approval=approval)

    assert (again["result"], again["changes"]) == (True, {})
    assert host.log_length() == log
    assert (host.journal(), host.record()) == (journal, record)


def test_newest_where_the_site_wants_no_approvals(host, modules):
    host.publish({1: modules["lp_level_1"], 2: modules["lp_level_2"]}, level2={"status": "testing"})
    done = host.ask("apply", settings={"policy": "newest"})
    assert (done["result"], host.status()["level"]) == (True, 1)


def test_a_hold_outlasts_newest_until_it_is_lifted(host, modules):
    host.publish({1: modules["lp_level_1"], 2: modules["lp_level_2"]})
    newest = {"settings": {"policy": "newest"}}
    assert host.ask("apply", **newest)["result"] is True
    assert host.ask("revert", level=1, reason="a test", **newest)["result"] is True
    assert host.ask("apply", **newest)["kind"] == "superseded"
    assert host.ask("unhold", reason="a test")["result"] is True
    assert host.ask("apply", **newest)["result"] is True
    assert host.status()["level"] == 2


def test_a_level_by_hand_holds_until_a_higher_rev(host, modules):
    host.publish({1: modules["lp_level_1"], 2: modules["lp_level_2"]})
    assert host.ask("apply", approval=host.approval(5, 2, modules["lp_level_2"]))["result"] is True
    assert host.ask("apply", level=1)["kind"] == "unapproved"
    assert host.to_level(1)["result"] is True
    assert host.status()["flags"] == ["held"]

    held = host.ask("apply", approval=host.approval(5, 2, modules["lp_level_2"]))
    assert (held["kind"], host.status()["level"]) == ("superseded", 1)
    assert host.ask("apply", approval=host.approval(6, 2, modules["lp_level_2"]))["result"] is True
    assert (host.status()["level"], host.status()["flags"]) == (2, [])


def test_down_by_way_of_zero_where_callbacks_would_be_skipped(host, modules):
    host.publish({1: modules["lp_level_1"], 2: modules["lp_callbacks"]})
    assert host.to_level(2)["result"] is True
    predicted = host.to_level(1, test=True)
    assert "level 0 in between" in predicted["comment"]
    done = host.to_level(1)
    assert (done["result"], done["changes"]) == (True, predicted["changes"])
    assert [one["act"] for one in host.ask("history")] == ["load", "disable", "load"]
    assert host.status()["verdict"] == "patched"


def test_compressed_modules_load_by_the_digest_of_what_is_stored(host, modules, tmp_path):
    for level, (suffix, compress) in enumerate([("xz", lzma.compress), ("gz", gzip.compress)], 1):
        stored = tmp_path / f"lp_level_{level}.ko.{suffix}"
        stored.write_bytes(compress(modules[f"lp_level_{level}"].read_bytes()))
        host.publish({level: stored})
        assert host.to_level(level)["result"] is True
        assert host.status()["level"] == level


def test_a_patch_that_is_not_ours_is_drift_and_left_alone(host, modules):
    host.publish({1: modules["lp_level_1"]})
    host.guest.put("/root/foreign.ko", modules["lp_stacked"].read_bytes())
    host.guest.exec("insmod /root/foreign.ko", check=True)
    host.ask("wait", timeout=60)
    status = host.status()
    assert (status["verdict"], status["level"], status["flags"]) == ("unknown", None, ["drifted"])
    assert "lp_stacked" in status["reason"]
    reverted = host.ask("revert", reason="a test")
    assert (reverted["changes"], host.patches()) == ({}, ["lp_stacked"])
    refused = host.to_level(1)
    assert (refused["result"], refused["kind"], host.patches()) == (False, "conflict", ["lp_stacked"])
    done = host.to_level(1, override=["takeover"])
    assert (done["result"], host.patches()) == (True, ["lp_level_1"]), done


def test_a_lost_record_does_not_hide_a_level(host, modules):
    """The state directory is gone, the level is in force: what is loaded is recognised by its build-id."""
    host.publish({1: modules["lp_level_1"], 2: modules["lp_level_2"]})
    assert host.to_level(1)["result"] is True
    host.guest.exec("rm -r /var/lib/livepatch", check=True)
    assert (host.status()["verdict"], host.status()["level"]) == ("patched", 1)

    assert host.to_level(1)["changes"] == {}
    assert host.to_level(2)["result"] is True
    assert host.patches() == ["lp_level_2"]
