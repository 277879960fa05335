"""kexec and livepatch_drain in Salt's loaders: reading works anywhere, and nothing here can load a kernel."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError
from saltfactories.utils.functional import Loaders

from livepatch_core.kexec.order import newest_first

NO_KERNEL = "0.0.0-0-none"


@pytest.fixture(scope="module")
def minion_overrides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place: Path = tmp_path_factory.mktemp("host")
    return {
        "livepatch": {"state_dir": str(place / "state"), "run_dir": str(place / "run")},
        "livepatch_drain": {"uri": "test:///default", "means": "command"},
    }


def test_status(loaders: Loaders) -> None:
    status = loaders.modules.kexec.status()
    assert status["kernel"]["release"] == platform.release()
    assert status["last"] is None


def test_candidates(loaders: Loaders) -> None:
    found = loaders.modules.kexec.candidates()
    assert found["running"] == platform.release()
    releases = [one["release"] for one in found["kernels"]]
    assert releases == sorted(releases, key=newest_first)
    assert {one["release"] for one in found["kernels"] if one["running"]} <= {platform.release()}


def test_a_kernel_that_is_not_there(loaders: Loaders) -> None:
    kexec = loaders.modules.kexec
    for answer in (kexec.load(NO_KERNEL), kexec.boot(NO_KERNEL, reason="a test")):
        assert (answer["result"], answer["kind"], answer["changes"]) == (False, "argument", {})
        assert NO_KERNEL in answer["comment"]
    with pytest.raises(CommandExecutionError, match=NO_KERNEL):
        kexec.preflight(NO_KERNEL)


def test_boot_needs_a_reason(loaders: Loaders) -> None:
    answer = loaders.modules.kexec.boot(NO_KERNEL)
    assert (answer["result"], answer["kind"]) == (False, "argument")
    assert "reason" in answer["comment"]


@pytest.mark.parametrize(
    "wrong",
    [{"kernel": 6.1}, {"initrd": True}, {"cmdline": 1}, {"override": 3}, {"delay": -1}, {"how": "warp"}],
)
def test_arguments_that_are_none(loaders: Loaders, wrong: dict[str, Any]) -> None:
    with pytest.raises(SaltInvocationError):
        loaders.modules.kexec.boot(**{"kernel": NO_KERNEL, "reason": "a test", **wrong})


def test_the_state_says_what_the_module_says(loaders: Loaders) -> None:
    state = loaders.states.kexec.booted("x", kernel=NO_KERNEL, reason="a test")
    assert state.result is False
    assert NO_KERNEL in state.comment
    assert loaders.states.kexec.booted("x", kernel=platform.release()).result is True


def test_drain_arguments(loaders: Loaders) -> None:
    for wrong in ({"means": "prayer"}, {"timeout": 0}):
        with pytest.raises(SaltInvocationError):
            loaders.modules.livepatch_drain.drain(**wrong)


def test_nothing_had_left(loaders: Loaders) -> None:
    answer = loaders.modules.livepatch_drain.undrain()
    assert (answer["result"], answer["changes"]) == (True, {})
