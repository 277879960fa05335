"""Records of the kernel log: the format by example and property, the tail on a file and on a bent read()."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.kernel import kmsg
from livepatch_core.kernel.roots import Roots

PATCHING = b"6,339,5140900,-;livepatch: 'lp_one': starting patching transition\n"
DEVICE = (
    b"7,160,424069,-,caller=T1;pci_root PNP0A03:00: host bridge window\n"
    b" SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n"
)

records = st.builds(
    kmsg.Record,
    sequence=st.integers(0, 2**63),
    microseconds=st.integers(0, 2**63),
    priority=st.integers(0, 191),
    text=st.text(st.characters(min_codepoint=32, max_codepoint=126)),
)


def printed(record: kmsg.Record, continued: int = 0) -> bytes:
    """A record as the device prints it, with ``continued`` lines of a dictionary."""
    line = f"{record.priority},{record.sequence},{record.microseconds},-;{record.text}\n"
    return (line + " KEY=1,2,3,-;value\n" * continued).encode("ascii")


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/kmsg").write_bytes(PATCHING)
    return Roots.under(tmp_path)


def test_a_record_is_its_numbers_and_its_text() -> None:
    assert kmsg.parse_record(PATCHING) == kmsg.Record(
        339, 5140900, 6, "livepatch: 'lp_one': starting patching transition"
    )


def test_later_header_fields_and_dictionary_lines_are_left_out() -> None:
    assert kmsg.parse_record(DEVICE) == kmsg.Record(160, 424069, 7, "pci_root PNP0A03:00: host bridge window")


def test_what_the_kernel_escaped_stays_escaped() -> None:
    record = kmsg.parse_record(rb"6,1,2,-;comm \x1b[2J and \x5c" + b"\n")
    assert record is not None
    assert record.text == r"comm \x1b[2J and \x5c"


@given(record=records, continued=st.integers(0, 3))
def test_every_printed_record_is_read_back(record: kmsg.Record, continued: int) -> None:
    assert kmsg.parse_record(printed(record, continued)) == record


@given(st.lists(st.tuples(records, st.integers(0, 2))))
def test_records_in_a_row_are_told_apart(written: list[tuple[kmsg.Record, int]]) -> None:
    data = b"".join(printed(record, continued) for record, continued in written)
    assert kmsg.parse_records(data) == tuple(record for record, _ in written)


@given(st.binary())
def test_no_bytes_are_an_error(data: bytes) -> None:
    record = kmsg.parse_record(data)
    assert record is None or (record.text.isascii() and "\n" not in record.text)


def test_a_tail_shows_only_what_came_after_it(roots: Roots) -> None:
    with kmsg.Tail(roots) as tail:
        assert tail.drain() == ()
        with open(roots.dev / "kmsg", "ab") as log:
            log.write(DEVICE)
        assert [record.sequence for record in tail.drain()] == [160]
        assert tail.drain() == ()
        assert not tail.lost


def test_a_missing_device_is_the_callers_to_judge(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        kmsg.Tail(Roots.under(tmp_path))


def test_a_closed_tail_closes_once(roots: Roots) -> None:
    tail = kmsg.Tail(roots)
    tail.close()
    other = os.open(os.devnull, os.O_RDONLY)  # gets the number that was freed
    tail.close()
    os.fstat(other)
    os.close(other)


@pytest.mark.parametrize("loss", [errno.EPIPE, errno.EINVAL])
def test_a_loss_is_said_and_reading_goes_on(roots: Roots, monkeypatch: pytest.MonkeyPatch, loss: int) -> None:
    script: list[bytes | int] = [PATCHING, loss, DEVICE, errno.EAGAIN]
    with kmsg.Tail(roots) as tail:
        monkeypatch.setattr(os, "read", scripted(script))
        assert [record.sequence for record in tail.drain()] == [339, 160]
        monkeypatch.undo()
        assert tail.lost
        tail.drain()
        assert tail.lost  # until the end: the records are gone


def test_other_errors_are_not_swallowed(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    with kmsg.Tail(roots) as tail:
        monkeypatch.setattr(os, "read", scripted([errno.EIO]))
        with pytest.raises(OSError) as raised:
            tail.drain()
        monkeypatch.undo()
    assert raised.value.errno == errno.EIO


def test_a_log_that_never_ends_does_not_hold_the_reader(
    roots: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kmsg, "_READS_MAX", 10)
    with kmsg.Tail(roots) as tail:
        monkeypatch.setattr(os, "read", lambda _descriptor, _size: PATCHING)
        assert len(tail.drain()) == 10
        monkeypatch.undo()


def scripted(script: list[bytes | int]) -> Callable[[int, int], bytes]:
    """A read() that answers with bytes or fails with an errno, one after the other."""
    remaining = iter(script)

    def read(_descriptor: int, _size: int) -> bytes:
        answer = next(remaining)
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        return answer

    return read


def test_a_search_gives_what_reading_everything_gives() -> None:
    log = b"".join(
        b"4,%d,%d,-;%s\n SUBSYSTEM=x\n" % (number, number, text)
        for number, text in enumerate([b"BUG: one", b"no BUG: at all", b"WARNING: CPU: 0", b"end"])
    )
    newest, found = kmsg.search_records(log, "BUG: |WARNING: ")
    everything = kmsg.parse_records(log)
    assert newest == everything[-1]
    assert found == tuple(one for one in everything if one.text.startswith(("BUG: ", "WARNING: ")))
    assert kmsg.search_records(b"", "BUG: ") == (None, ())
