"""Ask an execution function without a minion: what the soak timer does with the probes an operator named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind

SECONDS = 300.0  # for one probe: a small host loads all of Salt for it


def ask(config: Path, fun: str, args: list[Any]) -> object:
    """The answer of ``salt-call --local FUN ARGS``: functions that need a master or pillar have none.

    Raises LivepatchError (internal) when there is no answer: whether the function failed or could not even
    be called looks the same from here, so that is inconclusive and never a reason to revert.
    """
    command = [_program(), "--local", "--config-dir", str(config), "--out", "json", fun]
    try:
        done = subprocess.run(
            [*command, *(json.dumps(one) for one in args)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return json.loads(done.stdout)["local"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as problem:
        raise _unanswered(f"{' '.join(command)} gave no answer ({type(problem).__name__})") from problem


def _program() -> str:
    """Beside this Python where Salt is installed with it, or where the system has it."""
    found = shutil.which(
        "salt-call", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    )
    if found is None:
        raise _unanswered("there is no salt-call on this host")
    return found


def _unanswered(why: str) -> LivepatchError:
    return LivepatchError(Kind.INTERNAL, why)
