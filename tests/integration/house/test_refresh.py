"""A changed library is in force on the next job after ``saltutil.sync_all``, whatever the minion imported."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from saltfactories.daemons.master import SaltMaster
from saltfactories.daemons.minion import SaltMinion
from saltfactories.manager import FactoriesManager
from saltfactories.utils import random_string

from tests.conftest import copy_of_the_tree

# Two library modules that change together, one of which imports from the other: a mixture would show.
LIBRARY = {
    "_utils/livepatch_core/probe_word.py": "WORD = '{word}'\n",
    "_utils/livepatch_core/probe_reader.py": """
from livepatch_core.probe_word import WORD

def words():
    return ['{word}', WORD]
""",
}

REFRESH = "livepatch_core.refresh()"
SHELL = """
import sys

INHERITED = "livepatch_core.probe_word" in sys.modules

import livepatch_core
{refresh}
from livepatch_core import probe_word
from livepatch_core.probe_reader import words

def seen():
    return {{"words": [probe_word.WORD, *words()], "inherited": INHERITED}}
"""
SHELLS = {
    "_modules/livepatch_probe.py": SHELL.format(refresh=REFRESH),
    "_modules/careless_probe.py": SHELL.format(refresh=""),
    # Imported by the minion's main process, like any grain. Another project's grain would not refresh.
    "_grains/careless_probe.py": "from livepatch_core.probe_reader import words\n"
    "def probe():\n    return {'probe': words()}\n",
    "_beacons/livepatch_probe.py": SHELL.format(refresh=REFRESH)
    + """
def validate(config):
    return True, ""

def beacon(config):
    return [{"tag": "seen", **seen()}]
""",
}
OLD = ["old"] * 3
NEW = ["new"] * 3


def write_library(tree: Path, word: str) -> None:
    for name, text in LIBRARY.items():
        (tree / name).write_text(text.format(word=word))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the probes, to be served and edited.

    Without the project's own grain, which refreshes the minion's main process: each shell must do by itself.
    """
    folder = copy_of_the_tree(tmp_path_factory.mktemp("served") / "srv")
    (folder / "_grains/livepatch.py").unlink()
    for name, text in SHELLS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def master(salt_factories: FactoriesManager, tree: Path) -> Iterator[SaltMaster]:
    daemon = salt_factories.salt_master_daemon(
        random_string("master-"),
        defaults={"open_mode": True},
        overrides={
            "file_roots": {"base": [str(tree)]},
            "fileserver_backend": ["roots"],
            "worker_threads": 3,
        },
    )
    with daemon.started():
        yield daemon


def with_old_library_imported(minion: SaltMinion, master: SaltMaster, tree: Path) -> Iterator[SaltMinion]:
    """A minion whose main process has imported the synced library, since it loaded the grain at its start."""
    write_library(tree, "old")
    with minion.started():
        ask(master, minion, "saltutil.sync_all")
    with minion.started():
        yield minion


def ask(master: SaltMaster, minion: SaltMinion, function: str, *arguments: str) -> Any:
    """What the job returned."""
    answer = master.salt_cli().run(function, *arguments, minion_tgt=minion.id)
    assert answer.returncode == 0, answer
    return answer.data


def change_library(master: SaltMaster, minion: SaltMinion, tree: Path) -> None:
    write_library(tree, "new")
    assert "utils.livepatch_core.probe_word" in ask(master, minion, "saltutil.sync_all")["utils"]


class TestJobsAreProcesses:
    """The default. Each job is forked from the main process and inherits what that has imported."""

    @pytest.fixture
    def minion(self, master: SaltMaster, tree: Path) -> Iterator[SaltMinion]:
        daemon = master.salt_minion_daemon(random_string("minion-"))
        yield from with_old_library_imported(daemon, master, tree)

    def test_next_job_sees_the_new_library(self, master: SaltMaster, minion: SaltMinion, tree: Path) -> None:
        assert ask(master, minion, "livepatch_probe.seen") == {"words": OLD, "inherited": True}
        change_library(master, minion, tree)
        assert ask(master, minion, "livepatch_probe.seen") == {"words": NEW, "inherited": True}
        # The counter-proof: without refresh() the old code would still be in force.
        assert ask(master, minion, "careless_probe.seen") == {"words": OLD, "inherited": True}


class TestJobsAreThreads:
    """``multiprocessing: False``, and a beacon: all in one process that holds its loader modules."""

    @pytest.fixture
    def minion(self, master: SaltMaster, tree: Path) -> Iterator[SaltMinion]:
        daemon = master.salt_minion_daemon(
            random_string("minion-"),
            overrides={
                "multiprocessing": False,
                "beacons": {"livepatch_probe": [{"interval": 1}]},
                "loop_interval": 1,  # the beacon's seconds are loops of it; the test daemons have 0.05
            },
        )
        yield from with_old_library_imported(daemon, master, tree)

    def test_jobs_and_beacons_see_the_new_library(
        self, master: SaltMaster, minion: SaltMinion, tree: Path, salt_factories: FactoriesManager
    ) -> None:
        assert ask(master, minion, "livepatch_probe.seen")["words"] == OLD
        assert beacon_says(salt_factories, master, minion) == OLD
        change_library(master, minion, tree)
        # The sync only asks the main process for new loaders; this waits until it has them.
        ask(master, minion, "saltutil.refresh_modules", "async=False")
        assert ask(master, minion, "livepatch_probe.seen")["words"] == NEW
        assert beacon_says(salt_factories, master, minion) == NEW


def beacon_says(factories: FactoriesManager, master: SaltMaster, minion: SaltMinion) -> list[str]:
    """The words of the first beacon event from now on."""
    wanted = (master.id, f"salt/beacon/{minion.id}/livepatch_probe/seen")
    heard = factories.event_listener.wait_for_events([wanted], timeout=30, after_time=time.time())
    assert heard.found_all_events, "the beacon says nothing"
    return min(heard, key=lambda event: event.stamp).data["words"]
