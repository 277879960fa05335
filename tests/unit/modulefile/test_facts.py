from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.errors import LivepatchError
from livepatch_core.modulefile.facts import first, read_built_for

names = st.from_regex(r"[a-z0-9_-]{1,30}", fullmatch=True)
build_ids = st.binary(min_size=8, max_size=32).map(bytes.hex)


@given(st.dictionaries(names, build_ids))
def test_recorded_builds(built_for: dict[str, str]) -> None:
    pairs = tuple(("built_for", f"{name}:{build_id}") for name, build_id in built_for.items())
    assert read_built_for((("license", "GPL"), *pairs, *pairs)) == built_for


@pytest.mark.parametrize(
    "value",
    [
        "",
        "vmlinux",
        "vmlinux:",
        ":" + "ab" * 20,
        "vmlinux:" + "a" * 39,
        "vmlinux:" + "AB" * 20,
        "vmlinux:abcd",
    ],
)
def test_a_record_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(LivepatchError, match="not an object and a build-id"):
        read_built_for((("built_for", value),))


def test_the_first_value_counts() -> None:
    pairs = (("name", "a"), ("name", "b"))
    assert (first(pairs, "name"), first(pairs, "other")) == ("a", None)
