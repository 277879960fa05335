"""The lab's agent in a guest: runs commands and moves files, told over a virtio-serial port.

A message is two big-endian 32-bit lengths, a JSON header, and a payload of bytes, in both directions.
Requests carry an ``id`` and may overlap. One thread only, so that forking from here is safe: everything
that can block (a child's pipes, its end) is a file descriptor in one ``poll``. Standard library only;
elftools is imported when it is there, so that children start with it warm.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import io
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tarfile
import termios
import time
import traceback
from typing import Any, Callable, NoReturn, Protocol

Header = dict[str, Any]

PORT_NAME = "lab.agent"
SALT_LIBRARY = "/opt/salt/lib"
HOME = "/root"
LENGTHS = struct.Struct(">II")
RNDADDENTROPY = 0x40085203  # include/uapi/linux/random.h: _IOW('R', 0x03, int[2])
REOPEN_SECONDS = (
    0.05  # a port whose host side is closed reads as end of file at once: there is no event for "open again"
)
READ_SIZE = 1 << 16


def port_path() -> str:
    base = "/sys/class/virtio-ports"
    for name in os.listdir(base):
        with open(f"{base}/{name}/name", encoding="ascii") as stream:
            if stream.read().strip() == PORT_NAME:
                return f"/dev/{name}"
    raise FileNotFoundError(PORT_NAME)


class Port:
    """Whole messages from and to the host, over an open file descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def read_exactly(self, size: int) -> bytes:
        """Blocks until `size` bytes came; the host always sends whole messages."""
        parts = []
        while size:
            block = os.read(self.fd, min(size, 1 << 20))
            if block:
                parts.append(block)
                size -= len(block)
            else:
                time.sleep(REOPEN_SECONDS)
        return b"".join(parts)

    def receive(self) -> tuple[Header, bytes] | None:
        """One message, or None when the host side is not connected."""
        first = os.read(self.fd, 1)
        if not first:
            return None
        header_size, payload_size = LENGTHS.unpack(first + self.read_exactly(LENGTHS.size - 1))
        return json.loads(self.read_exactly(header_size)), self.read_exactly(payload_size)

    def send(self, header: Header, *payload: bytes) -> None:
        header = {**header, "sizes": [len(part) for part in payload]}
        text = json.dumps(header).encode()
        data = memoryview(LENGTHS.pack(len(text), sum(map(len, payload))) + text + b"".join(payload))
        while data:
            data = data[os.write(self.fd, data) :]


class Child(Protocol):
    """What the agent's loop needs of a running child."""

    number: int
    pid: int
    pidfd: int
    stdin_fd: int
    deadline: float | None
    outputs: dict[int, bytearray]

    def feed(self) -> None: ...

    def drain(self, fd: int) -> bool: ...

    def results(self) -> list[bytes]: ...

    def close(self) -> None: ...


class Job:
    """A running child: its pipes, what it has printed, when it must have ended."""

    def __init__(
        self, number: int, pid: int, fds: tuple[int, int, int], stdin: bytes, timeout: float | None
    ) -> None:
        stdin_fd, out_fd, err_fd = fds
        self.number, self.pid = number, pid
        self.pidfd = os.pidfd_open(pid)
        self.stdin_fd, self.stdin = stdin_fd, memoryview(stdin)
        self.outputs: dict[int, bytearray] = {out_fd: bytearray(), err_fd: bytearray()}
        self.deadline: float | None = None if timeout is None else time.monotonic() + timeout
        for fd in (stdin_fd, out_fd, err_fd):
            os.set_blocking(fd, False)

    def feed(self) -> None:
        try:
            self.stdin = self.stdin[os.write(self.stdin_fd, self.stdin) :] if self.stdin else self.stdin
        except BrokenPipeError:
            self.stdin = memoryview(b"")
        except BlockingIOError:
            return
        if not self.stdin:
            os.close(self.stdin_fd)
            self.stdin_fd = -1

    def drain(self, fd: int) -> bool:
        """Reads what is there; False at end of file."""
        while True:
            try:
                block = os.read(fd, READ_SIZE)
            except BlockingIOError:
                return True
            if not block:
                return False
            self.outputs[fd] += block

    def results(self) -> list[bytes]:
        return [bytes(output) for output in self.outputs.values()]

    def close(self) -> None:
        for fd in [self.pidfd, *self.outputs, *([self.stdin_fd] if self.stdin_fd >= 0 else [])]:
            os.close(fd)


