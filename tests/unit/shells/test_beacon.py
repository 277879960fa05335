"""The beacon: what it says for what the kernel shows, look by look."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[3] / "_beacons/livepatch.py"
WARD = {"level": 2, "kernel": "eb4f", "ward": "quarantined"}
QUIET: dict[str, Any] = {
    "verdict": "patched",
    "comment": "",
    "flags": [],
    "level": 1,
    "boot_id": "b",
    "drift": [],
    "warded": [],
    "boot_is_news": False,
    "acting": False,
}


@pytest.fixture
def beacon(tmp_path: Path) -> ModuleType:
    return load(tmp_path)


def load(run_dir: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("livepatch_beacon", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__opts__ = {"livepatch": {"run_dir": str(run_dir)}}  # type: ignore[attr-defined]
    return module


def events(beacon: ModuleType, *looks: dict[str, Any]) -> list[list[tuple[str, Any, Any]]]:
    said = []
    for look in looks:
        beacon.__salt__ = {"livepatch.brief": lambda look=look: {**QUIET, **look}}  # type: ignore[attr-defined]
        said.append([(one["tag"], one["old"], one["new"]) for one in beacon.beacon([])])
    return said


def test_nothing_new_is_no_event(beacon: ModuleType) -> None:
    assert events(beacon, {}, {}, {"flags": ["held"]}) == [[], [], []]


def test_an_act_that_is_not_written_down_yet(beacon: ModuleType) -> None:
    """Its patch is in the kernel and not in the record: a first look in that moment reported it as drift."""
    ahead = {"level": None, "drift": ["lp_level_2"], "acting": True}
    assert events(beacon, ahead, {}, ahead, {"level": 2}) == [[], [], [], [("level", 1, 2)]]


def test_what_the_boot_brought_is_told_once_though_somebody_acts(beacon: ModuleType) -> None:
    news = {"boot_is_news": True, "warded": [WARD]}
    said = events(beacon, {**news, "acting": True}, {**news, "acting": True}, news, news)
    assert said == [[("quarantine", [], [WARD])], [], [], []]


def test_a_first_look_in_the_middle_of_a_transition(beacon: ModuleType) -> None:
    """What it came from is not known; that it stalls and ends is told."""
    patching = {"verdict": "patching", "level": None, "drift": ["lp_level_2"]}
    assert events(beacon, patching, {**patching, "verdict": "stalled"}, {"level": 2}, {"level": 1}) == [
        [],
        [("transition", "patching", "stalled")],
        [("transition", "stalled", None)],
        [("level", 2, 1)],
    ]


def test_a_transition(beacon: ModuleType) -> None:
    patching = {"verdict": "patching", "level": None}
    assert events(beacon, {}, patching, patching, {**patching, "verdict": "stalled"}, {"level": 2}) == [
        [],
        [("transition", None, "patching")],
        [],
        [("transition", "patching", "stalled")],
        [("transition", "stalled", None), ("level", 1, 2)],
    ]


def test_drift_and_a_lost_level(beacon: ModuleType) -> None:
    foreign = {"drift": ["lp_other"]}
    assert events(beacon, {}, foreign, {**foreign, "level": 0}) == [
        [],
        [("drift", [], ["lp_other"])],
        [("level", 1, 0)],
    ]


@pytest.mark.parametrize("news", [True, False])
def test_quarantine_at_boot_is_told_once(beacon: ModuleType, news: bool) -> None:
    look = {"warded": [WARD], "boot_is_news": news}
    first, second = events(beacon, look, look)
    assert first == ([("quarantine", [], [WARD])] if news else [])
    assert second == []


def test_a_change_across_a_reload_of_the_beacons(tmp_path: Path) -> None:
    assert events(load(tmp_path), {}) == [[]]
    assert events(load(tmp_path), {"level": 2}, {"level": 2}) == [[("level", 1, 2)], []]


def test_another_boot_starts_anew(tmp_path: Path) -> None:
    assert events(load(tmp_path), {}) == [[]]
    assert events(load(tmp_path), {"level": 2, "boot_id": "other"}) == [[]]


def test_a_damaged_last_look_is_none(tmp_path: Path, beacon: ModuleType) -> None:
    (tmp_path / "beacon.json").write_text("{")
    assert events(beacon, {"level": 2}, {"level": 0}) == [[], [("level", 2, 0)]]
