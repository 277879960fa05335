"""Tools are run to their end, or stopped with all that they started."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from livepatch_core.build.commands import SECONDS, Finished, run
from livepatch_core.build.refusals import Refusal, Refused


def test_status_and_output_are_kept(tmp_path: Path) -> None:
    assert run(["sh", "-c", "echo out; echo err >&2; exit 3"], cwd=tmp_path) == Finished(3, "out\n", "err\n")


def test_environment_of_the_caller_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KCFLAGS", "-O0")
    assert "KCFLAGS" not in run(["env"], cwd=tmp_path, environment={"MINE": "1"}).out


def test_tool_that_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no-such-tool is not installed") as caught:
        run(["no-such-tool"], cwd=tmp_path)
    assert caught.value.refusal is Refusal.TOOLCHAIN


def test_the_environment_may_give_tools_another_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECONDS, "0.2")
    with pytest.raises(Refused, match="sleep did not end within 0 s") as caught:
        run(["sleep", "1000"], cwd=tmp_path)
    assert SECONDS in caught.value.remedy
    assert run(["true"], cwd=tmp_path, deadline=60).status == 0
    monkeypatch.setenv(SECONDS, "7200")
    assert run(["true"], cwd=tmp_path).status == 0


@pytest.mark.parametrize("said", ["", "0", "-1", "nan", "inf", "ten minutes"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(SECONDS, said)
    with pytest.raises(Refused, match=f"{SECONDS} is '{said}'"):
        run(["true"], cwd=tmp_path)


def running(process: int) -> bool:
    """Neither gone nor waiting to be collected."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_a_tool_started_ends_with_it(tmp_path: Path) -> None:
    """A compiler that loops must not outlive the make that was given up on."""
    script = "sleep 1000 & echo $! > child; wait"
    with pytest.raises(Refused, match="did not end within 3 s"):
        run(["sh", "-c", script], cwd=tmp_path, deadline=3)
    child = int((tmp_path / "child").read_text(encoding="ascii"))
    end = time.monotonic() + 60
    while running(child):
        assert time.monotonic() < end
        time.sleep(0.01)  # a signal was sent; its effect has no event for somebody who is not the parent
