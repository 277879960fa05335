"""Commands in the background, and waiting for what other processes do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from lab.master import Master

WITHIN = 120.0  # seconds that a command may take on a machine that is busy with other tests


class Begun:
    """A command in the background."""

    def __init__(self, argv: Sequence[str], within: float = WITHIN) -> None:
        self.within = within
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def interrupt(self) -> None:
        """What Ctrl-C sends."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def until_said(self, words: str) -> str:
        """Read its stderr until a line has these words; that line. One that never says them is killed."""
        assert self.process.stderr is not None
        watchdog = threading.Timer(self.within, self.process.kill)
        watchdog.start()
        said = []
        try:
            for line in self.process.stderr:
                said.append(line)
                if words in line:
                    return line
        finally:
            watchdog.cancel()
        answer = self.process.communicate()[0]
        raise AssertionError(f"it ended without saying {words!r}: {''.join(said)}{answer}")

    def ended(self) -> tuple[int, Any, str]:
        """Exit code, answer, and what was left to say."""
        out, err = self.process.communicate(timeout=self.within)
        return self.process.returncode, json.loads(out or "null"), err


def begun(
    master: Master, verb: str, *words: str, within: float = WITHIN, progress: bool = True, **options: str
) -> Begun:
    """``salt-run livepatch.VERB`` in the background, in a session of its own; ``progress``: with a line on
    stderr for all that happens."""
    given = [*words, *(f"{key}={value}" for key, value in options.items())]
    shown = ["display_progress=True"] if progress else []
    return Begun([*master.typed("salt-run"), "--out=json", f"livepatch.{verb}", *given, *shown], within)


def until(true: Callable[[], object], what: str, within: float = WITHIN) -> None:
    """Look again and again at what another process does."""
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, f"not within {within:.0f} s: {what}"
        time.sleep(0.1)
