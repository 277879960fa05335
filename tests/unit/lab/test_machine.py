from __future__ import annotations

from pathlib import Path

import pytest

from lab import host, kbuild, scratch, wheels
from lab.accel import KVM, TCG
from lab.errors import CONSOLE_TAIL_LINES, GuestPanicked, LabError
from lab.initrd import DIRECTORY, REGULAR, Member, cpio
from lab.machine import Disk, Machine, Place, qemu_arguments


def arguments(machine: Machine, accel: str = TCG) -> str:
    disks = (Disk(Path("/root.sqfs"), "root"), Disk(Path("/disk"), "state", read_only=False))
    return " ".join(qemu_arguments(machine, accel, Place(Path("/p")), Path("/k"), Path("/i"), disks))


def test_the_command_line_ends_with_what_the_test_asked_for() -> None:
    assert Machine(cmdline=("lockdown=integrity",)).command_line().endswith("oops=panic lockdown=integrity")
    assert "oops=panic" not in Machine(oops_panics=False).command_line()


def test_counting_instructions_needs_emulation_and_one_processor() -> None:
    assert "-icount shift=1,sleep=on" in arguments(Machine(icount=True), KVM)
    assert "-accel tcg,thread=single" in arguments(Machine(icount=True), KVM)
    with pytest.raises(ValueError, match="smp=1"):
        Machine(icount=True, smp=2)


def test_disks_are_told_apart_by_serial() -> None:
    line = arguments(Machine())
    assert "file=/root.sqfs,format=raw,readonly=on -device virtio-blk-pci,drive=disk0,serial=root" in line
    assert "file=/disk,format=raw,readonly=off -device virtio-blk-pci,drive=disk1,serial=state" in line


def test_a_guest_error_carries_the_end_of_the_console() -> None:
    console = "\n".join(f"line {number}" for number in range(500))
    error = GuestPanicked("bare", "the kernel panicked", console)
    assert "line 499" in str(error)
    assert f"line {499 - CONSOLE_TAIL_LINES}\n" not in str(error)
    assert error.console == console


def test_kbuild_file() -> None:
    text = kbuild.kbuild_file({"lp_a": ["lp_a.c"], "big": ["one.c", "two.S"]}, "-DX=1")
    assert text == "ccflags-y := -DX=1\nobj-m += lp_a.o\nobj-m += big.o\nbig-y := one.o two.o\n"


def parse_cpio(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Reads the archive back by the format's description, independently of how it was written."""
    found, at = {}, 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * index : at + 14 + 8 * index], 16) for index in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        start = -(-(at + 110 + fields[11]) // 4) * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], data[start : start + fields[6]])
        at = -(-(start + fields[6]) // 4) * 4


def test_cpio() -> None:
    members = [
        Member("dir", DIRECTORY | 0o755),
        Member("dir/a", REGULAR | 0o644, b"12345"),
        Member("b", REGULAR, b""),
    ]
    assert parse_cpio(cpio(members)) == {
        "dir": (DIRECTORY | 0o755, b""),
        "dir/a": (REGULAR | 0o644, b"12345"),
        "b": (REGULAR, b""),
    }


def test_start_time_of_a_process_with_an_odd_name() -> None:
    stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3"
    assert scratch.parse_start_time(stat) == 987654


def test_what_a_dead_owner_left_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "BASE", tmp_path)
    mine, dead, reused = (scratch.make("guest") for _ in range(3))
    dead.joinpath(scratch.OWNER_FILE).write_text("999999999 1")
    reused.joinpath(scratch.OWNER_FILE).write_text(
        f"{mine.joinpath(scratch.OWNER_FILE).read_text().split()[0]} 1"
    )
    assert sorted(scratch.sweep()) == sorted([dead, reused])
    assert mine.is_dir()


def test_available_memory() -> None:
    assert host.parse_available_memory("MemTotal: 9 kB\nMemAvailable:   2048 kB\n") == 2 << 20


def test_too_little_memory_is_said() -> None:
    with pytest.raises(LabError, match="close some guests"):
        host.require_memory(1 << 60)


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(host, "SYSTEM_PATH", "/nowhere")
    with pytest.raises(LabError, match="apt-get install .*qemu-system-x86"):
        host.program("qemu-system-x86_64")


def test_pips_report() -> None:
    report = {"install": [{"metadata": {"name": "salt", "version": "3008.3"}}]}
    assert wheels.parse_report(report) == ["salt==3008.3"]
