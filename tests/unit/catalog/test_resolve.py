from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.catalog.model import Catalog, LevelStatus
from livepatch_core.catalog.read import parse_catalog
from livepatch_core.catalog.resolve import find_level, newest
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind
from tests.unit.catalog.entries import BUILD, catalog, level, text

OTHER = "ff" * 20


def with_statuses(statuses: dict[int, str]) -> Catalog:
    document = catalog()
    document["builds"][BUILD]["levels"] = {
        number: level(number, status=status, reason="it oopses") for number, status in statuses.items()
    }
    return parse_catalog(text(document))


MIXED = with_statuses({1: "released", 2: "released", 3: "blocked", 4: "testing"})


@pytest.mark.parametrize("number", [1, 2, 4])
def test_levels_that_are_found(number: int) -> None:
    assert find_level(MIXED, BUILD, number).number == number


@pytest.mark.parametrize(
    ("build", "number", "kind", "said"),
    [
        (OTHER, 1, Kind.UNCOVERED, OTHER),
        (BUILD, 5, Kind.CATALOG, "no level 5"),
        (BUILD, 0, Kind.CATALOG, "no level 0"),
        (BUILD, 3, Kind.BLOCKED, "it oopses"),
    ],
)
def test_levels_that_are_not(build: str, number: int, kind: Kind, said: str) -> None:
    with pytest.raises(LivepatchError) as caught:
        find_level(MIXED, build, number)
    assert caught.value.kind is kind
    assert said in caught.value.message
    assert build in caught.value.message
    assert caught.value.remedy


def test_newest_of_an_unknown_build() -> None:
    assert newest(MIXED, OTHER) is None


@given(st.dictionaries(st.integers(1, 99), st.sampled_from([status.value for status in LevelStatus])))
def test_newest_is_the_highest_released(statuses: dict[int, str]) -> None:
    found = newest(with_statuses(statuses), BUILD)
    released = [number for number, status in statuses.items() if status == "released"]
    assert (found.number if found else None) == max(released, default=None)
