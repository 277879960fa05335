from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lab import cache
from lab.errors import LabError


@pytest.fixture(autouse=True)
def cache_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path))
    return tmp_path


def build(into: Path) -> None:
    (into / "result").write_text("whole")


def test_built_once_for_equal_inputs() -> None:
    built: list[Path] = []

    def count(into: Path) -> None:
        built.append(into)

    first = cache.artefact("kind", {"a": 1, "b": [2]}, count, "it")
    assert cache.artefact("kind", {"b": [2], "a": 1}, count, "it") == first
    assert cache.artefact("kind", {"a": 1, "b": [3]}, count, "it") != first
    assert len(built) == 2


def test_a_failed_build_leaves_nothing() -> None:
    def fail(into: Path) -> None:
        build(into)
        raise RuntimeError("half done")

    with pytest.raises(RuntimeError, match="half done"):
        cache.artefact("kind", {}, fail, "it")
    assert cache.entries() == []
    assert (cache.artefact("kind", {}, build, "it") / "result").read_text() == "whole"


def test_two_builders_build_once() -> None:
    started = threading.Event()
    built: list[Path] = []

    def slow(into: Path) -> None:
        started.set()
        time.sleep(0.2)
        build(into)
        built.append(into)

    threads = [threading.Thread(target=cache.artefact, args=("kind", {}, slow, "it")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


KILLED_BUILDER = """
import sys, time
from lab import cache
def build(into):
    (into / "half").write_text("")
    print("building", flush=True)
    time.sleep(60)
cache.artefact("kind", {}, build, "it")
"""


def test_a_killed_builder_holds_no_lock_and_its_half_is_not_used(cache_root: Path) -> None:
    repository = Path(__file__).parents[3]
    builder = subprocess.Popen([sys.executable, "-c", KILLED_BUILDER], stdout=subprocess.PIPE, cwd=repository)
    assert builder.stdout is not None
    assert builder.stdout.readline() == b"building\n"
    builder.kill()
    builder.wait()
    builder.stdout.close()
    assert sorted(path.name for path in cache.artefact("kind", {}, build, "it").iterdir()) == [
        "inputs.json",
        "result",
    ]


def test_prune_deletes_by_last_use() -> None:
    old, used = (cache.artefact("kind", {"n": number}, build, "it") for number in (1, 2))
    for path in (old, used):
        os.utime(path / cache.INPUTS_FILE, (1000, 1000))
    cache.artefact("kind", {"n": 2}, build, "it")
    assert cache.prune(unused_for=cache.DAY) == [old]
    assert not old.exists()
    assert used.exists()


def test_the_artefacts_used_last_are_kept() -> None:
    paths = [cache.artefact("kind", {"n": number}, build, "it") for number in range(4)]
    for age, path in zip((40, 10, 30, 20), paths):
        os.utime(path / cache.INPUTS_FILE, (1000 - age, 1000 - age))
    other = cache.artefact("other", {}, build, "it")
    assert sorted(cache.keep_newest("kind", 2)) == sorted([paths[0], paths[2]])
    assert other.exists()


def test_prune_leaves_what_is_being_built() -> None:
    def look(into: Path) -> None:
        assert cache.prune(unused_for=0.0) == []

    cache.artefact("kind", {}, look, "it")


def test_a_full_disk_is_said_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SMALLEST_FREE_DISK", 1 << 60)
    with pytest.raises(LabError, match="prune"):
        cache.artefact("kind", {}, build, "it")


def test_digest_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert cache.file_digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
