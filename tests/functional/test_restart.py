"""livepatch_restart in Salt's loaders: what it refuses anywhere, hooks that are called for real, and the way
there and back with stand-ins for the kernel (a directory of files) and for the boot itself."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from salt.exceptions import SaltInvocationError
from saltfactories.utils.functional import Loaders

from tests.unit.kexec.test_acts import NEW, OLD, World

APPROVAL = {"ledger_id": "ledger-1", "rev": 3, "builds": {NEW: {"level": 0, "sha256": None}}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("host")


@pytest.fixture(scope="module")
def minion_overrides(place: Path, repo: Path) -> dict[str, Any]:
    """The minion's probe raises what no table of exceptions foresees; so does ``onfire.drain``."""
    module = place / "_modules/onfire.py"
    module.parent.mkdir()
    module.write_text("def drain():\n    raise RuntimeError('domain vm7 is on fire')\n")
    return {
        "module_dirs": [str(repo), str(place)],
        "livepatch": {
            "state_dir": str(place / "state"), "run_dir": str(place / "run"),
            "probes": [{"fun": "onfire.drain"}],
        },
    }  # fmt: skip


@pytest.fixture
def restart(loaders: Loaders) -> Any:
    return loaders.modules.livepatch_restart


def test_nothing_there(restart: Any) -> None:
    assert restart.status() is None
    answer = restart.finish()
    assert (answer["result"], answer["kind"]) == (False, "argument")
    assert answer["look"]["restart"] is None


def test_no_approval_no_boot(restart: Any, place: Path) -> None:
    for approval in (None, {}, {"ledger_id": "l", "rev": 0, "builds": {}}):
        answer = restart.leave("kexec", approval)
        assert (answer["result"], answer["kind"]) == (False, "unapproved"), answer
    assert not (place / "state/restart.json").exists()


def test_a_kernel_that_is_not_there(restart: Any) -> None:
    answer = restart.check("kexec", "0.0.0-0-none")
    assert (answer["result"], answer["kind"]) == (False, "argument") and "0.0.0-0-none" in answer["comment"]
    assert answer["look"]["boot_id"]


def test_a_hook_that_is_not_there(restart: Any) -> None:
    answer = restart.check("kexec", drain={"fun": "no.such"})
    assert (answer["result"], answer["kind"]) == (False, "argument") and "no.such" in answer["comment"]


@pytest.mark.parametrize(
    "wrong", [{"method": "prayer"}, {"kernel": 6.1}, {"delay": -1}, {"deadline": 0}, {"colour": 1}]
)
def test_arguments_that_are_none(restart: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(SaltInvocationError):
        restart.leave(**{"method": "kexec", "approval": APPROVAL, **wrong})


def test_a_probe_that_raises_is_inconclusive(loaders: Loaders) -> None:
    health = loaders.modules.livepatch.brief(health=True)["health"]
    (found,) = [one for one in health["findings"] if one["name"] == "onfire.drain"]
    assert found["verdict"] == "inconclusive" and "on fire" in found["reason"]


def test_which_kernel_is_meant(loaders: Loaders) -> None:
    assert loaders.modules.livepatch.brief(kernel="0.0.0-0-none")["kernel"] == {"release": None}
    assert "kernel" not in loaders.modules.livepatch.brief()


def shell(name: str) -> dict[str, Any]:
    return {"fun": "cmd.run", "args": [name], "kwargs": {"python_shell": True}}


class Away:
    """The host is what lies in a directory; its boot is a change of those files."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = World(place, monkeypatch)
        context = importlib.import_module("livepatch_core.host.context")
        roots = importlib.import_module("livepatch_core.kernel.roots").Roots.under(place)
        monkeypatch.setattr(context.Host, "roots", roots)
        defaults = list(context.Host.__init__.__defaults__)
        names = context.Host.__init__.__code__.co_varnames[1 : context.Host.__init__.__code__.co_argcount]
        defaults[list(names[-len(defaults) :]).index("roots")] = roots
        monkeypatch.setattr(context.Host.__init__, "__defaults__", tuple(defaults))

    def noted(self, name: str) -> int:
        path = self.world.place / name
        return len(path.read_text().splitlines()) if path.exists() else 0


def test_there_and_back(
    loaders: Loaders, restart: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away(tmp_path, monkeypatch)
    drain, undrain = (shell(f"echo x >> {tmp_path}/{name}") for name in ("drained", "undrained"))
    hooks = {"drain": drain, "undrain": undrain}

    failing = restart.leave("kexec", APPROVAL, **{**hooks, "drain": shell("echo no room; exit 3")})
    assert (failing["result"], failing["kind"]) == (False, "health"), failing
    assert "return code 3: no room" in failing["comment"] and away.noted("undrained") == 1
    assert away.world.told == []

    raising = restart.leave("kexec", {**APPROVAL, "rev": 4}, drain={"fun": "onfire.drain"}, undrain=undrain)
    assert (raising["result"], raising["kind"]) == (False, "health"), raising
    assert "RuntimeError: domain vm7 is on fire" in raising["comment"] and away.noted("undrained") == 2
    assert restart.status()["stage"] == "done" and loaders.modules.kexec.status()["loaded"] is None

    newer = {**APPROVAL, "rev": 5}
    predicted = restart.leave("kexec", newer, test=True, **hooks)
    assert (predicted["test"], predicted["changes"]) == (True, {"boot": {"old": OLD, "new": NEW}})
    done = restart.leave("kexec", newer, reason="a test", **hooks)
    assert (done["result"], done["changes"]) == (True, predicted["changes"]), done
    assert restart.leave("kexec", newer, **hooks)["comment"] == done["comment"]
    assert (away.noted("drained"), away.noted("undrained")) == (1, 2)
    assert [command[-1] for command in away.world.told] == ["kexec"], "one boot was ordered"
    assert restart.leave("kexec", APPROVAL, **hooks)["kind"] in ("busy", "superseded")

    away.world.arrive(NEW, away.world.lines[-1])
    ended = restart.finish()
    assert ended["result"] is True, ended
    assert (ended["restart"]["evidence"]["as_asked"], away.noted("undrained")) == (True, 3)
    assert ended["look"]["restart"]["stage"] == restart.status()["stage"] == "done"
    assert restart.finish()["comment"] == ended["comment"] and away.noted("undrained") == 3
