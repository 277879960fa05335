"""Every file of the formula as Salt reads it, from a file root of its own beside that of the modules."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import salt.config
import salt.loader
import salt.utils.minions
import salt.utils.reactor
import yaml
from saltfactories.manager import FactoriesManager
from saltfactories.utils import random_string

from livepatch_core.host.settings import parse_settings

Modules = Callable[..., Any]
Render = Callable[..., dict[str, dict[str, Any]]]
FORMULA = "formulas/livepatch"
SYSTEMD = {"init": "systemd", "os_family": "Debian", "pythonexecutable": "/opt/venv/bin/python3"}
STARTED = {"livepatch-boot.service", "livepatch-disarm.service", "livepatch-soak.timer"}
UNITS = {*STARTED, "livepatch-soak.service"}
CALLED = {
    "livepatch-pyelftools": "cmd.run",
    "livepatch-minion-config": "file.serialize",
    "livepatch-boot-script": "file.managed",
    **{f"{unit}-file": "file.managed" for unit in UNITS},
    "livepatch-daemon-reload": "cmd.run",
    **{f"{unit}-enabled": "service.running" for unit in STARTED},
    "livepatch-level": "livepatch.applied",
    "livepatch-kept": "livepatch.persisted",
    "livepatch-restart-minion": "cmd.run",
}


@pytest.fixture(scope="module")
def base_opts(
    salt_factories: FactoriesManager, repo: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Of a minion with two file roots, as two GitFS remotes give them."""
    place = tmp_path_factory.mktemp("host")
    daemon = salt_factories.salt_minion_daemon(
        random_string("formula-"),
        overrides={
            "file_client": "local",
            "file_roots": {"base": [str(repo), str(repo / "formulas")]},
            "module_dirs": [str(repo)],
            "utils_dirs": [str(repo / "_utils")],
            "livepatch": {"state_dir": str(place / "state"), "run_dir": str(place / "run")},
        },
    )
    return dict(salt.config.minion_config(daemon.config_file))


@pytest.fixture
def modules(base_opts: dict[str, Any]) -> Modules:
    """Salt's execution modules on a host with these grains; the others cost seconds and decide nothing."""

    def make(grains: dict[str, Any] = SYSTEMD, **overrides: Any) -> Any:
        opts = {**base_opts, **overrides, "grains": {**grains, "kernel": "Linux", "os": "x", "osarch": "x"}}
        return salt.loader.minion_mods(opts, utils=salt.loader.utils(opts))

    return make


@pytest.fixture
def render(modules: Modules) -> Render:
    """``render("livepatch", {formula pillar}, {grains})``: the low chunks by ID."""

    def make(
        sls: str, formula: dict[str, Any], grains: dict[str, Any] = SYSTEMD, **overrides: Any
    ) -> dict[str, dict[str, Any]]:
        show = modules(grains, **overrides)["state.show_low_sls"]
        low = show(sls, pillar={"livepatch": {"formula": formula}})
        assert all(isinstance(chunk, dict) for chunk in low), low
        return {chunk["__id__"]: chunk for chunk in low}

    return make


def called(chunks: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: f"{chunk['state']}.{chunk['fun']}" for name, chunk in chunks.items()}


def test_on_a_host_with_systemd(render: Render) -> None:
    chunks = render("livepatch", {"config": {"soak": 60}})
    assert called(chunks) == CALLED
    assert chunks["livepatch-pyelftools"]["name"].split() == [
        "/opt/venv/bin/python3", "-m", "pip", "install", "pyelftools",
    ]  # fmt: skip
    assert chunks["livepatch-minion-config"]["dataset"] == {
        "livepatch": {"soak": 60},
        "startup_states": "sls",
        "sls_list": ["livepatch"],
    }
    assert (chunks["livepatch-level"]["uncovered"], chunks["livepatch-level"]["unsupported"]) == (
        "warn",
        "warn",
    )
    # What always runs would make every highstate report a change.
    assert all("onchanges" in one or "unless" in one for one in chunks.values() if one["state"] == "cmd")


def test_on_a_host_without_systemd_nothing_is_loaded_at_boot(render: Render) -> None:
    chunks = render("livepatch", {}, {**SYSTEMD, "init": "busybox"})
    assert set(chunks) == {"livepatch-pyelftools", "livepatch-minion-config", "livepatch-level"}


def test_the_distributions_python_gets_the_distributions_package(render: Render) -> None:
    chunks = render("livepatch.install", {}, {**SYSTEMD, "pythonexecutable": "/usr/bin/python3"})
    assert called(chunks)["livepatch-pyelftools"] == "pkg.installed"
    suse = render("livepatch.install", {}, {**SYSTEMD, "os_family": "Suse"})
    assert suse["livepatch-pyelftools"]["name"] == "python3-pyelftools"


