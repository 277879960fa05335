"""Writers that are killed anywhere, and many at once: the catalog is always whole, and nothing that was
reported as published is lost."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from livepatch_core import durable
from livepatch_core.catalog.entry import Publication
from livepatch_core.catalog.model import LevelStatus
from livepatch_core.catalog.publish import publish
from livepatch_core.catalog.settings import Master
from livepatch_core.catalog.shelf import read_shelves
from livepatch_core.catalog.standing import block, promote, unblock
from livepatch_core.catalog.verify import verify
from livepatch_core.errors import LivepatchError
from tests.unit.catalog.modules import BY, RELEASE, master_in, module, published

REPO = Path(__file__).resolve().parents[3]
PUBLISHERS, ENTRIES = 8, 25
CALLS = ("open", "replace", "fsync", "unlink", "mkdir")


def dies_at(number: int, act: Callable[[], object]) -> bool:
    """Run ``act`` in a child that is killed before its ``number``-th call that changes or syncs a file; False
    when it ended before."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal count
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **options)

            return call

        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        act()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)


def levels(master: Master) -> dict[int, LevelStatus]:
    return {one.level.number: one.status for one in read_shelves(master, RELEASE).standings()}


ACTS: dict[str, tuple[Callable[[Master], object], dict[int, LevelStatus], dict[int, LevelStatus]]] = {
    "publish": (
        lambda master: published(master, 3),
        {1: LevelStatus.RELEASED, 2: LevelStatus.TESTING},
        {1: LevelStatus.RELEASED, 2: LevelStatus.TESTING, 3: LevelStatus.TESTING},
    ),
    "promote": (
        lambda master: promote(master, 2, None, None, BY),
        {1: LevelStatus.RELEASED, 2: LevelStatus.TESTING},
        {1: LevelStatus.RELEASED, 2: LevelStatus.RELEASED},
    ),
    "block": (
        lambda master: block(master, 1, None, None, BY),
        {1: LevelStatus.RELEASED, 2: LevelStatus.TESTING},
        {1: LevelStatus.BLOCKED, 2: LevelStatus.TESTING},
    ),
    "block withheld": (
        lambda master: block(master, 2, None, None, BY),
        {1: LevelStatus.RELEASED, 2: LevelStatus.TESTING},
        {1: LevelStatus.RELEASED, 2: LevelStatus.BLOCKED},
    ),
}


@pytest.mark.parametrize("name", ACTS)
def test_killed_at_every_step(tmp_path: Path, name: str) -> None:
    act, before, after = ACTS[name]
    number = 0
    while True:
        number += 1
        master = master_in(tmp_path / str(number))
        published(master, 1)
        published(master, 2)
        promote(master, 1, None, None, BY)
        died = dies_at(number, functools.partial(act, master))
        assert levels(master) in (before, after)
        assert [one for one in verify(master)[1] if not one.warning] == []
        if not died:
            assert levels(master) == after
            break
        if levels(master) == before:
            act(master)  # what was cut short can be done again
            assert levels(master) == after
    assert number > 5


def test_unblock_of_a_withheld_level_can_be_repeated(tmp_path: Path) -> None:
    for number in range(1, 40):
        master = master_in(tmp_path / str(number))
        published(master, 1)
        block(master, 1, None, None, BY)
        if not dies_at(number, functools.partial(unblock, master, 1, None, None, BY)):
            break
        if levels(master) == {1: LevelStatus.BLOCKED}:
            unblock(master, 1, None, None, BY)
        assert levels(master) == {1: LevelStatus.TESTING}
    assert number > 5


PUBLISHER = """
import sys
from pathlib import Path
from livepatch_core.catalog.entry import Publication
from livepatch_core.catalog.publish import publish
from tests.unit.catalog.modules import BY, master_in, module
who, first, last = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for number in range(first, last):
    name = f"by_{who}_{number}"
    done = publish(master_in(Path(sys.argv[1])), module(name), Publication(author=BY))
    print(name, done["level"], flush=True)
"""


class Publisher:
    """One that is killed now and then and goes on after what it knows to be published."""

    def __init__(self, directory: Path, who: int) -> None:
        self.directory, self.who = directory, who
        self.known: list[str] = []  # names whose publication it saw end
        self.doubtful: list[str] = []  # under way when it was killed
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        first = len(self.known) + len(self.doubtful)
        arguments = [str(self.directory), str(self.who), str(first), str(ENTRIES)]
        command = [sys.executable, "-c", PUBLISHER, *arguments]
        environment = {**os.environ, "PYTHONPATH": f"{REPO / '_utils'}:{REPO}"}
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def run(self, chance: random.Random) -> None:
        """Read what it publishes; kill it at a random one; until it has published all."""
        while True:
            assert self.process.stdout is not None
            left = chance.randint(3, 12)
            for line in self.process.stdout:
                self.known.append(line.split()[0])
                left -= 1
                if left == 0:
                    self.process.kill()  # lines that were written already are still read
            code = self.process.wait()
            if code == 0:
                return
            assert code == -signal.SIGKILL
            if len(self.known) + len(self.doubtful) < ENTRIES:
                self.doubtful.append(f"by_{self.who}_{len(self.known) + len(self.doubtful)}")
            self.process = self.start()


def test_eight_publishers_with_random_kills(tmp_path: Path) -> None:
    """Who was killed may have published one more than it could say; nothing else may differ."""
    chance = random.Random(7)
    publishers = [Publisher(tmp_path, who) for who in range(PUBLISHERS)]
    seeds = [random.Random(chance.random()) for _ in publishers]
    threads = [threading.Thread(target=one.run, args=(seed,)) for one, seed in zip(publishers, seeds)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    master = master_in(tmp_path)
    names = [one.level.name for one in read_shelves(master, RELEASE).standings()]
    known = {name for one in publishers for name in one.known}
    doubtful = {name for one in publishers for name in one.doubtful}
    assert doubtful
    assert len(known) + len(doubtful) == PUBLISHERS * ENTRIES
    assert len(names) == len(set(names))
    assert known <= set(names) <= known | doubtful
    count, findings = verify(master)
    assert count == len(names)
    assert [one.text for one in findings if not one.warning] == []


def test_no_room_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sync in turn finds no room; the catalog stays sound, and all is well when there is room again."""
    master = master_in(tmp_path)
    published(master, 1)
    for failing in range(1, 20):
        disk = FullDisk(failing)
        with monkeypatch.context() as patch:
            patch.setattr(durable.os, "fsync", disk.fsync)
            expected = pytest.raises(LivepatchError, match="No space left")
            with expected if failing <= 4 else contextlib.nullcontext():
                publish(master, module(f"n{failing}", ["f1"]), Publication(author=BY))
        assert [one for one in verify(master)[1] if not one.warning] == []
        if disk.count < failing:
            break
    assert failing == 5  # module, its directory, catalog, its directory


class FullDisk:
    """fsync, of which the ``failing``-th finds no room."""

    def __init__(self, failing: int) -> None:
        self.failing, self.count, self.real = failing, 0, os.fsync

    def fsync(self, descriptor: int) -> None:
        self.count += 1
        if self.count == self.failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.real(descriptor)
