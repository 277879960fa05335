"""Did the site's publisher write this catalog entry? Asked where the minion's configuration has his key."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from pathlib import Path

from livepatch_core.catalog.model import Level, PackageLevel
from livepatch_core.catalog.signature import check_entry, check_package, parse_public_key
from livepatch_core.errors import LivepatchError
from livepatch_core.host.checks.check import Check, Question
from livepatch_core.host.context import Host
from livepatch_core.words import Kind

PUBLISHER = Question("publisher", Kind.SIGNATURE)
KEY_BYTES = 32  # of an Ed25519 public key (RFC 8032)


def examine(host: Host, catalog: bytes, build_id: str, level: Level) -> tuple[Check, ...]:
    """The check of one entry's signature, on the bytes of ``catalog.yaml`` as they were fetched.

    No check where the minion's configuration has no key. A blocked level is refused before this is asked
    (resolve.find_level): a block needs no signature. Raises LivepatchError (argument) for a key that cannot
    be used: what cannot be checked is not loaded.
    """
    return _examined(host, lambda key: check_entry(catalog, build_id, level.number, key), level)


def examine_package(host: Host, catalog: bytes, build_id: str, level: PackageLevel) -> tuple[Check, ...]:
    """The same for the entry that gives a package its level."""
    return _examined(host, lambda key: check_package(catalog, build_id, level, key), level)


def _examined(host: Host, check: Callable[[str], None], level: Level | PackageLevel) -> tuple[Check, ...]:
    given = host.settings.publisher_key
    if not given:
        return ()
    try:
        check(read_key(given))
    except LivepatchError as problem:
        if problem.kind is not Kind.SIGNATURE:
            raise
        return (PUBLISHER.failed(str(problem.evidence["why"]), problem.remedy),)
    return (PUBLISHER.passed(f"level {level.number} is signed by its publisher"),)


def read_key(given: str) -> str:
    """The key's text: as given, or what stands in the file that is named."""
    text = given
    if Path(given).is_absolute() and not _is_base64_key(given):
        try:
            text = Path(given).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as problem:
            raise _unusable(f"{given} could not be read ({problem})") from problem
    try:
        parse_public_key(text)
    except LivepatchError as problem:
        raise _unusable(str(problem.evidence["why"])) from problem
    return text


def _is_base64_key(text: str) -> bool:
    """Base64 may begin with a slash, as a path does."""
    try:
        return len(base64.b64decode(text, validate=True)) == KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def _unusable(why: str) -> LivepatchError:
    return LivepatchError(
        Kind.ARGUMENT,
        f"The publisher's key in the minion configuration (livepatch:publisher_key) cannot be used: {why}; "
        "nothing was changed.",
        remedy="Give his public key as PEM or base64, or the absolute path of a file with either.",
    )
