"""The two system calls, against a C library that records what it is asked."""

from __future__ import annotations

import ctypes
import errno
import platform
import sys
from typing import Any

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.kernel import loading
from livepatch_core.words import Kind


class RecordingLibrary:
    """Answers every system call with one errno (0: success) and keeps its arguments."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.calls: list[tuple[Any, ...]] = []

    def syscall(self, *arguments: Any) -> int:
        self.calls.append(arguments)
        ctypes.set_errno(self.code)
        return -1 if self.code else 0


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> RecordingLibrary:
    recording = RecordingLibrary()
    monkeypatch.setattr(loading, "_libc", recording)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return recording


def test_the_kernel_gets_the_very_buffer_that_was_checked(library: RecordingLibrary) -> None:
    image = bytes(range(256)) * 16  # with NUL bytes: the length must come from the buffer, not from strlen
    loading.init_module(image, "a=1 b=2")
    ((number, given, length, params),) = library.calls
    assert number.value == 175
    start = ctypes.cast(given, ctypes.c_void_p).value
    assert start == ctypes.cast(ctypes.c_char_p(image), ctypes.c_void_p).value
    assert length.value == len(image)
    assert params.value == b"a=1 b=2"


def test_a_module_is_removed_by_name_without_waiting_or_forcing(library: RecordingLibrary) -> None:
    loading.delete_module("lp_one")
    ((number, name, flags),) = library.calls
    assert (number.value, name.value) == (176, b"lp_one")
    assert flags.value == 0o4000  # O_NONBLOCK; O_TRUNC (0o1000) would force


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EKEYREJECTED, errno.EPERM, errno.EINTR])
def test_the_kernels_errno_is_raised(library: RecordingLibrary, code: int) -> None:
    library.code = code
    with pytest.raises(OSError) as loaded:
        loading.init_module(b"image")
    with pytest.raises(OSError) as removed:
        loading.delete_module("m")
    assert (loaded.value.errno, removed.value.errno) == (code, code)


@pytest.mark.parametrize(
    ("machine", "numbers"),
    [("x86_64", (175, 176)), ("aarch64", (105, 106)), ("ppc64le", (128, 129)), ("s390x", (128, 129))],
)
def test_each_machine_has_its_numbers(
    library: RecordingLibrary, monkeypatch: pytest.MonkeyPatch, machine: str, numbers: tuple[int, int]
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    loading.init_module(b"image")
    loading.delete_module("m")
    assert tuple(call[0].value for call in library.calls) == numbers


@pytest.mark.parametrize(("machine", "maxsize"), [("riscv64", 2**63 - 1), ("x86_64", 2**31 - 1)])
def test_other_machines_and_32_bit_processes_are_refused(
    library: RecordingLibrary, monkeypatch: pytest.MonkeyPatch, machine: str, maxsize: int
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(sys, "maxsize", maxsize)
    with pytest.raises(LivepatchError) as refused:
        loading.init_module(b"image")
    assert refused.value.kind is Kind.UNSUPPORTED
    assert machine in refused.value.message
    assert library.calls == []


def test_a_nul_character_never_cuts_an_argument_short(library: RecordingLibrary) -> None:
    with pytest.raises(LivepatchError) as refused:
        loading.init_module(b"image", "a=1\0b=2")
    assert refused.value.kind is Kind.ARGUMENT
    with pytest.raises(FileNotFoundError):
        loading.delete_module("lp\0one")
    assert library.calls == []
