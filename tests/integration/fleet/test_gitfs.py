"""All that hosts read comes from Git: modules, formula, levels, as three remotes of GitFS."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import cache
from lab.master import Master
from lab.site import copy_of_the_project
from livepatch_core.catalog.read import parse_catalog
from livepatch_core.catalog.standing import promote
from livepatch_core.catalog.transfer import export
from tests.unit.catalog.modules import BUILD, BY, RELEASE, master_in, published

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "init.defaultBranch=main")
NEEDED = "GitPython"  # what Salt's GitFS reads repositories with


def committed(directory: Path) -> str:
    for command in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "a test")):
        subprocess.run([*GIT, *command], cwd=directory, check=True)
    return f"file://{directory}"


def git_library() -> Path:
    def fetch(into: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(into)]
        subprocess.run([*pip, NEEDED], check=True)

    inputs = {"python": sys.version, "packages": [NEEDED]}
    return cache.artefact("environments", inputs, fetch, f"{NEEDED} for Salt's GitFS")


@pytest.fixture(scope="module")
def master() -> Iterator[Master]:
    """A short path: the master's sockets lie below (108 bytes, unix(7))."""
    top = Path(tempfile.mkdtemp(prefix="lp-"))
    try:
        copy_of_the_project(top / "project")
        publisher = master_in(top / "published")
        published(publisher, 1)
        promote(publisher, 1, None, None, BY)
        published(publisher, 2)
        export(publisher, top / "levels")
        project, levels = committed(top / "project"), committed(top / "levels")
        config = {
            "fileserver_backend": ["gitfs"],
            "gitfs_provider": "gitpython",
            "gitfs_base": "main",
            "gitfs_remotes": [
                project,
                {project: [{"name": "livepatch-formula"}, {"root": "formulas"}]},
                levels,
            ],
        }
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(git_library()))
            (top / "m").mkdir()
            with Master([], [], config, directory=top / "m", before=("fileserver.update",)) as running:
                yield running
    finally:
        shutil.rmtree(top)


def test_a_minion_has_modules_formula_and_levels_from_git(master: Master, tmp_path: Path) -> None:
    synced = called(master, tmp_path, "saltutil.sync_all")
    assert "modules.livepatch" in synced["modules"]
    assert "utils.livepatch_core.host.move" in synced["utils"]
    assert "livepatch.apply" in called(master, tmp_path, "sys.list_functions", "livepatch")
    low = called(master, tmp_path, "state.show_low_sls", "livepatch")
    assert {"livepatch-pyelftools", "livepatch-level"} < {one["__id__"] for one in low}
    catalog = called(master, tmp_path, "cp.get_file_str", f"salt://livepatch/{RELEASE}/catalog.yaml")
    (level,) = parse_catalog(catalog.encode()).builds[BUILD].levels.values()
    found = called(master, tmp_path, "cp.hash_file", f"salt://livepatch/{RELEASE}/{level.module}")
    assert (level.number, found["hsum"]) == (1, level.sha256)


def called(master: Master, place: Path, function: str, *words: str) -> Any:
    """``salt-call`` on a minion of this master, whose files are all below ``place``."""
    config = {
        "master": "127.0.0.1", "master_port": master.ret_port, "publish_port": master.publish_port,
        "id": "hv1", "root_dir": str(place), "enable_fqdns_grains": False, "enable_gpu_grains": False,
        "acceptance_wait_time": 1, "autoload_dynamic_modules": False,
    }  # fmt: skip
    (place / "minion").write_text(json.dumps(config))
    salt_call = Path(sys.executable).with_name("salt-call")
    done = subprocess.run(
        [str(salt_call), "--config-dir", str(place), "--out=json", "--log-level=error", function, *words],
        env={**os.environ, "HOME": str(place)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)["local"]
