"""What every test may use: the repository, a copy of it to serve or edit, Salt's daemons set up for tests."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parent.parent
TESTS = REPO / "tests"
MARKERS = {"functional": "functional", "integration": "integration"}
MARKERS.update(dict.fromkeys(("kernel", "lab", "long"), "kernel"))

# An assertion in a helper says as much as one in a test.
pytest.register_assert_rewrite(*(f"{__package__}.{one.parent.name}" for one in TESTS.glob("*/__init__.py")))

# What neither a file root nor a source tree needs, at the top and below it.
NOT_AT_THE_TOP = {"artifacts", "benchmarks", "build", "dist", "docs", "lab", "tests"}
NOT_ANYWHERE = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folder decides the marker: what is in ``tests/kernel`` is marked ``kernel``."""
    for item in items:
        marker = MARKERS.get(item.path.relative_to(TESTS).parts[0])
        if marker:
            item.add_marker(marker)


def pytest_unconfigure() -> None:
    """Salt keeps log records and prints them when the interpreter exits, to the stderr that pytest has
    closed by then (salt/_logging/impl.py, tryflush); logging would print a traceback for each, below
    pytest's last line."""
    logging.raiseExceptions = False


@pytest.fixture(scope="session")
def repo() -> Path:
    """The repository."""
    return REPO


def copy_of_the_tree(destination: Path) -> Path:
    """The project as a file root or a source tree has it, at ``destination``, free to be edited."""

    def ignored(folder: str, names: list[str]) -> set[str]:
        return NOT_ANYWHERE(folder, names) | (NOT_AT_THE_TOP if Path(folder) == REPO else set())

    shutil.copytree(REPO, destination, ignore=ignored)
    return destination


@pytest.fixture(scope="session")
def salt_factories_config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A root of our own: the plugin's default lets a minion inherit what an earlier run synced. Its path is
    short because the daemons' Unix sockets lie under it (108 bytes, unix(7))."""
    return {"start_timeout": 120, "root_dir": tmp_path_factory.mktemp("s")}
