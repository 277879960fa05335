"""Whatever is typed as whichever argument of a runner function: a document comes back, never a traceback."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import salt.config
import salt.loader

from livepatch_core.catalog.settings import Master
from livepatch_core.ledger import acts
from tests.conftest import REPO
from tests.unit.catalog.modules import BUILD, BY, RELEASE, module
from tests.unit.ledger.grants import grants

JUNK = (
    None, True, -1, 0, 1.5, 10**30, "", "x", "[", "a'b\"c", "\udce9", "\x00", b"x", [], [1], {}, {"a": 1},
    "/", "/dev/zero", [{"summary": "\udce9"}],
)  # fmt: skip
PLACE = {"release": RELEASE, "kernel_build": BUILD}
SOUND = {  # what a function needs to get past its other arguments to the one that is tried
    "livepatch_catalog.map_package": {**PLACE, "package": "kernel-livepatch", "version": "2-2.1"},
    "livepatch_catalog.describe": {**PLACE, "expires": "2027-03-31"},
}
ASKS_HOSTS = {("livepatch_ledger.rebuild", name) for name in ("tgt", "tgt_type", "timeout", "reports")}


def names() -> tuple[str, ...]:
    runners = salt.loader.runner({**salt.config.master_config(None), "runner_dirs": [str(REPO / "_runners")]})
    return tuple(
        sorted(one for one in runners if one.startswith(("livepatch_catalog.", "livepatch_ledger.")))
    )


@pytest.fixture(scope="module")
def runners(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Those of a master that knows one minion and does not run."""
    top = tmp_path_factory.mktemp("m")
    (top / "pki/minions").mkdir(parents=True)
    (top / "pki/minions/hv1").write_text("no minion has this key\n")
    opts = salt.config.master_config(None)
    opts.update({key: str(top / key) for key in ("cachedir", "sock_dir", "extension_modules")})
    opts.update(
        pki_dir=str(top / "pki"),
        runner_dirs=[str(REPO / "_runners")],
        livepatch={"catalog_dir": str(top / "levels"), "state_dir": str(top / "state")},
    )
    (top / "module.ko").write_bytes(module("livepatch_1"))
    acts.approve(Master(top / "state", "root"), ["hv1"], grants(0), BY)
    return salt.loader.runner(opts), str(top / "module.ko")


@pytest.mark.parametrize("name", names())
def test_any_argument(runners: Any, name: str) -> None:
    loaded, path = runners
    function = loaded[name]
    accepted = [one for one in inspect.signature(function).parameters if one != "kwargs"]
    sound = {"why": "a test", "tgt": "hv1", "level": 1}
    sound.update(SOUND.get(name, {}), **({"path": path} if name == "livepatch_catalog.publish" else {}))
    for argument in accepted:
        for value in JUNK:
            if (name, argument) in ASKS_HOSTS and not (argument == "reports" and value):
                continue
            given = {one: sound[one] for one in accepted if one in sound} | {argument: value}
            answer = called(function, given)
            assert isinstance(answer, dict), (argument, value, answer)
            assert "A defect in livepatch" not in str(answer.get("comment")), (argument, value, answer)


def called(function: Any, given: dict[str, Any]) -> Any:
    """As salt-run does: the user is put into the function's globals (salt/client/mixins.py)."""
    function.func.__globals__["__user__"] = "alice"
    return function(**given)


@pytest.mark.parametrize(
    ("beside", "named"),
    [
        ({"level": 0}, "level"),
        ({"tgt": "hv*"}, "tgt"),
        ({"max_per_domain": 1, "tgt": "hv*"}, "tgt, max_per_domain"),
    ],
)
def test_a_plan_is_rolled_out_as_it_is(runners: Any, beside: dict[str, Any], named: str) -> None:
    """Who typed a smaller limit beside the hash would find the plan's own in force."""
    rollout = runners[0]["livepatch.rollout"]
    answer = called(rollout, {"plan": "4be1a09f2c77", "why": "a test", **beside})
    assert f"takes no other {named};" in answer["comment"], answer
    unplanned = called(rollout, {"plan": "4be1a09f2c77", "why": "a test"})
    assert "No plan 4be1a09f2c77 is kept" in unplanned["comment"], unplanned
