"""Which of two kernel releases is the newer, as Debian's package tools would say it."""

from __future__ import annotations

import re
from functools import cmp_to_key

_PARTS = re.compile(r"([^0-9]*)([0-9]*)")
_DIGIT_OF_VERSION = re.compile(r"[0-9]")
# Fedora and RHEL: 5.14.0-503.el9.x86_64+rt-debug; Debian's 6.12.95+deb12-amd64 is none.
_VARIANT = re.compile(r"(.+\.(?:x86_64|aarch64|ppc64le|s390x))\+(.+)")


def compare(left: str, right: str) -> int:
    """Negative, 0 or positive. The rule of deb-version(7) for one part of a version: runs of non-digits
    compared letter by letter (``~`` before the end, the end before letters, letters before all else), runs
    of digits as numbers."""
    for mine, theirs in _zip_parts(left, right):
        letters = _weights(mine[0], theirs[0])
        if letters[0] != letters[1]:
            return -1 if letters[0] < letters[1] else 1
        numbers = int(mine[1] or 0), int(theirs[1] or 0)
        if numbers[0] != numbers[1]:
            return -1 if numbers[0] < numbers[1] else 1
    return 0


def _zip_parts(left: str, right: str) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    mine, theirs = _PARTS.findall(left), _PARTS.findall(right)
    longest = max(len(mine), len(theirs))
    blank = ("", "")
    return [
        (mine[at] if at < len(mine) else blank, theirs[at] if at < len(theirs) else blank)
        for at in range(longest)
    ]


def _weights(left: str, right: str) -> tuple[list[int], list[int]]:
    """Both runs of non-digits as numbers, the shorter one ended by 0, the weight of the end."""
    size = max(len(left), len(right))
    return [_weight(left, at) for at in range(size)], [_weight(right, at) for at in range(size)]


def _weight(text: str, at: int) -> int:
    if at >= len(text):
        return 0
    if text[at] == "~":
        return -1
    return ord(text[at]) if text[at].isascii() and text[at].isalpha() else ord(text[at]) + 0x110000


def _reversed(left: str, right: str) -> int:
    return compare(right, left)


newest_first = cmp_to_key(_reversed)


def split(release: str) -> tuple[str, str]:
    """Version and flavour: ``6.1.0-56-cloud-amd64`` is ``6.1.0-56`` of ``cloud-amd64``,
    ``5.14.0-503.el9.x86_64+rt`` is ``5.14.0-503.el9.x86_64`` of ``rt``; a release without such an ending has
    the flavour ``""``."""
    variant = _VARIANT.fullmatch(release)
    if variant is not None:
        return variant[1], variant[2]
    parts = release.split("-")
    for at, part in enumerate(parts):
        # a release candidate's -rc7 belongs to the version
        if at and not _DIGIT_OF_VERSION.match(part) and not re.fullmatch(r"rc[0-9]+", part):
            return "-".join(parts[:at]), "-".join(parts[at:])
    return release, ""


def line_of(release: str) -> str:
    """``6.1`` for every 6.1 kernel: within a line a newer release has what an older one has."""
    found = re.match(r"[0-9]+\.[0-9]+", release)
    return found.group() if found else release
