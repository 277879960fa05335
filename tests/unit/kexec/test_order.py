"""Which of two releases is the newer."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livepatch_core.kexec.order import compare, line_of, newest_first, split

RELEASES = [
    "6.12.117+deb12-amd64",
    "6.12.95+deb12-amd64",
    "6.12.1-amd64",
    "6.12-rc7-amd64",
    "6.1.0-56-cloud-amd64",
    "6.1.0-56-amd64",
    "6.1.0-9-amd64",
    "5.14.0-427.13.1.el9_4.x86_64",
    "4.12.14-122.20-default",
]
# no ":" and no leading letter: dpkg would read an epoch, or refuse
VERSIONS = st.from_regex(r"\A[0-9][0-9a-zA-Z.+~]{0,12}\Z")


def test_newest_first() -> None:
    assert sorted(set(RELEASES), key=newest_first) == RELEASES


@given(VERSIONS, VERSIONS, VERSIONS)
def test_it_is_an_order(a: str, b: str, c: str) -> None:
    assert compare(a, a) == 0
    assert compare(a, b) == -compare(b, a)
    if compare(a, b) <= 0 and compare(b, c) <= 0:
        assert compare(a, c) <= 0


@settings(max_examples=60, deadline=None)
@given(VERSIONS, VERSIONS)
def test_it_is_that_of_dpkg(a: str, b: str) -> None:
    word = {-1: "lt", 0: "eq", 1: "gt"}[compare(a, b)]
    assert subprocess.run(["dpkg", "--compare-versions", a, word, b], check=False).returncode == 0


@pytest.mark.parametrize(
    ("release", "parts"),
    [
        ("6.1.0-56-amd64", ("6.1.0-56", "amd64")),
        ("6.1.0-56-cloud-amd64", ("6.1.0-56", "cloud-amd64")),
        ("6.12.117+deb12-amd64", ("6.12.117+deb12", "amd64")),
        ("6.12-rc7-amd64", ("6.12-rc7", "amd64")),
        ("5.14.0-427.13.1.el9_4.x86_64", ("5.14.0-427.13.1.el9_4.x86_64", "")),
        ("4.12.14-122.20-default", ("4.12.14-122.20", "default")),
        ("5.14.0-503.el9.x86_64+rt", ("5.14.0-503.el9.x86_64", "rt")),
        ("5.14.0-503.el9.x86_64+rt-debug", ("5.14.0-503.el9.x86_64", "rt-debug")),
        ("5.14.0-503.el9.aarch64+64k", ("5.14.0-503.el9.aarch64", "64k")),
        ("6.1", ("6.1", "")),
    ],
)
def test_version_and_flavour(release: str, parts: tuple[str, str]) -> None:
    assert split(release) == parts


def test_line() -> None:
    assert [line_of(release) for release in ("6.1.0-56-amd64", "6.12.95+deb12-amd64", "odd")] == [
        "6.1",
        "6.12",
        "odd",
    ]
