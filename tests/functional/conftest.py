"""Salt's loaders in this process, over the repository itself: no daemons, no sync."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from saltfactories.manager import FactoriesManager
from saltfactories.utils import random_string
from saltfactories.utils.functional import Loaders


@pytest.fixture(scope="module")
def minion_overrides() -> dict[str, Any]:
    """Minion configuration on top of the defaults; a test module defines its own to change it."""
    return {}


@pytest.fixture(scope="module")
def file_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder behind ``salt://``; empty."""
    return tmp_path_factory.mktemp("srv")


@pytest.fixture(scope="module")
def loaders(
    salt_factories: FactoriesManager, repo: Path, file_root: Path, minion_overrides: dict[str, Any]
) -> Loaders:
    """``loaders.modules.livepatch.status()``, ``loaders.states``, ``loaders.opts``, as a minion has them."""
    daemon = salt_factories.salt_minion_daemon(
        random_string("functional-"),
        overrides={
            "file_client": "local",
            "file_roots": {"base": [str(file_root)]},
            "module_dirs": [str(repo)],
            "utils_dirs": [str(repo / "_utils")],
            **minion_overrides,
        },
    )
    return Loaders(daemon.config.copy(), loaded_base_name="livepatch.loaded")
