from __future__ import annotations

from dataclasses import fields

import pytest

from livepatch_core.rollout.model import Options
from livepatch_core.rollout.options import KEYS, parse_options
from livepatch_core.rollout.profiles import PROFILES, STANDARD


def test_every_option_has_a_default_and_every_default_is_an_option() -> None:
    assert {one.name for one in fields(Options)} == {*KEYS, "level"}
    assert all(set(one) == set(STANDARD) for one in PROFILES.values())


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_are_sound(profile: str) -> None:
    """No lost host is ever accepted, and what is dispatched has time for two transitions of a host."""
    options = parse_options({"profile": profile}, level=1)
    assert (options.thresholds.lost.wave, options.thresholds.lost.total) == (0, 0)
    assert options.move_deadline >= 150
    assert options.canary_soak > options.look_every
    assert options.soak > options.look_every
    assert options.parallel <= 500


def test_careful_is_slower_than_standard_is_slower_than_emergency() -> None:
    emergency, standard, careful = (
        parse_options({"profile": one}, level=1) for one in ("emergency", "standard", "careful")
    )
    assert emergency.canary_soak < standard.canary_soak < careful.canary_soak
    assert emergency.soak < standard.soak < careful.soak
    assert emergency.parallel > standard.parallel > careful.parallel
