"""Which packages a kernel is built from when the archives have moved on."""

from __future__ import annotations

import pytest

from livepatch_core.build.debian import PrivateApt, kbuild_package
from livepatch_core.build.refusals import Refusal, Refused

OLD, NEW = "6.1.192-2", "6.1.192-3"


class Served(PrivateApt):
    """Stand-in: archives that serve these versions, newest first, of every package."""

    def __init__(self, *versions: str) -> None:
        self.versions = versions

    def show(self, package: str) -> list[dict[str, str]]:
        return [{"Package": package, "Version": version} for version in self.versions]


def headers(depends: str) -> dict[str, str]:
    common = f"linux-headers-6.1.0-56-common (= {OLD})"
    return {"Package": "linux-headers-6.1.0-56-amd64", "Version": OLD, "Depends": f"{common}, {depends}"}


AT_LEAST = headers(f"linux-kbuild-6.1 (>= {OLD}), linux-compiler-gcc-12-x86")


def test_kbuild_of_the_same_version_is_preferred() -> None:
    assert kbuild_package(Served(NEW, OLD, "6.1.176-1"), AT_LEAST) == ("linux-kbuild-6.1", OLD)


def test_superseded_kbuild_gives_way_to_the_oldest_that_the_headers_admit() -> None:
    assert kbuild_package(Served("6.1.200-1", NEW, "6.1.176-1"), AT_LEAST) == ("linux-kbuild-6.1", NEW)


@pytest.mark.parametrize(
    ("served", "depends"),
    [
        (("6.1.176-1",), f"linux-kbuild-6.1 (>= {OLD})"),
        ((NEW,), "linux-kbuild-6.1"),
        ((NEW,), f"linux-kbuild-6.1 (= {OLD})"),
    ],
)
def test_no_other_kbuild_is_taken(served: tuple[str, ...], depends: str) -> None:
    with pytest.raises(Refused, match=f"do not serve linux-kbuild-6.1 {OLD}") as caught:
        kbuild_package(Served(*served), headers(depends))
    assert caught.value.refusal is Refusal.SOURCE
