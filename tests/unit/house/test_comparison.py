"""What docs/comparison.md says was seen can be run: every test that it names is there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.unit.house.sources import REPO

# As the page itself says.
SHORT = {"kb": "tests/kernel/build", "k": "tests/kernel", "tests": "tests"}
NAMED = re.compile(r"`([a-z]+)?((?:/[\w./]*)?)(?:::(test_\w+))?`")


def named() -> Iterator[tuple[str, str]]:
    """Path and name of each test; a name alone is one of the file before it."""
    before = ""
    for first, rest, test in NAMED.findall((REPO / "docs/comparison.md").read_text()):
        if not rest and not test:
            continue
        path = before if test and not rest else f"{SHORT.get(first, f'tests/{first}')}{rest}"
        yield path, test
        before = path


def test_every_test_that_is_named_is_there() -> None:
    found = [one for one in named() if "tests/benchmarks" not in one[0]]
    assert len(found) > 30
    wrong = [
        f"{path}::{test}"
        for path, test in found
        if not (REPO / path).exists() or (test and f"def {test}(" not in (REPO / path).read_text())
    ]
    assert not wrong
