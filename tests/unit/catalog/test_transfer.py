from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from livepatch_core.catalog.entry import Publication
from livepatch_core.catalog.model import LevelStatus
from livepatch_core.catalog.publish import publish
from livepatch_core.catalog.settings import Master
from livepatch_core.catalog.shelf import read_shelves
from livepatch_core.catalog.standing import block, promote
from livepatch_core.catalog.transfer import export, import_dir, listing
from livepatch_core.catalog.verify import verify
from livepatch_core.errors import LivepatchError
from tests.unit.catalog.modules import BY, RELEASE, master_in, module, published


@pytest.fixture
def master(tmp_path: Path) -> Master:
    """1 blocked, 2 released, 3 in testing."""
    master = master_in(tmp_path / "here")
    for number in (1, 2, 3):
        published(master, number)
    promote(master, 1, None, None, BY)
    promote(master, 2, None, None, BY)
    block(master, 1, None, None, BY)
    return master


def statuses(master: Master) -> dict[int, LevelStatus]:
    return {one.level.number: one.status for one in read_shelves(master, RELEASE).standings()}


def test_export_is_what_the_fleet_sees(master: Master, tmp_path: Path) -> None:
    written = export(master, tmp_path / "tree")
    found = {str(path.relative_to(tmp_path / "tree")): path for path in (tmp_path / "tree").rglob("*.*")}
    assert sorted(written) == sorted(name for name in found if found[name].is_file())
    for name in written:
        assert found[name].read_bytes() == (master.served.parent / name).read_bytes()
    assert export(master, tmp_path / "tree") == written


def test_export_of_an_unsound_catalog(master: Master, tmp_path: Path) -> None:
    next((master.served / RELEASE).glob("livepatch_2*")).unlink()
    with pytest.raises(LivepatchError, match="not sound"):
        export(master, tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize("as_is", [True, False])
def test_import_of_an_export(master: Master, tmp_path: Path, as_is: bool) -> None:
    export(master, tmp_path / "tree")
    there = master_in(tmp_path / "there")
    done = import_dir(there, tmp_path / "tree", BY, as_is)
    assert [one["level"] for one in done] == [1, 2]
    second = LevelStatus.RELEASED if as_is else LevelStatus.TESTING
    assert statuses(there) == {1: LevelStatus.BLOCKED, 2: second}
    assert verify(there) == (2, [])
    assert import_dir(there, tmp_path / "tree", BY, as_is) == []


def test_import_refuses_before_it_writes(master: Master, tmp_path: Path) -> None:
    export(master, tmp_path / "tree")
    there = master_in(tmp_path / "there")
    path = next((tmp_path / "tree").rglob("livepatch_2*"))
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(LivepatchError, match="not sound"):
        import_dir(there, tmp_path / "tree", BY)
    assert statuses(there) == {}
    with pytest.raises(LivepatchError, match="no <release>/catalog.yaml"):
        import_dir(there, tmp_path / "nothing", BY)


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        ({2: ["a", "b"]}, {1: ["a"]}, "below level 2, which is here"),
        ({1: ["a"]}, {2: ["b"]}, "lacks what level 1 has, and does not say why: vmlinux:a"),
    ],
)
def test_import_keeps_the_order_of_levels(
    tmp_path: Path, here: dict[int, list[str]], there: dict[int, list[str]], said: str
) -> None:
    """What publish refuses does not come in by another door, and is refused with the same words."""
    masters = [master_in(tmp_path / name) for name in ("here", "there")]
    for master, levels in zip(masters, (here, there)):
        for number, functions in levels.items():
            publish(master, module(f"livepatch_{number}", functions), Publication(BY, number))
    before = listing(masters[0])
    with pytest.raises(LivepatchError, match=said):
        import_dir(masters[0], masters[1].withheld, BY)
    ((number, functions),) = there.items()
    with pytest.raises(LivepatchError, match=said):
        publish(masters[0], module(f"livepatch_{number}", functions), Publication(BY, number))
    assert listing(masters[0]) == before


def test_import_of_a_module_whose_name_is_taken(tmp_path: Path) -> None:
    here, there = (master_in(tmp_path / name) for name in ("here", "there"))
    publish(here, module("livepatch_x"), Publication(BY, 1))
    publish(there, module("livepatch_x", ["f", "g"]), Publication(BY, 2))
    with pytest.raises(LivepatchError, match="module named livepatch_x too"):
        import_dir(here, there.withheld, BY)
    with pytest.raises(LivepatchError, match="module named livepatch_x too"):
        publish(here, module("livepatch_x", ["f", "g"]), Publication(BY, 2))


def test_import_of_a_release_that_stands_there_twice(master: Master, tmp_path: Path) -> None:
    """Both written one after the other, the second would take the place of the first."""
    export(master, tmp_path / "tree")
    shutil.copytree(tmp_path / "tree" / "livepatch" / RELEASE, tmp_path / "tree" / RELEASE)
    there = master_in(tmp_path / "there")
    with pytest.raises(LivepatchError, match="twice"):
        import_dir(there, tmp_path / "tree", BY)
    assert statuses(there) == {}


def test_import_of_another_module_under_the_same_number(master: Master, tmp_path: Path) -> None:
    export(master, tmp_path / "tree")
    there = master_in(tmp_path / "there")
    published(there, 2)
    published_differently = next((there.withheld / RELEASE).glob("livepatch_2*"))
    text = (there.withheld / RELEASE / "catalog.yaml").read_text()
    digest = next(line.split()[1] for line in text.splitlines() if "sha256:" in line)
    (there.withheld / RELEASE / "catalog.yaml").write_text(text.replace(digest, "0" * 64))
    assert published_differently.exists()
    with pytest.raises(LivepatchError, match="another module"):
        import_dir(there, tmp_path / "tree", BY)
