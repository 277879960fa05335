"""Power is not cut in these tests, so nothing need wait for the disk; and no event is lost, so nothing be
polled."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from livepatch_core.rollout import driver

# Property tests run beside guests that take all the processor there is: no example has a deadline.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(driver, "POLL_SECONDS", 30.0)  # simulated hosts wake the driver by themselves
    monkeypatch.setattr(driver, "IDLE_SECONDS", 3600.0)
