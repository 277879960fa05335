"""Tables where they fit, nested data where they do not, both as the command line asks for them."""

from __future__ import annotations

import pytest
import salt.config
import salt.loader

from tests.unit.house.sources import REPO

STATUS = {"verdict": "patched", "level": 2, "kernel": {"release": "6.1.0-56-amd64"}, "flags": []}


@pytest.fixture
def output():
    opts = salt.config.DEFAULT_MASTER_OPTS.copy()
    opts.update(output="livepatch", color=False, outputter_dirs=[str(REPO / "_output")])
    return salt.loader.outputters(opts)["livepatch"]


def test_a_status_is_a_row(output):
    heading, row = output({"hv1": STATUS}).splitlines()
    assert heading.split()[:4] == ["HOST", "VERDICT", "BY", "LEVEL"]
    assert row.split()[:5] == ["hv1", "patched", "-", "2", "6.1.0-56-amd64"]


@pytest.mark.parametrize("data", [{"levels": [1, 2]}, "a sentence", ["hv1"]])
def test_what_is_no_host_is_nested_data(output, data):
    assert str(next(iter(data)) if not isinstance(data, str) else data) in output(data)


def test_another_system_is_named_and_so_are_conflicts(output):
    other = {**STATUS, "provider": "kernelcare", "effective": "5.15.0-105", "level": 0}
    mixed = {**STATUS, "provider": "klp", "flags": ["doubtful"], "conflicts": ["they must not be mixed"]}
    mixed["doubts"] = ["its module is not loaded"]
    _, first, second, *remarks = output({"hv1": other, "hv2": mixed}).splitlines()
    assert first.split()[:3] == ["hv1", "patched", "kernelcare"]
    assert "as 5.15.0-105" in first
    assert second.split()[:3] == ["hv2", "patched", "klp"]
    assert "  hv2: they must not be mixed" in remarks
    assert "  hv2: its module is not loaded" in remarks


def test_a_doubt_that_is_the_reason_is_said_once(output):
    why = "lp_9 patches module nfs, which is another build"
    doubtful = {**STATUS, "verdict": "unknown", "flags": ["doubtful"], "reason": why, "doubts": [why]}
    assert output({"hv1": doubtful}).count(why) == 1
