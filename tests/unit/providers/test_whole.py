"""livepatch.status and the grain over whatever is underneath; vendors' programs are stand-ins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.host import programs
from livepatch_core.host import status as klp_status
from livepatch_core.host.programs import Said
from livepatch_core.host.status import Klp
from livepatch_core.providers import face, whole
from livepatch_core.providers.found import Found
from livepatch_core.words import Verdict
from tests.unit.host.conftest import levels
from tests.unit.host.fakekernel import module
from tests.unit.host.world import World, build_world
from tests.unit.providers import said
from tests.unit.providers.test_face import BOTH, IDLE, IN_FORCE, NOTHING, OURS, THEIRS, Host

UNPATCHED: dict[str, Any] = {
    "verdict": "unpatched",
    "reason": "no patch is in force",
    "flags": [],
    "provider": "klp",
    "fixes": [],
}
PATCHED = {**UNPATCHED, "verdict": "patched", "reason": "it is", "fixes": ["CVE-2026-1"]}
FOREIGN = {**UNPATCHED, "verdict": "unknown", "reason": "lkp_1 is in force", "flags": ["drifted"]}
UNREAD = {**UNPATCHED, "verdict": "unknown", "reason": "/sys/kernel could not be read", "provider": None}
STRANGER = Klp(idle=False, foreign=("kpatch_1",))
MIXED = Klp(idle=False, foreign=(*THEIRS.foreign, "kpatch_1"))
MOVING = Klp(idle=False, foreign=THEIRS.foreign, resting=False)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return levels(build_world(tmp_path / "host", monkeypatch))


@pytest.fixture
def vendor(tmp_path: Path, world: World) -> Host:
    """Programs for the world's host."""
    found = Host(tmp_path / "vendor")
    found.roots = world.kernel.roots
    return found


# -- a host with nothing but klp


def test_nothing_else_changes_nothing() -> None:
    for document, klp in ((UNPATCHED, NOTHING), (PATCHED, OURS), (FOREIGN, THEIRS)):
        assert whole.merged(document, klp, {}) == {
            **document,
            "providers": [],
            "conflicts": [],
            "doubts": [],
        }


