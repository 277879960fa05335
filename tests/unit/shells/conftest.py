"""The shells as Salt's loader runs them, over a host whose kernel is a stand-in."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import livepatch_core
from livepatch_core.host import armed, soak
from tests.unit.host.conftest import levels
from tests.unit.host.world import World, build_world

REPO = Path(__file__).resolve().parents[3]


def load(kind: str, name: str = "livepatch", **dunders: Any) -> ModuleType:
    """``_modules/livepatch.py`` and so on, with what the loader puts into it."""
    spec = importlib.util.spec_from_file_location(f"{kind}_{name}_under_test", REPO / f"_{kind}/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:  # the stand-in is behind the library that is imported now
        patch.setattr(livepatch_core, "refresh", lambda: None)
        spec.loader.exec_module(module)
    module.__dict__.update({f"__{name}__": value for name, value in dunders.items()})
    return module


@dataclass
class Minion:
    """sent: events; refreshed: arguments of each refresh of the grains. fails: what sending raises."""

    world: World
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refreshed: list[dict[str, Any]] = field(default_factory=list)
    fails: Exception | None = None
    pillar: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        opts = {"id": "hv1", "livepatch": None, "test": False}
        salt = {"event.send": self.send, "saltutil.refresh_grains": self.refresh}
        self.module = load(
            "modules", opts=opts, salt=salt, pillar=self.pillar, context=self.context, grains={}
        )
        who = {"user": "root", "jid": "", "id": "hv1"}
        self.module.__dict__["_host"] = lambda kwargs: replace(self.world.host, who=who)

    def send(self, tag: str, data: dict[str, Any]) -> bool:
        if self.fails is not None:
            raise self.fails
        self.sent.append((tag, data))
        return True

    def refresh(self, **options: Any) -> bool:
        self.refreshed.append(options)
        return True

    def states(self, test: bool) -> ModuleType:
        """As one run of the state system has them: one context for all states of the run."""
        verbs = ("apply", "persist", "not_persisted")
        salt = {f"livepatch.{verb}": getattr(self.module, verb) for verb in verbs}
        return load("states", opts={"test": test}, salt=salt, context={})

    def approve(self, rev: int, level: int) -> None:
        self.pillar["livepatch"] = {"approval": self.world.approval(rev, level)}

    def prove(self) -> None:
        """The soak ends well."""
        found = armed.read_armed(self.world.host)
        if found is not None:
            soak._prove(self.world.host, found)


@pytest.fixture
def minion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Minion:
    world = levels(build_world(tmp_path, monkeypatch))
    world.enable_units()
    return Minion(world)
