"""The main job through Salt itself: real minions in guests with stock kernels, told by a real master."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import kernels, minion
from lab.fixtures import watched
from lab.master import Master
from tests.conftest import copy_of_the_tree
from tests.kernel.livepatches import build
from tests.kernel.patchable import LEDGER, digest, note_build_id

ROLES = {"hv1": "6.1", "hv2": "6.1-cloud"}
# Emulated hosts on two cores answer late, a busy one not even to find_job; Salt's own limit is 5 s.
PATIENT = {"timeout": 600, "gather_job_timeout": 60}


class Fleet:
    """A master that serves the project and a catalog, two minions with two kernels, and their pillar."""

    def __init__(self, place: Path, stack: contextlib.ExitStack) -> None:
        self.place = place
        self.pillar = place / "pillar"
        self.pillar.mkdir()
        tree = copy_of_the_tree(place / "tree")
        self.master = stack.enter_context(Master([tree, place / "catalog"], [self.pillar], PATIENT))
        self.hosts = {}
        self.levels: dict[str, dict[int, Path]] = {}
        for name, role in ROLES.items():
            kernel = kernels.kernel(role)
            host = stack.enter_context(minion.start(self.master, kernel, name))
            stack.enter_context(watched(host.guest))
            self.hosts[name] = host
            self._publish(kernel.release, note_build_id(host.guest.get("/sys/kernel/notes")), build(kernel))
        self.approve(None)
        self.salt("saltutil.sync_all")  # file by file: a minute for an emulated minion with nothing beside it

    def _publish(self, release: str, build_id: str, modules: dict[str, Path]) -> None:
        levels = {1: modules["lp_level_1"], 2: modules["lp_level_2"]}
        directory = self.place / "catalog/livepatch" / release
        directory.mkdir(parents=True)
        entries = {}
        for number, path in levels.items():
            (directory / path.name).write_bytes(path.read_bytes())
            entries[number] = {
                "status": "released",
                "module": path.name,
                "name": path.stem,
                "sha256": digest(path),
            }
        document = {"schema": 1, "release": release, "builds": {build_id: {"levels": entries}}}
        (directory / "catalog.yaml").write_text(yaml.safe_dump(document))
        self.levels[build_id] = levels

    def approve(self, approval: tuple[int, int] | None) -> None:
        """(rev, level) for both kernels, in the pillar of every host; None: no approval at all."""
        value: dict[str, Any] = {}
        if approval is not None:
            rev, level = approval
            grants = {
                build_id: {"level": level, "sha256": digest(levels[level]) if level else None}
                for build_id, levels in self.levels.items()
            }
            value = {"approval": {"ledger_id": LEDGER, "rev": rev, "builds": grants}}
        (self.pillar / "top.sls").write_text(yaml.safe_dump({"base": {"*": ["livepatch"]}}))
        (self.pillar / "livepatch.sls").write_text(yaml.safe_dump({"livepatch": value}))
        if approval is not None:
            self.salt("saltutil.refresh_pillar", "wait=True")

    def salt(self, function: str, *arguments: str, returncode: int = 0) -> dict[str, Any]:
        """``salt '*' function ...``; what each host returned."""
        ended = self.master.run("salt", "--out=json", "*", function, *arguments, timeout=900)
        assert ended.returncode == returncode, ended.stdout + ended.stderr
        returned = documents(ended.stdout)
        assert set(returned) == set(ROLES), returned
        return returned

    def said(self, command: str) -> dict[str, str]:
        return {name: host.guest.exec(command, check=True).text for name, host in self.hosts.items()}


def documents(text: str) -> dict[str, Any]:
    """One JSON object per host, one after the other (with --static, salt exits 0 whatever the hosts say)."""
    found: dict[str, Any] = {}
    while text := text.lstrip():
        document, end = json.JSONDecoder().raw_decode(text)
        found.update(document)
        text = text[end:]
    return found


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> Iterator[Fleet]:
    with contextlib.ExitStack() as stack:
        yield Fleet(tmp_path_factory.mktemp("fleet"), stack)


def test_salt_apply_takes_the_fleet_up_and_down(fleet):
    """The case that the project exists for, with minions that answer throughout."""
    held = fleet.salt("livepatch.apply", returncode=1)
    assert {one["kind"] for one in held.values()} == {"unapproved"}
    with answering(fleet) as missed:
        for rev, (level, word) in enumerate(
            [(1, "VMALLOCCHUNK"), (2, "VMALLOCTOTAL"), (1, "VMALLOCCHUNK"), (0, "")], 1
        ):
            fleet.approve((rev, level))
            predicted = fleet.salt("livepatch.apply", "test=True")
            done = fleet.salt("livepatch.apply")
            for name in ROLES:
                assert done[name]["result"] is True, done
                assert done[name]["changes"] == predicted[name]["changes"]
            assert all(word in text for text in fleet.said("cat /proc/meminfo").values())
            status = fleet.salt("livepatch.status")
            assert {one["level"] for one in status.values()} == {level}
            assert {one["verdict"] for one in status.values()} == {"patched" if level else "unpatched"}
    assert missed == []
    assert all("VmallocChunk" in text for text in fleet.said("cat /proc/meminfo").values())
    history = fleet.salt("livepatch.history")
    assert [len(one) for one in history.values()] == [4, 4]
    assert all(one["who"]["jid"] for entries in history.values() for one in entries)
    assert {one["state"] for one in fleet.salt("livepatch.verify").values()} == {"whole"}


def test_questions(fleet):
    for name, answer in fleet.salt("livepatch.available").items():
        assert answer["release"] == fleet.hosts[name].guest.kernel.release
        assert set(answer["levels"]) == {"1", "2"}  # JSON's keys
    assert set(fleet.salt("livepatch.transition")["hv1"]) == {"patch", "comment"}
    assert fleet.salt("livepatch.wait", "timeout=5")["hv1"]["result"] is True
    release = fleet.hosts["hv1"].guest.kernel.release
    path = f"salt://livepatch/{release}/lp_level_2.ko"
    info = fleet.salt("livepatch.info", path)["hv1"]
    assert (info["name"], info["release"], info["replace"]) == ("lp_level_2", release, True)
    checks = fleet.salt("livepatch.preflight", path, returncode=1)
    assert (checks["hv1"]["result"], checks["hv2"]["result"]) == (True, False)
    assert checks["hv2"]["kind"] == "kernel-mismatch"


def test_wrong_arguments_are_said_and_fail(fleet):
    for arguments in (["level=two", "reason=x"], ["on_stall=never"], ["nonsense=1"], ["deadline=-1"]):
        returned = fleet.salt("livepatch.apply", *arguments, returncode=1)
        assert all(isinstance(one, str) and "ERROR" in one for one in returned.values()), returned
    refused = fleet.salt("livepatch.load", "/root/no.ko", "reason=x", returncode=1)
    assert {one["kind"] for one in refused.values()} <= {"forbidden", "argument"}


def test_the_table(fleet):
    shown = fleet.master.run("salt-run", "saltutil.sync_all")
    assert shown.returncode == 0
    table = fleet.master.run("salt", "--out=livepatch", "*", "livepatch.status", timeout=300).stdout
    assert "VERDICT" in table
    assert all(name in table for name in ROLES)


@contextlib.contextmanager
def answering(fleet: Fleet) -> Iterator[list[str]]:
    """Both minions are asked for a sign of life again and again meanwhile; yields those that gave none."""
    missed: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers = fleet.master.cmd("*", "test.ping", timeout=60)
            missed.extend(name for name in ROLES if answers.get(name) is not True)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield missed
    finally:
        stop.set()
        asker.join()
