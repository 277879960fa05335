"""Catalogs as plain data, for tests to spoil."""

from __future__ import annotations

from typing import Any

import yaml

RELEASE = "6.1.0-56-amd64"
BUILD = "00112233445566778899aabbccddeeff00112233"


def level(number: int, **changed: Any) -> dict[str, Any]:
    """What publishing writes for a level, with some fields changed."""
    return {
        "status": "released",
        "module": f"livepatch-{number}.ko",
        "name": f"livepatch_{number}",
        "sha256": f"{number:064x}",
        "size": 123456,
        "replace": True,
        "fixes": [
            {"cve": "CVE-2026-1", "severity": "high", "url": "https://example.org/1", "summary": "A fix"}
        ],
        "functions": {"vmlinux": ["cmdline_proc_show"]},
        "built_for": {"vmlinux": BUILD},
        "callbacks": False,
        "shadow": False,
        "states": [{"id": 1, "version": 2}],
        "notes": "notes",
        "reason": "",
        **changed,
    }


def catalog(*numbers: int, **changed: Any) -> dict[str, Any]:
    """A catalog of one build whose levels are all alike."""
    levels = {number: level(number, **changed) for number in numbers}
    return {
        "schema": 1,
        "release": RELEASE,
        "builds": {BUILD: {"version": "#1 SMP Debian 6.1.192-2", "levels": levels}},
    }


def text(document: object) -> bytes:
    return yaml.safe_dump(document, sort_keys=False).encode()
