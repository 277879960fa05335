"""What touches Salt's own interfaces, on the older releases of Salt."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.integration.house import conftest as house
from tests.integration.rollout.conftest import Ground, ground
from tests.integration.rollout.story import ENGINE, a_rollout_and_its_engine

environment = house.environment


@pytest.fixture(params=["3006", "3007"])
def site(request: pytest.FixtureRequest, environment: Callable[[str], house.Environment]) -> Iterator[Ground]:
    with ground(environment(request.param).python, ENGINE) as made:
        yield made


def test_a_rollout_and_its_engine(site: Ground) -> None:
    a_rollout_and_its_engine(site)
