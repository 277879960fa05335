"""What the kernel's answers mean. Errnos and log lines are those seen on Debian's 6.1."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.kernel import explain
from livepatch_core.kernel.kmsg import Record
from livepatch_core.words import Kind

DATA = Path(__file__).resolve().parent.parent / "data/kernel"
CONFLICT = (
    "livepatch: enabling patch 'lp_one'",
    "livepatch: failed to register ftrace handler for function 'cmdline_proc_show' (-16)",
    "livepatch: failed to patch object 'vmlinux'",
    "livepatch: failed to enable patch 'lp_one'",
    "livepatch: 'lp_one': unpatching complete",
)
# (errno, log lines, kind, a word the sentence must hold)
REFUSALS = [
    (errno.EKEYREJECTED, ["Loading of unsigned module is rejected"], Kind.SIGNATURE, "(unsigned module)"),
    (
        errno.EINVAL,
        [
            "livepatch: symbol 'x_show' not found in symbol table",
            "livepatch: patch 'lp_one' failed for module 'xfs', refusing to load module 'xfs'",
        ],
        Kind.CONFLICT,
        "lp_one, which is in force, patches xfs",
    ),
    (errno.EPERM, ["livepatch: pre-patch callback failed for object 'vmlinux'"], Kind.STATE, "vmlinux"),
    (errno.EINVAL, ["lp_one: `maybe' invalid for parameter `refuse'"], Kind.ARGUMENT, "refuse"),
    (
        errno.EKEYREJECTED,
        ["Loading of module with unavailable key is rejected"],
        Kind.SIGNATURE,
        "unavailable key",
    ),
    (errno.EKEYREJECTED, [], Kind.SIGNATURE, "signature"),
    (errno.ENOKEY, [], Kind.SIGNATURE, "signature"),
    (
        errno.EPERM,
        ["Lockdown: insmod: unsigned module loading is restricted; see man kernel_lockdown.7"],
        Kind.LOCKDOWN,
        "locked down",
    ),
    (errno.EPERM, [], Kind.PRIVILEGE, "root"),
    (
        errno.ENOEXEC,
        [
            "lp_one: version magic '6.1.0-56-amd64 SMP mod_unload modversions ' should be "
            "'6.1.0-56-amd64 SMP preempt mod_unload modversions '"
        ],
        Kind.KERNEL_MISMATCH,
        "SMP preempt mod_unload",
    ),
    (
        errno.ENOEXEC,
        ["lp_one: disagrees about version of symbol module_layout"],
        Kind.KERNEL_MISMATCH,
        "module_layout",
    ),
    (
        errno.EINVAL,
        ["lp_one: disagrees about version of symbol seq_puts", "lp_one: Unknown symbol seq_puts (err -22)"],
        Kind.KERNEL_MISMATCH,
        "seq_puts",
    ),
    (
        errno.ENOEXEC,
        [
            "module lp_one: .gnu.linkonce.this_module section size must match the kernel's "
            "built struct module size at run time"
        ],
        Kind.KERNEL_MISMATCH,
        "struct module",
    ),
    (errno.ENOEXEC, ["Invalid ELF section header overflow"], Kind.MODULE_FORMAT, "damaged"),
    (errno.ENOEXEC, ["Invalid ELF header len 6"], Kind.MODULE_FORMAT, "damaged"),
    (errno.ENOEXEC, [], Kind.MODULE_FORMAT, "digest"),
    (
        errno.ENOEXEC,
        ["lp_one: module is marked as livepatch module, but livepatch support is disabled"],
        Kind.UNSUPPORTED,
        "CONFIG_LIVEPATCH",
    ),
    (
        errno.EINVAL,
        ["livepatch: symbol 'no_such_function_xyz' not found in symbol table"],
        Kind.SYMBOL,
        "no_such_function_xyz",
    ),
    (
        errno.EINVAL,
        ["livepatch: unresolvable ambiguity for symbol 'init_once' in object '(null)'"],
        Kind.SYMBOL,
        "init_once",
    ),
    (
        errno.EINVAL,
        ["livepatch: symbol position 9 for symbol 'init_once' in object 'vmlinux' not found"],
        Kind.SYMBOL,
        "number 9",
    ),
    (
        errno.EINVAL,
        ["livepatch: module lp_noinfo is not marked as a livepatch module"],
        Kind.NOT_LIVEPATCH,
        "livepatch=Y",
    ),
    (
        errno.EINVAL,
        ["livepatch: Livepatch patch (lp_one) is not compatible with the already installed livepatches."],
        Kind.STATE,
        "system states",
    ),
    (
        errno.ENOENT,
        ["m_unres: Unknown symbol lab_missing_symbol (err -2)"],
        Kind.DEPENDENCY,
        "lab_missing_symbol",
    ),
    (errno.EEXIST, [], Kind.CONFLICT, "loaded already"),
    (errno.EBUSY, list(CONFLICT), Kind.CONFLICT, "cmdline_proc_show"),
    (errno.EBUSY, [], Kind.BUSY, "transition"),
    (errno.ENOENT, [], Kind.DEPENDENCY, "modinfo"),
    (errno.ENODEV, [], Kind.INTERNAL, "dmesg"),
    (errno.ENOMEM, [], Kind.INTERNAL, "ENOMEM"),
    (errno.ENOSYS, [], Kind.UNSUPPORTED, "another kernel"),
    (errno.EOPNOTSUPP, [], Kind.UNSUPPORTED, "another kernel"),
    (
        errno.EACCES,
        [
            "ima: impossible to appraise a module without a file descriptor. "
            "sig_enforce kernel parameter might help"
        ],
        Kind.SIGNATURE,
        "sig_enforce",
    ),
]


def logged(*lines: str) -> tuple[Record, ...]:
    return tuple(Record(n, n * 1000, 6, line) for n, line in enumerate(lines))


def failure(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def load(
    code: int, *lines: str, transition: str | None = None, already_loaded: bool = False
) -> tuple[Kind, str]:
    return explain.explain_load(
        failure(code), logged(*lines), transition=transition, already_loaded=already_loaded
    )


@pytest.mark.parametrize(("code", "lines", "kind", "word"), REFUSALS)
def test_each_refusal_has_its_kind_and_sentence(code: int, lines: list[str], kind: Kind, word: str) -> None:
    found, sentence = load(code, *lines)
    assert found is kind
    assert word in sentence
    assert errno.errorcode[code] in sentence
    assert "runs what it ran before" in sentence
    assert "{" not in sentence


def test_a_running_transition_decides_over_the_log_and_names_the_holder() -> None:
    kind, sentence = load(errno.EBUSY, *CONFLICT, transition="lp_zero")
    assert kind is Kind.BUSY
    assert "lp_zero" in sentence


def test_a_load_of_the_same_name_is_busy() -> None:
    kind, sentence = load(errno.EBUSY, already_loaded=True)
    assert kind is Kind.BUSY
    assert "just being loaded or removed" in sentence


def test_ftrace_switched_off_shares_errno_and_log_line_with_a_conflict() -> None:
    kind, sentence = explain.explain_load(
        failure(errno.EBUSY), logged(*CONFLICT), transition=None, already_loaded=False, ftrace_enabled=False
    )
    assert kind is Kind.FTRACE
    assert "kernel.ftrace_enabled" in sentence


def test_lockdown_is_known_beforehand_when_the_log_says_nothing() -> None:
    kind, sentence = explain.explain_load(
        failure(errno.EPERM), (), transition=None, already_loaded=False, lockdown="confidentiality"
    )
    assert kind is Kind.LOCKDOWN
    assert "confidentiality" in sentence


def test_the_kernels_own_cleaning_up_is_quoted_but_never_decides() -> None:
    kind, sentence = load(errno.EBUSY, "livepatch: 'lp_one': unpatching complete")
    assert kind is Kind.BUSY
    assert "unpatching complete" in sentence


def test_lines_about_other_things_are_not_quoted() -> None:
    _, sentence = load(errno.ENODEV, "usb 1-1: new high-speed device", "livepatch: enabling patch 'lp_one'")
    assert "usb" not in sentence
    assert "enabling patch" in sentence


def test_the_last_five_lines_that_explain_are_quoted() -> None:
    taint = "lp_one: module verification failed: signature and/or required key missing - tainting kernel"
    _, sentence = load(errno.ENODEV, *(f"livepatch: line {n}." for n in range(8)), taint)
    assert sentence.endswith(
        "The kernel logged: livepatch: line 3 | livepatch: line 4 | livepatch: line 5 | "
        "livepatch: line 6 | livepatch: line 7."
    )


# The kinds of what was captured (refusals-*.json: errno and log lines of each case, in a guest).
CAPTURED = {
    "lp_missing_symbol": Kind.SYMBOL,
    "lp_ambiguous_symbol": Kind.SYMBOL,
    "lp_far_position": Kind.SYMBOL,
    "lp_not_marked": Kind.NOT_LIVEPATCH,
    "lp_needs_provider": Kind.DEPENDENCY,
    "lp_init_fails": Kind.INTERNAL,
    "other flags in the vermagic": Kind.KERNEL_MISMATCH,
    "made for another kernel line": Kind.KERNEL_MISMATCH,
    "made for the cloud flavour": Kind.KERNEL_MISMATCH,
    "truncated": Kind.MODULE_FORMAT,
    "a text file": Kind.MODULE_FORMAT,
    "an empty file": Kind.MODULE_FORMAT,
    "pre_patch refuses": Kind.STATE,
    "wrong parameter": Kind.ARGUMENT,
    "the same again": Kind.CONFLICT,
    "same name, other content": Kind.CONFLICT,
    "lower state version": Kind.STATE,
    "state missing": Kind.STATE,
    "kprobe with post handler": Kind.CONFLICT,
    "late module refused": Kind.CONFLICT,
    "module.sig_enforce=1": Kind.SIGNATURE,
    "lockdown=integrity": Kind.LOCKDOWN,
    "lockdown=confidentiality": Kind.LOCKDOWN,
}


@pytest.mark.parametrize("release", ["6.1", "6.12"])
def test_what_real_kernels_answered(release: str) -> None:
    captured = json.loads((DATA / f"refusals-{release}.json").read_text())
    answers = {case: load(getattr(errno, seen["errno"]), *seen["log"]) for case, seen in captured.items()}
    kinds = {case: kind for case, (kind, _) in answers.items()}
    cases = CAPTURED.keys() - (set() if release == "6.1" else {"made for the cloud flavour"})
    assert kinds == {case: CAPTURED[case] for case in cases}


@given(st.sampled_from(sorted(errno.errorcode)), st.lists(st.sampled_from(REFUSALS)))
def test_a_line_is_only_believed_under_an_errno_it_goes_with(
    code: int, others: list[tuple[int, list[str], Kind, str]]
) -> None:
    """Lines of other refusals, of another module's load at the same time, may stand in the log."""
    lines = [line for _, group, _, _ in others for line in group]
    possible = {kind for number, _, kind, _ in REFUSALS if number == code} | {Kind.INTERNAL, load(code)[0]}
    possible |= {Kind.CONFLICT, Kind.STATE}  # a callback's or another patch's errno comes through as it is
    if code == errno.EINVAL:
        possible |= {Kind.UNSUPPORTED, Kind.DEPENDENCY}
    if code in (errno.ERANGE, errno.ENOSPC):
        possible |= {Kind.ARGUMENT}
    if code in (errno.ENOKEY, errno.EPERM):
        possible |= {Kind.SIGNATURE}
    assert load(code, *lines)[0] in possible


