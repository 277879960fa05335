"""A host whose Salt lost pyelftools can still say what it is and go back; only module files stay closed."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from pathlib import Path

sys.modules["elftools"] = None  # whoever imports it gets an ImportError
sys.path.insert(0, sys.argv[1])
from livepatch_core.errors import LivepatchError
from livepatch_core.host import byhand, inquiry, move, revert, status
from livepatch_core.host.context import Host
from livepatch_core.host.settings import Settings

place = Path(sys.argv[2])
host = Host(Settings(state_dir=place / "state", run_dir=place / "run"), lambda name: None)
print(status.status(host)["kernel"]["release"])
print(revert.revert(host, move.Wish(reason="a test", test=True)).result)
try:
    inquiry.info(b"\\x7fELF" + bytes(100))
except LivepatchError as refused:
    print(refused.kind, refused)
"""


def test_status_and_revert_need_no_pyelftools(repo, tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, repo / "_utils", tmp_path], capture_output=True, text=True, check=True
    )
    release, reverted, refused = ended.stdout.splitlines()
    assert release
    assert reverted == "True"
    assert refused.startswith("dependency Module files cannot be read here: pyelftools is missing")