class Terminal:
    """A running program on a terminal."""

    def __init__(self, number: int, pid: int, fd: int, port: Port) -> None:
        self.deadline: float | None = None
        self.outputs: dict[int, bytearray] = {
            fd: bytearray()
        }  # stays empty: what is printed goes out at once
        self.stdin_fd = -1
        self.number, self.pid, self.fd, self.port = number, pid, fd, port
        self.pidfd = os.pidfd_open(pid)
        os.set_blocking(fd, False)

    def feed(self) -> None:
        """Keys come by themselves, see `Agent.do_type`."""

    def drain(self, fd: int) -> bool:
        """Sends what is there; False when no process has the terminal open any more (EIO)."""
        while True:
            try:
                block = os.read(fd, READ_SIZE)
            except BlockingIOError:
                return True
            except OSError:
                return False
            self.port.send({"id": self.number, "printed": True}, block)

    def results(self) -> list[bytes]:
        return []

    def close(self) -> None:
        os.close(self.pidfd)
        os.close(self.fd)


class Agent:
    """Serves one port for ever."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.poll = select.poll()
        self.jobs: dict[int, Child] = {}
        self.by_fd: dict[int, Child] = {}
        self.abandoned: list[int] = []

    def serve(self) -> NoReturn:
        self.poll.register(self.port.fd, select.POLLIN)
        while True:
            for fd, events in self.poll.poll(self.patience()):
                if fd == self.port.fd:
                    self.from_host(events)
                elif fd in self.by_fd:
                    self.from_job(self.by_fd[fd], fd)
            self.expire()

    def patience(self) -> float | None:
        """Milliseconds until the next job's deadline."""
        deadlines = [job.deadline for job in self.jobs.values() if job.deadline is not None]
        return max(0, (min(deadlines) - time.monotonic()) * 1000 + 1) if deadlines else None

    def from_host(self, events: int) -> None:
        message = self.port.receive() if events & select.POLLIN else None
        if message is None:
            time.sleep(REOPEN_SECONDS)
            return
        header, payload = message
        try:
            getattr(self, "do_" + header["do"])(header, payload)
        except OSError as error:
            self.port.send({"id": header["id"], "errno": error.errno, "error": str(error)})
        except Exception as error:  # noqa: BLE001 - the host must hear of it, whatever it was
            self.port.send({"id": header["id"], "errno": 0, "error": f"{error!r}\n{traceback.format_exc()}"})

    def from_job(self, job: Child, fd: int) -> None:
        if fd == job.pidfd:
            self.finish(job, os.waitstatus_to_exitcode(os.waitpid(job.pid, 0)[1]))
        elif fd == job.stdin_fd:
            job.feed()
            if job.stdin_fd < 0:
                self.forget(fd)
        elif not job.drain(fd):
            self.forget(fd)

    def forget(self, fd: int) -> None:
        self.poll.unregister(fd)
        del self.by_fd[fd]

    def finish(self, job: Child, status: int, timed_out: bool = False) -> None:
        """A job ends with its process: what a daemon it left behind would still print is not waited for."""
        for fd in [fd for fd, owner in self.by_fd.items() if owner is job]:
            self.forget(fd)
        for fd in job.outputs:
            job.drain(fd)
        job.close()
        del self.jobs[job.number]
        self.port.send({"id": job.number, "status": status, "timed_out": timed_out}, *job.results())

    def expire(self) -> None:
        now = time.monotonic()
        for job in [job for job in self.jobs.values() if job.deadline is not None and job.deadline <= now]:
            signal_session(job.pid, signal.SIGKILL)
            self.abandoned.append(job.pid)  # in uninterruptible sleep it cannot die yet
            self.finish(job, -signal.SIGKILL, timed_out=True)
        self.abandoned = [pid for pid in self.abandoned if not reaped(pid)]

    def fork(self, header: Header, run: Callable[[], None]) -> None:
        """A child of this process that calls `run` and ends."""
        stdin_pipe, out_pipe, err_pipe = os.pipe(), os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            become_child(stdin_pipe[0], out_pipe[1], err_pipe[1], run)
        for fd in (stdin_pipe[0], out_pipe[1], err_pipe[1]):
            os.close(fd)
        self.follow(header, pid, (stdin_pipe[1], out_pipe[0], err_pipe[0]), b"")

    def follow(self, header: Header, pid: int, fds: tuple[int, int, int], stdin: bytes) -> None:
        """Makes a job of a child and tells the host its number."""
        job = Job(header["id"], pid, fds, stdin, header["timeout"])
        self.jobs[job.number] = job
        self.port.send({"id": job.number, "pid": pid})
        job.feed()
        for fd, events in [
            (job.pidfd, select.POLLIN),
            *((fd, select.POLLIN) for fd in job.outputs),
            (job.stdin_fd, select.POLLOUT),
        ]:
            if fd >= 0:
                self.poll.register(fd, events)
                self.by_fd[fd] = job

    def do_ping(self, header: Header, payload: bytes) -> None:
        self.port.send({"id": header["id"]}, payload)

    def do_wake(self, header: Header, payload: bytes) -> None:
        """After a restore: the host's time, and entropy that no other guest of this snapshot has."""
        time.clock_settime(time.CLOCK_REALTIME, header["now"])
        with open("/dev/urandom", "wb", buffering=0) as device:
            fcntl.ioctl(device, RNDADDENTROPY, struct.pack("ii", len(payload) * 8, len(payload)) + payload)
        self.port.send({"id": header["id"]})

    def do_exec(self, header: Header, payload: bytes) -> None:
        """A program that cannot be started ends as in a shell: 127 not found, 126 not executable."""
        try:
            process = subprocess.Popen(
                header["argv"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **header["env"]},
                cwd=header["cwd"] or HOME,
                start_new_session=True,
            )
        except OSError as error:
            status = 127 if error.errno == errno.ENOENT else 126
            self.port.send({"id": header["id"], "pid": 0})
            self.port.send(
                {"id": header["id"], "status": status, "timed_out": False}, b"", f"{error}\n".encode()
            )
            return
        process.returncode = 0  # this loop reaps it, Popen must not
        self.follow(
            header, process.pid, (taken(process.stdin), taken(process.stdout), taken(process.stderr)), payload
        )

    def do_python(self, header: Header, payload: bytes) -> None:
        """Runs source in a fork of this process: no interpreter to start, elftools already imported. No
        stdin.
        """
        self.fork(header, lambda: run_source(payload, header["argv"]))

    def do_terminal(self, header: Header, payload: bytes) -> None:
        """A program on a terminal of its own; what it prints goes to the host as it comes."""
        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(HOME)
            os.execvpe(header["argv"][0], header["argv"], {**os.environ, **header["env"]})
        job = Terminal(header["id"], pid, fd, self.port)
        self.jobs[job.number] = job
        self.port.send({"id": job.number, "pid": pid})
        for watched in (job.pidfd, fd):
            self.poll.register(watched, select.POLLIN)
            self.by_fd[watched] = job

    def do_type(self, header: Header, payload: bytes) -> None:
        """Keys for a terminal, and its size if that changed. No answer: typing must not wait."""
        job = self.jobs.get(header["job"])
        if isinstance(job, Terminal):
            fcntl.ioctl(job.fd, termios.TIOCSWINSZ, struct.pack("HHHH", *header["size"], 0, 0))
            os.write(job.fd, payload)

    def do_kill(self, header: Header, payload: bytes) -> None:
        job = self.jobs.get(header["job"])
        if job is not None:
            signal_session(job.pid, header["signal"])
        self.port.send({"id": header["id"], "found": job is not None})

    def do_put(self, header: Header, payload: bytes) -> None:
        os.makedirs(os.path.dirname(header["path"]) or "/", exist_ok=True)
        fd = os.open(header["path"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, header["mode"])
        with open(fd, "wb", buffering=0) as stream:
            data = memoryview(payload)
            while data:
                data = data[stream.write(data) :]
        self.port.send({"id": header["id"]})

    def do_get(self, header: Header, payload: bytes) -> None:
        with open(header["path"], "rb") as stream:
            data = stream.read()
        self.port.send({"id": header["id"]}, data)

    def do_put_tree(self, header: Header, payload: bytes) -> None:
        os.makedirs(header["path"], exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(payload)) as archive:
            archive.extractall(header["path"])
        self.port.send({"id": header["id"]})


def taken(stream: Any) -> int:
    """The file descriptor of one of Popen's pipes, from now on ours to close."""
    fd = os.dup(stream.fileno())
    stream.close()
    return fd


def become_child(stdin_fd: int, out_fd: int, err_fd: int, run: Callable[[], None]) -> NoReturn:
    """In the child: a session of its own, pipes for its three standard files, then `run`; never returns."""
    status = 127
    try:
        os.setsid()
        for fd, standard in ((stdin_fd, 0), (out_fd, 1), (err_fd, 2)):
            os.dup2(fd, standard)
        os.chdir(HOME)
        run()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - a program's last words, as an interpreter would print them
        status = 1
        print(traceback.format_exc(), file=sys.stderr)
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                pass
        os._exit(status)


def run_source(source: bytes, argv: list[str]) -> None:
    """`source` as a program: its own ``__main__`` names, `argv` in ``sys.argv``."""
    sys.argv = ["-", *argv]
    exec(compile(source, "<lab>", "exec"), {"__name__": "__main__"})


def signal_session(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass


def reaped(pid: int) -> bool:
    return os.waitpid(pid, os.WNOHANG)[0] == pid


def warm_up() -> None:
    """Imports what tests use most, and keeps the collector from touching (so copying) those pages in
    children.
    """
    sys.path.append(SALT_LIBRARY)
    try:
        import elftools.elf.elffile
        import elftools.elf.relocation
        import elftools.elf.sections  # noqa: F401
    except ImportError:
        pass
    gc.collect()
    gc.freeze()


def main() -> None:
    os.environ["PATH"] = (
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # init leaves /usr/local out
    )
    os.environ["HOME"] = HOME
    warm_up()
    Agent(Port(os.open(port_path(), os.O_RDWR | os.O_CLOEXEC))).serve()


if __name__ == "__main__":
    main()
