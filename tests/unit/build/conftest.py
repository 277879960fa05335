"""Hypothesis' default of 200 ms an example fails on a machine busy with guests, which says nothing."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
