"""Whose job this is, as far as Salt tells.

A job names its user and number to the function that it calls (``__pub_user``, ``__pub_jid``), and to nobody
that this function calls: a state does not know in whose highstate it runs. But Salt notes every job that runs
in a file, with the process that runs it, and the journal's line is written by that process.

Nobody knows the user of what the minion's own schedule starts, nor of ``salt-call``: Salt notes only the
number.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgpack

FOLDER = "proc"  # of the minion's cachedir: a file for each job that runs (salt/minion.py, get_proc_dir)


def job(opts: Mapping[str, Any]) -> Mapping[str, Any]:
    """What Salt notes of the job that this process runs: ``jid``, ``fun``, and ``user`` where it knows him.
    opts: the minion's. A state with ``parallel`` runs in a child of its job's process."""
    return noted(Path(str(opts["cachedir"])) / FOLDER, (os.getpid(), os.getppid()))


def noted(folder: Path, processes: Collection[int]) -> Mapping[str, Any]:
    """The job that one of these processes runs; empty where none is noted, or several are: a minion without
    ``multiprocessing`` runs all its jobs in one process, and a job that was killed leaves its file behind."""
    try:
        found = [_read(path) for path in folder.iterdir()]
    except OSError:
        return {}
    mine = [one for one in found if one.get("pid") in processes]
    return mine[0] if len(mine) == 1 else {}


def _read(path: Path) -> Mapping[str, Any]:
    """Empty where it ended meanwhile, is being written, or is not what Salt writes."""
    try:
        job = msgpack.unpackb(path.read_bytes(), raw=False, strict_map_key=False)
    except (OSError, ValueError, TypeError, msgpack.UnpackException):  # TypeError: a list as a key
        return {}
    return job if isinstance(job, Mapping) else {}
