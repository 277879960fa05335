"""Hosts that are started with another kernel: what they are told, and what they answer. Pure.

The host keeps a record of its restart (livepatch_restart), named by the approval's rev; every look shows
it. So one that never got the command is told apart from one that failed before it left, one that is on its
way, one that is back and waits to be verified, and one that something else has rebooted. What makes it
healthy is what a look shows under its new boot id: the kernel, its level, its health.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Optional

from livepatch_core.rollout import outcomes
from livepatch_core.rollout.model import Options, Placing
from livepatch_core.rollout.outcomes import Finding, Seen
from livepatch_core.rollout.state import Host, Job, State
from livepatch_core.rollout.states import Place
from livepatch_core.words import CheckVerdict, Flag, Kind, Verdict

BUSY = (Verdict.PATCHING, Verdict.REVERTING, Verdict.STALLED)
MEND_THERE = "mend that there (livepatch.apply, or livepatch.unhold where a level is held by hand)"


@dataclass(frozen=True)
class Order:
    """What one host was told. boot: the boot id it was to leave. levels: by kernel build, the level it is to
    have on ``kernel``; bare: none is needed. returned: it was told already to finish. left: what has to be
    said where it was not finished (see left_away)."""

    ledger_id: str
    rev: int
    boot: str
    kernel: str
    levels: Mapping[str, int]
    bare: bool
    returned: bool = False
    left: str = ""


def left_away(options: Options) -> str:
    """The end of a sentence about a host that was not finished; empty where nothing was drained."""
    if options.drain is None:
        return ""
    return "; what was drained there is still away: run livepatch_restart.finish there once it answers"


def _levels(state: State, kernel: str) -> dict[str, int]:
    return {build: one.level for build, one in state.plan.arrivals.get(kernel, {}).items()}


def order_for(state: State, host: Host) -> Order:
    options = state.plan.options
    return Order(
        state.ledger_id,
        host.forward_rev,
        host.boot,
        host.kernel,
        _levels(state, host.kernel),
        options.bare,
        host.returned,
        left_away(options),
    )


def check_arguments(state: State, job: Job) -> dict[str, Any]:
    """Hosts of one job have one planned kernel (phases.py)."""
    options, placing = state.plan.options, state.hosts[next(iter(job.pending))].placing
    hooks = {"drain": options.drain, "undrain": options.undrain}
    return {"method": str(placing.method), "kernel": placing.kernel or options.kernel, **hooks}


def leave_arguments(state: State, job: Job) -> dict[str, Any]:
    """Beside the approval; hosts of one approval are started with one kernel."""
    kernel = state.hosts[next(iter(job.pending))].kernel
    why = f"rollout {state.id}: {state.by.get('why', '')}"
    deadline = state.plan.options.drain_deadline
    return {**check_arguments(state, job), "kernel": kernel, "reason": why, "deadline": deadline}


def checked(entry: object, state: State, host: Host) -> Finding:
    """The answer to the question whether it could be restarted; ``there``: it has nothing to do.

    One that this rollout has approved before, that failed, and that runs the kernel now is not restarted
    once more, so what was wrong with it has to be well by now (``again``).
    """
    document = outcomes.document_of(entry)
    unread = Finding(Place.FAILED, Kind.INTERNAL, f"its answer cannot be read: {outcomes.shown(entry)}")
    if document is None or not isinstance(document.get("result"), bool):
        return unread
    if document["result"] is False:
        return outcomes.refused(document)
    seen, kernel = outcomes.read_look(document.get("look")), document.get("kernel")
    if seen is None or not isinstance(kernel, str) or not kernel:
        return unread
    if seen.verdict in BUSY:
        return Finding(Place.FAILED, Kind.BUSY, f"a transition is running there: {seen.comment}")
    drift = _drift(seen, kernel, host.placing)
    if drift:
        return Finding(Place.FAILED, Kind.DRIFT, drift)
    if not state.plan.arrivals.get(kernel) and not state.plan.options.bare:
        return Finding(Place.FAILED, Kind.UNCOVERED, f"there is no level for kernel {kernel}")
    there = kernel == seen.release and Flag.REBOOT_OWED not in seen.flags
    found = Finding(
        Place.STAGED, boot=seen.boot, build=seen.build, level=seen.level, there=there, kernel=kernel
    )
    if not there or not host.forward_rev:
        return found
    short = _short_of(seen, _levels(state, kernel), state.plan.options.bare)
    if short is None:
        return replace(found, again=True)
    text = f"it runs kernel {kernel}, and {short[1]}: {MEND_THERE}, then retry"
    return replace(found, place=Place.FAILED, kind=short[0], text=text)


def _drift(seen: Seen, kernel: str, placing: Placing) -> str:
    """What is not as it was planned: the kernel that it would be started with, or the one that it runs, from
    which that of the plan may be the way back. Empty where nothing is, or no kernel was planned."""
    if not placing.kernel:
        return ""
    if kernel != placing.kernel:
        return f"it would be started with kernel {kernel}, planned was {placing.kernel}"
    if placing.build_id and seen.build != placing.build_id and seen.release != kernel:
        runs = f"it runs kernel {seen.release} (build {seen.build}) by now"
        return f"{runs}, planned was to start {kernel} from build {placing.build_id}"
    return ""


def left(entry: object) -> Finding:
    """What the order to leave returned. MOVING: it is on its way, or only a look can tell."""
    document = outcomes.document_of(entry)
    if document is None or not isinstance(document.get("result"), bool) or "test" in document:
        return Finding(Place.MOVING, text=f"its answer does not tell: {outcomes.shown(entry)}")
    if document["result"] is True:
        own = document.get("restart")
        return Finding(Place.MOVING, leaves=isinstance(own, Mapping) and own.get("stage") == "leaving")
    found = outcomes.refused(document)
    return Finding(Place.MOVING, text=found.text) if found.kind == Kind.BUSY else found


def looked(entry: object, order: Order, *, overdue: bool) -> Finding:
    """What a look at a host that was told to leave says. APPROVED: it never got the command. RETURNED: it is
    to be finished, which takes one that never left back to where it was."""
    seen = outcomes.read_look(outcomes.document_of(entry))
    if seen is None:
        return Finding(Place.FAILED, Kind.INTERNAL, f"what it is cannot be read: {outcomes.shown(entry)}")
    own = seen.restart
    if "error" in own:
        return Finding(Place.FAILED, Kind.JOURNAL, str(own["error"]))
    if (own.get("ledger_id"), own.get("rev")) != (order.ledger_id, order.rev):
        return _never_told(seen, order)
    if own.get("stage") == "done":
        return ended(seen, order)
    here = own.get("boot_id") == seen.boot
    if here and not overdue:
        return Finding(Place.MOVING, text=f"it is {own.get('stage')}", leaves=own.get("stage") == "leaving")
    if overdue and order.returned:
        what = "it never left" if here else "it is back"
        text = f"{what}, and was not finished in time{order.left}: {seen.comment}"
        return Finding(Place.FAILED, Kind.STALLED, text)
    return Finding(Place.RETURNED, boot=seen.boot, build=seen.build)


def _never_told(seen: Seen, order: Order) -> Finding:
    if order.boot and seen.boot != order.boot:
        return Finding(Place.LOST, Kind.HEALTH, "it was restarted, and not by this rollout")
    if seen.restart.get("stage") == "done" or not seen.restart:
        return Finding(Place.APPROVED, text="the command has not reached it")
    return Finding(Place.FAILED, Kind.CONFLICT, f"an earlier restart there is {seen.restart.get('stage')}")


def finished(entry: object, order: Order) -> Finding:
    """What the order to finish returned. MOVING where only another look can tell."""
    document = outcomes.document_of(entry)
    seen = outcomes.read_look(document.get("look")) if document is not None else None
    if document is None or seen is None or not isinstance(document.get("result"), bool):
        return Finding(Place.MOVING, text=f"its answer does not tell: {outcomes.shown(entry)}")
    found = outcomes.refused(document)
    if document["result"] is False and found.kind == Kind.BUSY:
        return Finding(Place.MOVING, text=found.text)
    if seen.restart.get("stage") != "done" or seen.restart.get("rev") != order.rev:
        return found if document["result"] is False else Finding(Place.MOVING, text="it is not done yet")
    return ended(seen, order)


def ended(seen: Seen, order: Order) -> Finding:
    """A restart that is done: how it ended, and whether what is there now is what it says."""
    own = seen.restart
    found = _problem(seen, order)
    place, kind, text = (Place.HEALTHY, "", "") if found is None else (Place.FAILED, *found)
    if own.get("boot_id") == seen.boot:
        return Finding(place, kind, text)
    return Finding(
        place, kind, text, boot=seen.boot, build=seen.build, kernel=seen.release, away=_seconds(own)
    )


def _problem(seen: Seen, order: Order) -> Optional[tuple[str, str]]:
    own = seen.restart
    comment = str(own.get("comment", ""))
    if own.get("result") is not True or own.get("owed"):
        return str(own.get("kind") or Kind.INTERNAL), comment
    evidence = own.get("evidence")
    if not isinstance(evidence, Mapping) or evidence.get("boot_id") != seen.boot or seen.boot == order.boot:
        return Kind.HEALTH, "it was restarted once more after it had been verified"
    if evidence.get("as_asked") is not True or seen.release != order.kernel:
        return Kind.KERNEL_MISMATCH, f"kernel {order.kernel} was asked for, {seen.release} runs"
    return _short_of(seen, order.levels, order.bare)


def _short_of(seen: Seen, levels: Mapping[str, int], bare: bool) -> Optional[tuple[str, str]]:
    level = levels.get(seen.build, 0 if bare else None)
    if level is None:
        return Kind.UNCOVERED, f"there is no level for its kernel build {seen.build} ({seen.release})"
    if not outcomes.at_level(seen, level):
        return Kind.INTERNAL, f"it is at level {seen.level}, not {level}: {seen.comment}"
    if seen.health == CheckVerdict.FAIL:
        return Kind.HEALTH, "it is not as well as before it left"
    return None


def _seconds(own: Mapping[str, Any]) -> Optional[float]:
    evidence = own.get("evidence")
    away = evidence.get("away") if isinstance(evidence, Mapping) else None
    return float(away) if isinstance(away, (int, float)) and not isinstance(away, bool) else None