def test_choices_of_the_pillar(render: Render) -> None:
    chosen = {
        "persist": False, "startup": False, "uncovered": "fail", "python": "/opt/own/bin/python3",
        "script_dir": "/opt/own/lib", "pip_options": "--no-index",
    }  # fmt: skip
    chunks = render("livepatch", chosen)
    assert {"livepatch-kept", "livepatch-minion-config", "livepatch-restart-minion"} & set(chunks) == set()
    assert chunks["livepatch-level"]["uncovered"] == "fail"
    assert chunks["livepatch-boot-script"]["name"] == "/opt/own/lib/livepatch-boot.py"
    assert (
        chunks["livepatch-pyelftools"]["name"] == "/opt/own/bin/python3 -m pip install --no-index pyelftools"
    )


def test_a_fleet_that_syncs_when_it_is_told(render: Render) -> None:
    chunks = render("livepatch.install", {"autoload": False})
    assert chunks["livepatch-minion-config"]["dataset"]["autoload_dynamic_modules"] is False
    left_alone = render("livepatch.install", {})["livepatch-minion-config"]["dataset"]
    assert "autoload_dynamic_modules" not in left_alone


def test_what_a_site_does_at_start_stays(render: Render) -> None:
    kept = render("livepatch.install", {}, startup_states="highstate")
    assert "livepatch-minion-config" not in kept
    again = render("livepatch.install", {}, startup_states="sls", sls_list=["livepatch"])
    assert again["livepatch-minion-config"]["dataset"]["startup_states"] == "sls"


def test_requisites_hold(modules: Modules) -> None:
    """Salt walks the whole run without calling a state (``mock``): every requisite has to be there."""
    pillar = {"livepatch": {"formula": {"config": {"soak": 9}}}}
    done = modules()["state.sls"]("livepatch", mock=True, pillar=pillar)
    assert isinstance(done, dict), done
    assert {one["__id__"] for one in done.values()} == set(CALLED)
    assert {one["result"] for one in done.values()} == {True}


def test_every_source_is_served(modules: Modules, render: Render, repo: Path) -> None:
    chunks = render("livepatch.install", {})
    sources = [chunk["source"] for chunk in chunks.values() if "source" in chunk]
    assert len(sources) == 5
    fetch = modules()["cp.cache_file"]
    assert all(fetch(source) for source in sources)
    # and every file of the formula is asked of the file server or read by a test here
    files = {str(path.relative_to(repo / FORMULA)) for path in (repo / FORMULA).rglob("*") if path.is_file()}
    served = {source.removeprefix("salt://livepatch/") for source in sources}
    assert files - served == {
        "README.md", "acl.example", "init.sls", "install.sls", "map.jinja", "orch/highstate.sls",
        "orch/rollout.sls",  # by tests/integration/rollout
        "pillar.example", "reactor/changed.sls", "reactor/returned.sls", "top.example",
    }  # fmt: skip


def test_units(modules: Modules, render: Render, tmp_path: Path) -> None:
    """Rendered by Salt, with the context that the state gives."""
    chosen = {"python": "/opt/p", "script_dir": "/opt/s", "config": {"state_dir": "/srv/state"}}
    chunks = render("livepatch.install", chosen, extension_modules="/srv/cache/extmods")
    fetch = modules()["cp.get_template"]
    for unit in UNITS:
        chunk = chunks[f"{unit}-file"]
        text = Path(fetch(chunk["source"], str(tmp_path / unit), context=chunk["context"])).read_text()
        assert "{{" not in text
        program = "=/opt/p /opt/s/livepatch-boot.py --library /srv/cache/extmods/utils "
        assert unit.endswith(".timer") or program in text
        where = {
            "livepatch-boot.service": "RequiresMountsFor=/srv/state /srv/cache/extmods\n",
            "livepatch-disarm.service": "RequiresMountsFor=/srv/state /srv/cache/extmods\n",
            "livepatch-soak.service": "ConditionPathExists=/srv/state/armed.json\n",
        }
        assert where.get(unit, "") in text


def test_units_of_a_minion_that_has_its_own_state_dir(render: Render, base_opts: dict[str, Any]) -> None:
    chunk = render("livepatch.install", {})["livepatch-soak.service-file"]
    assert chunk["context"]["state_dir"] == base_opts["livepatch"]["state_dir"]
    assert chunk["context"]["extension_modules"] == base_opts["extension_modules"]


