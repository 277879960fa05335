"""A real master that is not root, where that can be had, with the project's tree as its file root."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.master import Master
from tests.conftest import copy_of_the_tree


class Site:
    """A master with catalog and ledger, and commands typed on it."""

    def __init__(self, top: Path, user: str) -> None:
        self.top, self.user = top, user
        self.tree = copy_of_the_tree(top / "tree")
        self.catalog_dir, self.state_dir = top / "levels", top / "state"
        for directory in (top / "m", self.catalog_dir, self.state_dir):
            directory.mkdir()
        if user != "root":
            entry = pwd.getpwnam(user)
            for path in (top, *top.rglob("*")):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        self.master = Master(
            [self.tree, self.catalog_dir],
            config={
                "user": user,
                "livepatch": {"catalog_dir": str(self.catalog_dir), "state_dir": str(self.state_dir)},
                "ext_pillar": [{"livepatch": {}}],
                "module_dirs": [str(self.tree)],
                "utils_dirs": [str(self.tree / "_utils")],
                "open_mode": True,
            },
            directory=top / "m",
        )

    def accept(self, *minions: str) -> None:
        """Keys that a target can be resolved against; nobody ever uses them."""
        folder = self.master.directory / "pki/minions"
        for minion in minions:
            (folder / minion).write_text("no minion has this key\n")

    def run(self, function: str, *arguments: str) -> tuple[int, Any]:
        """The exit code of salt-run, and what it printed."""
        ended = self.typed(function, *arguments)
        return ended.returncode, json.loads(ended.stdout)

    def typed(self, function: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.master.run("salt-run", "--out=json", f"livepatch_{function}", *arguments)


def user_of_the_master() -> str:
    """``nobody``, who is not root, if we may choose and if nobody can read this Python (pyenv's lies under
    /root where root installed it)."""
    python = Path(sys.base_prefix)
    readable = all(one.stat().st_mode & 0o005 == 0o005 for one in (python, *python.parents))
    return "nobody" if os.geteuid() == 0 and readable else pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """Under /tmp and short: its sockets are there (108 bytes, unix(7)), and ``nobody`` can go there."""
    top = Path(tempfile.mkdtemp(prefix="lp-"))
    top.chmod(0o755)
    site = Site(top, user_of_the_master())
    try:
        yield site
    finally:
        site.master.stop()
        shutil.rmtree(top, ignore_errors=True)
