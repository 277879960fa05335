"""The agent and the host's end of its port, over a socket pair: do they understand each other?"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.channel import Channel, ChannelClosed, Request

AGENT = Path(__file__).parents[3] / "lab/guestfiles/agent.py"
PATIENCE = 20.0
SERVE = """
import sys
sys.path.insert(0, sys.argv[1])
import agent
agent.HOME = sys.argv[3]
agent.Agent(agent.Port(int(sys.argv[2]))).serve()
"""


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[Channel]:
    """A channel to an agent in a process of its own."""
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-c", SERVE, str(AGENT.parent), str(theirs.fileno()), str(tmp_path)]
    with subprocess.Popen(argv, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        opened = Channel(ours)
        yield opened
        opened.close()
        process.kill()


def start(channel: Channel, *argv: str, stdin: bytes = b"", timeout: float | None = None) -> Request:
    request = channel.request("exec", stdin, argv=list(argv), timeout=timeout, env={}, cwd=None)
    assert request.wait(PATIENCE).header["pid"] > 0
    return request


def test_status_and_both_outputs(channel: Channel) -> None:
    reply = start(channel, "sh", "-c", "echo out; echo err >&2; exit 3").wait(PATIENCE)
    assert reply.header["status"] == 3
    assert reply.parts == [b"out\n", b"err\n"]


def test_a_megabyte_goes_in_and_out_unchanged(channel: Channel) -> None:
    data = os.urandom(1 << 20)
    assert start(channel, "cat", stdin=data).wait(PATIENCE).parts[0] == data


def test_requests_overlap(channel: Channel, tmp_path: Path) -> None:
    """The first command ends only when the second, started later, lets it."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    waiting = start(channel, "cat", str(gate))
    releasing = start(channel, "sh", "-c", f"echo now > {gate}")
    assert releasing.wait(PATIENCE).header["status"] == 0
    assert waiting.wait(PATIENCE).parts[0] == b"now\n"


def test_a_command_past_its_time_is_killed(channel: Channel) -> None:
    reply = start(channel, "sh", "-c", "echo begun; sleep 60", timeout=0.3).wait(PATIENCE)
    assert reply.header["timed_out"]
    assert reply.parts[0] == b"begun\n"


def test_a_daemon_left_behind_does_not_hold_up_the_result(channel: Channel) -> None:
    reply = start(channel, "sh", "-c", "sleep 60 & echo $!").wait(PATIENCE)
    os.kill(int(reply.parts[0]), signal.SIGKILL)
    assert reply.header["status"] == 0


def test_a_signal_ends_a_command(channel: Channel) -> None:
    request = start(channel, "sleep", "60")
    answer = channel.request("kill", job=request.number, signal=int(signal.SIGTERM)).wait(PATIENCE)
    assert answer.header["found"]
    assert request.wait(PATIENCE).header["status"] == -signal.SIGTERM


def test_a_program_that_is_not_there(channel: Channel) -> None:
    request = channel.request("exec", argv=["/no/such"], timeout=None, env={}, cwd=None)
    assert request.wait(PATIENCE).header["pid"] == 0
    assert request.wait(PATIENCE).header["status"] == 127


def test_source_runs_in_a_fork(channel: Channel) -> None:
    request = channel.request(
        "python", b"import sys; print(sys.argv[1]); sys.exit(4)", argv=["word"], timeout=None
    )
    request.wait(PATIENCE)
    reply = request.wait(PATIENCE)
    assert (reply.header["status"], reply.parts[0]) == (4, b"word\n")


def test_a_failing_source_prints_its_traceback(channel: Channel) -> None:
    request = channel.request("python", b"1/0", argv=[], timeout=None)
    request.wait(PATIENCE)
    reply = request.wait(PATIENCE)
    assert reply.header["status"] == 1
    assert b"ZeroDivisionError" in reply.parts[1]


def test_files(channel: Channel, tmp_path: Path) -> None:
    path = tmp_path / "new/file"
    channel.request("put", b"\0data", path=str(path), mode=0o640).wait(PATIENCE)
    assert path.stat().st_mode & 0o777 == 0o640
    assert channel.request("get", path=str(path)).wait(PATIENCE).parts == [b"\0data"]
    assert "error" in channel.request("get", path=str(tmp_path / "none")).wait(PATIENCE).header


def test_a_terminal(channel: Channel) -> None:
    request = channel.request("terminal", argv=["sh", "-c", "read word; tty; echo got $word"], env={})
    request.wait(PATIENCE)
    channel.request("type", b"hello\n", job=request.number, size=[24, 80])
    shown = b""
    while "status" not in (reply := request.wait(PATIENCE)).header:
        shown += reply.parts[0]
    assert b"/dev/pts/" in shown
    assert b"got hello" in shown


def test_waiting_ends_when_the_guest_does(channel: Channel, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    request = start(channel, "sh", "-c", f"read word <{gate}; kill -9 $PPID")
    gate.write_text("now\n")
    with pytest.raises(ChannelClosed):
        request.wait(PATIENCE)
    with pytest.raises(ChannelClosed):
        channel.request("ping")
