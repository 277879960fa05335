"""The lab by hand: ``scripts/lab up``, ``list``, ``run``, ``shell``, ``salt``, ``down`` ...; ``--help``
tells the rest.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab import bare, cache, image, kernels, scratch
from lab.errors import GuestError, LabError
from lab.kernels import Role
from lab.rundir import FAILED, READY, run_directory

REPOSITORY = Path(__file__).resolve().parents[1]
STOP_SECONDS = 60.0
WATCH_SECONDS = 0.1  # how often `up` looks whether the supervisor has something new to say


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except (LabError, GuestError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    roles = [role.value for role in Role]

    def verb(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    build = verb("build", _build, "fetch kernels, build the guests' image and take snapshots")
    build.add_argument(
        "--kernels", nargs="+", choices=roles, default=roles, metavar="ROLE", help=f"of {' '.join(roles)}"
    )
    build.add_argument("--refresh", action="store_true", help="look again what Debian serves")
    up = verb("up", _up, "start a master and guests that stay until `down`")
    up.add_argument("--guests", type=int, default=3, metavar="N")
    up.add_argument(
        "--kernels", nargs="+", choices=roles, default=[roles[0]], metavar="ROLE", help="dealt out in turn"
    )
    up.add_argument(
        "--file-root", nargs="+", default=[str(REPOSITORY)], metavar="DIR", help="what the master serves"
    )
    verb("list", _list, "the guests that are up, and the kernels there are")
    for name, run, text in (
        ("shell", _shell, "a shell in a guest"),
        ("run", _run, "run a program in a guest"),
        ("console", _console, "what a guest's kernel wrote to its console"),
    ):
        added = verb(name, run, text)
        added.add_argument("name")
        if name == "run":
            added.add_argument("command", nargs=argparse.REMAINDER)
    for program in ("salt", "salt-run", "salt-key"):
        verb(program, _salt(program), f"{program} with the lab's master").add_argument(
            "words", nargs=argparse.REMAINDER
        )
    verb("down", _down, "stop the guests and the master")
    prune = verb("prune", _prune, "delete what was not used for some time")
    prune.add_argument("--days", type=float, default=14.0)
    return parser


def _build(options: argparse.Namespace) -> int:
    """The image waits mostly for the network and one processor: the kernels are unpacked meanwhile."""
    kernels.resolved(refresh=options.refresh)
    chosen = [kernels.kernel(role) for role in options.kernels]
    with ThreadPoolExecutor() as pool:
        root = pool.submit(image.build)
        list(pool.map(kernels.files, chosen))
        root.result()
    for kernel in chosen:
        bare.start(kernel).close()
    return 0


def _up(options: argparse.Namespace) -> int:
    """Starts the supervisor, shows what it says until it is ready, and leaves it running."""
    directory = run_directory()
    if directory.is_running():
        raise LabError("a lab is up already", "scripts/lab list shows it, scripts/lab down ends it")
    directory.path.mkdir(exist_ok=True)
    argv = [sys.executable, "-m", "lab.supervisor", str(options.guests), ",".join(options.kernels)]
    argv += [str(Path(path).resolve()) for path in options.file_root]
    with directory.log.open("wb") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=REPOSITORY
        )
    try:
        ready = _follow(directory.log, process)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    return _list(options) if ready else 1


def _follow(log: Path, process: subprocess.Popen[bytes]) -> bool:
    """Copies the supervisor's log to stderr until it is ready (True) or ended (False)."""
    with log.open() as stream:
        while True:
            line = stream.readline()
            if line.endswith(f"{READY}\n"):
                return True
            if line and not line.endswith(f"{FAILED}\n"):
                print(line, end="", file=sys.stderr, flush=True)
            elif process.poll() is not None:
                return False
            else:
                time.sleep(WATCH_SECONDS)


def _list(options: argparse.Namespace) -> int:
    if run_directory().is_running():
        for guest in run_directory().read_state()["guests"]:
            alive = scratch.start_time(guest["pid"]) is not None
            print(f"{guest['name']:<12} {guest['kernel']:<26} {'running' if alive else 'ended'}")
    else:
        print("no guest is up")
    for kernel in kernels.table():
        print(f"kernel {kernel.role.value:<14} {kernel.release:<26} {kernel.version}")
    return 0


