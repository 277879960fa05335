"""What the kernel is said to be: *patched* only when nothing is missing, moving or unreadable."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livepatch_core.errors import LivepatchError
from livepatch_core.host import persist, status
from livepatch_core.host.intent import Intent
from livepatch_core.host.recognise import recognise
from livepatch_core.host.record import ByHand, Loaded, Record
from livepatch_core.host.situation import Situation, situate
from livepatch_core.host.status import Seen, judge
from livepatch_core.kernel.environment import Environment
from livepatch_core.kernel.identity import Identity
from livepatch_core.kernel.patches import FunctionPatch, ObjectPatch, Patch, PatchState
from livepatch_core.kernel.running import Kernel
from livepatch_core.modulefile.model import Function, PatchedObject
from livepatch_core.words import Flag, Kind, OnStall, Verdict
from tests.unit.host.fakekernel import BUILD_ID, FUNCTION, module
from tests.unit.host.world import World

BOOT = "boot-1"
ENVIRONMENT = Environment(True, True, False, "none", True, False, 10, 0, 2, 100, "", ())


def loaded(name: str, *functions: tuple[str, str, int], level: int | None = 1) -> Loaded:
    return Loaded(name, level, "", f"id of {name}", BOOT, "", functions, True, fixes=("CVE-2026-1",))


def patch(name: str, enabled: bool | None = True, transition: bool | None = False, **objects: Any) -> Patch:
    """objects: name -> (patched, functions)."""
    shown = tuple(
        ObjectPatch(target, patched, tuple(FunctionPatch(f, 1) for f in functions))
        for target, (patched, functions) in objects.items()
    )
    return Patch(name, enabled, transition, None, None, shown)


def seen(patches: tuple[Patch, ...], record: Record, livepatch: bool | None = True) -> Seen:
    identity = Identity("6.1", "#1", "x86_64", "aa", BOOT)
    kernel = Kernel(identity, replace(ENVIRONMENT, livepatch=livepatch), patches, {}, True)
    build_ids = {one.name: f"id of {one.name}" for one in patches}
    return Seen(kernel, record, situate(patches, record, BOOT, build_ids), None, 75.0, True)


LOCAL = ("vmlinux", "f", 1)
IN_MODULE = ("nfs", "g", 1)


@pytest.mark.parametrize(
    ("patches", "ours", "verdict", "level"),
    [
        ((), (), Verdict.UNPATCHED, 0),
        ((patch("a", vmlinux=(True, "f")),), ("a",), Verdict.PATCHED, 1),
        ((patch("a", vmlinux=(True, "f")),), (), Verdict.UNKNOWN, None),
        ((patch("a", vmlinux=(True, "")),), ("a",), Verdict.UNKNOWN, 1),  # f is not there
        ((patch("a", transition=True, vmlinux=(True, "f")),), ("a",), Verdict.PATCHING, None),
        ((patch("a", False, True, vmlinux=(True, "f")),), ("a",), Verdict.REVERTING, None),
        ((patch("a", None, vmlinux=(True, "f")),), ("a",), Verdict.UNKNOWN, None),
        ((patch("a", transition=None, vmlinux=(True, "f")),), ("a",), Verdict.UNKNOWN, None),
        # Disabled and not yet gone: an instant since 5.1. Its objects are unpatched then, as if they waited.
        ((patch("a", False, vmlinux=(False, "f")),), ("a",), Verdict.UNPATCHED, 0),
        # A foreign patch that has the function too; which is on top, 6.1 does not say.
        ((patch("a", vmlinux=(True, "f")), patch("z", vmlinux=(True, "f"))), ("a",), Verdict.UNKNOWN, 1),
        ((patch("a", vmlinux=(True, "f")), patch("z", vmlinux=(True, "h"))), ("a",), Verdict.PATCHED, 1),
    ],
)
def test_the_verdict(
    patches: tuple[Patch, ...], ours: tuple[str, ...], verdict: Verdict, level: int | None
) -> None:
    record = Record(loaded=tuple(loaded(name, LOCAL) for name in ours))
    found = seen(patches, record)
    assert (judge(found)[0], found.situation.level) == (verdict, level)


def test_a_target_module_that_is_not_loaded_is_waited_for() -> None:
    record = Record(loaded=(loaded("a", LOCAL, IN_MODULE),))
    found = seen((patch("a", vmlinux=(True, "f"), nfs=(False, "g")),), record)
    verdict, reason = judge(found)
    assert verdict is Verdict.PATCHED
    assert "waits for nfs" in reason
    assert "all" not in reason


def test_a_target_module_that_is_loaded_but_not_patched_is_missing() -> None:
    """A kernel without ``patched`` files does not say: then it is not known to be in force."""
    record = Record(loaded=(loaded("a", LOCAL, IN_MODULE),))
    assert judge(seen((patch("a", vmlinux=(True, "f"), nfs=(None, "g")),), record))[0] is Verdict.UNKNOWN


GOOD, OTHER = "11" * 20, "22" * 20


@pytest.mark.parametrize(
    ("built_for", "build", "patched", "says"),
    [
        ((("nfs", GOOD),), GOOD, True, ""),
        ((("nfs", GOOD),), OTHER, True, f"build {OTHER} now, and it was proven against build {GOOD}"),
        ((("nfs", GOOD),), None, True, "of a build that cannot be told"),
        ((("nfs", GOOD),), None, False, ""),  # waited for
        ((), OTHER, True, ""),  # let pass by name
    ],
)
def test_a_target_of_another_build_is_not_called_patched(
    built_for: tuple[tuple[str, str], ...] | None, build: str | None, patched: bool, says: str
) -> None:
    record = Record(loaded=(replace(loaded("a", LOCAL, IN_MODULE), built_for=built_for),))
    patches = (patch("a", vmlinux=(True, "f"), nfs=(patched, "g")),)
    found = seen(patches, record)
    builds = {"a": "id of a", "nfs": build}
    found = replace(found, situation=situate(patches, record, BOOT, builds))
    verdict, reason = judge(found)
    assert verdict is (Verdict.UNKNOWN if says else Verdict.PATCHED)
    assert says in reason
    assert (Flag.DOUBTFUL in status.flags(found)) is bool(says)
    assert status.fixes(found, verdict) == ([] if says else ["CVE-2026-1"])


def test_in_the_record_of_an_older_version_a_build_is_doubted_and_decides_nothing() -> None:
    """Nobody who runs virtual machines could load the target again only because the extension was updated."""
    record = Record(loaded=(replace(loaded("a", LOCAL, IN_MODULE), built_for=None),))
    patches = (patch("a", vmlinux=(True, "f"), nfs=(True, "g")),)
    situation = situate(patches, record, BOOT, {"a": "id of a", "nfs": GOOD})
    assert (situation.unproven, situation.whole) == ((), True)
    assert [str(one) for one in situation.doubts] == [
        f"a patches module nfs, which is build {GOOD} now, and for which build it was made was not recorded"
    ]
    found = replace(seen(patches, record), situation=situation)
    verdict, _ = judge(found)
    assert (verdict, status.fixes(found, verdict)) == (Verdict.PATCHED, ["CVE-2026-1"])
    assert Flag.DOUBTFUL in status.flags(found)


def test_without_sysfs_or_support() -> None:
    assert judge(seen((), Record(), livepatch=None))[0] is Verdict.UNKNOWN
    assert judge(seen((), Record(), livepatch=False))[0] is Verdict.UNSUPPORTED
    assert judge(replace(seen((), Record()), covered=False))[0] is Verdict.UNCOVERED


def test_the_newest_of_ours_is_on_top_where_the_kernel_gives_no_order() -> None:
    """6.1 has no stack_order and the patches come sorted by name; the record has the order of loading."""
    record = Record(loaded=(loaded("z", LOCAL, level=1), loaded("a", ("vmlinux", "h", 1), level=2)))
    patches = (patch("a", vmlinux=(True, "h")), patch("z", vmlinux=(True, "f")))
    assert seen(patches, record).situation.level == 2


def test_a_module_of_the_same_name_is_not_ours() -> None:
    record = Record(loaded=(loaded("a", LOCAL),))
    patches = (patch("a", vmlinux=(True, "f")),)
    for build_id in ("id of another", None):
        situation = situate(patches, record, BOOT, {"a": build_id})
        assert (situation.ours, situation.foreign, situation.level) == ((), ("a",), None)
    assert situate(patches, record, "boot-2", {"a": "id of a"}).foreign == ("a",)


def mostly(value: bool) -> st.SearchStrategy[bool | None]:
    return st.sampled_from([value, value, value, value, not value, None])


OBJECTS = st.dictionaries(
    st.sampled_from(["vmlinux", "nfs"]),
    st.tuples(mostly(True), st.sets(st.sampled_from("fg"), min_size=1)),
    min_size=1,
)
PATCHES = st.lists(
    st.builds(
        lambda name, enabled, transition, objects: patch(name, enabled, transition, **objects),
        st.sampled_from("abc"),
        mostly(True),
        mostly(False),
        OBJECTS,
    ),
    max_size=3,
    unique_by=lambda one: one.name,
).map(tuple)


@st.composite
def records(draw: st.DrawFn, patches: tuple[Patch, ...]) -> Record:
    """Some of the patches are ours; what was promised is mostly what the kernel shows."""
    ours = []
    for one in patches:
        shown = [(to.name, f.name, f.sympos) for to in one.objects for f in to.functions]
        promised = draw(st.lists(st.sampled_from([*shown, *shown, LOCAL]), min_size=1, max_size=2))
        ours.append(loaded(one.name, *promised))
    return Record(loaded=tuple(draw(st.permutations(ours))[: draw(st.integers(1, 3))]))


@settings(max_examples=400, deadline=None)
@given(PATCHES, st.data())
def test_patched_is_never_said_too_early(patches: tuple[Patch, ...], choice: st.DataObject) -> None:
    """Written anew from the definition, without the functions under test."""
    record = choice.draw(records(patches))
    if judge(seen(patches, record))[0] is not Verdict.PATCHED:
        return
    assert not any(one.transition for one in patches)
    assert all(one.enabled is not None and one.transition is not None for one in patches)
    known = {one.name: one for one in record.loaded}
    ours = [one for one in patches if one.name in known and one.state is PatchState.PATCHED]
    assert ours
    for one in ours:
        owned = {(to.name, f.name, f.sympos): to.patched for to in one.objects for f in to.functions}
        waiting = {target.name for target in one.objects if target.patched is False}
        for promised in known[one.name].functions:
            if promised[0] in waiting:
                continue
            assert owned.get(promised, False) or (promised in owned and promised[0] == "vmlinux")
            others = [other for other in patches if other is not one and other.state is PatchState.PATCHED]
            assert not any(
                target.name == promised[0] and target.patched is not False and f.name == promised[1]
                for other in others
                for target in other.objects
                for f in target.functions
            )


# -- a target module that is loaded anew --------------------------------------------------------------------


@pytest.fixture
def beside_nfs(world: World) -> World:
    """Level 9 changes vmlinux and nfs; nfs is loaded, in the build that the level was made for."""
    load_nfs(world, GOOD)
    kallsyms = world.kernel.directory / "proc/kallsyms"
    kallsyms.write_text(f"0 t {FUNCTION}\n0 t nfs_read\t[nfs]\n")
    objects = (
        PatchedObject("vmlinux", (Function(FUNCTION, 0),)),
        PatchedObject("nfs", (Function("nfs_read", 0),)),
    )
    world.publish(9, module("lp_9", objects=objects, built_for={"vmlinux": BUILD_ID, "nfs": GOOD}))
    return world


def load_nfs(world: World, build_id: str) -> None:
    """A package was upgraded, and somebody let the module go and loaded it again."""
    world.kernel.modules["nfs"] = module("nfs", build_id=build_id, livepatch=False)
    world.kernel._show()


def test_a_target_that_comes_back_as_another_build(beside_nfs: World) -> None:
    world = beside_nfs
    done = world.apply(approval=world.approval(1, 9))
    assert (done.result, status.status(world.host)["verdict"]) == (True, "patched")
    load_nfs(world, OTHER)
    document = status.status(world.host)
    assert (document["verdict"], document["flags"], document["fixes"]) == ("unknown", ["doubtful"], [])
    assert document["doubts"] == [document["reason"]]
    for word in ("lp_9", "nfs", GOOD, OTHER):
        assert word in document["reason"]
    assert document["reason"] in status.brief(world.host)["drift"]

    again = world.apply(approval=world.approval(1, 9))
    assert (again.result, again.kind, again.changes) == (False, Kind.KERNEL_MISMATCH, {})
    assert OTHER in again.comment
    load_nfs(world, GOOD)
    assert status.status(world.host)["verdict"] == "patched"
    assert world.apply(approval=world.approval(1, 9)).result is True
    load_nfs(world, OTHER)
    assert world.revert().result is True
    assert (status.status(world.host)["verdict"], world.patches) == ("unpatched", [])


@pytest.fixture
def updated(beside_nfs: World) -> World:
    """The extension was updated on a host where level 9 was in force already."""
    assert beside_nfs.apply(approval=beside_nfs.approval(1, 9)).result is True
    path = beside_nfs.host.settings.record_file
    document = json.loads(path.read_text())
    for one in document["loaded"]:
        del one["built_for"]
    path.write_text(json.dumps(document))
    return beside_nfs


def test_updating_the_extension_takes_no_host_out_of_its_rollout(updated: World) -> None:
    """Which asks for verdict and level; and no beacon tells of a drift."""
    brief = status.brief(updated.host)
    assert (brief["verdict"], brief["level"], brief["drift"]) == ("patched", 9, [])
    assert brief["flags"] == ["doubtful"]
    assert updated.apply(approval=updated.approval(1, 9)).result is True


def test_what_an_older_version_did_not_record_the_catalog_tells(updated: World) -> None:
    def asked() -> dict[str, Any]:
        return status.status(updated.host, recognise=recognise)

    assert (asked()["verdict"], asked()["doubts"]) == ("patched", [])
    load_nfs(updated, OTHER)
    assert (asked()["verdict"], GOOD in asked()["reason"]) == ("unknown", True)
    assert updated.apply(approval=updated.approval(1, 9)).kind is Kind.KERNEL_MISMATCH
    assert updated.apply(approval=updated.approval(2, 9)).kind is Kind.KERNEL_MISMATCH
    assert status.brief(updated.host)["verdict"] == "unknown", "written down with the approval"
    load_nfs(updated, GOOD)
    assert (status.brief(updated.host)["verdict"], status.brief(updated.host)["flags"]) == ("patched", [])


def test_a_target_that_records_no_build_is_held_to_the_one_it_was_loaded_beside(beside_nfs: World) -> None:
    world = beside_nfs
    world.publish(9, replace(world.levels[9], built_for={"vmlinux": BUILD_ID}))
    assert world.apply(9, override=("target-build",)).result is True
    assert status.status(world.host)["verdict"] == "patched"
    load_nfs(world, OTHER)
    assert status.status(world.host)["verdict"] == "unknown"


def test_a_target_that_carries_no_build_is_let_pass_by_name(
    beside_nfs: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the override loaded the level and called it a drift ever after."""
    world, show = beside_nfs, beside_nfs.kernel._show

    def show_no_build() -> None:
        show()
        (world.host.roots.sys / "module/nfs/notes/.note.gnu.build-id").unlink(missing_ok=True)

    monkeypatch.setattr(world.kernel, "_show", show_no_build)
    world.kernel._show()
    assert world.apply(9).kind is Kind.KERNEL_MISMATCH
    assert world.apply(9, override=("target-build",)).result is True
    assert status.status(world.host)["verdict"] == "patched"
    again = world.apply(9, override=("target-build",))
    assert (again.result, again.changes) == (True, {})