def test_a_host_with_klp_alone_starts_no_program(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program is started that is not installed: it would be a process for each question."""

    def started(*command: object, **options: object) -> None:
        raise AssertionError(f"{command} was started")

    monkeypatch.setattr(programs.subprocess, "run", started)
    monkeypatch.setattr(programs, "PATH", str(world.directory))  # nothing is installed
    world.apply(1)
    document = whole.status(world.host, face.Site(world.kernel.roots))
    assert (document["verdict"], document["provider"], document["providers"]) == ("patched", "klp", [])
    assert whole.grain(world.host, face.Site(world.kernel.roots))["provider"] == "klp"


# -- another system underneath


def test_what_is_underneath_is_told(world: World, vendor: Host) -> None:
    vendor.kernelcare(True)
    document = whole.status(world.host, vendor.site)
    assert (document["verdict"], document["provider"]) == ("patched", "kernelcare")
    assert document["effective"] == "5.15.0-105"
    assert document["fixes"] == ["CVE-2017-1000364", "CVE-2017-7895"]
    assert (document["conflicts"], document["flags"]) == ([], [])
    assert [one["provider"] for one in document["providers"]] == ["kernelcare"]
    shown = whole.grain(world.host, vendor.site)
    assert (shown["verdict"], shown["provider"]) == ("patched", "kernelcare")
    assert set(shown) == set(klp_status.grain(klp_status.look(world.host)))


def test_mixed_with_ours(world: World, vendor: Host) -> None:
    world.apply(1)
    vendor.kernelcare(True)
    document = whole.status(world.host, vendor.site)
    assert (document["verdict"], document["provider"]) == ("patched", "klp")
    assert "KernelCare must not be mixed" in document["conflicts"][0]
    assert "doubtful" in document["flags"]
    assert "doubtful" in whole.grain(world.host, vendor.site)["flags"]


def test_who_asks_no_program_says_that_it_does_not_know(world: World, vendor: Host) -> None:
    """The beacon and rollouts look often: they see that it is there, and not what it has in force."""
    vendor.kernelcare(True)
    vendor.calls.clear()
    said = klp_status.brief(world.host)
    assert (said["verdict"], said["unasked"], vendor.calls) == ("unknown", ["kernelcare"], [])
    assert "kernelcare is in this kernel" in said["comment"]
    load_foreign(world, "kpatch_1")
    said = klp_status.brief(world.host)
    assert (said["verdict"], said["unasked"]) == ("unknown", []), "what is unknown is not its alone"


def test_what_cannot_be_told_is_not_called_unpatched(world: World, vendor: Host) -> None:
    (world.kernel.roots.proc / "kcare").mkdir()
    document = whole.status(world.host, vendor.site)
    assert (document["verdict"], document["provider"]) == ("unknown", "kernelcare")
    assert "kcarectl is not installed" in document["reason"]


def test_a_client_that_hangs_does_not_hold_the_minion_up(world: World) -> None:
    waited = []

    def hang(command: Sequence[str], timeout: float) -> None:
        waited.append(timeout)

    whole.grain(world.host, face.Site(world.kernel.roots, hang))
    assert waited
    assert max(waited) <= whole.GRAIN_SECONDS


def test_ours_is_not_hidden_by_others() -> None:
    document = whole.merged(PATCHED, OURS, {"ksplice": IN_FORCE})
    assert (document["verdict"], document["provider"], document["fixes"]) == (
        "patched",
        "klp",
        ["CVE-2026-1"],
    )
    assert document["flags"] == ["doubtful"]
    two = whole.merged(UNPATCHED, NOTHING, {"ksplice": IN_FORCE, "kgraft": IN_FORCE})
    assert (two["verdict"], two["flags"]) == ("unknown", ["doubtful"])


def test_a_system_that_is_idle_takes_nothing_over() -> None:
    assert whole.merged(UNPATCHED, NOTHING, {"kernelcare": IDLE})["provider"] == "klp"


def test_kpatch_of_before_livepatch_can_be_asked_by_nobody() -> None:
    assert whole.merged(UNPATCHED, NOTHING, {}, ["kpatch-core"])["verdict"] == "unknown"


# -- Canonical's patches, which klp sees and cannot name


def test_patches_of_canonical_are_what_its_client_says() -> None:
    document = whole.merged(FOREIGN, THEIRS, {"canonical": IN_FORCE})
    assert (document["verdict"], document["provider"], document["fixes"]) == (
        "patched",
        "canonical",
        ["CVE-2020-1000"],
    )
    assert (document["conflicts"], document["doubts"], document["flags"]) == ([], [], ["drifted"])
    assert whole.merged(FOREIGN, THEIRS, {"canonical": IDLE})["verdict"] == "unknown"


@pytest.mark.parametrize("klp", [STRANGER, MIXED, MOVING])
def test_its_word_is_not_taken_for_patches_that_are_not_shown_to_be_its_own(klp: Klp) -> None:
    document = whole.merged(FOREIGN, klp, {"canonical": IN_FORCE})
    assert (document["verdict"], document["provider"], document["fixes"]) == ("unknown", "klp", [])
    doubt = "canonical says that its patches are in force, and nothing shows that kpatch_1 is one of them"
    assert document["doubts"] == ([] if klp is MOVING else [doubt])


def test_ours_beside_canonicals_is_named(world: World, vendor: Host) -> None:
    world.apply(1)
    vendor.programs[face.canonical.STATUS] = Said(0, said.canonical("applied"))
    document = whole.status(world.host, vendor.site)
    assert (document["verdict"], document["provider"]) == ("patched", "klp")
    assert document["conflicts"] == ["more than one system patches this kernel: canonical, klp"]
    assert document["doubts"] == ["canonical says that its patches are in force, and the kernel shows none"]
    assert document["flags"] == ["held", "doubtful"]


def load_foreign(world: World, name: str) -> None:
    world.kernel.init_module(world.kernel.make(module(name, replace=False)))
    world.kernel.settle()


def test_foreign_patches_are_told_by_name(world: World, vendor: Host) -> None:
    """From the kernel to the verdict: a patch named as Canonical's are, then one beside it that is not."""
    vendor.programs[face.canonical.STATUS] = Said(0, said.canonical("applied"))
    load_foreign(world, *THEIRS.foreign)
    document = whole.status(world.host, vendor.site)
    assert (document["verdict"], document["provider"]) == ("patched", "canonical")
    load_foreign(world, "kpatch_1")
    document = whole.status(world.host, vendor.site)
    assert (document["verdict"], document["fixes"]) == ("unknown", [])
    assert "kpatch_1 is one of them" in document["doubts"][0]


def test_the_kernel_is_believed_before_canonical() -> None:
    document = whole.merged(UNPATCHED, NOTHING, {"canonical": IN_FORCE})
    assert (document["verdict"], document["fixes"], document["flags"]) == ("unpatched", [], ["doubtful"])
    assert document["doubts"] == ["canonical says that its patches are in force, and the kernel shows none"]


def test_a_kernel_that_was_not_read_shows_nothing_and_not_none() -> None:
    document = whole.merged(UNREAD, Klp(idle=False), {"canonical": IN_FORCE})
    assert (document["verdict"], document["flags"]) == ("unknown", ["doubtful"])
    (doubt,) = document["doubts"]
    assert doubt == "canonical says that its patches are in force, and what the kernel has could not be read"


def test_why_another_system_is_doubtful_is_said() -> None:
    found = Found(Verdict.PATCHED, "it says so", doubtful="its kernel module is not loaded")
    document = whole.merged(UNPATCHED, NOTHING, {"kernelcare": found})
    assert document["doubts"] == ["kernelcare: its kernel module is not loaded"]
    assert (document["flags"], document["conflicts"]) == (["doubtful"], [])


# -- in every mixture

NAMES = st.sampled_from([str(one) for one in face.Provider if one is not face.Provider.KLP])
FOUND = st.builds(
    Found,
    st.sampled_from(list(Verdict)),
    st.just("a reason"),
    fixes=st.sampled_from([(), ("CVE-2020-1000",)]),
    doubtful=st.sampled_from(["", "a doubt"]),
)


@given(
    st.sampled_from(
        [
            (UNPATCHED, NOTHING),
            (PATCHED, OURS),
            (PATCHED, BOTH),
            (FOREIGN, THEIRS),
            (FOREIGN, STRANGER),
            (FOREIGN, MIXED),
            (FOREIGN, MOVING),
            (UNREAD, Klp(idle=False)),
        ]
    ),
    st.dictionaries(NAMES, FOUND, max_size=4),
)
def test_truth(klp: tuple[dict[str, Any], Klp], found: dict[str, Found]) -> None:
    """Patched is said only by somebody who has it, unpatched only where nobody might have it."""
    before, standing = klp
    document = whole.merged(before, standing, found)
    said, provider = document["verdict"], document["provider"]
    if said == "patched" and provider != "klp":
        assert found[provider].verdict is Verdict.PATCHED
        assert standing.idle or (standing is THEIRS and provider == "canonical")
    if said == "unpatched":
        assert standing.idle
        hidden = {name: one for name, one in found.items() if name != "canonical"}
        nothing = (Verdict.UNPATCHED, Verdict.UNCOVERED, Verdict.UNSUPPORTED)
        assert all(one.verdict in nothing for one in hidden.values())
    if provider == "klp":
        assert document["fixes"] == (before["fixes"] if said == before["verdict"] else [])
    assert [one["provider"] for one in document["providers"]] == list(found)
    assert document == whole.merged(before, standing, found), "merging keeps nothing"
    assert ("doubtful" in document["flags"]) == bool(document["conflicts"] or document["doubts"])
