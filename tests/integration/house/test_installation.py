"""One import that works everywhere: from a synced tree, ``pip install .`` and ``pip install -e .``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import copy_of_the_tree
from tests.integration.house.conftest import Environment
from tests.unit.house.sources import public_functions, shells

Make = Callable[[str], Environment]


def expected() -> dict[str, list[str]]:
    """What the shells define, for each kind that can be asked for its functions: just that is to be found."""
    names: dict[str, list[str]] = {"modules": [], "output": [], "runners": [], "states": []}
    for path in shells():
        kind = path.parent.name[1:]
        if kind == "output":
            names[kind].append(path.stem)
        elif kind in names:
            names[kind] += [f"{path.stem}.{function.name.rstrip('_')}" for function in public_functions(path)]
    assert "livepatch.status" in names["modules"]
    return {kind: sorted(found) for kind, found in names.items()}


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """A folder with the files ``minion`` and ``master``; the file root is the folder ``srv`` beside it."""
    folder = tmp_path / "etc"
    folder.mkdir()
    # Where salt-run notes its jobs; a master makes it when it starts, salt-run of 3008 does not.
    (tmp_path / "root/var/cache/salt/master/proc").mkdir(parents=True)
    common: dict[str, Any] = {
        "root_dir": str(tmp_path / "root"),
        "file_roots": {"base": [str(tmp_path / "srv")]},
        "fileserver_backend": ["roots"],
    }
    (folder / "minion").write_text(json.dumps({**common, "id": "host", "file_client": "local"}))
    (folder / "master").write_text(json.dumps({**common, "user": "root"}))
    return folder


def found(environment: Environment, configuration: Path) -> tuple[dict[str, list[str]], Path]:
    """(functions of each kind, where the library lies) as that environment's Salt sees them."""
    script = Path(__file__).with_name("loaded.py")
    names = {path.stem for path in shells()}
    answer = json.loads(environment.run("python", "-I", str(script), str(configuration), *sorted(names)))
    library = Path(answer.pop("library"))
    assert answer.pop("refused") == {}
    return answer, library


@pytest.mark.parametrize("salt", ["3006", "3007", "3008"])
def test_synced_tree(salt: str, environment: Make, configuration: Path, tmp_path: Path) -> None:
    fresh = environment(salt)
    copy_of_the_tree(tmp_path / "srv")
    fresh.run("salt-call", "--config-dir", str(configuration), "--local", "saltutil.sync_all")
    fresh.run("salt-run", "--config-dir", str(configuration), "saltutil.sync_all")
    functions, library = found(fresh, configuration)
    assert functions == expected()
    assert library == tmp_path / "root/var/cache/salt/minion/extmods/utils/livepatch_core/__init__.py"


def test_pip_install(environment: Make, configuration: Path, tmp_path: Path) -> None:
    fresh = environment("3008")
    fresh.install(str(copy_of_the_tree(tmp_path / "source")))
    functions, library = found(fresh, configuration)
    assert functions == expected()
    assert fresh.folder in library.parents


def test_editable_install(environment: Make, configuration: Path, tmp_path: Path) -> None:
    fresh = environment("3008")
    source = copy_of_the_tree(tmp_path / "source")
    fresh.install("--editable", str(source))
    functions, library = found(fresh, configuration)
    assert functions == expected()
    assert library == source / "_utils/livepatch_core/__init__.py"