def test_a_target_that_changes_during_the_transition_is_no_success(
    beside_nfs: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, pause = beside_nfs, beside_nfs.kernel.pause

    def pause_and_reload(seconds: float) -> None:
        load_nfs(world, OTHER)
        pause(seconds)

    monkeypatch.setattr(world.kernel, "pause", pause_and_reload)
    done = world.apply(9)
    assert (done.result, done.kind) == (False, Kind.DRIFT)
    assert OTHER in done.comment
    with pytest.raises(LivepatchError, match="No level is wholly in force"):
        persist.persist(world.host)


# -- the document --------------------------------------------------------------------------------------------


def test_fixes_and_flags_follow_the_kernel(world: World) -> None:
    assert status.status(world.host)["verdict"] == "unpatched"
    world.apply(1)
    document = status.status(world.host)
    assert (document["verdict"], document["level"], document["flags"]) == ("patched", 1, ["held"])
    assert document["approved"]["by_hand"] == {"level": 1, "reason": "a test"}


def test_a_transition_of_ours_is_no_drift(world: World) -> None:
    world.apply(1)
    world.kernel.stalls.add(("lp_2", True))
    world.apply(2, on_stall=OnStall.KEEP)
    document = status.status(world.host)
    assert document["verdict"] in ("patching", "stalled")
    assert str(Flag.DRIFTED) not in document["flags"]
    assert document["fixes"] == []


def test_an_old_line_does_not_make_a_new_transition_stalled(world: World) -> None:
    """Somebody else disables what we loaded long ago: how long that takes is not known from our journal."""
    world.apply(1)
    world.kernel.seconds += 100_000
    world.kernel.stalls.add(("lp_1", False))
    world.kernel.write_enabled(world.kernel.roots, "lp_1", False)
    document = status.status(world.host)
    assert (document["verdict"], document["transition_age"]) == ("reverting", None)
    assert "a time that is not known" in document["reason"]


def test_a_transition_left_running_is_stalled_when_it_lasts(world: World) -> None:
    world.kernel.stalls.add(("lp_1", True))
    world.apply(1, on_stall=OnStall.KEEP)
    world.kernel.seconds += 100
    document = status.status(world.host)
    assert document["verdict"] == "stalled"
    assert document["transition_age"] >= 100


@pytest.mark.parametrize("set_by", [3600.0, -3600.0])
def test_setting_the_clock_neither_makes_nor_ends_a_stall(world: World, set_by: float) -> None:
    world.options["deadline"] = 60.0
    world.kernel.stalls.add(("lp_1", True))
    world.apply(1, deadline=0.05, on_stall=OnStall.KEEP)
    set_ = replace(world.host, now=lambda: world.kernel.seconds + set_by)
    document = status.status(set_)
    assert (document["verdict"], document["transition_age"] < 60) == ("patching", True)
    world.kernel.seconds += 600
    assert status.status(set_)["verdict"] == "stalled"


def test_a_line_of_a_version_that_wrote_no_clock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    without = Intent.document
    monkeypatch.setattr(Intent, "document", lambda self: {**without(self), "clock": None})
    world.options["deadline"] = 60.0
    world.kernel.stalls.add(("lp_1", True))
    world.apply(1, deadline=0.05, on_stall=OnStall.KEEP)
    assert status.status(world.host)["verdict"] == "patching"
    world.kernel.seconds += 600
    document = status.status(world.host)
    assert (document["verdict"], document["transition_age"] >= 600) == ("stalled", True)


def test_a_line_that_does_not_say_when_it_began(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    without = Intent.document
    monkeypatch.setattr(Intent, "document", lambda self: {**without(self), "clock": None, "began": "then"})
    world.kernel.stalls.add(("lp_1", True))
    world.apply(1, on_stall=OnStall.KEEP)
    document = status.status(world.host)
    assert (document["verdict"], document["transition_age"]) == ("patching", None)
    assert "for a time that is not known" in document["reason"]


def test_a_record_that_cannot_be_read_is_said(world: World) -> None:
    world.apply(1)
    world.host.settings.record_file.write_text("{")
    document = status.status(world.host)
    assert document["verdict"] == "unknown"
    assert "held" in document["flags"]
    assert "cannot be understood" in document["record_error"]
    assert document["reboot"]["owed"] is None


def test_a_forced_patch_owes_a_reboot_until_there_was_one(world: World) -> None:
    world.options["allow_force"] = True
    world.kernel.stalls.add(("lp_1", True))
    world.apply(1, on_stall=OnStall.KEEP)
    assert world.force("lp_1").result is True
    document = status.status(world.host)
    assert document["reboot"]["owed"] is True
    assert document["reboot"]["since"] == status.read_record(world.host.settings.record_file).forced[0].at
    assert "reboot-owed" in document["flags"]
    world.kernel.boot("boot-2")
    assert status.status(world.host)["reboot"] == {"owed": False, "why": [], "since": None}


def test_level_with() -> None:
    situation = Situation(2, (loaded("a"), loaded("b", level=2)), ("x",), None, (), (), ())
    assert [situation.level_with(names) for names in ((), ("a",), ("a", "b"), ("x",))] == [0, 1, 2, None]


def test_by_hand_is_held() -> None:
    assert Flag.HELD in status.flags(seen((), Record(by_hand=ByHand(0, "r", 0))))
