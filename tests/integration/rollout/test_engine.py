"""The master's engine takes over what nobody drives, whoever was killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.rollout.conftest import QUICK, Ground
from tests.integration.rollout.typed import until

WHY = "why=a test"
SOAKING = {**QUICK, "canary_soak": "10"}


@pytest.fixture(scope="module")
def master_with_engine(fleet_ground: Ground) -> Iterator[Ground]:
    fleet_ground.restart_master({"engines": [{"livepatch": {"interval": 1}}]})
    yield fleet_ground
    fleet_ground.restart_master({"engines": []})


@pytest.fixture
def site(master_with_engine: Ground) -> Ground:
    master_with_engine.reset()
    return master_with_engine


def drivers(site: Ground) -> list[str]:
    records = site.run("history", limit="1000")[1]["records"]
    return [one["owner"]["kind"] for one in records if one["type"] == "adopted"]


def outcome(site: Ground) -> tuple[list[int], list[list[str]]]:
    """Levels, and what each host was told to do."""
    told = [[one[0] for one in site.log(name) if one[0] == "apply"] for name in ("hv1", "hv2")]
    return [site.level(name) for name in ("hv1", "hv2")], told


WELL = ([2, 2], [["apply"], ["apply"]])


def until_over(site: Ground) -> None:
    code, said = site.run("watch")
    assert (code, said["state"]) == (0, "completed"), said


def test_detached_from_the_beginning(site: Ground) -> None:
    assert site.run("rollout", "hv*", "2", WHY, detach="True", **QUICK)[0] == 0
    until_over(site)
    assert (outcome(site), drivers(site)) == (WELL, ["engine"])


def test_ctrl_c_detaches(site: Ground) -> None:
    rollout = site.begin("rollout", "hv*", "2", WHY, **SOAKING)
    rollout.until_said("canaries: soak")
    rollout.interrupt()
    code, left, said = rollout.ended()
    assert (code, left["state"]) == (0, "running"), left
    assert "detached; the engine goes on" in said
    until_over(site)
    assert (outcome(site), drivers(site)) == (WELL, ["foreground", "engine"])


@pytest.mark.parametrize("killed", ["owner", "master", "both"])
def test_killed_in_mid_rollout(site: Ground, killed: str) -> None:
    """Not a trace of it in what the hosts were told."""
    rollout = site.begin("rollout", "hv*", "2", WHY, **SOAKING)
    rollout.until_said("canaries: soak")
    if killed != "master":
        rollout.kill()
    if killed != "owner":
        site.master.kill()
        site.master.start_again()
    if killed == "master":
        code, done, _ = rollout.ended()
        assert (code, done["state"]) == (0, "completed"), done
    else:
        until_over(site)
    assert outcome(site) == WELL


def test_a_paused_rollout_is_left_alone_until_it_is_resumed(site: Ground) -> None:
    site.behave("hv2", "health")
    code, said = site.run("rollout", "hv*", "2", WHY, detach="True", **QUICK)
    assert code == 0, said
    code, said = site.run("watch")
    assert said["state"] == "paused", said
    site.behave("hv2", "well")
    assert site.run("retry", WHY, "acknowledge=failed")[0] == 0
    until(lambda: site.level("hv2") == 2, "hv2 went to level 2")
    until_over(site)
