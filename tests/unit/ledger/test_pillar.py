"""The external pillar's shell, as Salt's loader runs it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from livepatch_core.catalog.settings import Master
from livepatch_core.ledger.acts import approve
from tests.unit.ledger.grants import BY, grants

SHELL = Path(__file__).resolve().parents[3] / "_pillar/livepatch.py"


def pillar(options: Any) -> ModuleType:
    spec = importlib.util.spec_from_file_location("livepatch_pillar_under_test", SHELL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__dict__["__opts__"] = {"cachedir": "/var/cache/salt/master", "livepatch": options}
    return module


def handed(options: Any, *arguments: Any, other: Any = None, **named: Any) -> Any:
    shell = pillar(options)
    document = shell.ext_pillar("hv1", {} if other is None else other, *arguments, **named)
    assert list(document) == ["livepatch"]
    return document["livepatch"]["approval"]


def test_own_approval(master: Master) -> None:
    approve(master, ["hv1"], grants(1), BY)
    options = {"state_dir": str(master.state_dir)}
    assert handed(options)["rev"] == 1
    assert handed(options, "an argument", more=1)["rev"] == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("x", "must hold a mapping"),
        ({"state_dir": 3}, "not an absolute path"),
        ({"state_dir": "/nowhere/at/all"}, "no ledger yet"),
        ({"state_dir": "/var/cache/salt/master/x"}, "cachedir"),
        ({"state_dir": "/dev/null"}, "no ledger yet"),
    ],
)
def test_never_raises(options: Any, said: str) -> None:
    assert said in handed(options)["error"]


def test_two_sources_are_none(master: Master) -> None:
    approve(master, ["hv1"], grants(1), BY)
    other = {"livepatch": {"approval": {"ledger_id": "x", "rev": 7, "builds": {}}}}
    assert "beside" in handed({"state_dir": str(master.state_dir)}, other=other)["error"]
