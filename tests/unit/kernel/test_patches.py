"""What /sys/kernel/livepatch says, with and without the newer files, at rest and while it changes."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.kernel import attributes, patches
from livepatch_core.kernel.patches import (
    DOUBT,
    FunctionPatch,
    ObjectPatch,
    Patch,
    PatchState,
    functions_in_force,
    in_transition,
    read_patches,
    read_transition,
)
from livepatch_core.kernel.roots import Roots
from tests.unit.kernel.captured import plant, plant_line


def patch(name: str, *targets: ObjectPatch, order: int | None = None, enabled: bool = True) -> Patch:
    return Patch(name, enabled, False, None, order, targets)


def target(name: str, *functions: str, patched: bool | None = True) -> ObjectPatch:
    return ObjectPatch(name, patched, tuple(FunctionPatch(function, 1) for function in functions))


def test_an_old_kernel_without_replace_and_stack_order(tmp_path: Path) -> None:
    (found,) = read_patches(plant("patched-6.1", tmp_path))
    waiting = ObjectPatch("loop", False, (FunctionPatch("loop_set_status", 1),))
    vmlinux = ObjectPatch("vmlinux", True, (FunctionPatch("cmdline_proc_show", 1),))
    assert found == Patch("lp_a", True, False, None, None, (waiting, vmlinux))
    assert found.state is PatchState.PATCHED
    assert functions_in_force([found]) == {("vmlinux", "cmdline_proc_show", 1): "lp_a"}


def test_a_newer_kernel_tells_which_patch_is_cumulative(tmp_path: Path) -> None:
    (found,) = read_patches(plant("replaced-6.12", tmp_path))
    assert (found.name, found.replace, found.stack_order) == ("lp_r", True, None)
    assert functions_in_force([found]) == {
        ("loop", "loop_set_status", 1): "lp_r",
        ("vmlinux", "cmdline_proc_show", 1): "lp_r",
    }


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_two_patches_on_a_function_are_a_doubt_where_the_kernel_tells_no_order(
    tmp_path: Path, kernel: str
) -> None:
    assert functions_in_force(read_patches(plant(f"stacked-{kernel}", tmp_path))) == {
        ("loop", "loop_set_status", 1): "lp_a",
        ("vmlinux", "cmdline_proc_show", 1): DOUBT,
    }


def test_a_kernel_that_tells_the_order_of_stacking(tmp_path: Path) -> None:
    lowest, lower = read_patches(plant("stack-order", tmp_path))
    assert (lowest.name, lowest.stack_order, lowest.replace) == ("z_lowest", 1, True)
    assert (lower.name, lower.stack_order, lower.replace) == ("a_lower", 2, False)
    assert [each.patched for each in lowest.objects] == [False, True]
    assert functions_in_force((lowest, lower)) == {
        ("vmlinux", "cmdline_proc_show", 1): "a_lower",
        ("vmlinux", "show_stat", 2): "a_lower",
    }


def test_a_transition_has_nothing_in_force_yet(tmp_path: Path) -> None:
    at_rest, moving = read_patches(plant("patching-6.1", tmp_path))
    assert moving.state is PatchState.PATCHING
    assert in_transition((at_rest, moving)) is moving
    assert in_transition((at_rest,)) is None
    assert functions_in_force((at_rest, moving)) == {("vmlinux", "cmdline_proc_show", 1): "lp_a"}


def test_a_reversed_transition(tmp_path: Path) -> None:
    roots = plant("patching-6.1", tmp_path)
    plant_line("sys/kernel/livepatch/lp_sleep/enabled = 0", tmp_path)
    assert [each.state for each in read_patches(roots)] == [PatchState.PATCHED, PatchState.UNPATCHING]


@pytest.mark.parametrize(
    ("enabled", "transition", "state"),
    [
        (True, False, "patched"),
        (True, True, "patching"),
        (False, True, "unpatching"),
        (False, False, "disabled"),
        (None, False, "unknown"),
        (True, None, "unknown"),
        (None, None, "unknown"),
    ],
)
def test_the_truth_table(enabled: bool | None, transition: bool | None, state: str) -> None:
    assert Patch("p", enabled, transition, None, None, ()).state == state


def test_a_kernel_without_livepatch_has_no_patches(tmp_path: Path) -> None:
    assert read_patches(Roots.under(tmp_path)) == ()


def test_a_patch_that_vanishes_while_it_is_read_is_not_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = plant("patching-6.1", tmp_path)
    doomed = roots.sys / "kernel/livepatch/lp_sleep"

    def vanish_between_two_files(path: Path) -> bool | None:
        value = attributes.read_flag(path)
        if path == doomed / "enabled":
            shutil.rmtree(doomed, ignore_errors=True)
        return value

    monkeypatch.setattr(patches, "read_flag", vanish_between_two_files)
    assert [each.name for each in read_patches(roots)] == ["lp_a"]


def test_a_patch_that_turns_round_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = plant("patching-6.1", tmp_path)
    enabled = roots.sys / "kernel/livepatch/lp_sleep/enabled"

    def reverse_after_the_first_file(path: Path) -> bool | None:
        value = attributes.read_flag(path)
        if path == enabled:
            enabled.write_text("0\n")
        return value

    monkeypatch.setattr(patches, "read_flag", reverse_after_the_first_file)
    assert [each.state for each in read_patches(roots)] == [PatchState.PATCHED, PatchState.UNPATCHING]


def test_a_patch_that_appears_while_others_are_read_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = plant("patched-6.1", tmp_path)

    def another_appears(path: Path) -> bool | None:
        plant_line("sys/kernel/livepatch/new/enabled = 1", tmp_path)
        plant_line("sys/kernel/livepatch/new/transition = 1", tmp_path)
        return attributes.read_flag(path)

    monkeypatch.setattr(patches, "read_flag", another_appears)
    assert [each.name for each in read_patches(roots)] == ["lp_a", "new"]


def test_a_file_that_could_not_be_read_once_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = plant("patched-6.1", tmp_path)
    failures = iter([None])

    def fails_once(path: Path) -> bool | None:
        value = attributes.read_flag(path)
        return next(failures, value) if path.name == "transition" else value

    monkeypatch.setattr(patches, "read_flag", fails_once)
    assert [each.state for each in read_patches(roots)] == [PatchState.PATCHED]


def test_a_patch_that_never_keeps_still_ends_as_unknown_after_a_bounded_number_of_scans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = plant("patched-6.1", tmp_path)
    scans = 0

    def transition_unreadable(path: Path) -> bool | None:
        nonlocal scans
        if path.name == "transition":
            scans += 1
            return None
        return attributes.read_flag(path)

    monkeypatch.setattr(patches, "read_flag", transition_unreadable)
    assert [each.state for each in read_patches(roots)] == [PatchState.UNKNOWN]
    assert scans < 20


def test_what_a_later_kernel_adds_is_not_taken_for_a_function(tmp_path: Path) -> None:
    roots = plant("patched-6.1", tmp_path)
    for extra in ("vmlinux/state/", "vmlinux/odd,x/", "replace_set = 7", "vmlinux/a,b,3/"):
        plant_line(f"sys/kernel/livepatch/lp_a/{extra}", tmp_path)
    (found,) = read_patches(roots)
    assert found.objects[1].functions == (FunctionPatch("a,b", 3), FunctionPatch("cmdline_proc_show", 1))


def test_several_owners_without_an_order_are_a_doubt() -> None:
    shared, alone = target("vmlinux", "f", "g"), target("vmlinux", "f")
    found = functions_in_force([patch("one", shared), patch("two", alone)])
    assert found == {("vmlinux", "f", 1): DOUBT, ("vmlinux", "g", 1): "one"}


def test_a_third_owner_does_not_settle_a_doubt() -> None:
    one = target("vmlinux", "f")
    assert functions_in_force([patch("a", one), patch("b", one, order=1), patch("c", one, order=2)]) == {
        ("vmlinux", "f", 1): DOUBT
    }


def test_a_target_module_that_nobody_says_is_patched_is_a_doubt_but_vmlinux_is_always_there() -> None:
    targets = target("nfs", "f", patched=None), target("vmlinux", "g", patched=None)
    found = functions_in_force([patch("p", *targets)])
    assert found == {("nfs", "f", 1): DOUBT, ("vmlinux", "g", 1): "p"}


NAMES = st.sampled_from(["f", "g", "h"])
PATCHES = st.lists(
    st.tuples(st.lists(NAMES, unique=True), st.booleans()),
    max_size=5,
)


@given(PATCHES, st.randoms(use_true_random=False))
def test_the_order_of_reading_does_not_decide_what_is_in_force(
    built: list[tuple[list[str], bool]], random: Random
) -> None:
    stack = [
        patch(f"p{order}", target("vmlinux", *functions), order=order, enabled=enabled)
        for order, (functions, enabled) in enumerate(built, start=1)
    ]
    expected = {}
    for each in stack:
        if each.enabled:
            expected.update({("vmlinux", f.name, 1): each.name for f in each.objects[0].functions})
    shuffled = list(stack)
    random.shuffle(shuffled)
    assert functions_in_force(shuffled) == expected


def test_polling_one_transition(tmp_path: Path) -> None:
    assert read_transition(plant("patching-6.1", tmp_path), "lp_sleep") is True
    assert read_transition(plant("patched-6.1", tmp_path), "lp_a") is False
    assert read_transition(Roots.under(tmp_path), "gone") is None


@pytest.mark.parametrize(("number", "gone"), [(errno.ENODEV, True), (errno.EACCES, False)])
def test_a_poll_takes_only_a_removed_directory_for_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, gone: bool
) -> None:
    roots = plant("patching-6.1", tmp_path)

    def fails(path: Path) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "read_bytes", fails)
    if gone:
        assert read_transition(roots, "lp_sleep") is None
    else:
        with pytest.raises(PermissionError):
            read_transition(roots, "lp_sleep")
