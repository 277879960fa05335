"""Approvals for tests."""

from __future__ import annotations

from livepatch_core.catalog.author import Author
from livepatch_core.ledger.model import Grant

BUILD = "00112233445566778899aabbccddeeff00112233"
OTHER = "ff112233445566778899aabbccddeeff00112233"
BY = Author("alice", "a test", "2026-11-24T10:00:00Z")


def grants(level: int, build: str = BUILD) -> dict[str, Grant]:
    return {build: Grant(level, f"{level:064x}" if level else None)}
