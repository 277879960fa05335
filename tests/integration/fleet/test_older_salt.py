"""Runners, external pillar and formula on the older Salts: from a site's pip install to a host's approval."""

from __future__ import annotations

import json
import shutil
import tempfile
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.site import Site
from livepatch_core.host.approval import parse_approval
from tests.integration.house.conftest import Environment, wheels_for
from tests.unit.catalog.modules import BUILD, RELEASE, module


@dataclass
class Older:
    """A site whose Salt is an older one; its environment begins without pyelftools."""

    environment: Environment
    site: Site

    def call(self, function: str, *words: str, **pillar: Any) -> Any:
        """``salt-call --local`` on a minion with the site's file roots; ``pillar`` is that of the formula."""
        said = self.environment.run(
            "salt-call", "--config-dir", str(self._minion()), "--local", "--out=json", function, *words,
            f"pillar={json.dumps({'livepatch': {'formula': pillar}})}",
        )  # fmt: skip
        return json.loads(said)["local"]

    def _minion(self) -> Path:
        folder = self.site.place / "minion"
        folder.mkdir(exist_ok=True)
        roots = {"base": [str(self.site.project), str(self.site.project / "formulas")]}
        config = {
            "root_dir": str(folder), "file_roots": roots, "id": "older", "file_client": "local",
            "grains": {"init": "systemd"},
        }  # fmt: skip
        (folder / "minion").write_text(json.dumps(config))
        return folder


@pytest.fixture(scope="module", params=["3006", "3007"])
def older(request: pytest.FixtureRequest) -> Iterator[Older]:
    """Short paths: the master's sockets lie below (108 bytes, unix(7))."""
    place = Path(tempfile.mkdtemp(prefix="lp-"))
    try:
        environment = Environment(place / "e", wheels_for(request.param))
        venv.create(environment.folder, symlinks=True, with_pip=True)
        environment.install(f"salt>={request.param},<{int(request.param) + 1}")
        (place / "s").mkdir()
        with Site(place / "s", python=environment.python) as site:
            (site.master.directory / "pki/minions/hv1").write_text("no minion has this key\n")
            yield Older(environment, site)
    finally:
        shutil.rmtree(place)


def test_formula_then_runners(older: Older) -> None:
    """In this order: what reads modules is what the formula brings."""
    low = older.call("state.show_low_sls", "livepatch", config={"soak": 60})
    assert {"livepatch-pyelftools", "livepatch-level", "livepatch-kept"} < {one["__id__"] for one in low}
    code, answer = publish(older.site, 1)
    assert (code, answer["result"]) == (1, False), answer
    assert "pyelftools" in answer["comment"]

    wheels = f"--no-index --find-links {older.environment.wheels}"
    for changes in (True, False):  # installed, and then already there
        done = older.call("state.sls_id", "livepatch-pyelftools", "livepatch.install", pip_options=wheels)
        (state,) = done.values()
        assert (state["result"], bool(state["changes"])) == (True, changes), state

    for number in (1, 2):
        code, answer = publish(older.site, number)
        assert (code, answer.get("level")) == (0, number), answer
    assert older.site.tell("livepatch_catalog.promote", "1", "why=soaked")["new"] == "released"
    code, answer = older.site.ask("livepatch_ledger.approve", "hv1", "2", "why=x")
    assert (code, answer["kind"]) == (1, "catalog"), answer
    answer = older.site.tell("livepatch_ledger.approve", "hv*", "1", "why=ticket 42")
    approval = parse_approval(older.site.tell("pillar.show_pillar", "hv1")["livepatch"]["approval"])
    assert (approval.rev, approval.builds[BUILD].level) == (answer["rev"], 1)
    (entry,) = older.site.tell("livepatch_ledger.show", "hv1", "history=1")["history"]
    assert entry["who"] not in ("", "UNKNOWN")
    assert older.site.tell("livepatch_catalog.block", "1", "why=oopses")["new"] == "blocked"
    assert set(older.site.tell("livepatch_catalog.list")[RELEASE][BUILD]) == {"1", "2"}


def publish(site: Site, number: int) -> tuple[int, Any]:
    path = site.place / f"livepatch_{number}.ko"
    path.write_bytes(module(f"livepatch_{number}", [f"f{one}" for one in range(1, number + 1)]))
    return site.ask("livepatch_catalog.publish", str(path), f"fixes=CVE-2026-{number}", "why=a test")
