"""Orders from what somebody typed, in a call and in a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from livepatch_core.build.builder import FAN_OUT
from livepatch_core.build.calls import PARTS, Settings, order, parse_settings, read_diff
from livepatch_core.build.refusals import Refusal, Refused

PLAIN = Settings(Path("/cache"))
DIFFS = [("x.patch", "text")]


def refused(value: Any) -> str:
    with pytest.raises(Refused) as caught:
        value()
    assert caught.value.refusal is Refusal.ARGUMENT
    return str(caught.value)


def test_settings_and_where_a_module_goes() -> None:
    settings = parse_settings(None, "/var/cache/salt/master")
    assert settings == Settings(Path("/var/cache/salt/master/livepatch-build"))
    assert settings.place("6.1", None) == settings.cache / "modules" / "6.1"
    given = {"cache": "/c", "output": "/o", "jobs": 4, "key": "/k", "certificate": "/p"}
    settings = parse_settings(given, "/var")
    assert settings == Settings(Path("/c"), Path("/o"), 4, Path("/k"), Path("/p"))
    assert (settings.place("6.1", None), settings.place("6.1", "/x")) == (Path("/o/6.1"), Path("/x"))
    assert settings.place("6.12", None) == Path("/o/6.12"), "the same level of two kernels"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "must hold a mapping"),
        ({"chache": "/c"}, "livepatch_build:chache"),
        ({"cache": "c"}, "livepatch_build:cache is 'c'"),
        ({"jobs": "2"}, "livepatch_build:jobs is '2'"),
        ({"jobs": 0}, "livepatch_build:jobs is 0"),
        ({"key": 5}, "livepatch_build:key is 5"),
    ],
)
def test_settings_that_are_wrong(value: Any, words: str) -> None:
    assert words in refused(lambda: parse_settings(value, "/var"))


def test_order_says_what_was_typed() -> None:
    made = order("6.1", DIFFS, PLAIN, {"level": 2, "accept": {"struct a": "why"}, "fan_out": None})
    assert (made.release, made.module_name, made.level, made.fan_out) == ("6.1", "livepatch_2", 2, FAN_OUT)
    assert (made.accept, made.replace, made.parts) == ({"struct a": "why"}, True, None)
    assert order("6.1", DIFFS, PLAIN, {"replace": False}).replace is False


def test_parts_by_path() -> None:
    parts = order("6.1", DIFFS, PLAIN, {name: f"/{name}" for name in PARTS}).parts
    assert parts is not None
    assert [str(getattr(parts, name)) for name in PARTS] == [f"/{name}" for name in PARTS]
    assert "Give all of" in refused(lambda: order("6.1", DIFFS, PLAIN, {"image": "/vmlinuz"}))


@pytest.mark.parametrize(
    ("release", "given", "words"),
    [
        (None, {}, "kernel is None"),
        (6.1, {}, "kernel is 6.1"),
        ("../../etc", {}, "kernel is '../../etc'"),
        ("6.1", {"level": "1"}, "level is '1'"),
        ("6.1", {"level": -1}, "level is -1"),
        ("6.1", {"level": True}, "level is True"),
        ("6.1", {"fan_out": "many"}, "fan_out is 'many'"),
        ("6.1", {"accept": ["x"]}, "accept is ['x']"),
    ],
)
def test_order_that_is_wrong(release: Any, given: dict[str, Any], words: str) -> None:
    assert words in refused(lambda: order(release, DIFFS, PLAIN, given))


def test_diff_is_read_as_it_is(tmp_path: Path) -> None:
    place = tmp_path / "cached"
    place.write_bytes(b"caf\xe9\n")
    assert read_diff("salt://fixes/x.patch", str(place)) == ("x.patch", "caf\udce9\n")
    assert "cannot be read" in refused(lambda: read_diff("/x.patch", str(tmp_path)))
