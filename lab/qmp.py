"""QEMU's control protocol: commands and events as JSON lines over a Unix socket (QEMU documentation,
interop/qmp-spec).
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

REPLY_SECONDS = 60.0


class QmpError(Exception):
    """QEMU refused a command."""


class QmpClosed(Exception):
    """QEMU went away: it ended, or never opened its socket."""


class Qmp:
    """A session with one QEMU. Not for use by several threads at once."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._stream = sock.makefile("rb")
        self.events: list[dict[str, Any]] = []
        self._read()  # the greeting
        self.command("qmp_capabilities")

    def command(self, name: str, **arguments: Any) -> Any:
        """Runs a command and gives its ``return`` value; events that come meanwhile are kept in `events`."""
        request = json.dumps({"execute": name, "arguments": arguments}) + "\n"
        try:
            self._socket.sendall(request.encode())
        except OSError as error:
            raise QmpClosed(str(error)) from error
        while True:
            message = self._read()
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise QmpError(f"{name}: {message['error']['desc']}")
            self.events.append(message)

    def wait_event(self, *names: str, timeout: float | None = REPLY_SECONDS) -> dict[str, Any]:
        """The next event of these names (earlier ones count if not yet taken); without `timeout` for ever."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            for index, event in enumerate(self.events):
                if event["event"] in names:
                    return self.events.pop(index)
            self._socket.settimeout(None if deadline is None else max(0.01, deadline - time.monotonic()))
            self.events.append(self._read())

    def _read(self) -> dict[str, Any]:
        try:
            line = self._stream.readline()
        except OSError as error:
            raise QmpClosed(str(error)) from error
        if not line:
            raise QmpClosed("QEMU closed its control socket")
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


def connect(path: Path, timeout: float | None = None) -> socket.socket:
    """Connects to a Unix socket that exists already."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    sock.connect(str(path))
    return sock
