"""A real salt-master for the guests: its own directory, its own ports on 127.0.0.1, which guests see as
10.0.2.2.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import salt.client
import salt.config
import salt.utils.event

from lab import launcher, scratch
from lab.errors import LabError

GUEST_VIEW = (
    "10.0.2.2"  # where QEMU's user network shows the host's loopback (QEMU documentation, -netdev user)
)
START_SECONDS = 90.0
STOP_SECONDS = 20.0
# Above these are the kernel's ephemeral ports (ip_local_port_range starts at 32768): a port from there can
# be taken for an outgoing connection between choosing and binding it.
PORTS = range(20000, 32768)
COMMAND_SECONDS = 60


class Events:
    """The master's event bus, heard from the moment this object is made."""

    def __init__(self, opts: dict[str, Any]) -> None:
        self._bus = salt.utils.event.get_event("master", opts=opts, listen=True)
        if not self._bus.connect_pub(timeout=10):
            raise LabError("the master's event bus does not answer", "is the master still running?")

    def wait(self, tag: str, timeout: float) -> dict[str, Any]:
        """The first event whose tag starts with `tag` since this object was made; TimeoutError."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            event = self._bus.get_event(wait=min(left, 5), tag=tag)
            if event is not None:
                found: dict[str, Any] = event
                return found
        raise TimeoutError(f"no event {tag} within {timeout} s")

    def wait_return(self, minion: str, functions: Collection[str], timeout: float) -> dict[str, Any]:
        """The first return of a job with one of these functions that the minion sends; TimeoutError."""
        deadline = time.monotonic() + timeout
        while True:
            event = self.wait("salt/job/", deadline - time.monotonic())
            if event.get("id") == minion and event.get("fun") in functions and "return" in event:
                return event

    def close(self) -> None:
        self._bus.destroy()


class Master:
    """A running salt-master. It accepts every key. Stop it, or use it as a context manager."""

    def __init__(
        self,
        file_roots: Sequence[Path] = (),
        pillar_roots: Sequence[Path] = (),
        config: Mapping[str, Any] | None = None,
        python: Path = Path(sys.executable),
        directory: Path | None = None,
        keep_running: bool = False,
        before: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> None:
        """Starts it (5 s) and waits until it answers.

        `python` is the interpreter of the environment whose Salt it runs; `config` goes over the lab's own
        settings; `keep_running` lets it outlive this process; `before` names runner functions to be run
        before it starts; `prefix` is put before all that is run: a program that makes it another user's, say.
        """
        self.directory = directory or scratch.make("master")
        self._owns_directory = directory is None
        self._python, self._prefix = python, tuple(prefix)
        self.publish_port, self.ret_port = free_ports(2)
        self._write(master_settings(self, file_roots, pillar_roots, config or {}))
        for function in before:
            self._run_before(function)
        self.process = self._start(keep_running)
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise

    @property
    def config_file(self) -> Path:
        return self.directory / "etc/master"

    @property
    def log(self) -> str:
        """What the master logged so far."""
        path = self.directory / "master.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def opts(self) -> dict[str, Any]:
        """The master's options as a client on it reads them."""
        found: dict[str, Any] = salt.config.client_config(str(self.config_file))
        return found

    def _write(self, settings: Mapping[str, Any]) -> None:
        """JSON is YAML: no writer of YAML is needed here."""
        self.config_file.parent.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(json.dumps(settings, indent=1) + "\n")

    def _program(self, name: str) -> str:
        path = self._python.parent / name
        if not path.exists():
            raise LabError(
                f"{path} does not exist",
                "give the Python of a virtual environment in which Salt is installed",
            )
        return str(path)

    def typed(self, program: str) -> list[str]:
        """A command of this master's Salt, up to where its own arguments begin."""
        return [*self._prefix, self._program(program), "--config-dir", str(self.config_file.parent)]

    def _run_before(self, function: str) -> None:
        """Where salt-run notes its jobs is otherwise made by the master that starts."""
        (self.directory / "cache/proc").mkdir(parents=True, exist_ok=True)
        ended = self.run("salt-run", function, timeout=4 * START_SECONDS)
        if ended.returncode:
            raise LabError(
                f"salt-run {function} failed:\n{ended.stdout}{ended.stderr}", "see its words above"
            )

    def _start(self, keep_running: bool) -> subprocess.Popen[bytes]:
        argv = [*self.typed("salt-master"), "--log-level", "quiet"]
        output = self.directory / "master.out"
        if keep_running:
            with output.open("ab") as log:
                return subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
        return launcher.start(argv, output, death_signal="TERM")

    def _wait_ready(self) -> None:
        """The request port is bound by the last worker to start; there is no event before the bus exists."""
        deadline = time.monotonic() + START_SECONDS
        while not (self._listens(self.ret_port) and self._listens(self.publish_port) and self._bus_exists()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                output = (self.directory / "master.out").read_text(errors="replace")
                raise LabError(
                    f"salt-master did not start:\n{output[-2000:]}\n{self.log[-2000:]}", "see its log above"
                )
            time.sleep(0.05)

    def _bus_exists(self) -> bool:
        return any((self.directory / "sock").glob("master_event_pub.ipc"))

    @staticmethod
    def _listens(port: int) -> bool:
        with contextlib.closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def client(self) -> salt.client.LocalClient:
        """A client; one for each thread."""
        return salt.client.LocalClient(mopts=self.opts())

    def cmd(
        self,
        target: Any,
        function: str,
        *arguments: Any,
        timeout: int = COMMAND_SECONDS,
        tgt_type: str = "glob",
        **keywords: Any,
    ) -> dict[str, Any]:
        """Runs an execution function on minions; gives what each that answered returned (0.5-1 s a call)."""
        with self.client() as client:
            answers = client.cmd(
                target, function, arguments, timeout, tgt_type, kwarg=keywords or None, full_return=True
            )
        return {minion: answer["ret"] for minion, answer in answers.items() if is_answer(answer)}

    def run(self, program: str, *arguments: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Runs ``salt``, ``salt-run``, ``salt-key`` ... as a person would."""
        return subprocess.run(
            [*self.typed(program), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    @contextlib.contextmanager
    def events(self) -> Iterator[Events]:
        """The event bus, from now on."""
        bus = Events(self.opts())
        try:
            yield bus
        finally:
            bus.close()

    def forget(self, minion: str) -> None:
        """Deletes a minion's key."""
        for state in ("minions", "minions_pre", "minions_rejected", "minions_denied"):
            (self.directory / "pki" / state / minion).unlink(missing_ok=True)

    def kill(self) -> None:
        """All of it at once, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def start_again(self) -> None:
        """After ``kill``: the same configuration, the same ports."""
        self.process = self._start(keep_running=False)
        self._wait_ready()

    def stop(self) -> None:
        """Ends the master and all its workers."""
        stop_session(self.process)
        if self._owns_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Master:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def stop_session(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the leader, which stops its children; SIGKILL to whatever of its session is left."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def master_settings(
    master: Master, file_roots: Sequence[Path], pillar_roots: Sequence[Path], config: Mapping[str, Any]
) -> dict[str, Any]:
    top = master.directory
    return {
        "interface": "127.0.0.1",
        "publish_port": master.publish_port,
        "ret_port": master.ret_port,
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "root_dir": str(top),
        "pki_dir": str(top / "pki"),
        "cachedir": str(top / "cache"),
        "sock_dir": str(top / "sock"),
        "pidfile": str(top / "master.pid"),
        "log_file": str(top / "master.log"),
        "log_level_logfile": "info",
        "auto_accept": True,
        "worker_threads": 2,
        # Salt's 5 and 10 s are for real processors: an emulated one among several can take longer to say
        # anything.
        "timeout": 30,
        "gather_job_timeout": 30,
        "file_roots": {"base": [str(path) for path in file_roots]},
        "pillar_roots": {"base": [str(path) for path in pillar_roots]},
        **config,
    }


def is_answer(answer: Any) -> bool:
    """Whether it came from a minion: in place of one that did not come Salt puts False, or a sentence marked
    ``no_return`` (salt/client/__init__.py, cmd and get_cli_event_returns).
    """
    return isinstance(answer, dict) and answer.get("out") != "no_return"


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, below the ephemeral range; different processes start looking in different
    places.
    """
    found: list[int] = []
    start = (os.getpid() * 7919) % len(PORTS)
    for offset in range(len(PORTS)):
        port = PORTS[(start + offset) % len(PORTS)]
        with contextlib.closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0 and _can_bind(port):
                found.append(port)
        if len(found) == count:
            return found
    raise LabError(f"fewer than {count} free ports in {PORTS}", "stop something that listens on them")


def _can_bind(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