@given(st.integers(0, 4095), st.lists(st.text()))
def test_no_answer_of_the_kernel_is_an_error(code: int, lines: list[str]) -> None:
    kind, sentence = load(code, *lines)
    assert isinstance(kind, Kind)
    assert str(code) in sentence or errno.errorcode.get(code, "?") in sentence


@pytest.mark.parametrize(
    ("code", "kind", "word"),
    [
        (errno.EBUSY, Kind.BUSY, "lp_zero"),
        (errno.EINVAL, Kind.DRIFT, "policy"),
        (errno.ENOENT, Kind.DRIFT, "does not list"),
        (errno.ENODEV, Kind.DRIFT, "does not list"),
        (errno.EACCES, Kind.PRIVILEGE, "root"),
        (errno.EIO, Kind.INTERNAL, "EIO"),
    ],
)
def test_disabling(code: int, kind: Kind, word: str) -> None:
    found, sentence = explain.explain_disable(failure(code), (), patch="lp_one", transition="lp_zero")
    assert (found, word in sentence, "disabled" in sentence, "lp_one" in sentence) == (kind, True, True, True)


def test_enabling_again_is_told_as_enabling() -> None:
    _, sentence = explain.explain_disable(
        failure(errno.EINVAL), logged("livepatch: whatever"), patch="lp_one", transition=None, value=True
    )
    assert "be enabled" in sentence
    assert "livepatch: whatever" in sentence


@pytest.mark.parametrize(
    ("code", "transition", "kind", "word"),
    [
        (errno.EINVAL, None, Kind.ARGUMENT, "none is"),
        (errno.EINVAL, "lp_zero", Kind.ARGUMENT, "lp_zero is"),
        (errno.ENOENT, None, Kind.DRIFT, "does not list"),
        (errno.EPERM, None, Kind.PRIVILEGE, "root"),
        (errno.EIO, None, Kind.INTERNAL, "EIO"),
    ],
)
def test_forcing(code: int, transition: str | None, kind: Kind, word: str) -> None:
    found, sentence = explain.explain_force(failure(code), (), patch="lp_one", transition=transition)
    assert (found, word in sentence, "lp_one" in sentence) == (kind, True, True)
