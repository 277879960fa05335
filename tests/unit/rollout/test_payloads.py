"""What goes to the canaries with a job, and what is too much for one."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import pytest

from livepatch_core.catalog.entry import Publication, parse_fixes
from livepatch_core.catalog.publish import publish
from livepatch_core.catalog.settings import Master
from livepatch_core.catalog.standing import block, promote
from livepatch_core.errors import LivepatchError
from livepatch_core.rollout import payloads
from livepatch_core.rollout.model import Plan
from livepatch_core.words import Kind
from tests.unit.catalog.modules import BY, RELEASE, master_in, module
from tests.unit.rollout.fleets import BUILDS, LEVEL, host, plan_of

HERE = BUILDS[:2]


def bytes_for(build: str) -> bytes:
    return module(f"livepatch_{LEVEL}", built_for=build)


@pytest.fixture
def master(tmp_path: Path) -> Master:
    """The level for two kernel builds, in testing."""
    made = master_in(tmp_path)
    for build in HERE:
        publish(made, bytes_for(build), Publication(BY, fixes=parse_fixes("CVE-2026-1"), level=LEVEL))
    return made


def plan(*builds: str) -> Plan:
    """Of a canary for each of these kernel builds."""
    hosts = [host(f"hv{number}", build_id=build) for number, build in enumerate(builds)]
    return plan_of(hosts, {"allow_testing": True}, testing=HERE)


def test_what_is_in_testing_is_carried_whole(master: Master) -> None:
    found = payloads.carried(master, dict.fromkeys(HERE, LEVEL))
    assert set(found) == set(HERE)
    for build, one in found.items():
        assert zlib.decompress(base64.b64decode(one["module"])) == bytes_for(build)
        assert [other for other in HERE if other in one["catalog"]] == [build]


def test_what_is_served_is_not(master: Master) -> None:
    promote(master, LEVEL, HERE[0], None, BY)
    assert set(payloads.carried(master, dict.fromkeys(HERE, LEVEL))) == {HERE[1]}
    assert payloads.carried(master, {HERE[1]: LEVEL + 1}) == {}
    assert payloads.carried(master, {}) == {}


def test_only_what_is_released_is_released(master: Master) -> None:
    assert "still in testing" in payloads.unreleased(master, HERE[0], LEVEL)
    block(master, LEVEL, HERE[0], None, BY)
    assert "is blocked" in payloads.unreleased(master, HERE[0], LEVEL)
    assert "no longer in the catalog" in payloads.unreleased(master, HERE[0], LEVEL + 1)
    promote(master, LEVEL, HERE[1], None, BY)
    assert payloads.unreleased(master, HERE[1], LEVEL) == ""


def test_too_much_is_said_before_anything_moves(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a job together, where each alone would go; what no canary needs is not sent, nor counted."""
    alone = payloads.carried(master, {HERE[0]: LEVEL})[HERE[0]]["module"]
    monkeypatch.setattr(payloads, "MOST", len(base64.b64decode(alone)) + 16)
    payloads.refuse_unsendable(master, plan(HERE[0]))
    payloads.refuse_unsendable(master, plan(HERE[1]))
    with pytest.raises(LivepatchError, match="in testing.*a job carries at most") as refused:
        payloads.refuse_unsendable(master, plan(*HERE))
    assert refused.value.kind is Kind.CATALOG
    assert "promote it" in str(refused.value)


def test_a_module_that_is_gone_is_said_by_its_path(master: Master) -> None:
    for path in (master.withheld / RELEASE).glob("*.ko"):
        path.unlink()
    with pytest.raises(LivepatchError, match=r"\.ko cannot be read \(No such file"):
        payloads.refuse_unsendable(master, plan(*HERE))
