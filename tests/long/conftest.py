"""A guest's console stands beside the failure of a test that used it."""

from __future__ import annotations

from lab.fixtures import pytest_runtest_makereport  # noqa: F401
