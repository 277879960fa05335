"""``salt-run livepatch.build`` on a real master: a module, its report, its events and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

from lab import kernels
from lab.master import Master
from tests.conftest import copy_of_the_tree

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "patches"


def test_series_built_on_the_masters_host(cache: Path, tmp_path: Path) -> None:
    tree = copy_of_the_tree(tmp_path / "tree")
    settings = {"cache": str(cache), "output": str(tmp_path / "modules")}
    config = {
        "livepatch_build": settings,
        "module_dirs": [str(tree)],
        "utils_dirs": [str(tree / "_utils")],
    }
    release = kernels.kernel("6.1").release
    diffs = f"salt://meminfo-1.patch,{EXAMPLES / 'meminfo-2.patch'}"
    with Master([EXAMPLES], config=config) as master, master.events() as bus:
        order = ("livepatch.build", diffs, f"kernel={release}", "level=2")
        ended = master.run("salt-run", "--out=json", *order)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        answer = json.loads(ended.stdout)
        assert bus.wait("livepatch/build/livepatch_2/progress", 10)["stage"]
    assert (answer["result"], answer["level"], answer["release"]) == (True, 2, release)
    place = tmp_path / "modules" / release
    assert answer["path"] == str(place / "livepatch_2.ko")
    assert Path(answer["path"]).read_bytes()[:4] == b"\x7fELF"
    assert (place / "livepatch_2.build" / "0002-meminfo-2.patch").is_file()
