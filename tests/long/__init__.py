"""Scenes that take longer than all the rest of the suite: ``scripts/test long``, before a release."""