def test_the_pillar_example_is_one(render: Render, repo: Path) -> None:
    example = yaml.safe_load((repo / FORMULA / "pillar.example").read_text())
    formula = example["livepatch"]["formula"]
    parse_settings(formula["config"])
    chunks = render("livepatch", formula)
    assert chunks["livepatch-minion-config"]["dataset"]["livepatch"] == formula["config"]
    assert set(example) == {"livepatch", "beacons"}
    assert set(example["livepatch"]) == {"formula"}, "an approval is the ledger's alone"


def test_orchestration(modules: Modules) -> None:
    low = modules()["state.show_low_sls"](
        "livepatch.orch.highstate", pillar={"livepatch_targets": ["hv1", "hv2"]}
    )
    assert [(f"{one['state']}.{one['fun']}", one["tgt"], one["tgt_type"]) for one in low] == [
        ("salt.function", ["hv1", "hv2"], "list"),
        ("salt.state", ["hv1", "hv2"], "list"),
    ]
    assert low[1]["sls"] == "livepatch"


class TestReactor:
    """An event is a hint: what it sets off is a refresh of the grain of the minion that is named."""

    @pytest.fixture
    def reactor(self, salt_factories: FactoriesManager, repo: Path) -> salt.utils.reactor.Reactor:
        master = salt_factories.salt_master_daemon(
            random_string("reactor-"),
            overrides={"file_roots": {"base": [str(repo / "formulas")]}, "fileserver_backend": ["roots"]},
        )
        opts = salt.config.master_config(master.config_file)
        opts["file_client"] = "local"  # as the master's reactor thread has it (salt/utils/reactor.py)
        return salt.utils.reactor.Reactor(opts)

    @pytest.mark.parametrize("minion", ["hv1", "*", "a' or '{{ 1 }}", "x\n- y: z"])
    def test_asks_one_minion_for_its_grains(self, reactor: Any, minion: str, caplog: Any) -> None:
        tag = f"salt/beacon/{minion}/livepatch/drift"
        with caplog.at_level(logging.ERROR):
            chunks = reactor.reactions(tag, {"id": minion}, ["salt://livepatch/reactor/changed.sls"])
        # Not what Salt's event loops of earlier tests complain of when they are collected.
        rendering = ("salt.utils.reactor", "salt.template", "salt.renderers")
        assert [one for one in caplog.records if one.name.startswith(rendering)] == []
        (chunk,) = chunks
        assert (chunk["state"], chunk["fun"]) == ("local", "saltutil.refresh_grains")
        assert (chunk["tgt"], chunk["tgt_type"]) == ([minion], "list")
        assert chunk["kwarg"] == {"refresh_pillar": False}


class TestAcl:
    """The example as Salt's master reads it, asked by Salt's own checks who may do what."""

    WHO = ("watchers", "operators", "approvers", "publishers")

    @pytest.fixture(scope="class")
    @classmethod
    def granted(cls, repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], bool]:
        place = tmp_path_factory.mktemp("acl")
        example = yaml.safe_load((repo / FORMULA / "acl.example").read_text())
        (place / "master").write_text(yaml.safe_dump({**example, "root_dir": str(place)}))
        opts = salt.config.master_config(str(place / "master"))
        checks = salt.utils.minions.CkMinions(opts)

        def may(group: str, function: str) -> bool:
            rules = checks.fill_auth_list(opts["external_auth"]["pam"], "somebody", [group])
            if function.startswith("livepatch."):
                return bool(checks.auth_check(rules, function, [[]], "hv1", minions=["hv1"]))
            return checks.runner_check(rules, function, {"kwarg": {}}) is True

        return may

    @pytest.mark.parametrize(
        ("function", "who"),
        [
            ("livepatch.status", {"watchers", "operators"}),
            ("livepatch.verify", {"watchers"}),
            ("livepatch.revert", {"approvers"}),
            ("livepatch_ledger.show", {"operators"}),
            ("livepatch_ledger.approve", {"approvers"}),
            ("livepatch_catalog.block", {"approvers"}),
            ("livepatch_catalog.publish", {"publishers"}),
            *(
                (f"livepatch.{verb}", set())
                for verb in ("apply", "force", "load", "unload", "release", "adopt_ledger", "unhold")
            ),
            *((f"livepatch_ledger.{verb}", set()) for verb in ("restore", "rebuild", "unfreeze")),
            ("livepatch_catalog.unblock", set()),
        ],
    )
    def test_who_may(self, granted: Callable[[str, str], bool], function: str, who: set[str]) -> None:
        assert {group for group in self.WHO if granted(group, function)} == who
