"""A real master, which is not root where that can be had, and two real minions with a stand-in for a kernel
that can be patched (standin.py)."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import pytest
import yaml

from lab import launcher
from lab.master import Master, stop_session
from lab.minion import TUNING
from livepatch_core.rollout import payloads
from tests.conftest import copy_of_the_tree
from tests.integration.fleet.conftest import user_of_the_master
from tests.integration.rollout.typed import WITHIN, Begun, begun
from tests.unit.catalog.modules import module

MINIONS = {"hv1": "rack1", "hv2": "rack2"}
# Two hosts in two domains, the first a canary; nothing waits longer than it must. Quoted as on a command
# line.
QUICK = {
    "canaries": "[hv1]",
    "waves": "['100%']",
    "canary_soak": "0",
    "soak": "0",
    "look_every": "1",
    "stage_spread": "0",
    "stage_deadline": "30",
    "move_deadline": "30",
    "late": "report",
    "thresholds": "{failed: 0, stalled: 0, unreachable: 0, lost: 0}",
}


class SamePorts(Master):
    """A master on ports that its settings give: minions of the one before it know no others."""

    def _write(self, settings: Mapping[str, Any]) -> None:
        self.publish_port, self.ret_port = settings["publish_port"], settings["ret_port"]
        super()._write(settings)


class Ground:
    """Master, minions, catalog and ledger, and commands typed on the master."""

    def __init__(
        self,
        top: Path,
        python: Path,
        settings: Optional[Mapping[str, Any]] = None,
        user: str = "",
        prefix: Sequence[str] = (),
    ) -> None:
        self.top, self.python, self.prefix = top, python, prefix
        self.user = user or user_of_the_master()
        self.tree = copy_of_the_tree(top / "tree")
        here = Path(__file__).parent
        shutil.copy(here / "standin.py", self.tree / "_modules/livepatch.py")
        shutil.copy(here / "standin_restart.py", self.tree / "_modules/livepatch_restart.py")
        self.catalog_dir, self.state_dir = top / "levels", top / "state"
        for directory in (top / "m", self.catalog_dir, self.state_dir):
            directory.mkdir()
        self._give_to_master()
        self.settings = {
            "user": self.user,
            "livepatch": {"catalog_dir": str(self.catalog_dir), "state_dir": str(self.state_dir)},
            "ext_pillar": [{"livepatch": {}}],
            "module_dirs": [str(self.tree)],
            "utils_dirs": [str(self.tree / "_utils")],
            "open_mode": True,
            "timeout": 20,
            "gather_job_timeout": 20,
            **(settings or {}),
        }
        self.minions: dict[str, subprocess.Popen[bytes]] = {}
        self.start_master()

    def _give_to_master(self) -> None:
        if self.user != "root":
            entry = pwd.getpwnam(self.user)
            for path in (self.top, *self.top.rglob("*")):
                os.chown(path, entry.pw_uid, entry.pw_gid)

    def start_master(self) -> None:
        """Again on the same ports where there was one: its minions know no others."""
        before = getattr(self, "master", None)
        kept = {} if before is None else {"publish_port": before.publish_port, "ret_port": before.ret_port}
        self.master = SamePorts(
            [self.tree, self.catalog_dir],
            config={**self.settings, **kept},
            python=self.python,
            directory=self.top / "m",
            prefix=self.prefix,
        )

    # -- minions

    def start_minions(self, *names: str) -> None:
        for name in names or MINIONS:
            self.place(name).mkdir(parents=True, exist_ok=True)
            self.minions[name] = self._start_minion(name)
        self.until_they_answer(*(names or MINIONS))
        self.until_they_have_the_modules(*(names or MINIONS))

    def _start_minion(self, name: str) -> subprocess.Popen[bytes]:
        top = self.place(name)
        config = {
            "master": "127.0.0.1",
            "master_port": self.master.ret_port,
            "publish_port": self.master.publish_port,
            "id": name,
            "root_dir": str(top),
            "pki_dir": str(top / "pki"),
            "cachedir": str(top / "cache"),
            "sock_dir": str(top / "sock"),
            "pidfile": str(top / "minion.pid"),
            "log_file": str(top / "minion.log"),
            "grains": {"failure_domain": MINIONS[name], "role": "hypervisor"},
            "livepatch_standin": {"place": str(top)},
            "utils_dirs": [str(self.tree / "_utils")],
            **TUNING,
        }
        (top / "etc").mkdir(exist_ok=True)
        (top / "etc/minion").write_text(json.dumps(config))
        program = str(self.python.parent / "salt-minion")
        argv = [program, "--config-dir", str(top / "etc"), "--log-level", "quiet"]
        return launcher.start(argv, top / "minion.out", death_signal="TERM")

    def stop_minion(self, name: str) -> None:
        stop_session(self.minions.pop(name))

    def place(self, name: str) -> Path:
        return self.top / name

    def until_they_answer(self, *names: str) -> None:
        """A minion's start event may be over before anybody listens; asking waits as long as it takes."""
        for _ in range(20):
            answers = self.salt(",".join(names), "test.ping", "--list", code=None)
            if all(answers.get(name) is True for name in names):
                return
        raise AssertionError(f"{names} do not answer: {answers}")

    def until_they_have_the_modules(self, *names: str) -> None:
        """``salt`` ends well whatever a sync came to, so what it was for is looked at."""
        for _ in range(5):
            self.salt(",".join(names), "saltutil.sync_modules", "--list", code=None)
            looks = self.salt(",".join(names), "livepatch.brief", "--list", code=None)
            if all(isinstance(looks.get(name), dict) for name in names):
                return
        raise AssertionError(f"{names} have no modules: {looks}")

    def behave(self, name: str, word: str) -> None:
        """How the next acts of that minion's stand-in end."""
        (self.place(name) / "behaviour.json").write_text(json.dumps(word))

    def level(self, name: str) -> int:
        path = self.place(name) / "state.json"
        return int(json.loads(path.read_text())["level"]) if path.exists() else 0

    def log(self, name: str) -> list[list[Any]]:
        """What reached that minion."""
        path = self.place(name) / "log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def who(self, name: str) -> dict[str, str]:
        """In whose job that minion was told to go somewhere, the last time."""
        found: dict[str, str] = json.loads((self.place(name) / "who.json").read_text())
        return found

    def reset(self) -> None:
        """Hosts and ledger as they were: the same ground for each test."""
        for name in MINIONS:
            for file in ("state.json", "behaviour.json", "log"):
                (self.place(name) / file).unlink(missing_ok=True)
        for path in (self.state_dir / "rollouts").glob("2*"):
            shutil.rmtree(path)
        for path in self.state_dir.glob("ledger.sqlite*"):
            path.unlink()

    # -- commands

    def salt(self, target: str, function: str, *arguments: str, code: Optional[int] = 0) -> dict[str, Any]:
        words = ("--out=json", "--static", target, function, *arguments)
        ended = self.master.run("salt", *words, timeout=WITHIN)
        assert code is None or ended.returncode == code, ended.stdout + ended.stderr
        try:
            found = json.loads(ended.stdout)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def run(self, function: str, *arguments: str, **options: str) -> tuple[int, Any]:
        """``salt-run livepatch.<function>``: its exit code, and what it returned."""
        ended = self.typed(function, *arguments, **options)
        try:
            return ended.returncode, json.loads(ended.stdout)
        except ValueError:
            raise AssertionError(f"{function}: {ended.stdout}\n{ended.stderr}") from None

    def typed(self, function: str, *arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
        words = [*arguments, *(f"{key}={value}" for key, value in options.items())]
        name = function if "." in function else f"livepatch.{function}"
        return self.master.run("salt-run", "--out=json", name, *words, timeout=WITHIN)

    def begin(self, function: str, *arguments: str, **options: str) -> Begun:
        """The same in the background, in a session of its own, with a line on stderr for all that happens."""
        return begun(self.master, function, *arguments, **options)

    def restart_master(self, settings: Mapping[str, Any]) -> None:
        """With other settings over those it had; until its minions answer again."""
        self.master.stop()
        self.settings = {**self.settings, **settings}
        self.start_master()
        self.until_they_answer(*MINIONS)

    def newest(self) -> Path:
        """The directory of the newest rollout."""
        return sorted((self.state_dir / "rollouts").glob("2*"))[-1]

    @staticmethod
    def plain(options: Mapping[str, str]) -> dict[str, Any]:
        """What a command line's options mean."""
        return {key: yaml.safe_load(value) for key, value in options.items()}

    def publish(self) -> None:
        """Levels 1 and 2 released, 3 in testing and about as large as one that goes with a job may be."""
        for number in (1, 2, 3):
            path = self.top / f"livepatch_{number}.ko"
            path.write_bytes(
                module(f"livepatch_{number}", [f"f{one}" for one in range(1, number + 1)])
                + (os.urandom(payloads.MOST - 4096) if number == 3 else b"")
            )
            path.chmod(0o644)
            words = (str(path), f"fixes=CVE-2026-{number}", "why=a test")
            code, answer = self.run("livepatch_catalog.publish", *words)
            assert code == 0, answer
        for number in (1, 2):
            assert self.run("livepatch_catalog.promote", str(number), "why=soaked")[0] == 0

    def stop(self) -> None:
        for process in self.minions.values():
            stop_session(process)
        self.master.stop()


@contextlib.contextmanager
def ground(
    python: Path, settings: Optional[Mapping[str, Any]] = None, user: str = "", prefix: Sequence[str] = ()
) -> Iterator[Ground]:
    """Under /tmp and short: sockets are there (108 bytes, unix(7)), and ``nobody`` can go there."""
    top = Path(tempfile.mkdtemp(prefix="lp-"))
    top.chmod(0o755)
    made = None
    try:
        made = Ground(top, python, settings, user, prefix)
        made.start_minions()
        made.publish()
        yield made
    finally:
        if made is not None:
            made.stop()
        shutil.rmtree(top, ignore_errors=True)


@pytest.fixture(scope="session")
def fleet_ground() -> Iterator[Ground]:
    with ground(Path(sys.executable)) as made:
        yield made


@pytest.fixture
def site(fleet_ground: Ground) -> Ground:
    fleet_ground.reset()
    return fleet_ground
