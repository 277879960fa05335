"""What a kernel allows and what else is at work on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.kernel.environment import (
    Environment,
    chosen,
    count_cpus,
    find_tracefs,
    other_managers,
    read_environment,
    taint_flags,
    threads_in,
)
from livepatch_core.kernel.roots import Roots
from tests.unit.kernel.captured import plant, plant_line


def test_a_stock_kernel(tmp_path: Path) -> None:
    assert read_environment(plant("bare-6.1", tmp_path)) == Environment(
        livepatch=True,
        ftrace_enabled=True,
        sig_enforce=False,
        lockdown="none",
        reliable_stacks=True,
        modules_disabled=False,
        panic_timeout=-1,
        taint=0,
        cpus=2,
        threads=57,
        cmdline="console=ttyS0 quiet panic=-1 no_timer_check random.trust_cpu=on net.ifnames=0 oops=panic",
        other_managers=(),
    )


def test_nothing_can_be_read_and_nothing_is_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    found = read_environment(Roots.under(tmp_path))
    assert found.cpus == os.cpu_count()
    unread = {name for name, value in vars(found).items() if value is None}
    assert unread == set(vars(found)) - {"cpus", "other_managers"}


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("sys/module/module/parameters/sig_enforce = Y", "sig_enforce", True),
        ("proc/sys/kernel/ftrace_enabled = 0", "ftrace_enabled", False),
        ("sys/kernel/security/lockdown = none [integrity] confidentiality", "lockdown", "integrity"),
        ("sys/kernel/security/lockdown = none integrity [confidentiality]", "lockdown", "confidentiality"),
        ("sys/kernel/security/lockdown = none integrity", "lockdown", None),
        ("proc/sys/kernel/panic = 0", "panic_timeout", 0),
        ("proc/sys/kernel/modules_disabled = 1", "modules_disabled", True),
        ("proc/sys/kernel/modules_disabled = maybe", "modules_disabled", None),
        ("sys/kernel/security/lockdown = [none] [integrity]", "lockdown", None),
        ("proc/sys/kernel/tainted = 45056", "taint", 45056),
        ("proc/sys/kernel/tainted = no number", "taint", None),
        ("proc/sys/kernel/arch = loongarch64", "reliable_stacks", None),
        ("proc/sys/kernel/arch = s390x", "reliable_stacks", True),
        ("sys/devices/system/cpu/online = 0-63,128-191", "cpus", 128),
    ],
)
def test_each_setting(tmp_path: Path, line: str, field: str, value: object) -> None:
    roots = plant("bare-6.1", tmp_path)
    plant_line(line, tmp_path)
    assert getattr(read_environment(roots), field) == value


def test_lockdown_is_none_only_where_the_kernel_lists_its_security_modules_without_it(tmp_path: Path) -> None:
    roots = plant("bare-6.1", tmp_path)
    (roots.sys / "kernel/security/lockdown").unlink()
    assert read_environment(roots).lockdown is None
    plant_line("sys/kernel/security/lsm = capability,yama", tmp_path)
    assert read_environment(roots).lockdown == "none"
    (roots.sys / "kernel/security/lsm").unlink()
    assert read_environment(roots).lockdown is None


def test_a_kernel_without_livepatch(tmp_path: Path) -> None:
    roots = plant("bare-6.1", tmp_path)
    (roots.sys / "kernel/livepatch").rmdir()
    assert read_environment(roots).livepatch is False


def test_tracefs_below_debugfs_is_second_choice(tmp_path: Path) -> None:
    roots = Roots.under(tmp_path)
    plant_line("sys/kernel/tracing/", tmp_path)  # the mount point of a tracefs that is not mounted
    assert find_tracefs(roots) is None
    plant_line("sys/kernel/debug/tracing/tracing_on = 1", tmp_path)
    assert find_tracefs(roots) == roots.sys / "kernel/debug/tracing"
    plant_line("sys/kernel/tracing/tracing_on = 1", tmp_path)
    assert find_tracefs(roots) == roots.sys / "kernel/tracing"


@pytest.mark.parametrize(
    ("line", "manager"),
    [
        ("proc/kcare/effective_version = 6.1.192", "kernelcare"),
        ("sys/module/kcare/", "kernelcare"),
        ("sys/kernel/kgraft/", "kgraft"),
        ("sys/kernel/kpatch/", "kpatch-core"),
        ("sys/kernel/ksplice/", "ksplice"),
        ("sys/module/ksplice_8c6e2hvo_vmlinux/", "ksplice"),
        ("var/snap/canonical-livepatch/current/", "canonical-livepatch"),
    ],
)
def test_another_manager_at_work(tmp_path: Path, line: str, manager: str) -> None:
    plant_line(line, tmp_path)
    assert other_managers(Roots.under(tmp_path)) == (manager,)


def test_kpatch_service_is_enabled_by_a_link_whose_target_need_not_exist(tmp_path: Path) -> None:
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "kpatch.service").symlink_to("/usr/lib/systemd/system/kpatch.service.not-here")
    assert other_managers(Roots.under(tmp_path)) == ("kpatch.service",)


@pytest.mark.parametrize(
    ("value", "letters"),
    [(0, ()), (45056, ("O", "E", "K")), (1, ("P",)), (1 << 19, ("J",)), (1 << 30 | 512, ("W", "bit30"))],
)
def test_taint_letters(value: int, letters: tuple[str, ...]) -> None:
    assert taint_flags(value) == letters


@given(st.integers(min_value=0, max_value=2**64))
def test_every_taint_bit_is_said_once(value: int) -> None:
    letters = taint_flags(value)
    assert len(set(letters)) == len(letters) == bin(value).count("1")


@given(st.sets(st.integers(0, 300), min_size=1))
def test_cpus_are_counted_however_their_list_is_grouped(cpus: set[int]) -> None:
    groups: list[list[int]] = []
    for cpu in sorted(cpus):
        if groups and groups[-1][-1] == cpu - 1:
            groups[-1].append(cpu)
        else:
            groups.append([cpu])
    ranges = ",".join(str(g[0]) if len(g) == 1 else f"{g[0]}-{g[-1]}" for g in groups)
    assert count_cpus(ranges) == len(cpus)


@pytest.mark.parametrize("text", ["", "x", "0-", "-3", "0-3,", "1,,2"])
def test_what_is_no_list_of_cpus(text: str) -> None:
    assert count_cpus(text) is None


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert count_cpus(text) is None or set(text) <= set("0123456789-,")
    assert threads_in(text) is None or "/" in text
    assert chosen(text) is None or "[" in text


@pytest.mark.parametrize("text", [None, "", "0.1 0.2 0.3 1/x 12", "0.1 0.2 0.3 12"])
def test_threads_are_unknown_without_a_load_line(text: str | None) -> None:
    assert threads_in(text) is None
