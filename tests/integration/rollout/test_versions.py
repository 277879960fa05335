"""What touches Salt's own interfaces, on the older releases of Salt."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.integration.house import conftest as house
from tests.integration.rollout.conftest import QUICK, Ground, ground

WHY = "why=a test"


environment = house.environment


@pytest.fixture(params=["3006", "3007"])
def site(request: pytest.FixtureRequest, environment: Callable[[str], house.Environment]) -> Iterator[Ground]:
    with ground(environment(request.param).python, {"engines": [{"livepatch": {"interval": 1}}]}) as made:
        yield made


def test_a_rollout_and_its_engine(site: Ground) -> None:
    site.behave("hv1", "health")
    code, undone = site.run("rollout", "hv*", "2", WHY, **QUICK)
    assert (code, undone["state"]) == (1, "rolled_back"), undone
    assert site.run("rollout", "hv*", "2", WHY, "nonsense=1")[0] == 1
    site.reset()
    rollout = site.begin("rollout", "hv*", "2", WHY, **{**QUICK, "canary_soak": "5"})
    rollout.until_said("canaries: soak")
    rollout.kill()
    code, done = site.run("watch")
    assert (code, done["state"]) == (0, "completed"), done
    assert [site.level(name) for name in ("hv1", "hv2")] == [2, 2]
    site.stop_minion("hv2")
    code, plan = site.run("plan", "role:hypervisor", "1", tgt_type="grain", timeout="5", **QUICK)
    assert code == 0, plan
    assert "offline" in plan["text"]
