"""Reports of a rollout that went wrong, made from its files."""

from __future__ import annotations

import html.parser
import re
from pathlib import Path
from typing import Any

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.report import follow, page
from livepatch_core.report import rollout as report
from livepatch_core.report.timeline import timeline
from livepatch_core.words import Kind
from tests.unit.rollout.fleets import fleet, host, plan_of
from tests.unit.rollout.simulated import begin, drive, new_world

EVIL = "<script>alert('x')</script>"
OPTIONS: dict[str, Any] = {
    "waves": ["100%"],
    "canary_soak": 60,
    "soak": 60,
    "look_every": 30,
    "late": "report",
    "gates": [{"name": "whole", "type": "health", "when": "wave"}],
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The canary fails and is taken back; one host has a name and a domain that are somebody's bad joke."""
    plan = plan_of([*fleet(6), host("zz", domain=EVIL, frozen=f"frozen: {EVIL}")], OPTIONS, target=EVIL)
    world = new_world(tmp_path / "world.json", plan, dict.fromkeys(plan.waves[0], "fails"))
    directory = begin(tmp_path / "rollouts", plan, world)
    drive(directory, world)
    return directory


def test_text_says_all_that_matters(directory: Path) -> None:
    facts = report.gather(directory, 0.0)
    text = report.as_text(facts)
    assert facts.plan_hash in text
    for name in (one.minion for one in facts.plan.hosts):
        assert re.search(rf"^  {name} ", text, re.MULTILINE), name
    for word in ("rolled_back", "stopped:", "rolling back", "LIMITS", "started by"):
        assert word in text, word


class Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [str(value) for name, value in attrs if name in ("src", "href", "action")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_page_stands_alone_and_escapes_everything(directory: Path) -> None:
    text = page.as_html(report.gather(directory, 0.0))
    reader = Reader()
    reader.feed(text)
    assert "script" not in reader.tags
    assert reader.links == []
    assert EVIL in "".join(reader.text)  # said, as text
    assert "url(" not in text


def test_data_is_plain(directory: Path) -> None:
    document = report.document(report.gather(directory, 0.0))
    assert len(document["hosts"]) == len(document["plan"]["hosts"])
    assert document["timeline"][0]["text"].startswith("started by")


def test_unknown_records_are_left_out() -> None:
    assert (
        timeline([{"type": "of a later version", "at": "2026"}, {"type": "sent", "at": "2026", "jid": "1"}])
        == []
    )


def test_following_ends_with_the_rollout(directory: Path) -> None:
    class Still:
        def wait(self, seconds: float) -> None:
            raise AssertionError("it has ended: there is nothing to wait for")

    lines = list(follow.lines(directory, Still(), lambda: False))  # type: ignore[arg-type]
    assert "started by" in lines[0]
    assert "rolled_back" in lines[-1]


def test_a_report_has_one_of_two_forms(directory: Path) -> None:
    facts = report.gather(directory, 0.0)
    assert page.written(facts, "text") == report.as_text(facts)
    assert page.written(facts, "html").startswith("<!DOCTYPE html>")
    with pytest.raises(LivepatchError, match="form is 'pdf'") as caught:
        page.written(facts, "pdf")
    assert caught.value.kind is Kind.ARGUMENT
