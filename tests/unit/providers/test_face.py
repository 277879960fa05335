"""The one face, over programs that stand for the vendors' clients."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.host.programs import Said
from livepatch_core.host.status import Klp
from livepatch_core.kernel.roots import Roots
from livepatch_core.providers import face
from livepatch_core.providers.found import Found
from livepatch_core.words import Kind, Verdict
from tests.unit.providers import said

RELEASE = "5.15.0-100-generic"
IN_FORCE = Found(Verdict.PATCHED, "it says so", "9.9", ("CVE-2020-1000",))
IDLE = Found(Verdict.UNPATCHED, "nothing")
UNSAID = Found(Verdict.UNKNOWN, "its client failed")
NOTHING, OURS = Klp(idle=True), Klp(idle=False, ours=True)
THEIRS = Klp(idle=False, foreign=("lkp_Ubuntu_5_15_0_100_110_generic_104",))
BOTH = Klp(idle=False, ours=True, foreign=THEIRS.foreign)


class Host:
    """A kernel's files, and the programs that are installed: what each prints, and what it changes."""

    def __init__(self, place: Path) -> None:
        self.roots = Roots.under(place)
        self.programs: dict[tuple[str, ...], Said] = {}
        self.then: dict[tuple[str, ...], dict[tuple[str, ...], Said]] = {}
        self.calls: list[tuple[str, ...]] = []
        kernel = self.roots.proc / "sys/kernel"
        kernel.mkdir(parents=True)
        (kernel / "osrelease").write_text(RELEASE)
        (kernel / "version").write_text("#1")

    def run(self, command: Sequence[str], timeout: float) -> Said | None:
        self.calls.append(tuple(command))
        answer = self.programs.get(tuple(command))
        self.programs.update(self.then.get(tuple(command), {}))
        return answer

    @property
    def site(self) -> face.Site:
        return face.Site(self.roots, self.run)

    def kernelcare(self, applied: bool) -> None:
        info = said.KCARE_INFO if applied else said.KCARE_INFO_NONE
        self.programs.update(
            {
                ("kcarectl", "--status"): Said(0 if applied else 1, ""),
                ("kcarectl", "--info"): Said(0, info),
                ("kcarectl", "--patch-info"): Said(0, said.KCARE_PATCHES),
                ("kcarectl", "--uname"): Said(0, "5.15.0-105\n"),
            }
        )
        (self.roots.proc / "kcare").mkdir(exist_ok=True)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_nothing_else_is_at_work(host: Host) -> None:
    assert face.statuses(host.site) == {}


def test_a_client_that_hangs_makes_its_system_unknown(host: Host) -> None:
    def hang(command: Sequence[str], timeout: float) -> Said | None:
        if command[0] == "canonical-livepatch":
            raise LivepatchError(Kind.INTERNAL, "it did not end")
        return None

    found = face.statuses(face.Site(host.roots, hang))
    assert {name: one.verdict for name, one in found.items()} == {"canonical": Verdict.UNKNOWN}


def test_the_enhanced_client_is_found(host: Host) -> None:
    host.programs[("ksplice", "kernel", "show")] = Said(0, said.UPTRACK_SHOW)
    found = face.statuses(host.site)["ksplice"]
    assert (found.verdict, found.effective) == (Verdict.PATCHED, "3.8.13-55.1.1.el6uek")


@pytest.mark.parametrize(
    ("klp", "found", "managers", "says"),
    [
        (OURS, {"kernelcare": IDLE}, (), "KernelCare must not be mixed"),
        (NOTHING, {"kernelcare": IDLE, "canonical": IN_FORCE}, (), "KernelCare must not be mixed"),
        (OURS, {"ksplice": IN_FORCE}, (), "more than one system"),
        (THEIRS, {"ksplice": IN_FORCE}, (), "more than one system"),
        (NOTHING, {"ksplice": IN_FORCE, "kgraft": IN_FORCE}, (), "more than one system"),
        (OURS, {"canonical": IN_FORCE}, (), "more than one system patches this kernel: canonical, klp"),
        (BOTH, {"canonical": IN_FORCE}, (), "more than one system patches this kernel: canonical, klp"),
        (BOTH, {"canonical": UNSAID}, (), "more than one system patches this kernel: canonical, klp"),
        (OURS, {}, ("kpatch.service",), "kpatch.service loads modules of its own"),
    ],
)
def test_conflicts(klp: Klp, found: dict[str, Found], managers: tuple[str, ...], says: str) -> None:
    (sentence,) = face.conflicts(klp, found, managers)
    assert says in sentence


@pytest.mark.parametrize(
    ("klp", "found"),
    [
        (OURS, {}),
        (NOTHING, {"kernelcare": IN_FORCE}),
        (THEIRS, {"canonical": IN_FORCE}),  # its modules are what klp sees
        (OURS, {"canonical": UNSAID}),  # all that klp sees is ours
        (OURS, {"ksplice": IDLE}),
    ],
)
def test_no_conflict(klp: Klp, found: dict[str, Found]) -> None:
    assert face.conflicts(klp, found) == []


# -- acts


def commands(host: Host, command: tuple[str, ...], applied: bool, status: int = 0) -> None:
    """``command`` makes KernelCare what ``applied`` says."""
    after = Host.__new__(Host)
    after.roots, after.programs = host.roots, {}
    after.kernelcare(applied)
    host.programs[command] = Said(status, "done", "" if status == 0 else "it failed")
    host.then[command] = after.programs


