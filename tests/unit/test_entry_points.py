"""The entry point, over packages laid out as an installation lays them; integration tests have real ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from livepatch_core import entry_points


def test_installed_kinds_are_given_with_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("modules", "states"):
        folder = tmp_path / "saltext" / "livepatch" / kind
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "saltext"]:
        monkeypatch.delitem(sys.modules, name)
    assert entry_points.loader_directories() == {
        kind: [str(tmp_path / "saltext" / "livepatch" / kind)] for kind in ("modules", "states")
    }
