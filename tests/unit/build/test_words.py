"""The words of refusals and warnings are those that the documentation explains."""

from __future__ import annotations

import re
from pathlib import Path

from livepatch_core.build.refusals import Notice, Refusal, Refused
from livepatch_core.words import Kind

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "build-refusals.md"


def test_every_refusal_is_explained_and_nothing_else() -> None:
    reasons, _, _ = DOCUMENT.read_text(encoding="utf-8").partition("## Warnings")
    heads = [line.partition(" - ")[0] for line in reasons.split("\n") if line.startswith("* `")]
    assert set(re.findall(r"`([a-z-]+)`", " ".join(heads))) == {str(word) for word in Refusal}


def test_every_warning_is_explained() -> None:
    _, _, warnings = DOCUMENT.read_text(encoding="utf-8").partition("## Warnings")
    assert set(re.findall(r"`([a-z-]+)`", warnings)) == {str(word) for word in Notice}


def test_refusal_names_file_and_function_and_remedy() -> None:
    refused = Refused(
        Refusal.NOTRACE, "It cannot be redirected.", file="fs/x.c", function="f", remedy="Change g."
    )
    assert str(refused) == "fs/x.c: f: It cannot be redirected. Change g."
    assert refused.kind is Kind.UNSUPPORTED
