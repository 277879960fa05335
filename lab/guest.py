"""A running guest: commands, files, its console, and how it ended."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import host, launcher
from lab.channel import Channel, ChannelClosed, Reply, Request
from lab.errors import CommandFailed, CommandTimedOut, GuestError, GuestHung, GuestLost, GuestPanicked
from lab.kernels import Kernel
from lab.machine import Place
from lab.qmp import REPLY_SECONDS, Qmp, QmpClosed, connect

DEFAULT_TIMEOUT = 60.0
# How much later than its own deadline the agent may answer before the guest counts as hung. Generous: on a
# loaded two-core host an emulated guest can stand still for seconds.
GRACE = 30.0
ENTROPY_BYTES = 64
PANIC = re.compile(r"Kernel panic - not syncing")
SOCKET_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class Result:
    """How a command ended: exit status (negative: the signal that killed it) and what it printed."""

    rc: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """stdout as text, without surrounding white space."""
        return self.stdout.decode(errors="replace").strip()

    @property
    def error_text(self) -> str:
        return self.stderr.decode(errors="replace").strip()


class Process:
    """A command running in the guest."""

    def __init__(self, guest: Guest, request: Request, what: str, timeout: float | None) -> None:
        self._guest, self._request, self._what, self._timeout = guest, request, what, timeout
        self._result: Result | None = None
        self.pid: int = guest._answer(request, GRACE, what).header["pid"]

    def poll(self) -> Result | None:
        """The result if it has ended."""
        return self._receive(0.001) if self._result is None else self._result

    def wait(self, timeout: float | None = None) -> Result:
        """Waits for the end; TimeoutError when `timeout` seconds pass first (the command goes on)."""
        if self._result is None:
            limit = (
                timeout
                if timeout is not None
                else (self._timeout + GRACE if self._timeout is not None else None)
            )
            if self._receive(limit) is None:
                if timeout is None:
                    raise self._guest._hung(f"{self._what}: no result {GRACE:.0f} s after its deadline")
                raise TimeoutError(f"{self._what} is still running after {timeout} s")
        assert self._result is not None
        return self._result

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal to the command's session."""
        self._guest._ask("kill", job=self._request.number, signal=int(number))

    def _receive(self, timeout: float | None) -> Result | None:
        try:
            reply = self._request.wait(timeout)
        except TimeoutError:
            return None
        except ChannelClosed:
            raise self._guest._ended(self._what) from None
        self._guest._forget(self._request)
        if "error" in reply.header:
            raise GuestError(self._guest.name, f"{self._what}: {reply.header['error']}")
        self._result = Result(reply.header["status"], *reply.parts)
        if reply.header["timed_out"]:
            printed = f"{self._result.text!r} {self._result.error_text!r}"
            raise CommandTimedOut(
                self._guest.name,
                f"{self._what}: killed after {self._timeout} s; it had printed {printed}",
                self._guest.console,
            )
        return self._result


class Terminal:
    """A program on a terminal in the guest: keys in, screen out, as bytes."""

    def __init__(self, guest: Guest, request: Request) -> None:
        self._guest, self._request = guest, request
        guest._answer(request, GRACE, "terminal")

    def type(self, keys: bytes, rows: int = 24, columns: int = 80) -> None:
        """Sends keys; tells the terminal's size, which the program hears of if it changed."""
        self._guest._forget(
            self._guest._request("type", keys, job=self._request.number, size=[rows, columns])
        )

    def hang_up(self) -> None:
        """Tells the program that its terminal is gone (SIGHUP)."""
        self._guest._ask("kill", job=self._request.number, signal=int(signal.SIGHUP))

    def read(self) -> bytes | None:
        """What the program prints next; None when it has ended."""
        try:
            reply = self._request.wait(None)
        except ChannelClosed:
            raise self._guest._ended("terminal") from None
        if reply.header.get("printed"):
            return reply.parts[0]
        self._guest._forget(self._request)
        return None


