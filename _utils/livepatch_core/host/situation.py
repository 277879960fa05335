"""Which level a host is at, from what the kernel shows and what this host remembers of its own loads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from livepatch_core.host.context import Host
from livepatch_core.host.record import Loaded, Record
from livepatch_core.kernel.modules import Module, module_build_id
from livepatch_core.kernel.patches import DOUBT, Patch, PatchState, functions_in_force, in_transition
from livepatch_core.kernel.roots import Roots
from livepatch_core.kernel.running import Kernel
from livepatch_core.kernel.symbols import VMLINUX


@dataclass(frozen=True)
class Unproven:
    """A module that ``patch`` changes, and that is not the build it was proven against: reloaded since, from
    a file that had been upgraded. The kernel goes by names: it patches that one as well.

    build: of the module as loaded, None where it cannot be told. proven: None where that was not recorded.
    """

    patch: str
    target: str
    build: str | None
    proven: str | None

    def __str__(self) -> str:
        build = "of a build that cannot be told" if self.build is None else f"build {self.build} now"
        proven = (
            "for which build it was made was not recorded"
            if self.proven is None
            else f"it was proven against build {self.proven}"
        )
        return f"{self.patch} patches module {self.target}, which is {build}, and {proven}"


@dataclass(frozen=True)
class Situation:
    """ours: patches that are what this host loaded (same build-id); foreign: every other patch.

    level: of the newest of ours in force; 0 when no patch is there at all; None when the kernel cannot be
    said to be at a level (foreign patch alone, raw load, transition running, state unreadable).
    missing: functions that ours in force promised and the kernel does not run.
    waiting: target modules not loaded yet, for which the patch waits.
    unproven: target modules in which ours is in force, and which are not what it was made for.
    unrecorded: those of which that was not written down when ours was loaded (by an older version).
    """

    level: int | None
    ours: tuple[Loaded, ...]
    foreign: tuple[str, ...]
    transition: Patch | None
    unreadable: tuple[str, ...]
    missing: tuple[tuple[str, str, int], ...]
    waiting: tuple[str, ...]
    unproven: tuple[Unproven, ...] = ()
    unrecorded: tuple[Unproven, ...] = ()

    @property
    def doubts(self) -> tuple[Unproven, ...]:
        return (*self.unproven, *self.unrecorded)

    @property
    def whole(self) -> bool:
        """Whether ours is in force in all that it promised, and nowhere else."""
        return not self.missing and not self.unproven

    @property
    def top(self) -> Loaded | None:
        return self.ours[-1] if self.ours else None

    def level_with(self, names: Collection[str]) -> int | None:
        """The level if of all patches there were only those of ``names``, at rest."""
        left = [one for one in self.ours if one.name in names]
        return 0 if not names else left[-1].level if left else None


def is_livepatch(module: Module) -> bool:
    """The kernel taints each livepatch module with K when it is loaded (TAINT_LIVEPATCH, set where it reads
    modinfo): also seen of one whose patch has gone, and never of a driver that only has its name."""
    return "K" in module.taint


def observe(host: Host, kernel: Kernel, record: Record) -> Situation:
    """Which level the kernel is at: a patch is ours by the build-id of what is loaded, never by its name."""
    build_ids = read_build_ids(host.roots, kernel.patches)
    return situate(kernel.patches, record, kernel.identity.boot_id, build_ids)


def read_build_ids(roots: Roots, patches: tuple[Patch, ...]) -> dict[str, str | None]:
    """What ``situate`` asks for."""
    names = {name for patch in patches for name in (patch.name, *_changed(patch))}
    return {name: module_build_id(roots, name) for name in names}


def situate(
    patches: tuple[Patch, ...], record: Record, boot_id: str | None, build_ids: Mapping[str, str | None]
) -> Situation:
    """``build_ids``: of the loaded module of each patch, and of those that it changes, by name; None where
    one carries none.

    A disabled patch is on its way out, or (before 5.1) only registered: as if it were not there.
    """
    patches = tuple(patch for patch in patches if patch.state is not PatchState.DISABLED)
    ours: list[Loaded] = []
    foreign: list[str] = []
    for patch in patches:
        loaded = record.find_loaded(patch.name, boot_id)
        if (
            loaded is not None
            and loaded.build_id is not None
            and loaded.build_id == build_ids.get(patch.name)
        ):
            ours.append(loaded)
        else:
            foreign.append(patch.name)
    if any(patch.stack_order is None for patch in patches):  # sorted by name then; the record has the order
        ours.sort(key=record.loaded.index)
    running = in_transition(patches)
    doubts = _doubts(patches, ours, build_ids)
    unreadable = tuple(patch.name for patch in patches if patch.state is PatchState.UNKNOWN)
    return Situation(
        level=_level(patches, ours, running is not None or bool(unreadable)),
        ours=tuple(ours),
        foreign=tuple(foreign),
        transition=running,
        unreadable=unreadable,
        missing=_missing(patches, ours),
        waiting=tuple(
            sorted({one.name for patch in patches for one in patch.objects if one.patched is False})
        ),
        unproven=tuple(one for one in doubts if one.proven is not None),
        unrecorded=tuple(one for one in doubts if one.proven is None),
    )


def _level(patches: tuple[Patch, ...], ours: list[Loaded], unsettled: bool) -> int | None:
    if unsettled:
        return None
    if not patches:
        return 0
    return ours[-1].level if ours else None


def _missing(patches: tuple[Patch, ...], ours: list[Loaded]) -> tuple[tuple[str, str, int], ...]:
    """What ours promised and is not in force, objects that wait for their module aside."""
    in_force = functions_in_force(patches)
    by_name = {patch.name: patch for patch in patches}
    return tuple(
        promised
        for one in ours
        for promised in one.functions
        if promised[0] not in _waiting(by_name[one.name]) and in_force.get(promised, DOUBT) != one.name
    )


def _doubts(
    patches: tuple[Patch, ...], ours: list[Loaded], build_ids: Mapping[str, str | None]
) -> list[Unproven]:
    """What no build is known for was let pass by name (an override), and is not compared; in the record of
    an older version that is not known of any."""
    by_name = {patch.name: patch for patch in patches}
    found = []
    for one in ours:
        proven = dict(one.built_for or ())
        for target in _changed(by_name[one.name]):
            build = build_ids.get(target)
            if one.built_for is None or proven.get(target, build) != build:
                found.append(Unproven(one.name, target, build, proven.get(target)))
    return found


def _changed(patch: Patch) -> list[str]:
    """Modules that are loaded and patched. Where the kernel does not say whether one is, it is missing."""
    return [one.name for one in patch.objects if one.patched and one.name != VMLINUX]


def _waiting(patch: Patch) -> set[str]:
    """Objects whose module is not loaded yet."""
    return {one.name for one in patch.objects if one.patched is False}
