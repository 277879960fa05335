"""Running the distribution's tools: no shell, a clean environment, a deadline, output kept for the
refusal.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from livepatch_core.build.refusals import Refusal, Refused

DEADLINE = 600.0  # seconds; the largest translation unit takes 15 on an idle core
SECONDS = "LIVEPATCH_TOOL_SECONDS"  # of the environment: instead of DEADLINE, where a machine is slow


@dataclass(frozen=True)
class Finished:
    """What a command did."""

    status: int
    out: str
    err: str


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    deadline: float | None = None,
) -> Finished:
    """Run to its end. Raises ``Refused`` (TOOLCHAIN) if it does not exist or does not end in ``deadline``
    seconds (None: ``SECONDS`` of the environment, else ``DEADLINE``).
    """
    deadline = _deadline() if deadline is None else deadline
    # LC_ALL: gcc's and make's messages are shown, never parsed in translation. The rest of the caller's
    # environment is dropped so that CFLAGS, MAKEFLAGS or KBUILD_* of a build user change nothing.
    base = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
    try:
        # A session of its own: make's compilers end with make.
        process = subprocess.Popen(
            list(command),
            cwd=cwd,
            env={**base, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise Refused(
            Refusal.TOOLCHAIN,
            f"{command[0]} is not installed.",
            remedy=f"Install the package that holds {command[0]}.",
        ) from None
    with process:
        try:
            out, err = process.communicate(timeout=deadline)
        except subprocess.TimeoutExpired:
            raise Refused(
                Refusal.TOOLCHAIN,
                f"{command[0]} did not end within {deadline:.0f} s and was stopped.",
                remedy=f"Look at the load of the builder, then try again; {SECONDS} gives tools more time.",
            ) from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    return Finished(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def _deadline() -> float:
    said = os.environ.get(SECONDS, str(DEADLINE))
    if not said.replace(".", "", 1).isdecimal() or not float(said):
        raise Refused(
            Refusal.TOOLCHAIN,
            f"{SECONDS} is {said!r} in the builder's environment, not a number of seconds above 0.",
            remedy=f"Unset it, or give a number ({DEADLINE:.0f} is taken without).",
        )
    return float(said)
