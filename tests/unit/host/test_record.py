"""The host's record: what is written is read again, what is damaged decides nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livepatch_core.errors import LivepatchError
from livepatch_core.host import journal
from livepatch_core.host.intent import Act, Intent
from livepatch_core.host.journal import Head
from livepatch_core.host.record import ByHand, Forced, Loaded, Record, Told, read_record, write_record
from livepatch_core.words import Kind

TEXT = st.text(max_size=8)
NUMBER = st.integers(0, 1000)
LEVEL = st.none() | NUMBER
LOADED = st.builds(
    Loaded,
    name=TEXT,
    level=LEVEL,
    sha256=TEXT,
    build_id=st.none() | TEXT,
    boot_id=TEXT,
    at=TEXT,
    functions=st.lists(st.tuples(TEXT, TEXT, NUMBER), max_size=2).map(tuple),
    states=st.lists(st.tuples(NUMBER, NUMBER), max_size=2).map(tuple),
    fixes=st.lists(TEXT, max_size=2).map(tuple),
    built_for=st.none() | st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
)
INTENT = st.builds(
    Intent,
    act=st.sampled_from(Act),
    level=LEVEL,
    before=st.lists(TEXT, max_size=2).map(tuple),
    who=st.dictionaries(TEXT, TEXT, max_size=2),
    evidence=st.lists(TEXT, max_size=2).map(tuple),
)
LEVELS = st.dictionaries(TEXT, NUMBER, max_size=2)
BY_HAND = st.none() | st.builds(ByHand, level=NUMBER, above_rev=NUMBER)
RECORD = st.builds(
    Record,
    ledger_id=TEXT,
    rev=NUMBER,
    approval_digest=TEXT,
    approved=LEVELS,
    bounds=LEVELS,
    by_hand=BY_HAND,
    loaded=st.lists(LOADED, max_size=2).map(tuple),
    forced=st.lists(st.builds(Forced), max_size=2).map(tuple),
    journal=st.builds(Head, seq=NUMBER, hash=TEXT),
    intent=st.none() | INTENT,
    by_state=BY_HAND,
    state_is_last=st.booleans(),
    instead=st.none() | st.builds(Told, BY_HAND, LEVELS),
    other=st.dictionaries(st.sampled_from(["new_key", "newer"]), TEXT, max_size=2),
)


@settings(deadline=None)
@given(record=RECORD)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, record: Record) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.json"
    write_record(path, record)
    assert read_record(path) == record


def test_an_entry_of_an_older_version_has_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    entry = Loaded("lp_1", 1, "aa", "bb", "boot-1", "", (), True)
    write_record(path, Record(loaded=(entry,)))
    document = json.loads(path.read_text())
    del document["loaded"][0]["built_for"]
    path.write_text(json.dumps(document))
    assert read_record(path).loaded == (entry,)


def test_keys_of_a_newer_version_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text('{"schema": 1, "rev": 3, "quarantine": {"a": 1}}')
    write_record(path, read_record(path).adopt("b", 4))
    assert json.loads(path.read_text())["quarantine"] == {"a": 1}


@settings(deadline=None)
@given(record=RECORD)
def test_what_a_newer_version_says_more_locks_no_host(
    tmp_path_factory: pytest.TempPathFactory, record: Record
) -> None:
    path = tmp_path_factory.getbasetemp() / "newer.json"
    write_record(path, record)
    document = json.loads(path.read_text())
    said = [*document["loaded"], *document["forced"], document["intent"], document["instead"]]
    said += [document["by_hand"], document["by_state"], (document["instead"] or {}).get("by_hand")]
    for one in said:
        if one is not None:
            one["new_key"] = ["new"]
    path.write_text(json.dumps(document))
    assert read_record(path) == record


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "3",
        '{"rev": -1}',
        '{"rev": true}',
        '{"rev": "7"}',
        '{"rev": null}',
        '{"ledger_id": null}',
        '{"approval_digest": 0}',
        '{"approved": {"a": "2"}}',
        '{"approved": [1]}',
        '{"bounds": {"a": -1}}',
        '{"bounds": {"a": true}}',
        '{"by_hand": {}}',
        '{"by_hand": {"level": 1, "reason": "r", "above_rev": "9"}}',
        '{"by_state": {"level": 1, "reason": 3, "above_rev": 9}}',
        '{"state_is_last": 1}',
        '{"loaded": null}',
        '{"loaded": [{"name": "x"}]}',
        '{"forced": [3]}',
        '{"journal": {"seq": "1", "hash": "x"}}',
        '{"journal": null}',
        '{"instead": {}}',
        '{"instead": {"by_hand": null, "bounds": {"a": "2"}}}',
        '{"instead": {"by_hand": {"level": -1}, "bounds": {}}}',
        '{"intent": {"act": "dance"}}',
        '{"intent": "load"}',
        "[" * 100_000,
        "\0" * 64,
    ],
    ids=lambda text: text[:40] or "empty",
)
def test_what_is_damaged_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(LivepatchError) as caught:
        read_record(path)
    assert caught.value.kind is Kind.JOURNAL


@settings(deadline=None)
@given(RECORD, st.data())
def test_no_cut_is_read_as_a_record(
    tmp_path_factory: pytest.TempPathFactory, record: Record, choice: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.json"
    write_record(path, record)
    data = path.read_bytes().rstrip()
    path.write_bytes(data[: choice.draw(st.integers(0, len(data) - 1))])
    with pytest.raises(LivepatchError):
        read_record(path)


def test_never_acted_and_lost_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    assert read_record(path) == Record()
    journal.append(tmp_path / journal.FILE_NAME, {"act": "load"})
    with pytest.raises(LivepatchError, match="it is gone, but the journal is there"):
        read_record(path)


def test_an_unreadable_place_is_no_empty_record(tmp_path: Path) -> None:
    (tmp_path / "record.json").mkdir()
    with pytest.raises(LivepatchError):
        read_record(tmp_path / "record.json")