def test_apply_and_revert(host: Host) -> None:
    host.kernelcare(False)
    commands(host, ("kcarectl", "--update"), applied=True)
    done = face.apply(host.site, "kernelcare").document()
    assert done["result"] is True
    assert done["changes"]["provider"]["new"]["verdict"] == "patched"
    commands(host, ("kcarectl", "--unload"), applied=False)
    done = face.revert(host.site, "kernelcare").document()
    assert (done["result"], done["changes"]["provider"]["new"]["verdict"]) == (True, "unpatched")


def test_what_the_system_says_counts_not_the_exit_status(host: Host) -> None:
    host.kernelcare(False)
    commands(host, ("kcarectl", "--update"), applied=False)
    done = face.apply(host.site, "kernelcare").document()
    assert (done["result"], done["kind"], done["changes"]) == (False, "internal", {})
    commands(host, ("kcarectl", "--update"), applied=True, status=1)
    assert face.apply(host.site, "kernelcare").document()["result"] is True


@pytest.mark.parametrize("provider", ["kernelcare", "ksplice"])
def test_kernelcare_and_another_are_not_brought_together(host: Host, provider: str) -> None:
    host.kernelcare(provider != "kernelcare")
    host.programs[("uptrack-show",)] = Said(0, said.UPTRACK_SHOW if provider == "kernelcare" else "")
    with pytest.raises(LivepatchError) as caught:
        face.refuse_mixing(host.site, provider)
    assert caught.value.kind is Kind.CONFLICT
    other = "ksplice" if provider == "kernelcare" else "kernelcare"
    assert f"and {other} is at work here: {provider} was not asked" in caught.value.message


def test_kernelcare_is_not_brought_beside_a_livepatch(host: Host) -> None:
    host.kernelcare(False)
    face.refuse_mixing(host.site, "kernelcare")
    (host.roots.sys / "kernel/livepatch/lp_1").mkdir(parents=True)
    face.refuse_mixing(host.site, "ksplice")
    with pytest.raises(LivepatchError, match="patch lp_1 of the kernel's own livepatch is at work here"):
        face.refuse_mixing(host.site, "kernelcare")


@pytest.mark.parametrize("first", [True, False])
def test_a_kgraft_patch_that_has_to_wait_for_the_one_before(
    host: Host, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reverts one at a time: what was begun is said, and is a change."""
    base = host.roots.sys / "kernel/kgraft"
    for name in ("kgraft_patch_1", "kgraft_patch_2"):
        (base / name).mkdir(parents=True)
        (base / name / "state").write_text(said.KGRAFT_STATE)
    (base / "in_progress").write_text("0\n")
    (base / f"kgraft_patch_{2 if first else 1}" / "revert").mkdir()  # cannot be written, as while it is busy
    real = face.kgraft.revert

    def revert(roots: Roots, patch: str) -> None:
        real(roots, patch)
        (base / "in_progress").write_text("1\n")

    monkeypatch.setattr(face.kgraft, "revert", revert)
    if first:
        with pytest.raises(LivepatchError, match="nothing was changed"):
            face.revert(host.site, "kgraft")
        return
    done = face.revert(host.site, "kgraft")
    assert (done.result, done.kind) == (False, Kind.BUSY)
    assert "began to revert kgraft_patch_2. Then: kGraft did not revert kgraft_patch_1 (" in done.comment
    assert "); nothing more was changed. " in done.comment and "nothing was changed" not in done.comment
    assert done.changes["provider"]["old"]["verdict"] == "patched"
    assert done.changes["provider"]["new"]["verdict"] == "patching"


@pytest.mark.parametrize(
    ("state", "supported", "check", "result"),
    [
        ("nothing-to-apply", "supported", "checked", True),
        ("applied", "kernel-upgrade-required", "checked", True),
        ("nothing-to-apply", "supported", "check-failed", False),
        ("nothing-to-apply", "unsupported", "checked", False),
        ("unapplied", "supported", "checked", False),
    ],
)
def test_a_kernel_that_has_all_there_is(
    host: Host, state: str, supported: str, check: str, result: bool
) -> None:
    """There is nothing to apply to a kernel that is new enough: that is no failure to apply."""
    document = json.loads(said.canonical(state, supported=supported))
    document["Status"][0]["Livepatch"]["CheckState"] = check
    host.programs[face.canonical.STATUS] = Said(0, json.dumps(document))
    host.programs[face.canonical.APPLY] = Said(0, "")
    done = face.apply(host.site, "canonical").document()
    assert (done["result"], done["changes"]) == (result, {})


@pytest.mark.parametrize(
    ("act", "provider", "kind", "remedy"),
    [
        (face.apply, "klp", Kind.UNSUPPORTED, "livepatch.apply"),
        (face.revert, "klp", Kind.UNSUPPORTED, "livepatch.revert"),
        (face.apply, "kgraft", Kind.UNSUPPORTED, "packages"),
        (face.revert, "canonical", Kind.UNSUPPORTED, "Only a boot"),
        (face.apply, "ksplice", Kind.UNSUPPORTED, "not installed"),
        (face.apply, "kernelcare", Kind.UNSUPPORTED, "Install the client"),
        (face.apply, "syscare", Kind.ARGUMENT, "One of"),
    ],
)
def test_what_cannot_be_done(host: Host, act: Any, provider: str, kind: Kind, remedy: str) -> None:
    with pytest.raises(LivepatchError) as caught:
        act(host.site, provider)
    assert caught.value.kind is kind
    assert remedy in caught.value.remedy
