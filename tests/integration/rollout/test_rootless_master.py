"""A master that never was root: an ordinary user starts it, in directories of his own, and types on it."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lab import host
from tests.integration.rollout.conftest import Ground, ground
from tests.integration.rollout.story import ENGINE, a_rollout_and_its_engine

ORDINARY = "nobody"
# A Python under /root (pyenv's, where root installed it) is for root to read: then the user may read what is
# not his, and nothing else of what root may.
READS_ALL = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


def as_ordinary_user(python: Path) -> tuple[str, tuple[str, ...]]:
    """Who it is, and what makes a command his; nothing where these tests are not root's themselves."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name, ()
    entry = pwd.getpwnam(ORDINARY)
    plain = (
        host.program("setpriv"),
        f"--reuid={entry.pw_uid}",
        f"--regid={entry.pw_gid}",
        "--clear-groups",
        "--reset-env",
        "--pdeathsig=TERM",
    )
    for prefix in (plain, (*plain, *READS_ALL)):
        tried = [*prefix, str(python), "-c", "import salt.master"]
        if subprocess.run(tried, cwd="/", capture_output=True, check=False).returncode == 0:
            return ORDINARY, prefix
    pytest.skip(f"{ORDINARY} cannot run {python}, and may not be given the right to read it")


@pytest.fixture(scope="module")
def site() -> Iterator[Ground]:
    python = Path(sys.executable)
    user, prefix = as_ordinary_user(python)
    with ground(python, ENGINE, user, prefix) as made:
        yield made


def test_a_rollout_and_its_engine(site: Ground) -> None:
    a_rollout_and_its_engine(site)


def test_nothing_of_it_is_anybody_elses(site: Ground) -> None:
    """Its processes, and all that they have written; the journal and the ledger are for it alone."""
    user = pwd.getpwnam(site.user)
    leader = psutil.Process(site.master.process.pid)
    for process in (leader, *leader.children(recursive=True)):
        assert set(process.uids()) == {user.pw_uid}, process
    written = [path for top in (site.state_dir, site.catalog_dir) for path in top.rglob("*")]
    assert {path.name for path in written} > {"ledger.sqlite", "journal.jsonl", "catalog.yaml"}
    assert {path.name for path in written if path.stat().st_uid != user.pw_uid} == set()
    private = [path for path in written if path.suffix == ".jsonl" or path.name.startswith("ledger.sqlite")]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in private} == {0}
