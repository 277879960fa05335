"""The way from the level a host is at to the one it shall have, the least risky first. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from livepatch_core.errors import LivepatchError
from livepatch_core.host.record import Loaded
from livepatch_core.modulefile.model import ModuleFile
from livepatch_core.words import Kind, Word


class StepKind(Word):
    LOAD = "load"
    DISABLE = "disable"


@dataclass(frozen=True)
class Step:
    kind: StepKind
    patch: str


@dataclass(frozen=True)
class Route:
    """steps in order; why: the sentence that explains the choice to the operator."""

    steps: tuple[Step, ...]
    why: str


def choose(
    ours: tuple[Loaded, ...], level: int, module: ModuleFile | None, foreign: tuple[str, ...] = ()
) -> Route:
    """ours: what is in force now, lowest first. module: the one of ``level``; None exactly for level 0.
    foreign: patches of others in force; level 0 leaves them alone, a load replaces them (where the check
    ``takeover`` lets it).
    """
    route = _choose(ours, level, module)
    if module is None or not foreign:
        return route
    names = ", ".join(foreign)
    return Route(route.steps, f"{route.why} It replaces {names}, not loaded by us: no callback of that runs.")


def _choose(ours: tuple[Loaded, ...], level: int, module: ModuleFile | None) -> Route:
    """A cumulative module takes over from whatever is in force in one transition. Going *down* that way is
    sound only where no code outside the functions has to be undone: the kernel runs the callbacks of the
    module that is loaded, never those of the one replaced, and shadow variables and system states of the
    newer level stay (Documentation/livepatch/cumulative-patches.rst). Then: to 0 first, and up again.
    """
    down = tuple(Step(StepKind.DISABLE, one.name) for one in reversed(ours))
    if module is None:
        return Route(down, "Disable what is in force, newest first; the module is removed afterwards.")
    load = Step(StepKind.LOAD, module.name)
    current = ours[-1] if ours else None
    if current is None:
        return Route((load,), "Load the module; no level is in force.")
    if any(one.name == module.name for one in ours):
        return Route(
            (*down, load),
            f"A module named {module.name} is in force: it is disabled and removed first; the host is at "
            "level 0 in between.",
        )
    if not module.replace:
        raise LivepatchError(
            Kind.STATE,
            f"Module {module.name} is not cumulative (replace), and {current.name} is in force; nothing "
            "was changed.",
            remedy="Build levels with replace, or go to level 0 first.",
        )
    if current.level is not None and level > current.level:
        return Route((load,), f"Load level {level}, which replaces {current.name} in one transition.")
    left = _left_behind(current, module)
    if left:
        return Route(
            (*down, load), f"Down by way of level 0, because {left}; the host is at level 0 in between."
        )
    return Route(
        (load,),
        f"Load level {level}, which replaces {current.name} in one transition: neither has callbacks, "
        "states or shadow variables.",
    )


def _left_behind(current: Loaded, module: ModuleFile) -> str:
    """Why replacing ``current`` by ``module`` would leave something of it behind; empty if it would not."""
    reasons = {
        f"{current.name} has callbacks that only disabling it runs": current.callbacks,
        f"{current.name} keeps shadow variables": current.shadow,
        f"{current.name} changes system states": bool(current.states),
        f"{module.name} has callbacks": any(one.callbacks for one in module.objects),
        f"{module.name} uses shadow variables": module.shadow,
        f"{module.name} changes system states": bool(module.states),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")
