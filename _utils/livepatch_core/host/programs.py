"""Calling another program of this host: bounded in time, no shell, no terminal."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind

# Where distributions and vendors put them; a minion's own PATH may lack sbin and snap.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"
QUESTION_SECONDS = 60.0
ACT_SECONDS = 1800.0  # downloads, and one transition after another


@dataclass(frozen=True)
class Said:
    """status: the exit status. out, err: what was printed."""

    status: int
    out: str
    err: str = ""

    @property
    def complaint(self) -> str:
        """The last line of what went wrong, for people."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return lines[-1] if lines else f"status {self.status}"


Run = Callable[[Sequence[str], float], "Said | None"]


def run(command: Sequence[str], timeout: float = QUESTION_SECONDS) -> Said | None:
    """None where there is no such program; then nothing was started.

    Raises LivepatchError (internal) when it cannot be started or does not end in time.
    """
    program = shutil.which(command[0], path=PATH)
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            env={"PATH": PATH, "LC_ALL": "C"},
        )
    except OSError as problem:  # its interpreter is missing, or it is for another machine
        raise LivepatchError(
            Kind.INTERNAL,
            f"{program} could not be started ({problem.strerror}).",
            remedy="Mend or remove it on the host.",
        ) from problem
    except subprocess.TimeoutExpired as problem:
        raise LivepatchError(
            Kind.INTERNAL,
            f"{' '.join(command)} did not end within {timeout:.0f} s; what it did meanwhile is not known.",
            remedy="It was killed; what it had begun may go on. See on the host what it waits for.",
        ) from problem
    return Said(done.returncode, done.stdout, done.stderr)
