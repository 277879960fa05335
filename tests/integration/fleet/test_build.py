"""``salt-run livepatch.build``: its answers and its exit codes, without a compiler."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.fleet.conftest import Site

KERNEL = "kernel=6.1.0-1-amd64"


def build(site: Site, *arguments: str) -> tuple[int, Any]:
    ended = site.master.run("salt-run", "--out=json", "livepatch.build", *arguments)
    return ended.returncode, json.loads(ended.stdout)


@pytest.fixture
def diff(site: Site) -> str:
    """The ``salt://`` address of a diff whose hunk says more lines than it has."""
    place = site.catalog_dir / "broken.patch"
    place.write_text("--- a/fs/pipe.c\n+++ b/fs/pipe.c\n@@ -1,9 +1,9 @@\n-old\n+new\n")
    place.chmod(0o644)
    return "salt://broken.patch"


def test_diff_that_does_not_parse(site: Site, diff: str) -> None:
    code, answer = build(site, diff, KERNEL)
    assert (code, answer["result"], answer["refusal"]) == (1, False, "diff-syntax"), answer
    assert "\n" not in answer["comment"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "patch is None"),
        (("patch=", KERNEL), "patch is ''"),
        (("https://example.test/x.patch", KERNEL), "not an absolute path"),
        (("salt://broken.patch",), "kernel is None"),
        (("salt://nowhere.patch", KERNEL), "no salt://nowhere.patch"),
        (("nowhere.patch", KERNEL), "not an absolute path"),
        (("/nowhere/x.patch", KERNEL), "cannot be read"),
        (("salt://broken.patch", KERNEL, "level=one"), "level is 'one'"),
        (("salt://broken.patch", KERNEL, "source=/usr/src"), "Give all of source"),
        (("salt://broken.patch", KERNEL, "lvl=1"), "no argument lvl"),
    ],
)
def test_wrong_call(site: Site, diff: str, arguments: tuple[str, ...], words: str) -> None:
    code, answer = build(site, *arguments)
    assert (code, answer["result"], answer["kind"]) == (1, False, "argument"), answer
    assert words in answer["comment"]
