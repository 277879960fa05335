"""The kernel's own log, record by record, from /dev/kmsg (Documentation/ABI/testing/dev-kmsg)."""

from __future__ import annotations

import errno
import os
import re
import select
from dataclasses import dataclass
from types import TracebackType
from typing import final

from livepatch_core.kernel.roots import Roots

# CONSOLE_EXT_LOG_MAX: no record that the device hands out is longer (include/linux/printk.h, printk.c).
_RECORD_MAX = 8192
# One call of drain() ends after so many reads even if the kernel logs faster than it is read: what is
# left is there for the next call. 65,536 short records fill a 4 MiB log buffer.
_READS_MAX = 65536

_PREFIX = re.compile(rb"(\d+),(\d+),(\d+),([^;]*);")


@dataclass(frozen=True)
class Record:
    """One record: ``sequence`` number, ``microseconds`` of the monotonic clock since boot, ``priority``
    (facility * 8 + level) and ``text`` as the device gives it: control characters, bytes above 0x7e and
    the backslash as ``\\xNN``, so that it is safe to print; without the ``KEY=value`` lines."""

    sequence: int
    microseconds: int
    priority: int
    text: str


def parse_record(data: bytes) -> Record | None:
    """One record as read from the device; None for bytes that are none."""
    prefix = _PREFIX.match(data)
    if prefix is None:
        return None
    priority, sequence, microseconds = (int(prefix.group(n)) for n in (1, 2, 3))
    text = data[prefix.end() :].split(b"\n", 1)[0]
    return Record(sequence, microseconds, priority, text.decode("ascii", "backslashreplace"))


def parse_records(data: bytes) -> tuple[Record, ...]:
    """Records that follow each other; continuation lines, which begin with a space, are skipped."""
    records = (parse_record(line) for line in data.split(b"\n"))
    return tuple(record for record in records if record is not None)


@final
class Tail:
    """What the kernel logs from now on: opened at the end of the log, so that an act's lines are its own.

    ``lost`` becomes true when records were overwritten before they were read, or did not fit. Raises
    OSError from the constructor where the device is missing (a container) or not readable
    (``kernel.dmesg_restrict`` without CAP_SYSLOG).
    """

    def __init__(self, roots: Roots) -> None:
        self.lost = False
        self._descriptor = _open(roots)
        os.lseek(self._descriptor, 0, os.SEEK_END)

    def drain(self) -> tuple[Record, ...]:
        """All records since the last call; never waits."""
        data, lost = _read_available(self._descriptor)
        self.lost = self.lost or lost
        return parse_records(data)

    def wait(self, seconds: float) -> bool:
        """Wait at most ``seconds`` for something logged since the last ``drain``; whether there is."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(max(seconds, 0.0) * 1000))

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Tail:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def find(roots: Roots, beginning: str) -> tuple[Record | None, tuple[Record, ...]]:
    """The newest record, and those whose text begins as the regular expression says.

    Only these are taken apart: a log of thousands is searched as bytes. Raises OSError as ``Tail`` does.
    """
    return search_records(_read_whole(roots), beginning)


def search_records(data: bytes, beginning: str) -> tuple[Record | None, tuple[Record, ...]]:
    wanted = re.compile(
        rb"^" + _PREFIX.pattern + rb"(?:" + beginning.encode("ascii") + rb").*$", re.MULTILINE
    )
    found = parse_records(b"\n".join(match.group() for match in wanted.finditer(data)))
    *_, newest = parse_records(data[-_RECORD_MAX - 1 :]) or (None,)
    return newest, found


def _read_whole(roots: Roots) -> bytes:
    descriptor = _open(roots)
    try:
        return _read_available(descriptor)[0]
    finally:
        os.close(descriptor)


def _open(roots: Roots) -> int:
    return os.open(roots.dev / "kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _read_available(descriptor: int) -> tuple[bytes, bool]:
    """Every record up to the end of the log (EAGAIN; end of file for a captured log), and whether some
    were lost: EPIPE says that the next ones were overwritten and moves on to the oldest that is left;
    EINVAL says that one was longer than the buffer and (since 5.10) has been passed over."""
    chunks: list[bytes] = []
    lost = False
    for _ in range(_READS_MAX):
        try:
            chunk = os.read(descriptor, _RECORD_MAX)
        except BlockingIOError:
            break
        except OSError as error:
            if not _is_loss(error):
                raise
            lost = True
            continue
        if not chunk:
            break
        chunks.append(chunk)
    return b"".join(chunks), lost


def _is_loss(error: OSError) -> bool:
    return error.errno in (errno.EPIPE, errno.EINVAL)
