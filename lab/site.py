"""A master as a site has it that runs this project: the modules and the formula are file roots of their own,
as two GitFS remotes would be; catalog, ledger and external pillar stand; nothing in it is made by hand.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.fleet import Fleet
from lab.master import Master

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = (
    "_beacons", "_engines", "_grains", "_modules", "_output", "_pillar", "_runners", "_states", "_utils",
    "formulas",
)  # fmt: skip
# Emulated hosts on a small machine answer late; Salt gives up after 5 s by default.
PATIENT = {"timeout": 120, "gather_job_timeout": 60}
SECONDS = 600
EXTENSION_MODULES = "/var/cache/salt/minion/extmods"
SYNCED = ("beacons", "grains", "modules", "states", "utils")


class Site:
    """Directories below ``place``: ``project`` (a copy of the repository), ``files`` (the site's own file
    root, with its top file), ``levels`` (the catalog), ``state`` (the ledger), ``pillar``.
    """

    def __init__(
        self, place: Path, config: Mapping[str, Any] | None = None, python: Path = Path(sys.executable)
    ) -> None:
        """Starts the master; `config` goes over its configuration."""
        self.place = place
        self.project = place / "project"
        copy_of_the_project(self.project)
        self.files, self.levels, self.state, self.pillar = (
            place / name for name in ("files", "levels", "state", "pillar")
        )
        for directory in (self.files, self.levels, self.state, self.pillar):
            directory.mkdir()
        shutil.copy(self.project / "formulas/livepatch/top.example", self.files / "top.sls")
        self.set_pillar({})
        self.master = Master(
            [self.files, self.project, self.project / "formulas", self.levels],
            [self.pillar],
            {
                **PATIENT,
                "livepatch": {"catalog_dir": str(self.levels), "state_dir": str(self.state)},
                "ext_pillar": [{"livepatch": {}}],
                **(config or {}),
            },
            python=python,
            before=("saltutil.sync_all",),
        )

    def set_pillar(self, value: Mapping[str, Any]) -> None:
        """The pillar of every host, besides what the external pillar hands out. JSON is YAML."""
        (self.pillar / "top.sls").write_text(json.dumps({"base": {"*": ["site"]}}))
        (self.pillar / "site.sls").write_text(json.dumps(value))

    def ask(self, function: str, *arguments: str) -> tuple[int, Any]:
        """The exit code of salt-run, and what it printed."""
        ended = self.master.run("salt-run", "--out=json", function, *arguments, timeout=SECONDS)
        try:
            return ended.returncode, json.loads(ended.stdout)
        except ValueError:
            raise LabError(
                f"salt-run {function} printed no document:\n{ended.stdout}{ended.stderr}",
                "see its words above",
            ) from None

    def tell(self, function: str, *arguments: str) -> Any:
        """The same, for what has to succeed; LabError otherwise."""
        code, answer = self.ask(function, *arguments)
        if code:
            raise LabError(f"salt-run {function} ended with {code}: {answer}", "see its words above")
        return answer

    def publish(self, module: Path, *arguments: str) -> int:
        """A module becomes a released level; its number."""
        done = self.tell("livepatch_catalog.publish", str(module), "why=built", *arguments)
        number: int = done["level"]
        self.tell(
            "livepatch_catalog.promote", str(number), f"kernel_build={done['kernel_build']}", "why=tried"
        )
        return number

    def bring_extension(self, members: Fleet) -> None:
        """What ``salt '*' saltutil.sync_all`` does, in one piece: file by file it takes an emulated minion a
        minute.
        """
        for member in members.members.values():
            for kind in SYNCED:
                member.guest.put_tree(self.project / f"_{kind}", f"{EXTENSION_MODULES}/{kind}")
        members.call("saltutil.refresh_modules", timeout=SECONDS, **{"async": False})
        members.call("saltutil.refresh_beacons", timeout=SECONDS)

    def stop(self) -> None:
        self.master.stop()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def copy_of_the_project(destination: Path) -> None:
    """What a file server needs of it; later edits of the repository do not reach a running site."""
    for folder in FOLDERS:
        shutil.copytree(
            REPOSITORY / folder, destination / folder, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