class Guest:
    """A guest and its QEMU process. Close it, or use it as a context manager; it dies with this process in
    any case.
    """

    def __init__(self, name: str, kernel: Kernel, place: Place, arguments: Sequence[str]) -> None:
        """Starts QEMU and connects to its control socket and to the agent's port; the guest may not be
        running yet.
        """
        self.name = name
        self.kernel = kernel
        self.place = place
        self._closed = False
        self._last_console = ""
        self._start(arguments)

    def _start(self, arguments: Sequence[str]) -> None:
        self.process = launcher.start([host.program("qemu-system-x86_64"), *arguments], self.place.qemu_log)
        self._qmp: Qmp | None = None
        self._channel: Channel | None = None
        try:
            self._qmp = Qmp(self._connect(self.place.qmp))
            self._channel = self._open_channel()
        except QmpClosed:
            lost = self._ended("QEMU did not start")
            self.close()
            raise lost from None
        except BaseException:
            self.close()
            raise

    def _open_channel(self) -> Channel:
        return Channel(self._connect(self.place.agent, blocking=True))

    @property
    def qmp(self) -> Qmp:
        """The session with QEMU itself."""
        assert self._qmp is not None
        return self._qmp

    def _connect(self, path: Path, blocking: bool = False) -> Any:
        """QEMU makes its sockets within milliseconds of starting; there is no event for that, its end is
        checked.
        """
        deadline = time.monotonic() + SOCKET_SECONDS
        while True:
            try:
                return connect(path, None if blocking else REPLY_SECONDS)
            except (FileNotFoundError, ConnectionRefusedError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    log = self.place.qemu_log.read_text(errors="replace")
                    raise GuestLost(self.name, f"QEMU did not start: {log.strip()}") from None
                time.sleep(0.005)

    # Commands

    def exec(
        self,
        argv: Sequence[str] | str,
        stdin: bytes = b"",
        timeout: float | None = DEFAULT_TIMEOUT,
        check: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> Result:
        """Runs a program (a string goes to /bin/sh -c). CommandTimedOut after `timeout` s; CommandFailed if
        `check` and it failed.
        """
        return self._finish(self.spawn(argv, stdin, timeout, env, cwd), argv, check)

    def spawn(
        self,
        argv: Sequence[str] | str,
        stdin: bytes = b"",
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> Process:
        """Starts a program and goes on."""
        words = ["/bin/sh", "-c", argv] if isinstance(argv, str) else list(argv)
        request = self._request("exec", stdin, argv=words, timeout=timeout, env=dict(env or {}), cwd=cwd)
        return Process(self, request, " ".join(words)[:200], timeout)

    def python(
        self, source: str, *args: str, timeout: float | None = DEFAULT_TIMEOUT, check: bool = True
    ) -> Result:
        """Runs Python source in a fork of the agent (a few ms: nothing starts, elftools is imported);
        `args` are sys.argv[1:].
        """
        return self._finish(self.spawn_python(source, *args, timeout=timeout), "python", check)

    def spawn_python(self, source: str, *args: str, timeout: float | None = None) -> Process:
        request = self._request("python", source.encode(), argv=list(args), timeout=timeout)
        return Process(self, request, "python", timeout)

    def _finish(self, process: Process, what: Sequence[str] | str, check: bool) -> Result:
        result = process.wait()
        if check and result.rc != 0:
            shown = what if isinstance(what, str) else " ".join(what)
            raise CommandFailed(
                self.name,
                f"{shown[:200]}: status {result.rc}\n{result.text}\n{result.error_text}",
                self.console,
            )
        return result

    def terminal(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Terminal:
        """Starts a program on a terminal of its own in the guest."""
        return Terminal(self, self._request("terminal", argv=list(argv), env=dict(env or {})))

    # Files

    def put(self, path: str, data: bytes | str, mode: int = 0o644) -> None:
        """Writes a file, making its directories."""
        self._ask("put", data.encode() if isinstance(data, str) else data, path=path, mode=mode)

    def get(self, path: str) -> bytes:
        """A file's bytes (OSError as in the guest). Read by the agent itself: use ``exec(["cat", ...])``
        for files that can block.
        """
        return self._ask("get", path=path).parts[0]

    def put_tree(self, source: Path, path: str) -> None:
        """Copies what is in the host's directory `source` into the guest's directory `path`; Python's own
        caches left out.
        """
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(
                source, arcname=".", filter=lambda member: None if "__pycache__" in member.name else member
            )
        self._ask("put_tree", packed.getvalue(), path=path)

    # State

    @property
    def console(self) -> str:
        """All that the kernel and programs wrote to the console so far."""
        try:
            return self.place.console.read_text(errors="replace")
        except FileNotFoundError:
            return self._last_console

    def dmesg(self) -> str:
        """The kernel's log, one record a line."""
        return self.exec(["dmesg"], check=True).text

    def ping(self, timeout: float = GRACE) -> None:
        """GuestHung when the agent does not answer within `timeout` seconds."""
        self._ask("ping", timeout=timeout)

    def check_alive(self) -> None:
        """Raises what ended the guest, if it has ended (GuestPanicked, GuestLost)."""
        if self.process.poll() is not None:
            raise self._ended("before this")

    def wake(self) -> None:
        """Gives the guest the host's time, and entropy of its own."""
        self._ask("wake", os.urandom(ENTROPY_BYTES), now=time.time())

    def wait_end(self, timeout: float = DEFAULT_TIMEOUT) -> GuestError:
        """Waits for the guest's end and says which it was (GuestPanicked or GuestLost); GuestHung when it
        goes on.
        """
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return self._hung(f"still running after {timeout} s")
        return self._ended("ended")

    # Under the hood

    def _request(self, do: str, payload: bytes = b"", **fields: Any) -> Request:
        channel = self._channel
        if channel is None:
            raise GuestLost(self.name, f"{do}: the guest was closed", self.console)
        try:
            return channel.request(do, payload, **fields)
        except ChannelClosed:
            raise self._ended(do) from None

    def _forget(self, request: Request) -> None:
        if self._channel is not None:
            self._channel.done(request)

    def _ask(self, do: str, payload: bytes = b"", timeout: float = GRACE, **fields: Any) -> Reply:
        """A request with one answer."""
        request = self._request(do, payload, **fields)
        try:
            return self._answer(request, timeout, do)
        finally:
            self._forget(request)

    def _answer(self, request: Request, timeout: float, what: str) -> Reply:
        try:
            reply = request.wait(timeout)
        except TimeoutError:
            raise self._hung(f"{what}: no answer for {timeout} s") from None
        except ChannelClosed:
            raise self._ended(what) from None
        if reply.header.get("errno"):
            raise OSError(reply.header["errno"], f"guest {self.name}: {reply.header['error']}")
        if "error" in reply.header:
            raise GuestError(self.name, f"{what}: {reply.header['error']}")
        return reply

    def _hung(self, what: str) -> GuestError:
        if PANIC.search(self.console):
            return GuestPanicked(self.name, what, self.console)
        return GuestHung(self.name, what, self.console)

    def _ended(self, what: str) -> GuestError:
        """The port closed, so QEMU is ending: wait for it, so that the console is complete."""
        status = self.process.wait(GRACE)
        console = self.console
        if PANIC.search(console):
            return GuestPanicked(self.name, f"{what}: the kernel panicked", console)
        log = self.place.qemu_log.read_text(errors="replace").strip()
        return GuestLost(self.name, f"{what}: QEMU ended with status {status} {log}", console)

    def kill(self) -> None:
        """Ends QEMU as if the power failed."""
        self.process.kill()
        self.process.wait()

    def _disconnect(self) -> None:
        for connection in (self._channel, self._qmp):
            if connection is not None:
                connection.close()
        self._channel = self._qmp = None

    def close(self) -> None:
        """Ends the guest and deletes its directory; the console's text stays available."""
        if self._closed:
            return
        self._closed = True
        self.kill()
        self._disconnect()
        self._last_console = self.console
        shutil.rmtree(self.place.directory)

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
