"""See and wait for a transition, whoever started it."""

from __future__ import annotations

from typing import Any

from livepatch_core.host.context import Host
from livepatch_core.host.outcome import Outcome
from livepatch_core.host.stall import sentence, straggler_documents
from livepatch_core.kernel import transition
from livepatch_core.kernel.patches import in_transition, read_patches
from livepatch_core.kernel.stragglers import scan
from livepatch_core.kernel.transition import Outcome as Waited
from livepatch_core.words import Kind


def transition_document(host: Host) -> dict[str, Any]:
    """The running transition and who holds it up; ``{"patch": None}`` when none is running."""
    patch = in_transition(read_patches(host.roots))
    if patch is None or patch.enabled is None:
        return {"patch": None, "comment": "No transition is running."}
    functions = frozenset(f.name for one in patch.objects for f in one.functions)
    seen = scan(host.roots, int(patch.enabled), functions)
    return {
        "patch": patch.name,
        "state": str(patch.state),
        "stragglers": straggler_documents(seen),
        "scanned": seen.scanned,
        "scan_complete": seen.complete,
        "comment": f"Patch {patch.name} is {patch.state}. {sentence(seen)}",
    }


def wait(host: Host, seconds: float) -> Outcome:
    """Wait at most ``seconds`` for the running transition to end; changes nothing, whatever happens."""
    patch = in_transition(read_patches(host.roots))
    if patch is None or patch.enabled is None:
        return Outcome(True, "No transition is running.")
    waited = transition.wait(
        host.roots, patch.name, target=patch.enabled, deadline=seconds, clock=host.clock, poll=host.pause
    )
    if waited.outcome is Waited.DEADLINE:
        return Outcome(
            False,
            f"Patch {patch.name} is still {patch.state} after {seconds:.0f} s; nothing was changed.",
            Kind.STALLED,
            details=transition_document(host),
        )
    what = "took the opposite direction" if waited.outcome is Waited.REVERSED else "ended"
    return Outcome(
        True, f"The transition of {patch.name} ({patch.state}) {what} after {waited.seconds:.2f} s."
    )
