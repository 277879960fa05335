"""Who may have another system act, and what is written down."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.host import calls
from livepatch_core.host.context import Host
from livepatch_core.host.programs import Said
from livepatch_core.host.settings import Settings
from livepatch_core.providers import acts, face
from livepatch_core.words import Kind
from tests.unit.providers.test_face import Host as Underneath
from tests.unit.providers.test_face import commands

UPDATE = ("kcarectl", "--update")


@pytest.fixture
def underneath(tmp_path: Path) -> Underneath:
    found = Underneath(tmp_path)
    found.kernelcare(False)
    commands(found, ("kcarectl", "--update"), applied=True)
    return found


@pytest.fixture
def host(tmp_path: Path, underneath: Underneath) -> Host:
    settings = Settings(state_dir=tmp_path / "state", run_dir=tmp_path / "rundir")
    return Host(settings, lambda name: None, {"user": "tester"}, underneath.roots)


def order(**changes: object) -> acts.Order:
    return acts.Order(**{"provider": "kernelcare", "reason": "a test", "allowed": ("kernelcare",), **changes})  # type: ignore[arg-type]


def test_it_acts_and_writes_it_down(host: Host, underneath: Underneath) -> None:
    assert acts.apply(host, underneath.site, order()).result is True
    (line,) = host.settings.journal_file.read_text().splitlines()
    body = json.loads(line)["body"]
    assert (body["act"], body["reason"], body["who"]) == ("kernelcare apply", "a test", {"user": "tester"})
    assert body["changes"]["provider"]["new"]["verdict"] == "patched"


@pytest.mark.parametrize(
    ("changes", "kind"), [({"allowed": ("ksplice",)}, Kind.FORBIDDEN), ({"reason": None}, Kind.ARGUMENT)]
)
def test_refused(host: Host, underneath: Underneath, changes: dict[str, object], kind: Kind) -> None:
    with pytest.raises(LivepatchError) as caught:
        acts.apply(host, underneath.site, order(**changes))
    assert caught.value.kind is kind
    assert underneath.calls == []


@pytest.mark.parametrize("damaged", ["journal_file", "record_file"])
def test_what_could_not_be_written_down_is_not_begun(
    host: Host, underneath: Underneath, damaged: str
) -> None:
    acts.apply(host, underneath.site, order())
    underneath.calls.clear()
    getattr(host.settings, damaged).write_text("{}x\n")
    with pytest.raises(LivepatchError, match="nothing was changed") as caught:
        acts.apply(host, underneath.site, order())
    assert caught.value.kind is Kind.JOURNAL
    assert UPDATE not in underneath.calls


def test_a_full_disk_does_not_hide_what_was_done(
    host: Host, underneath: Underneath, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(acts.journal, "append", full)
    outcome = calls.concluded(lambda: acts.apply(host, underneath.site, order()), {})
    assert (outcome.result, outcome.kind) == (False, Kind.JOURNAL)
    assert "kernelcare: KernelCare says that its patch set is applied" in outcome.comment
    assert "No space left on device" in outcome.comment
    assert "nothing was changed" not in outcome.comment
    assert outcome.changes["provider"]["new"]["verdict"] == "patched"


def test_a_client_that_hung_after_it_had_acted(host: Host, underneath: Underneath) -> None:
    def run(command: Sequence[str], timeout: float) -> Said | None:
        answer = underneath.run(command, timeout)
        if tuple(command) == UPDATE:
            raise LivepatchError(Kind.INTERNAL, "kcarectl --update did not end within 1800 s.")
        return answer

    underneath.then[UPDATE].update({("kcarectl", "--status"): Said(3, "")})
    outcome = acts.apply(host, face.Site(underneath.roots, run), order())
    assert (outcome.result, outcome.kind) == (False, Kind.INTERNAL)
    assert "did not end within 1800 s" in outcome.comment
    assert "kernelcare apply" in host.settings.journal_file.read_text()


@pytest.mark.parametrize("test", [False, True])
def test_kernelcare_beside_a_level(host: Host, underneath: Underneath, test: bool) -> None:
    (underneath.roots.sys / "kernel/livepatch/lp_1").mkdir(parents=True)
    with pytest.raises(LivepatchError, match="lp_1") as caught:
        acts.apply(host, underneath.site, order(test=test))
    assert caught.value.kind is Kind.CONFLICT
    assert UPDATE not in underneath.calls


def test_predicted(host: Host, underneath: Underneath) -> None:
    assert acts.apply(host, underneath.site, order(test=True)).result is None
    assert UPDATE not in underneath.calls
    assert not host.settings.journal_file.exists()


def test_what_changed_nothing_is_not_written_down(host: Host, underneath: Underneath) -> None:
    commands(underneath, ("kcarectl", "--update"), applied=False)
    assert acts.apply(host, face.Site(underneath.roots, underneath.run), order()).result is False
    assert not host.settings.journal_file.exists()
