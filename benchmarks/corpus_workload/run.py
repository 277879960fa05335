"""What a guest does while the corpus's modules are in force: many file systems, devices, networks and system
calls for a moment each.

Runs in the guest of build_corpus_load.py: ``python3 run.py [part[:step] ...]``. A step that this kernel or
this guest cannot do ends with its own complaint, which is printed and of no consequence: what counts is which
kernel functions ran.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = ("filesystems", "devices", "network", "system")
STEP_SECONDS = 90


def steps(part: str) -> list[str]:
    text = (HERE / f"{part}.sh").read_text(encoding="utf-8")
    return re.findall(r"^step_(\w+)\(\)", text, re.MULTILINE)


def run(part: str, step: str) -> None:
    script = f". {HERE}/prepare.sh; . {HERE}/{part}.sh; step_{step}"
    begin = time.monotonic()
    with tempfile.TemporaryFile() as said:  # a daemon that a step leaves would hold a pipe open for ever
        done = subprocess.run(
            ["timeout", "-s", "KILL", str(STEP_SECONDS), "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            check=False,
            env={**os.environ, "HERE": str(HERE)},
        )
        said.seek(0)
        last = said.read().decode(errors="replace").strip().splitlines()[-1:]
    print(f"{part} {step}: {done.returncode} {time.monotonic() - begin:.1f} s {last}", flush=True)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or PARTS:
        chosen, _, only = wanted.partition(":")
        for name in [only] if only else steps(chosen):
            run(chosen, name)
