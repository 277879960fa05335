"""The minion's own configuration: the defaults are the safe choice, and nothing misspelt passes unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.host.settings import Policy, Settings, parse_settings
from livepatch_core.words import Kind, OnStall


def test_defaults_are_safe() -> None:
    settings = parse_settings(None)
    assert settings == Settings()
    assert (settings.policy, settings.on_stall) == (Policy.APPROVED, OnStall.REVERSE)
    assert not (settings.allow_load or settings.allow_force or settings.require_signature)


def test_values_are_taken() -> None:
    given = {"state_dir": "/srv/lp", "policy": "newest", "on_stall": "keep", "deadline": 30}
    given["allow_load"] = True
    settings = parse_settings(given)
    assert settings == Settings(
        state_dir=Path("/srv/lp"), policy=Policy.NEWEST, on_stall=OnStall.KEEP, deadline=30.0, allow_load=True
    )
    assert settings.record_file == Path("/srv/lp/record.json")
    assert settings.journal_file == Path("/srv/lp/journal.jsonl")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("polcy", "newest"),
        ("policy", "latest"),
        ("policy", None),
        ("on_stall", "force"),
        ("deadline", 0),
        ("deadline", -1),
        ("deadline", "soon"),
        ("deadline", True),
        ("deadline", 86_400),
        ("deadline", float("nan")),
        ("allow_force", "yes"),
        ("allow_force", 1),
        ("state_dir", ""),
        ("state_dir", 3),
        ("run_dir", "relative/lock"),
        ("catalog", None),
        (3, 4),
    ],
)
def test_what_is_wrong_is_named(key: object, value: object) -> None:
    with pytest.raises(LivepatchError) as caught:
        parse_settings({key: value})
    assert caught.value.kind is Kind.ARGUMENT
    assert str(key) in caught.value.message


@pytest.mark.parametrize("value", [[], "newest", 3, True])
def test_it_must_be_a_mapping(value: object) -> None:
    with pytest.raises(LivepatchError, match="must hold a mapping"):
        parse_settings(value)
