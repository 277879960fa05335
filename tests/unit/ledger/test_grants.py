from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from livepatch_core.catalog.entry import Publication
from livepatch_core.catalog.publish import publish
from livepatch_core.catalog.settings import Master
from livepatch_core.catalog.shelf import Standing, read_shelves
from livepatch_core.catalog.standing import block, promote
from livepatch_core.errors import LivepatchError
from livepatch_core.ledger.grants import grants_for, released
from livepatch_core.words import Kind
from tests.unit.catalog.modules import BUILD, BY, OTHER_BUILD, RELEASE, master_in, module, published


@pytest.fixture
def catalog_master(tmp_path: Path) -> Master:
    """One build with 1 released, 2 released, 3 blocked, 4 testing; another with 1 released."""
    master = master_in(tmp_path)
    for number in (1, 2, 3, 4):
        published(master, number)
    for number in (1, 2, 3):
        promote(master, number, None, None, BY)
    block(master, 3, None, None, BY)
    publish(master, module(built_for=OTHER_BUILD), Publication(author=BY))
    promote(master, 1, OTHER_BUILD, None, BY)
    return master


@pytest.fixture
def standings(catalog_master: Master) -> list[Standing]:
    return list(read_shelves(catalog_master, RELEASE).standings())


def levels(standings: list[Standing], level: Any, **options: Any) -> dict[str, int]:
    return {build: grant.level for build, grant in grants_for(standings, level, **options)[0].items()}


def test_what_a_level_means(standings: list[Standing]) -> None:
    assert levels(standings, 1) == {BUILD: 1, OTHER_BUILD: 1}
    assert levels(standings, 0) == {BUILD: 0, OTHER_BUILD: 0}
    assert levels(standings, "newest") == {BUILD: 2, OTHER_BUILD: 1}
    assert levels(standings, 2, release=RELEASE) == {BUILD: 2}
    assert grants_for(standings, 2)[1] == [OTHER_BUILD]
    assert levels(standings, 1, kernel_build=OTHER_BUILD) == {OTHER_BUILD: 1}
    digests = {one.level.number: one.level.sha256 for one in standings if one.build_id == BUILD}
    assert grants_for(standings, 2)[0][BUILD].sha256 == digests[2]


@pytest.mark.parametrize(
    ("level", "options", "kind"),
    [
        (3, {}, Kind.BLOCKED),
        (4, {}, Kind.CATALOG),
        (9, {}, Kind.CATALOG),
        (2, {"kernel_build": OTHER_BUILD}, Kind.CATALOG),
        (1, {"kernel_build": "ab" * 20}, Kind.UNCOVERED),
        (1, {"release": "5.10"}, Kind.UNCOVERED),
        ("2", {}, Kind.ARGUMENT),
        (-1, {}, Kind.ARGUMENT),
        (True, {}, Kind.ARGUMENT),
        (None, {}, Kind.ARGUMENT),
    ],
)
def test_refused(standings: list[Standing], level: Any, options: dict[str, Any], kind: Kind) -> None:
    with pytest.raises(LivepatchError) as caught:
        grants_for(standings, level, **options)
    assert caught.value.kind is kind
    assert caught.value.remedy


def test_released_levels(standings: list[Standing]) -> None:
    found = released(standings)
    assert {build: sorted(those) for build, those in found.items()} == {BUILD: [0, 1, 2], OTHER_BUILD: [0, 1]}
