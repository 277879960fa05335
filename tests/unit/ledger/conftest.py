"""Hypothesis' default of 200 ms an example fails on a machine busy with guests, which says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from livepatch_core.catalog.settings import Master

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


@pytest.fixture
def master(tmp_path: Path) -> Master:
    return Master(tmp_path / "state", "root")
