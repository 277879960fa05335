"""Files of a host that somebody edited by hand: any value in any place is understood, or refused in words.

What it must never be is a traceback: at boot nobody reads it, and ``status`` has to work in every state.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.host import boot, move, persist, quarantine, soak, status, store, told
from livepatch_core.host.apply import apply
from livepatch_core.host.move import Wish
from livepatch_core.host.quarantine import Ward, Warded
from tests.unit.host.fakekernel import BUILD_ID
from tests.unit.host.test_boot import blocked, restarted
from tests.unit.host.world import World

VALUES = (None, -1, float("nan"), "x", [1], ["x"], {"x": 1})
Act = Callable[[World], object]


def index(world: World) -> Path:
    return store.directory(world.host, BUILD_ID) / store.INDEX


def at_boot(world: World) -> object:
    world.kernel.boot("boot-9")
    return boot.start(world.host)


ACTS: dict[str, Act] = {
    "status": lambda world: json.dumps(status.status(world.host)),
    "brief": lambda world: json.dumps(status.brief(world.host)),
    "tell": lambda world: told.tell(world.host, lambda one: True),
    "tick": lambda world: soak.tick(world.host),
    "check": lambda world: json.dumps(soak.check_now(world.host).document()),
    "persist": lambda world: persist.persist(world.host, test=True),
    "apply": lambda world: move.move(world.host, Wish(approval=world.approval(9, 1), test=True)),
    "boot": at_boot,  # last: the kernel is another one then
}
ASKED_ABOVE_ALL_THEN = ("status", "brief")
# Who reads which file; the record's own edits are in test_record.py.
READ_BY = {
    "armed_file": ("status", "tick", "check", "persist", "boot"),
    "blocks_file": ("status", "boot"),
    "boot_file": ("status",),
    "health_file": ("tick", "check"),
    "proven_file": ("persist", "tick"),
    "quarantine_file": ("status", "brief", "tell", "persist", "apply", "boot"),
    "told_file": ("tell",),
    "index": ("status", "persist", "boot"),
}


def edits(document: Any) -> Iterator[Any]:
    """The document with one value replaced, or one key gone; whichever, wherever."""
    yield from VALUES
    if isinstance(document, dict):
        for key, value in document.items():
            yield {one: value for one, value in document.items() if one != key}
            for edited in edits(value):
                yield {**document, key: edited}
    if isinstance(document, list):
        for place, value in enumerate(document):
            for edited in edits(value):
                yield [*document[:place], edited, *document[place + 1 :]]


def everything_written(world: World) -> None:
    """Level 2 is blocked and a crash is known of it, level 1 came at boot, level 3 is in its soak."""
    blocked(world)
    restarted(world)
    boot.start(world.host)
    quarantine.add(
        world.host,
        Warded(world.levels[2].sha256, 2, BUILD_ID, Ward.QUARANTINED, "crashed", "2026", ("BUG: x",)),
    )
    told.tell(world.host, lambda one: True)
    assert apply(world.host, Wish(approval=world.approval(3, 3))).result is True
    assert persist.persist(world.host).result is True
    world.kernel.seconds += 61


@pytest.mark.parametrize(("name", "act"), [(name, act) for name, acts in READ_BY.items() for act in acts])
def test_any_edit(kept: World, name: str, act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    everything_written(kept)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    state = kept.host.settings.state_dir
    before = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    path = index(kept) if name == "index" else getattr(kept.host.settings, name)
    for edited in edits(json.loads(before[path])):
        for one, data in before.items():
            one.write_bytes(data)
        path.write_text(json.dumps(edited))
        refused = () if act in ASKED_ABOVE_ALL_THEN else (LivepatchError,)
        with contextlib.suppress(*refused):
            ACTS[act](kept)
