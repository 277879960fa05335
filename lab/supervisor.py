"""The process behind ``lab up``: owns the master and the guests, serves the command line over a socket,
ends them all.

It is their parent, so that they die with it, whatever ends it. A lock it holds while it lives tells a
running lab from a stale one.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lab import fleet, kernels, progress
from lab.errors import GuestError, LabError
from lab.fleet import Fleet
from lab.guest import Guest
from lab.master import Master
from lab.rundir import FAILED, READY, RunDirectory, run_directory


@contextlib.contextmanager
def _exclusive(directory: RunDirectory) -> Iterator[None]:
    directory.path.mkdir(exist_ok=True)
    with directory.lock.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in (directory.socket, directory.state):
            path.unlink(missing_ok=True)
        yield
        for path in (directory.socket, directory.state):
            path.unlink(missing_ok=True)


class Supervisor:
    """Serves requests until it is told to stop."""

    def __init__(self, directory: RunDirectory, members: Fleet) -> None:
        self._directory = directory
        self._fleet = members
        self._stopping = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        # A socket path is limited to 107 bytes and the cache may lie deep: bind where we stand.
        os.chdir(directory.path)
        self._listener.bind(directory.socket.name)
        self._listener.listen()

    def serve(self) -> None:
        """Each connection is one request; requests may overlap."""
        self._directory.state.write_text(json.dumps(self._describe(), indent=1))
        threading.Thread(target=self._accept_all, daemon=True).start()
        self._stopping.wait()

    def stop(self) -> None:
        self._stopping.set()

    def _describe(self) -> dict[str, Any]:
        guests = [
            {"name": name, "kernel": found.guest.kernel.release, "pid": found.guest.process.pid}
            for name, found in self._fleet.members.items()
        ]
        return {"pid": os.getpid(), "master": str(self._fleet.master.config_file), "guests": guests}

    def _accept_all(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as stream:
            request = json.loads(stream.readline())
            try:
                getattr(self, f"_do_{request['do']}")(request, stream)
            except (GuestError, LabError, OSError) as error:
                with contextlib.suppress(OSError):  # the asker may have gone
                    _send(stream, {"error": str(error)})

    def _guest(self, name: str) -> Guest:
        if name not in self._fleet.members:
            raise LabError(f"there is no guest {name}", f"there are: {' '.join(self._fleet.members)}")
        return self._fleet.members[name].guest

    def _do_run(self, request: dict[str, Any], stream: Any) -> None:
        result = self._guest(request["guest"]).exec(request["argv"], timeout=None)
        _send(stream, {"status": result.rc, "stdout": _text(result.stdout), "stderr": _text(result.stderr)})

    def _do_console(self, request: dict[str, Any], stream: Any) -> None:
        _send(stream, {"stdout": _text(self._guest(request["guest"]).console.encode())})

    def _do_shell(self, request: dict[str, Any], stream: Any) -> None:
        terminal = self._guest(request["guest"]).terminal(["/bin/bash", "-i"], {"TERM": request["term"]})
        threading.Thread(target=_pass_keys, args=(stream, terminal), daemon=True).start()
        while (printed := terminal.read()) is not None:
            _send(stream, {"printed": _text(printed)})
        _send(stream, {"ended": True})

    def _do_stop(self, request: dict[str, Any], stream: Any) -> None:
        self.stop()


def _pass_keys(stream: Any, terminal: Any) -> None:
    """Until the other side closes, which ends the shell as a closed terminal window would."""
    with contextlib.suppress(OSError, ValueError):
        for line in stream:
            message = json.loads(line)
            terminal.type(base64.b64decode(message["keys"]), *message["size"])
    terminal.hang_up()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _send(stream: Any, message: dict[str, Any]) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def main(arguments: Sequence[str]) -> int:
    """``count role,role file_root...``; prints `ready` or `failed` as the last line of its log."""
    count, roles, *file_roots = arguments
    directory = run_directory()
    try:
        with _exclusive(directory):
            _run(directory, int(count), roles.split(","), [Path(path) for path in file_roots])
    except (LabError, GuestError) as error:
        progress.say(f"{error}")
        progress.say(FAILED)
        return 1
    except BaseException:
        traceback.print_exc()
        progress.say(FAILED)
        raise
    return 0


def _run(directory: RunDirectory, count: int, roles: Sequence[str], file_roots: Sequence[Path]) -> None:
    chosen = [kernels.kernel(role) for role in roles]
    with Master(file_roots=file_roots) as master, fleet.start(master, chosen, count) as members:
        supervisor = Supervisor(directory, members)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: supervisor.stop())
        progress.say(READY)
        supervisor.serve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
