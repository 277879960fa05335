"""The journal's chain: whole, torn, truncated and tampered are told apart, whatever byte was changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livepatch_core.errors import LivepatchError
from livepatch_core.host import journal
from livepatch_core.host.journal import Head, JournalState
from livepatch_core.words import Kind

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
BODIES = st.lists(st.dictionaries(st.text(), JSON, max_size=4), min_size=1, max_size=5)


def written(bodies: list[dict[str, object]]) -> tuple[bytes, list[Head]]:
    data, heads = b"", [Head()]
    for body in bodies:
        line, head = journal.encode(heads[-1], body)
        data += line
        heads.append(head)
    return data, heads


@settings(deadline=None)
@given(BODIES)
def test_what_is_written_is_whole(bodies: list[dict[str, object]]) -> None:
    data, heads = written(bodies)
    seen = journal.verify(data, heads[-1])
    assert (seen.state, seen.head, seen.entries) == (JournalState.WHOLE, heads[-1], len(bodies))
    assert [dict(entry.body) for entry in journal.entries(data)] == bodies


@settings(deadline=None)
@given(BODIES, st.data())
def test_any_edit_of_one_byte_is_found(bodies: list[dict[str, object]], choice: st.DataObject) -> None:
    data, heads = written(bodies)
    at = choice.draw(st.integers(0, len(data) - 1))
    value = choice.draw(st.integers(0, 255).filter(lambda byte: byte != data[at]))
    edited = data[:at] + bytes([value]) + data[at + 1 :]
    assert journal.verify(edited, heads[-1]).state is JournalState.TAMPERED
    assert journal.verify(edited, None).state is JournalState.TAMPERED


def test_every_edit_of_one_byte_is_found() -> None:
    """All of them, of two lines that have a float and an escape: 2.0 is also 2e0, and \\u00e9 is \\u00E9."""
    data, heads = written([{"seconds": 2.0}, {"reason": "é"}])
    for at, value in ((at, value) for at in range(len(data)) for value in range(256)):
        edited = data[:at] + bytes([value]) + data[at + 1 :]
        state = journal.verify(edited, heads[-1]).state
        assert (state is JournalState.TAMPERED) == (edited != data), (at, value)


@settings(deadline=None)
@given(BODIES, st.data())
def test_any_cut_is_no_edit(bodies: list[dict[str, object]], choice: st.DataObject) -> None:
    data, heads = written(bodies)
    cut = data[: choice.draw(st.integers(0, len(data) - 1))]
    assert journal.verify(cut, heads[-1]).state is JournalState.TRUNCATED
    torn = not cut.endswith(b"\n") and bool(cut)
    assert journal.verify(cut, None).state is (JournalState.TORN if torn else JournalState.WHOLE)


def test_a_crash_in_the_middle_of_an_append_is_torn() -> None:
    data, heads = written([{"a": 1}, {"b": 2}])
    start = data.index(b"\n") + 1
    for end in range(start + 1, len(data)):
        assert journal.verify(data[:end], heads[1]).state is JournalState.TORN


def test_a_line_of_another_journal_is_found() -> None:
    data, heads = written([{"a": 1}, {"b": 2}])
    other, _ = written([{"x": 1}, {"y": 2}])
    mixed = data.split(b"\n")[0] + b"\n" + other.split(b"\n")[1] + b"\n"
    assert journal.verify(mixed, None).state is JournalState.TAMPERED
    assert journal.verify(other, heads[-1]).state is JournalState.TAMPERED


def test_the_next_append_cuts_what_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    head = journal.append(path, {"a": 1})
    with path.open("ab") as stream:
        stream.write(b'{"body": {"b"')
    assert journal.append(path, {"c": 3}).seq == head.seq + 1
    assert journal.verify(path.read_bytes(), head).state is JournalState.WHOLE


def test_a_cut_is_not_hidden_by_the_next_append(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    heads = [journal.append(path, {"n": n}) for n in range(3)]
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")
    head = journal.append(path, {"n": 9}, heads[-1])
    seen = journal.verify(path.read_bytes(), head)
    assert seen.state is JournalState.WHOLE
    assert "line 2 notes that lines up to 3" in seen.detail
    # Who remembers the old head sees a cut and no edit, also when as many lines have been written again.
    journal.append(path, {"n": 10}, head)
    assert journal.verify(path.read_bytes(), heads[-1]).state is JournalState.TRUNCATED


@pytest.mark.parametrize("length", [10, journal.TAIL, journal.TAIL * 5])
def test_a_long_line_is_found_again(tmp_path: Path, length: int) -> None:
    path = tmp_path / "journal.jsonl"
    journal.append(path, {"first": 1})
    head = journal.append(path, {"stragglers": "x" * length})
    last = journal.last_entry(path)
    assert last is not None
    assert last.head == head
    with path.open("ab") as stream:
        stream.write(b'{"' + b"y" * length)  # and a fragment of that length is cut
    journal.append(path, {"third": 1})
    assert journal.verify(path.read_bytes(), None).entries == 3


def test_an_edited_last_line_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal.append(path, {"a": 1})
    path.write_bytes(path.read_bytes().replace(b'"a":1', b'"a":2'))
    with pytest.raises(LivepatchError) as caught:
        journal.append(path, {"b": 2})
    assert caught.value.kind is Kind.JOURNAL


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    for read in (journal.read_bytes, journal.last_entry):
        with pytest.raises(LivepatchError, match="could not be read"):
            read(tmp_path)
