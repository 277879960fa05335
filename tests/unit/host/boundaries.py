"""Every place where a process can die, or a disk be full, with something changed before it: numbered."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any

import pytest

from livepatch_core.kernel import control, loading

WRITES = ((os, "replace"), (os, "fsync"), (os, "truncate"))
CALLS = (
    (loading, "init_module"),
    (loading, "delete_module"),
    (control, "write_enabled"),
    (control, "write_force"),
)


class Killed(BaseException):
    """The process is gone: no handler of the code under test may catch this."""


class Boundaries:
    """Counts what is about to change something; from number ``at`` on nothing is changed any more.

    Dead: raises Killed, then and ever after (also in ``finally`` blocks). Full: the writes of files raise
    ENOSPC instead, the kernel goes on. An append is cut in the middle too: the first half is a boundary.
    """

    def __init__(self, at: int, full: bool = False) -> None:
        self.at, self.full, self.count = at, full, 0

    def reached(self, write: bool) -> None:
        if self.full and not write:
            return
        self.count += 1
        if self.count <= self.at:
            return
        if not self.full:
            raise Killed
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in (*WRITES, *CALLS):
                self._wrap(patch, owner, name)
            real_write = os.write

            def write(descriptor: int, data: bytes) -> int:
                self.reached(True)
                written = real_write(descriptor, data[: len(data) // 2])
                self.reached(True)
                return written + real_write(descriptor, data[len(data) // 2 :])

            patch.setattr(os, "write", write)
            yield

    def _wrap(self, patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        real, is_write = getattr(owner, name), owner is os

        def call(*arguments: Any, **keywords: Any) -> Any:
            self.reached(is_write)
            # Durable against a dying process is what has been written; syncing disks only takes time here.
            return None if name == "fsync" else real(*arguments, **keywords)

        patch.setattr(owner, name, call)
