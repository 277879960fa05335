"""Each system's own words, turned into the project's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.errors import LivepatchError
from livepatch_core.host.programs import Said, run
from livepatch_core.kernel.roots import Roots
from livepatch_core.providers import canonical, kernelcare, kgraft, ksplice
from livepatch_core.providers.found import cves_in
from livepatch_core.words import Kind, Verdict
from tests.unit.providers import said

RELEASE = "5.15.0-100-generic"


# -- KernelCare


@pytest.mark.parametrize(
    ("status", "info", "verdict"),
    [
        (0, said.KCARE_INFO, Verdict.PATCHED),
        (2, said.KCARE_INFO, Verdict.PATCHED),
        (1, said.KCARE_INFO_NONE, Verdict.UNPATCHED),
        (3, said.KCARE_INFO_NONE, Verdict.UNSUPPORTED),
        (0, said.KCARE_INFO_NONE, Verdict.UNKNOWN),  # they contradict each other
        (1, said.KCARE_INFO, Verdict.UNKNOWN),
        (127, said.KCARE_INFO, Verdict.UNKNOWN),
    ],
)
def test_kernelcare(status: int, info: str, verdict: Verdict) -> None:
    found = kernelcare.judge(
        Said(status, ""), Said(0, info), Said(0, said.KCARE_PATCHES), "5.4.0-1028.32", True
    )
    assert found.verdict is verdict
    patched = verdict is Verdict.PATCHED
    assert found.fixes == (("CVE-2017-1000364", "CVE-2017-7895") if patched else ())
    assert found.patches == (("2.6.32/symlink-protection.patch", "2.6.32/second.patch") if patched else ())
    assert found.effective == "5.4.0-1028.32"
    assert not found.doubtful


def test_kernelcare_without_its_module() -> None:
    found = kernelcare.judge(Said(0, ""), Said(0, said.KCARE_INFO), None, None, False)
    assert (found.verdict, found.doubtful) == (Verdict.PATCHED, "its kernel module is not loaded")
    assert found.fixes == ()


# -- Ksplice


def test_ksplice_patched() -> None:
    found = ksplice.judge(Said(0, said.UPTRACK_SHOW), Said(0, said.UPTRACK_UNAME), True)
    assert (found.verdict, found.effective) == (Verdict.PATCHED, "3.8.13-55.1.1.el6uek.x86_64")
    assert found.fixes == ("CVE-2014-3690", "CVE-2014-7826")
    assert found.patches == ("dfvn0zq8", "k3bv2x0a")
    assert not found.doubtful


def test_ksplice_without_uptrack_uname() -> None:
    found = ksplice.judge(Said(0, said.UPTRACK_SHOW), None, False)
    assert (found.verdict, found.effective) == (Verdict.PATCHED, "3.8.13-55.1.1.el6uek")
    assert found.doubtful, "the kernel shows no trace of it"


def test_ksplice_listing_that_is_not_understood() -> None:
    """It must not make a patched kernel unpatched, and a version alone makes none patched."""
    found = ksplice.judge(Said(0, "?"), Said(0, "2.0\n"), True)
    assert (found.verdict, found.effective, found.patches) == (Verdict.UNKNOWN, "2.0", ())


@pytest.mark.parametrize(
    ("shown", "uname"),
    [
        (said.UPTRACK_NOTHING, None),
        (said.UPTRACK_NOTHING_UBUNTU, None),
        (said.UPTRACK_NOTHING, Said(1, "", "it failed")),
        (said.UPTRACK_NOTHING, Said(0, "3.8.13-44.el6uek\n")),
    ],
)
def test_ksplice_version_that_is_never_that_of_uname(shown: str, uname: Said | None) -> None:
    """It was taken for updates in force: an unpatched host was patched."""
    found = ksplice.judge(Said(0, shown), uname, False)
    assert (found.verdict, found.patches, found.doubtful) == (Verdict.UNPATCHED, (), "")
    assert found.effective in ("3.8.13-44.el6uek", "5.15.0-89.99")


@pytest.mark.parametrize(
    ("shown", "in_kernel", "verdict"),
    [
        (Said(0, said.UPTRACK_NOTHING), False, Verdict.UNPATCHED),
        (Said(0, said.UPTRACK_NOTHING), True, Verdict.UNKNOWN),
        (Said(1, "", "error: cannot lock"), True, Verdict.UNKNOWN),
    ],
)
def test_ksplice_otherwise(shown: Said, in_kernel: bool, verdict: Verdict) -> None:
    assert ksplice.judge(shown, Said(0, "1.0\n"), in_kernel).verdict is verdict


# -- Canonical Livepatch


@pytest.mark.parametrize(
    ("state", "verdict", "doubtful"),
    [
        ("applied", Verdict.PATCHED, False),
        ("applied-with-bug", Verdict.PATCHED, True),
        ("nothing-to-apply", Verdict.UNPATCHED, False),
        ("apply-failed", Verdict.UNPATCHED, False),
        ("needs-check", Verdict.UNKNOWN, False),
        ("Kernel-upgrade-required", Verdict.UNCOVERED, False),
        ("something-new", Verdict.UNKNOWN, False),
    ],
)
def test_canonical(state: str, verdict: Verdict, doubtful: bool) -> None:
    found = canonical.judge(Said(0, said.canonical(state)), RELEASE)
    assert (found.verdict, bool(found.doubtful)) == (verdict, doubtful)
    assert found.fixes == (("CVE-2023-6270",) if verdict is Verdict.PATCHED else ())
    assert bool(found.reboot) is (state == "Kernel-upgrade-required")


def test_canonical_kernel_that_is_not_covered() -> None:
    found = canonical.judge(Said(0, said.canonical("nothing-to-apply", supported="unsupported")), RELEASE)
    assert (found.verdict, found.reboot) == (Verdict.UNCOVERED, "")


@pytest.mark.parametrize("supported", said.SUPPORTED)
@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        ("applied", Verdict.PATCHED),
        ("applying", Verdict.PATCHING),
        ("nothing-to-apply", Verdict.UNPATCHED),
        ("unapplied", Verdict.UNPATCHED),
        ("", Verdict.UNKNOWN),
        ("check-failed", Verdict.UNKNOWN),
    ],
)
def test_canonical_kernel_that_has_to_go(state: str, verdict: Verdict, supported: str) -> None:
    """The word stands under Supported, and holds whatever is in force."""
    found = canonical.judge(Said(0, said.canonical(state, supported=supported)), RELEASE)
    ends = supported in ("kernel-upgrade-required", "kernel-end-of-life")
    nothing = state in ("nothing-to-apply", "unapplied", "")
    covered = supported in ("supported", "unknown")
    assert found.verdict is (Verdict.UNCOVERED if nothing and not covered else verdict)
    assert bool(found.reboot) is ends
    assert not ends or found.reboot in found.reason, "who reads the verdict alone sees it too"


def test_canonical_tells_kernels_apart() -> None:
    other = json.loads(said.canonical("applied", running=False))["Status"]
    here = json.loads(said.canonical("nothing-to-apply"))["Status"]
    found = canonical.judge(Said(0, json.dumps({"Status": other + here})), RELEASE)
    assert found.verdict is Verdict.UNPATCHED
    by_name = json.loads(said.canonical("applied", running=None))["Status"]
    another = json.loads(said.canonical("unapplied", running=None, Kernel="5.15.0-99.109-generic"))["Status"]
    found = canonical.judge(Said(0, json.dumps({"Status": another + by_name})), RELEASE)
    assert found.verdict is Verdict.PATCHED
    assert canonical.judge(Said(0, json.dumps({"Status": other})), RELEASE).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("text", ["", "[]", "3", '{"Status": 1}', '{"Status": [1]}', "not JSON"])
def test_canonical_nonsense(text: str) -> None:
    assert canonical.judge(Said(0, text), RELEASE).verdict is Verdict.UNKNOWN
    assert canonical.judge(Said(1, text, "no token"), RELEASE).verdict is Verdict.UNKNOWN


# -- kGraft


@pytest.fixture
def kernel(tmp_path: Path) -> Roots:
    """A kernel with kGraft and two patches in force."""
    base = tmp_path / "sys/kernel/kgraft"
    for name, text in (("kgraft_patch_1", said.KGRAFT_STATE), ("kgraft_patch_2", said.KGRAFT_STATE_NEWER)):
        (base / name).mkdir(parents=True)
        (base / name / "state").write_text(text)
        (base / name / "revert").write_text("")
    (base / "in_progress").write_text("0\n")
    return Roots.under(tmp_path)


def test_kgraft_patched(kernel: Roots) -> None:
    found = kgraft.status(kernel)
    assert (found.verdict, found.patches) == (Verdict.PATCHED, ("kgraft_patch_1", "kgraft_patch_2"))
    assert found.evidence == "kernel"


def test_kgraft_tables_differ() -> None:
    assert kgraft.parse_state(said.KGRAFT_STATE) == {"SyS_foo": 2, "tcp_bar": 2}
    assert kgraft.parse_state(said.KGRAFT_STATE_NEWER) == {"SyS_foo": 2, "xfs_bar": 5}
    for text in ("", "Function\nfoo\n", "Function State\nfoo\n", "Function State\nfoo two\n"):
        assert kgraft.parse_state(text) is None


@pytest.mark.parametrize(
    ("in_progress", "states", "verdict"),
    [
        (False, {}, Verdict.UNPATCHED),
        (False, {"p": {"f": 4}}, Verdict.UNPATCHED),
        (False, {"p": {"f": 2, "g": 5}}, Verdict.PATCHED),
        (False, {"p": {"f": 2, "g": 0}}, Verdict.UNKNOWN),
        (False, {"p": None}, Verdict.UNKNOWN),
        (None, {}, Verdict.UNKNOWN),
        (True, {"p": {"f": 1}, "q": {"f": 2}}, Verdict.PATCHING),
        (True, {"p": {"f": 3}}, Verdict.REVERTING),
    ],
)
def test_kgraft(in_progress: bool | None, states: dict[str, dict[str, int] | None], verdict: Verdict) -> None:
    assert kgraft.judge(in_progress, states).verdict is verdict


@given(
    st.booleans(),
    st.dictionaries(st.text("pq", min_size=1), st.dictionaries(st.text("fg"), st.integers(0, 5))),
)
def test_kgraft_is_patched_only_when_nothing_is_amiss(
    in_progress: bool, states: dict[str, dict[str, int]]
) -> None:
    found = kgraft.judge(in_progress, states)
    if found.verdict is Verdict.PATCHED:
        assert not in_progress
        assert all(set(states[name].values()) <= {2, 5} for name in found.patches)
        assert not any(
            2 in functions.values() for name, functions in states.items() if name not in found.patches
        )


def test_kgraft_stragglers(kernel: Roots) -> None:
    for pid, flag in ((1, "0"), (77, "1"), (8, "1")):
        (kernel.proc / str(pid)).mkdir(parents=True)
        (kernel.proc / str(pid) / "kgr_in_progress").write_text(f"{flag}\n")
    assert "details" not in kgraft.status(kernel).document(), "nothing moves"
    (kernel.sys / "kernel/kgraft/in_progress").write_text("1\n")
    found = kgraft.status(kernel).document()
    assert (found["verdict"], found["details"]) == ("patching", {"stragglers": [8, 77]})


def test_kgraft_revert(kernel: Roots) -> None:
    kgraft.revert(kernel, "kgraft_patch_1")
    assert (kernel.sys / "kernel/kgraft/kgraft_patch_1/revert").read_text() == "1"
    with pytest.raises(LivepatchError, match="There is no kGraft patch other"):
        kgraft.revert(kernel, "other")


# -- programs


def test_a_program_that_is_not_there() -> None:
    assert run(["no-such-program-here"]) is None


def test_a_program_that_hangs() -> None:
    with pytest.raises(LivepatchError) as caught:
        run(["sleep", "60"], 0.2)
    assert caught.value.kind is Kind.INTERNAL


def test_a_program_sees_no_terminal_and_no_foreign_settings() -> None:
    os.environ["LIVEPATCH_TEST_LEAK"] = "1"
    try:
        shown = run(["sh", "-c", "echo ${LIVEPATCH_TEST_LEAK-no} $LC_ALL; cat; exit 3"])
    finally:
        del os.environ["LIVEPATCH_TEST_LEAK"]
    assert shown == Said(3, "no C\n")
    assert shown.complaint == "no C"


def test_cves() -> None:
    assert cves_in("cve-2024-12345, CVE-2024-1, xCVE-2024-1234, CVE-2023-0001 CVE-2023-0001") == (
        "CVE-2023-0001",
        "CVE-2024-12345",
    )