def _request(**fields: Any) -> socket.socket:
    """Connects to the supervisor; the socket is named relative to its directory because its path may be too
    long.
    """
    directory = run_directory()
    directory.read_state()
    sock = socket.socket(socket.AF_UNIX)
    before = Path.cwd()
    os.chdir(directory.path)
    try:
        sock.connect(directory.socket.name)
    finally:
        os.chdir(before)
    sock.sendall(json.dumps(fields).encode() + b"\n")
    return sock


def _ask(**fields: Any) -> dict[str, Any]:
    with _request(**fields) as sock, sock.makefile("rb") as stream:
        answer: dict[str, Any] = json.loads(stream.readline() or '{"error": "the lab went down meanwhile"}')
    if "error" in answer:
        raise LabError(answer["error"])
    return answer


def _run(options: argparse.Namespace) -> int:
    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not words:
        raise LabError("run what?", "scripts/lab run NAME PROGRAM [ARGUMENT...]")
    answer = _ask(do="run", guest=options.name, argv=words)
    sys.stdout.buffer.write(base64.b64decode(answer["stdout"]))
    sys.stderr.buffer.write(base64.b64decode(answer["stderr"]))
    status: int = answer["status"]
    return status if status >= 0 else 128 - status


def _console(options: argparse.Namespace) -> int:
    sys.stdout.buffer.write(base64.b64decode(_ask(do="console", guest=options.name)["stdout"]))
    return 0


def _shell(options: argparse.Namespace) -> int:
    with (
        _request(do="shell", guest=options.name, term=os.environ.get("TERM", "linux")) as sock,
        _raw_terminal(),
    ):
        _relay(sock)
    return 0


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Every key goes to the guest, also Ctrl-C; a shell fed from a pipe works too."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _relay(sock: socket.socket) -> None:
    """Keys to the guest, its screen to ours, until the shell ends."""
    stream = sock.makefile("rb")
    sources: list[Any] = [sys.stdin.fileno(), sock]
    while True:
        ready = select.select(sources, [], [])[0]
        if sock in ready:
            message = json.loads(stream.readline() or "{}")
            if "error" in message:
                raise LabError(message["error"])
            if "printed" not in message:
                return
            sys.stdout.buffer.write(base64.b64decode(message["printed"]))
            sys.stdout.flush()
        if sys.stdin.fileno() in ready:
            keys = os.read(sys.stdin.fileno(), 4096)
            if not keys:
                sources.remove(sys.stdin.fileno())
                keys = b"\x04"  # end of file, as a terminal says it
            columns, rows = shutil.get_terminal_size()
            message = {"keys": base64.b64encode(keys).decode(), "size": [rows, columns]}
            sock.sendall(json.dumps(message).encode() + b"\n")


def _salt(program: str) -> Any:
    def run(options: argparse.Namespace) -> int:
        config = Path(run_directory().read_state()["master"])
        path = Path(sys.executable).parent / program
        return subprocess.call([str(path), "--config-dir", str(config.parent), *options.words])

    return run


def _down(options: argparse.Namespace) -> int:
    directory = run_directory()
    if not directory.is_running():
        swept = scratch.sweep()
        print("no lab is up" + (f"; cleaned up after a dead one: {len(swept)} directories" if swept else ""))
        return 0
    pid = directory.read_state()["pid"]
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while directory.is_running():
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)  # its guests die with it
            raise LabError(
                f"the lab did not stop within {STOP_SECONDS:.0f} s and was killed",
                f"its log: {directory.log}",
            )
        time.sleep(WATCH_SECONDS)
    print("the lab is down")
    return 0


def _prune(options: argparse.Namespace) -> int:
    gone = cache.prune(options.days * cache.DAY) + scratch.sweep()
    print("\n".join(f"deleted {path}" for path in gone) or "nothing to delete")
    return 0


if __name__ == "__main__":
    sys.exit(main())
