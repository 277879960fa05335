"""Can this module take over from what is in the kernel already: patches, leftovers, probes, tracers?"""

from __future__ import annotations

from livepatch_core.host.checks.check import Check, Question
from livepatch_core.host.facts import VMLINUX, Facts
from livepatch_core.host.record import Loaded
from livepatch_core.host.situation import is_livepatch
from livepatch_core.kernel.conflicts import FtraceUser
from livepatch_core.modulefile.model import ModuleFile
from livepatch_core.words import Kind

SAME_NAME = Question("same-name", Kind.CONFLICT)
CUMULATIVE = Question("cumulative", Kind.STATE)
TAKEOVER = Question("takeover", Kind.CONFLICT)
STATES = Question("states", Kind.STATE)
CONFLICTS = Question("conflicts", Kind.CONFLICT)


def examine(module: ModuleFile, facts: Facts) -> list[Check]:
    return [
        _same_name(module, facts),
        _cumulative(module, facts),
        _takeover(facts),
        *_states(module, facts),
        *_conflicts(facts),
    ]


def _same_name(module: ModuleFile, facts: Facts) -> Check:
    if module.name not in facts.kernel.modules:
        return SAME_NAME.passed(f"no module named {module.name} is loaded")
    if not is_livepatch(facts.kernel.modules[module.name]):
        return SAME_NAME.failed(
            f"a module {module.name} is loaded that is no live patch", "Give the level another name."
        )
    if all(patch.name != module.name for patch in facts.kernel.patches):
        return SAME_NAME.warned(
            f"a module {module.name} without a patch in force is left over; it is removed first"
        )
    same = facts.loaded_build_id is not None and facts.loaded_build_id == module.build_id
    what = "this very module" if same else f"another module of that name (build-id {facts.loaded_build_id})"
    return SAME_NAME.failed(
        f"{what} is loaded and in force as {module.name}",
        "Revert that patch first, or give the new level another name.",
    )


def _cumulative(module: ModuleFile, facts: Facts) -> Check:
    present = [patch.name for patch in facts.kernel.patches]
    if not present:
        return CUMULATIVE.passed("nothing is in force that it would have to replace")
    if not module.replace:
        return CUMULATIVE.failed(
            f"module {module.name} is not known to be cumulative (replace), and {', '.join(present)} is in "
            "force",
            "Build levels with replace, or go to level 0 first.",
        )
    return CUMULATIVE.passed("replaces what is in force in one transition")


def _takeover(facts: Facts) -> Check:
    """The kernel runs no callback of a patch that is replaced, and what it fixed is fixed no more: of a patch
    that nobody here knows only its owner can say that it may go so."""
    if not facts.foreign:
        return TAKEOVER.passed("nothing is in force but what this host loaded, or knows as a level")
    names = ", ".join(facts.foreign)
    return TAKEOVER.undecided(
        f"{names} is in force, and nothing on this host knows what it promises: if it is replaced, its "
        "fixes are gone, and none of its callbacks runs",
        "Give the package that brought it a level (livepatch_catalog.map_package), or take it out (with its "
        "owner's tool, or livepatch.unload); or override the check takeover by name to have it replaced.",
    )


def _states(module: ModuleFile, facts: Facts) -> list[Check]:
    """A state of a patch in force must be carried on, in the same or a newer version (livepatch/state.c)."""
    checks: list[Check] = []
    for patch in facts.kernel.patches:
        loaded = _loaded(facts, patch.name)
        if loaded is None:
            checks.append(
                STATES.unread(f"the system states of {patch.name} are not known; the kernel will judge")
            )
        else:
            checks.extend(_carried(module, loaded))
    return checks or [STATES.passed("system states are compatible")]


def _carried(module: ModuleFile, loaded: Loaded) -> list[Check]:
    offered = {state.id: state.version for state in module.states}
    checks = []
    for state, version in loaded.states:
        have = offered.get(state)
        if have is None and not module.replace:
            continue
        if have is None or have < version:
            offer = "does not carry it" if have is None else f"carries version {have}"
            checks.append(
                STATES.failed(
                    f"{loaded.name} in force has system state {state} in version {version}; {module.name} "
                    f"{offer}",
                    "Go to level 0 first, or build the level with that state.",
                )
            )
    return checks


def _conflicts(facts: Facts) -> list[Check]:
    if facts.conflicts.ftrace is None:
        return [
            CONFLICTS.unread(
                "tracefs could not be read; the kernel refuses a function that is taken", "Mount tracefs."
            )
        ]
    users = [
        _user(user, (user.module or VMLINUX, user.function) in facts.patched)
        for user in facts.conflicts.ftrace
    ]
    checks = [check for check in users if check is not None]
    for probe in facts.conflicts.kprobes or ():
        checks.append(
            CONFLICTS.warned(f"a kprobe is on {probe.function}: in the old function it no longer fires")
        )
    return checks or [CONFLICTS.passed("nobody else has a hand on these functions")]


def _user(user: FtraceUser, patched: bool) -> Check | None:
    """``patched``: a livepatch is on the function already, whose own IPMODIFY is no conflict."""
    if user.ipmodify and not patched:
        return CONFLICTS.failed(
            f"function {user.function} is taken by another user that changes its flow (IPMODIFY)",
            "Remove that kprobe or tracer, then ask again.",
        )
    if user.direct and not user.bpf:
        return CONFLICTS.failed(
            f"function {user.function} is taken by a direct caller that is not BPF",
            "Remove it, then ask again.",
        )
    if user.direct:
        return CONFLICTS.warned(f"a BPF program is attached to {user.function}")
    return None if patched else CONFLICTS.warned(f"function {user.function} is being traced")


def _loaded(facts: Facts, name: str) -> Loaded | None:
    if name in facts.foreign:
        return None
    return facts.record.find_loaded(name, facts.kernel.identity.boot_id)
