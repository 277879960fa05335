"""Who may have another system act, and what is written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.host.context import Host
from livepatch_core.host.settings import Settings
from livepatch_core.providers import acts, face
from livepatch_core.words import Kind
from tests.unit.providers.test_face import Host as Underneath
from tests.unit.providers.test_face import commands


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


def test_predicted(host: Host, underneath: Underneath) -> None:
    assert acts.apply(host, underneath.site, order(test=True)).result is None
    assert underneath.calls == []
    assert not host.settings.journal_file.exists()


def test_what_changed_nothing_is_not_written_down(host: Host, underneath: Underneath) -> None:
    commands(underneath, ("kcarectl", "--update"), applied=False)
    assert acts.apply(host, face.Site(underneath.roots, underneath.run), order()).result is False
    assert not host.settings.journal_file.exists()
