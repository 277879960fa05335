"""A host that can be told things, with a kernel that is a stand-in."""

from __future__ import annotations

from pathlib import Path

import pytest

from livepatch_core.host import armed, move, persist, soak
from livepatch_core.host.move import Wish
from livepatch_core.modulefile.model import Function, PatchedObject
from tests.unit.host.fakekernel import FUNCTION, module
from tests.unit.host.world import World, build_world


def levels(world: World) -> World:
    """Three levels: 1 and 2 replace each other; 3 has callbacks, so the way down from it leads through 0."""
    world.publish(1, module("lp_1"))
    world.publish(2, module("lp_2"))
    objects = (PatchedObject("vmlinux", (Function(FUNCTION, 0),), ("pre_patch",)),)
    world.publish(3, module("lp_3", objects=objects))
    return world


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return levels(build_world(tmp_path, monkeypatch))


@pytest.fixture
def kept(world: World) -> World:
    """Levels 1 and 2 are kept over a boot, the unit is enabled, level 2 is approved."""
    world.enable_units()
    for rev, level in ((1, 1), (2, 2)):
        assert move.move(world.host, Wish(approval=world.approval(rev, level))).result is True
        assert persist.persist(world.host).result is True
        found = armed.read_armed(world.host)
        assert found is not None
        soak._prove(world.host, found)
    return world
