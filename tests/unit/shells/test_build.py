"""The builder's execution module: what it goes by."""

from __future__ import annotations

from pathlib import Path

from tests.unit.shells.conftest import load


def test_only_the_minions_own_configuration_counts() -> None:
    """Pillar, grains and the master's options could sign with another key, or write where they like."""
    opts = {"cachedir": "/c", "livepatch_build": {"output": "/own"}}
    module = load(
        "modules",
        "livepatch_build",
        opts=opts,
        pillar={"livepatch_build": {"output": "/pillar"}},
        salt={"config.get": lambda key, default: {"output": "/pillar"}},
    )
    assert module._settings().output == Path("/own")
    del opts["livepatch_build"]
    assert module._settings().output is None
