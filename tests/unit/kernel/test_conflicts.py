"""ftrace's users and kprobes in the formats of several kernels."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.kernel.conflicts import (
    Conflicts,
    FtraceUser,
    Kprobe,
    parse_enabled_functions,
    parse_kprobes,
    read_conflicts,
)
from livepatch_core.kernel.roots import Roots
from tests.unit.kernel.captured import data, plant_line


def user(
    function: str, module: str | None = None, users: int = 1, flags: str = "", ops: str = ""
) -> FtraceUser:
    return FtraceUser(function, module, users, *(letter in flags for letter in "ID"), ops)


LIVEPATCH = "tramp: 0xffffffffc0a40000 (klp_ftrace_handler+0x0/0x1a0) ->klp_ftrace_handler+0x0/0x1a0"

# What kernel/trace/ftrace.c prints in 5.10 .. 6.2 (R I D), 6.3 (O) and since 6.6 (O M).
LINES = {
    f"cmdline_proc_show (1) R I  \t{LIVEPATCH}": user("cmdline_proc_show", flags="RI", ops=LIVEPATCH),
    "vfs_read (2) R     ->arch_ftrace_ops_list_func+0x0/0x220": user(
        "vfs_read", users=2, flags="R", ops="->arch_ftrace_ops_list_func+0x0/0x220"
    ),
    "tcp_sendmsg (1)     D\n\tdirect-->bpf_trampoline_6442464735+0x0/0xd1": user(
        "tcp_sendmsg", flags="D", ops="direct-->bpf_trampoline_6442464735+0x0/0xd1"
    ),
    "nfs_readdir [nfs] (1) R I     M \ttramp: ERROR!": user(
        "nfs_readdir", "nfs", flags="RIM", ops="tramp: ERROR!"
    ),
    "do_sys_openat2.isra.0 (1)       O   \tops: 0xffff8000 (kprobe_ftrace_handler+0x0/0x1b0)": user(
        "do_sys_openat2.isra.0", flags="O", ops="ops: 0xffff8000 (kprobe_ftrace_handler+0x0/0x1b0)"
    ),
    "schedule (3)           ": user("schedule", users=3),
}


@pytest.mark.parametrize("line", LINES)
def test_one_record(line: str) -> None:
    assert parse_enabled_functions(line + "\n") == (LINES[line],)


@pytest.mark.parametrize(("kernel", "modified"), [("6.1", ""), ("6.12", "M")])
def test_livepatch_and_kprobes_on_a_running_kernel(kernel: str, modified: str) -> None:
    listed = "->arch_ftrace_ops_list_func+0x0/0x1d0"
    shared, with_post_handler, with_return_probe, in_module = parse_enabled_functions(
        data(f"enabled_functions-{kernel}")
    )
    assert shared == user("cmdline_proc_show", users=2, flags="RI" + modified, ops=listed)
    assert in_module == user("loop_set_status", "loop", 2, "RI" + modified, listed)
    assert (with_post_handler.function, with_post_handler.ipmodify) == ("meminfo_proc_show", True)
    assert (with_return_probe.function, with_return_probe.ipmodify) == ("uptime_proc_show", False)
    assert "(kprobe_ftrace_handler" in with_post_handler.ops


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_a_direct_caller_of_another_module(kernel: str) -> None:
    (found,) = parse_enabled_functions(data(f"enabled_functions-direct-{kernel}"))
    assert (found.function, found.users) == ("cmdline_proc_show", 1)
    assert (found.direct, found.ipmodify, found.bpf) == (True, False, False)
    assert found.ops.endswith("direct-->lab_tramp+0x0/0x10 [labdirect]")


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
@pytest.mark.parametrize("program", ["fentry", "fexit"])
def test_a_bpf_program_on_a_function_that_is_patched_too(kernel: str, program: str) -> None:
    (found,) = parse_enabled_functions(data(f"enabled_functions-{program}-{kernel}"))
    assert (found.users, found.direct, found.ipmodify, found.bpf) == (2, True, True, True)


@pytest.mark.parametrize(("kernel", "entry"), [("6.1", 0), ("6.12", 4)])  # 4: behind ENDBR
def test_kprobes_on_a_running_kernel(kernel: str, entry: int) -> None:
    found = {probe.function: probe for probe in parse_kprobes(data(f"kprobes-{kernel}"))}
    assert {(p.kind, p.function, p.offset, p.module, p.flags) for p in found.values()} == {
        ("k", "cmdline_proc_show", entry, None, ("FTRACE",)),
        ("k", "meminfo_proc_show", entry, None, ("FTRACE",)),
        ("k", "version_proc_show", entry, None, ("DISABLED", "FTRACE")),
        ("k", "loop_set_status", 0, "loop", ("FTRACE",)),
        ("r", "uptime_proc_show", entry, None, ("FTRACE",)),
    }


def test_all_records_together_and_weak_functions_left_out() -> None:
    text = "__ftrace_invalid_address___1036\n".join(line + "\n" for line in LINES)
    assert parse_enabled_functions(text) == tuple(LINES.values())


def test_livepatch_is_recognised_where_the_kernel_names_its_handler() -> None:
    assert user("f", ops=LIVEPATCH).livepatch
    assert not user("f", ops="tramp: 0xffffffffc0a40000 (function_trace_call+0x0/0x1a0)").livepatch


WORDS = st.from_regex(r"[a-z_][a-z0-9_.]{0,12}", fullmatch=True)


@given(WORDS, st.none() | WORDS, st.integers(1, 99), st.sets(st.sampled_from("RIDOM")), st.booleans())
def test_every_combination_of_flags(
    function: str, module: str | None, users: int, letters: set[str], with_ops: bool
) -> None:
    where = f" [{module}]" if module else ""
    columns = "".join(f" {letter}" if letter in letters else "  " for letter in "RIDOM")
    ops = "\ttramp: 0xffffffffc0a40000 (handler+0x0/0x10)" if with_ops else ""
    (found,) = parse_enabled_functions(f"{function}{where} ({users}){columns} {ops}\n")
    assert found == user(function, module, users, "".join(letters), ops.strip())


KPROBES = {
    "ffffffff8120f2b0  k  vfs_read+0x0    [FTRACE]": Kprobe(
        "ffffffff8120f2b0", "k", "vfs_read", 0, None, ("FTRACE",)
    ),
    "0000000000000000  r  do_sys_openat2+0x1c    [DISABLED][OPTIMIZED]": Kprobe(
        "0000000000000000", "r", "do_sys_openat2", 28, None, ("DISABLED", "OPTIMIZED")
    ),
    "ffffffffc0a3e004  k  nfs_readdir+0x4  nfs [FTRACE]": Kprobe(
        "ffffffffc0a3e004", "k", "nfs_readdir", 4, "nfs", ("FTRACE",)
    ),
    "ffffffffc0a3e004  k  nfs_readdir+0x4  nfs ": Kprobe(
        "ffffffffc0a3e004", "k", "nfs_readdir", 4, "nfs", ()
    ),
    "(____ptrval____)  k  0000000012345678 [GONE]": Kprobe("(____ptrval____)", "k", None, 0, None, ("GONE",)),
    "ffffffff8120f2b0  k  vfs_read+0x0    ": Kprobe("ffffffff8120f2b0", "k", "vfs_read", 0, None, ()),
}


@pytest.mark.parametrize("line", KPROBES)
def test_one_kprobe(line: str) -> None:
    assert parse_kprobes(line + "\n") == (KPROBES[line],)


def test_all_kprobes_together() -> None:
    assert parse_kprobes("".join(line + "\n" for line in KPROBES)) == tuple(KPROBES.values())


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    parse_enabled_functions(text)
    parse_kprobes(text)


def plant_tracing(below: Path) -> Roots:
    plant_line("sys/kernel/tracing/tracing_on = 1", below)
    (below / "sys/kernel/tracing/enabled_functions").write_text("".join(line + "\n" for line in LINES))
    (below / "sys/kernel/debug/kprobes").mkdir(parents=True)
    (below / "sys/kernel/debug/kprobes/list").write_text("".join(line + "\n" for line in KPROBES))
    return Roots.under(below)


def test_only_the_functions_asked_for(tmp_path: Path) -> None:
    found = read_conflicts(plant_tracing(tmp_path), [("vmlinux", "vfs_read"), ("nfs", "nfs_readdir")])
    assert found.ftrace is not None
    assert found.kprobes is not None
    assert [each.function for each in found.ftrace] == ["vfs_read", "nfs_readdir"]
    assert [each.function for each in found.kprobes] == ["vfs_read", "nfs_readdir", "nfs_readdir", "vfs_read"]


def test_a_function_of_the_same_name_in_another_object_is_another_function(tmp_path: Path) -> None:
    found = read_conflicts(plant_tracing(tmp_path), [("nfs", "vfs_read"), ("vmlinux", "nfs_readdir")])
    assert found == Conflicts((), ())


def test_what_is_not_mounted_is_not_known(tmp_path: Path) -> None:
    assert read_conflicts(Roots.under(tmp_path), [("vmlinux", "vfs_read")]) == Conflicts(None, None)


def test_what_may_not_be_read_is_not_known(tmp_path: Path) -> None:
    roots = plant_tracing(tmp_path)
    for path in ("tracing/enabled_functions", "debug/kprobes/list"):
        (roots.sys / "kernel" / path).unlink()
        (roots.sys / "kernel" / path).mkdir()  # EISDIR: root can read any file, so no mode keeps it out
    assert read_conflicts(roots, [("vmlinux", "vfs_read")]) == Conflicts(None, None)
