"""The host's end of the agent's port: many requests outstanding, one reader thread that hands out the
answers.
"""

from __future__ import annotations

import itertools
import json
import queue
import socket
import struct
import threading
from typing import Any

LENGTHS = struct.Struct(">II")


class ChannelClosed(Exception):
    """The port's other end is gone: QEMU ended."""


class Reply:
    """One message from the agent: a header, and the payloads it announces in ``sizes``."""

    def __init__(self, header: dict[str, Any], payload: bytes) -> None:
        self.header = header
        ends = list(itertools.accumulate(header.get("sizes", [len(payload)])))
        self.parts = [payload[start:end] for start, end in zip([0, *ends], ends)]


class Request:
    """A request under way; its answers come in the order the agent gave them."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._answers: queue.Queue[Reply | None] = queue.Queue()

    def deliver(self, reply: Reply | None) -> None:
        self._answers.put(reply)

    def wait(self, timeout: float | None) -> Reply:
        """The next answer; TimeoutError when none came in time, ChannelClosed when none can come any more."""
        try:
            reply = self._answers.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no answer within {timeout} s") from None
        if reply is None:
            self._answers.put(None)
            raise ChannelClosed
        return reply


class Channel:
    """A connection to the agent; safe to use from several threads."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._numbers = itertools.count(1)
        self._requests: dict[int, Request] = {}
        self._guard = threading.Lock()
        self._sending = threading.Lock()
        self._closed = False
        self._reader = threading.Thread(target=self._read_all, name="lab-channel", daemon=True)
        self._reader.start()

    def request(self, do: str, payload: bytes | memoryview = b"", **fields: Any) -> Request:
        """Sends a request. A guest that takes nothing more blocks this after the socket's buffer is full."""
        with self._guard:
            if self._closed:
                raise ChannelClosed
            request = Request(next(self._numbers))
            self._requests[request.number] = request
        header = json.dumps({"id": request.number, "do": do, **fields}).encode()
        try:
            with self._sending:
                self._socket.sendall(LENGTHS.pack(len(header), len(payload)) + header)
                self._socket.sendall(payload)
        except OSError as error:
            raise ChannelClosed from error
        return request

    def done(self, request: Request) -> None:
        """No more answers are expected for this request."""
        with self._guard:
            self._requests.pop(request.number, None)

    def _read_all(self) -> None:
        try:
            with self._socket.makefile("rb") as stream:
                while (reply := self._read_one(stream)) is not None:
                    with self._guard:
                        request = self._requests.get(reply.header["id"])
                    if request is not None:
                        request.deliver(reply)
        except OSError:
            pass  # a reset is an end like any other
        with self._guard:
            self._closed = True
            waiting = list(self._requests.values())
        for request in waiting:
            request.deliver(None)

    @staticmethod
    def _read_one(stream: Any) -> Reply | None:
        lengths = stream.read(LENGTHS.size)
        if len(lengths) < LENGTHS.size:
            return None
        header_size, payload_size = LENGTHS.unpack(lengths)
        header, payload = stream.read(header_size), stream.read(payload_size)
        return Reply(json.loads(header), payload) if len(payload) == payload_size else None

    def close(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # already closed from the other side
        self._socket.close()
        self._reader.join()
