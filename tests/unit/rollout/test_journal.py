"""The journal: torn ends are cut, damage is refused with its line, a full disk stops everything."""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.rollout import journal
from livepatch_core.rollout.clock import Now
from livepatch_core.rollout.records import CRC, HEAD, Record, Type, decode, encode
from livepatch_core.words import Kind


def written(path: Path, count: int = 5) -> bytes:
    lines = journal.create(path)
    for number in range(count):
        lines.append(Type.TROUBLE, {"why": f"number {number}"}, Now(1000.0 + number, float(number)))
    lines.sync()
    lines.close()
    return path.read_bytes()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written(tmp_path / "j")
    records = journal.read(tmp_path / "j")
    assert [(one.seq, one.epoch, one.t, one.body["why"]) for one in records[:2]] == [
        (1, 1000.0, 0.0, "number 0"),
        (2, 1001.0, 1.0, "number 1"),
    ]
    last = journal.last(tmp_path / "j")
    assert last is not None and last.seq == 5


def test_a_last_line_that_nobody_here_wrote(tmp_path: Path) -> None:
    """Every plan looks at the last lines of all rollouts: it gets a sentence, not a traceback."""
    rest = b'"schema":99,"seq":1}'
    line = CRC + f"{zlib.crc32(rest):08x}".encode() + b'",' + rest
    (tmp_path / "j").write_bytes(line + b"\n")
    with pytest.raises(LivepatchError, match="The last line .* another version"):
        journal.last(tmp_path / "j")
    with pytest.raises(LivepatchError, match="could not be read"):
        journal.last(tmp_path / "there is none")


def test_every_torn_end_is_cut_and_kept(tmp_path: Path) -> None:
    whole = written(tmp_path / "j")
    start = whole.rindex(b"\n", 0, -1) + 1
    for length in range(start, len(whole)):
        (tmp_path / "j").write_bytes(whole[:length])
        assert len(journal.read(tmp_path / "j")) == 4  # a reader leaves the line out, and changes nothing
        lines, records = journal.resume(tmp_path / "j")
        lines.append(Type.TROUBLE, {"why": "again"}, Now(0.0, 0.0))
        lines.close()
        assert len(records) == 4
        assert [one.body["why"] for one in journal.read(tmp_path / "j")][-2:] == ["number 3", "again"]
        if length > start:
            assert (tmp_path / "torn-after-4").read_bytes() == whole[start:length]


def test_every_damaged_byte_is_found(tmp_path: Path) -> None:
    """But for the last line, which a power cut may have left in any state."""
    whole = written(tmp_path / "j")
    for position in range(whole.rindex(b"\n", 0, -1)):
        (tmp_path / "j").write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(LivepatchError, match=r"[Ll]ine \d") as caught:
            journal.resume(tmp_path / "j")
        assert caught.value.kind is Kind.JOURNAL


def test_a_missing_line_is_found(tmp_path: Path) -> None:
    lines = written(tmp_path / "j").splitlines(keepends=True)
    (tmp_path / "j").write_bytes(b"".join(lines[:2] + lines[3:]))
    with pytest.raises(LivepatchError, match="Line 3"):
        journal.read(tmp_path / "j")


def test_another_schema_is_refused(tmp_path: Path) -> None:
    line = encode(Record(1, 0.0, 0.0, "started", {}))
    rest = line[HEAD:-1].replace(b'"schema":1', b'"schema":2')
    (tmp_path / "j").write_bytes(b'{"crc":"%08x",' % zlib.crc32(rest) + rest + b"\n")
    with pytest.raises(LivepatchError, match="another version"):
        journal.read(tmp_path / "j")


def test_a_body_cannot_hide_what_every_record_says() -> None:
    with pytest.raises(ValueError, match="type"):
        encode(Record(1, 0.0, 0.0, "verdict", {"type": "function"}))
    assert decode(encode(Record(1, 0.0, 0.0, "verdict", {"asks": "function"}))[:-1]) is not None


def test_a_full_disk_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also once there is room again: after a line that was cut short nothing would be read."""
    lines = journal.create(tmp_path / "j")
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    with pytest.raises(LivepatchError, match="nothing more is dispatched"):
        lines.append(Type.TROUBLE, {"why": "x"}, Now(0.0, 0.0))
    monkeypatch.undo()
    with pytest.raises(LivepatchError, match="No space left"):
        lines.append(Type.TROUBLE, {"why": "x"}, Now(0.0, 0.0))


def test_a_sync_that_failed_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel marks pages that it could not write as clean: the next fsync would say that all is well."""
    lines = journal.create(tmp_path / "j")
    lines.append(Type.TROUBLE, {"why": "x"}, Now(0.0, 0.0))

    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing)
        with pytest.raises(LivepatchError, match="Input/output"):
            lines.sync()
    with pytest.raises(LivepatchError, match="Input/output"):
        lines.append(Type.TROUBLE, {"why": "x"}, Now(0.0, 0.0))
