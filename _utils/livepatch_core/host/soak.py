"""The time in which a level has to prove itself: checked at 1, 5 and 15 minutes, then proven, or reverted.

A systemd timer runs ``tick`` once a minute while something is armed: no master and no minion is needed, and
a minion that was restarted forgets nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.host import armed, health, persist, revert
from livepatch_core.host.armed import Armed
from livepatch_core.host.context import Host
from livepatch_core.host.health import Health
from livepatch_core.host.lock import SOAK, exclusive
from livepatch_core.host.move import Wish
from livepatch_core.host.outcome import Outcome, joined
from livepatch_core.host.probes import Sample
from livepatch_core.host.settings import OnUnhealthy
from livepatch_core.host.statefile import read_document, write_document
from livepatch_core.kernel.identity import read_identity
from livepatch_core.kernel.patches import PatchState, read_patches
from livepatch_core.words import CheckVerdict, Kind

MARKS = (60.0, 300.0)  # seconds after the soak began; the last check is at the end of the soak
# A restart met by chance: 90 s for the stop and as much for the start (systemd-system.conf(5)), and a tick.
RESTART_SECONDS = 240.0


def due(marks: tuple[float, ...], age: float, soak: float) -> float | None:
    """The newest check that is due and was not passed yet, None when none is. Pure."""
    wanted = [one for one in (*MARKS, soak) if one <= min(age, soak)]
    return max(wanted) if wanted and max(wanted) > max(marks, default=0.0) else None


def tick(host: Host) -> Outcome:
    """Check what is armed if a check is due. Raises LivepatchError when something could not be read.

    Nothing is changed without the host's lock; an act that has it is no failure, the next tick looks again.
    """
    try:
        return _tick(host)
    except LivepatchError as error:
        if error.kind is not Kind.BUSY:
            raise
        return Outcome(True, f"{error.message} The next look at what is armed comes after it.")


def _tick(host: Host) -> Outcome:
    found = armed.read_armed(host)
    if found is None:
        return Outcome(True, "Nothing is armed.")
    if found.boot_id != read_identity(host.roots).boot_id:
        return Outcome(True, "What is armed is of another boot: the boot unit judges it.")
    state = _state(host, found)
    if state is None:
        return _gone(host, found)
    if state is not PatchState.PATCHED:
        return _not_in_force(host, found, state)
    before = health.baseline(host, found)
    if before is None or health.lacks(before):
        return _begin_late(host, found)
    at = due(found.marks, host.clock() - found.clock, host.settings.soak)
    if at is None:
        return Outcome(True, f"{found.name} is under observation; no check is due.")
    return _check(host, found, at, before)


def begin(host: Host, found: Armed, before: Sample) -> None:
    """The soak of what was loaded begins now, and is judged by ``before``. The caller holds the host's lock,
    and has waited for the transition, which may have taken longer than a soak; one that he left running
    delays it (``_not_in_force``).

    Raises LivepatchError (journal): then the next tick begins it.
    """
    armed.write_armed(host, replace(found, clock=host.clock(), marks=(), on_their_way=()))
    health.remember(host, before, found)


def check_now(host: Host) -> Health:
    """The host now, against what it was before the level in force was loaded."""
    found = armed.read_armed(host)
    now = health.sample(host)
    return health.judge(health.baseline(host, found) or now, now)


def _state(host: Host, found: Armed) -> PatchState | None:
    """None: its patch is not in the kernel."""
    return next((patch.state for patch in read_patches(host.roots) if patch.name == found.name), None)


def _gone(host: Host, found: Armed) -> Outcome:
    """Not what is being loaded just now: that is armed before its patch is there."""
    with exclusive(host.settings.lock_file, SOAK):
        if _still(host, found) is None or _state(host, found) is not None:
            return _overtaken(found)
        again = armed.stand_down(host, found, {patch.name for patch in read_patches(host.roots)})
    rest = f" {again.name}, which it was to replace, goes on with its soak." if again else ""
    return Outcome(True, f"{found.name} is no longer in the kernel: disarmed.{rest}")


def _not_in_force(host: Host, found: Armed, state: PatchState) -> Outcome:
    """A level proves itself where every task runs it; until then each tick sets the beginning anew."""
    with exclusive(host.settings.lock_file, SOAK):
        current = _still(host, found)
        if current is None or _state(host, found) is not state:
            return _overtaken(found)
        armed.write_armed(host, replace(current, clock=host.clock(), marks=(), on_their_way=()))
    return Outcome(True, f"{found.name} is {state}; its soak begins when that has ended.")


def _begin_late(host: Host, found: Armed) -> Outcome:
    """Nothing was kept that it can be judged by: whoever loaded it died, or had no room on the disk."""
    now = health.sample(host)
    lacking = health.lacks(now)
    if lacking:
        return Outcome(True, f"Inconclusive, {lacking}; the soak of {found.name} has yet to begin.")
    with exclusive(host.settings.lock_file, SOAK):
        current = _still(host, found)
        if current is None:
            return _overtaken(found)
        begin(host, current, now)
    return Outcome(
        True,
        f"There was no sample of the host from before {found.name} was loaded to judge it by: one was taken "
        "now, and its soak begins anew.",
    )


def _check(host: Host, found: Armed, at: float, before: Sample) -> Outcome:
    """The probes are asked without the lock, they may take long; what follows is decided under it, and only
    about what was judged."""
    sample, now = health.sample(host), host.clock()
    earlier = dict(found.on_their_way)
    since = {name: earlier.get(name, now) for name in health.on_their_way(sample)}
    seen = health.judge(before, sample, [name for name in since if now - since[name] >= RESTART_SECONDS])
    with exclusive(host.settings.lock_file, SOAK):
        current = _still(host, found)
        if current is None:
            return _overtaken(found)
        return _decide(host, replace(current, on_their_way=tuple(since.items())), at, seen)


def _still(host: Host, found: Armed) -> Armed | None:
    """What is armed, if that is still what was found; livepatch.persist may have asked for it meanwhile."""
    current = armed.read_armed(host)
    same = current is not None and replace(current, persist=found.persist) == found
    return current if same else None


def _overtaken(found: Armed) -> Outcome:
    return Outcome(True, f"{found.name} was looked at, but is no longer what is under observation.")


def _decide(host: Host, found: Armed, at: float, seen: Health) -> Outcome:
    details: dict[str, Any] = {"health": seen.document()}
    if seen.verdict is CheckVerdict.FAIL:
        return unhealthy(host, found.name, found.level, None, seen)
    if seen.verdict is CheckVerdict.INCONCLUSIVE:  # asked again at the next tick, and proves nothing
        armed.write_armed(host, found)
        return Outcome(True, f"After {at:.0f} s: inconclusive, {seen.reason}.", details=details)
    if at < host.settings.soak:
        armed.mark(host, found, at)
        return Outcome(True, f"After {at:.0f} s {found.name} is well.", details=details)
    _prove(host, found)
    return Outcome(True, f"{found.name} was well for {at:.0f} s and counts as proven.", details=details)


def _prove(host: Host, found: Armed) -> None:
    """Proven first, disarmed last: a death in between is at worst one more check."""
    proven = {**read_document(host.settings.proven_file), found.sha256: host.timestamp()}
    write_document(host.settings.proven_file, proven)
    if found.persist:
        persist.finish(host, found)
    armed.disarm(host)


def unhealthy(
    host: Host, name: str, level: int | None, back: int | None, seen: Health, moved: Outcome | None = None
) -> Outcome:
    """A probe failed: revert or only say so, as the minion's configuration has it.

    The caller holds the host's lock since before the level was judged, or has looked again under it: what is
    reverted is what was judged, and no other act came between. moved: the move that is judged, if that is
    this act's own; the outcome is then that of both.
    """
    reason = f"unhealthy with {name}: {seen.reason}"
    done = moved or Outcome(True, "")
    said = {**done.details, "health": seen.document()}
    if host.settings.on_unhealthy is OnUnhealthy.KEEP:
        comment = f"Level {level} is in force, but the host is not well: {seen.reason}. It was kept."
        return replace(done, result=False, comment=comment, kind=Kind.HEALTH, details=said)
    try:
        undone, instead = _undo(host, back or 0, reason)
    except LivepatchError as error:
        raise LivepatchError(
            Kind.HEALTH,
            f"The host is not well with level {level} ({seen.reason}), and it could not be reverted: {error}",
            remedy="Revert it by hand (livepatch.revert).",
            **{**said, "changes": done.changes},
        ) from error
    armed.disarm_gone(host, {patch.name for patch in read_patches(host.roots)})
    went = "It was reverted." if undone.result is True else f"It could not be reverted to level {back or 0}."
    comment = f"The host was not well with level {level}: {seen.reason}. {instead or went} {undone.comment}"
    steps = [*done.details.get("steps", ()), *undone.details.get("steps", ())]
    return Outcome(
        False,
        comment,
        Kind.HEALTH,
        joined(done.changes, undone.changes),
        {**said, **undone.details, **({"steps": steps} if steps else {})},
    )


def _undo(host: Host, back: int, reason: str) -> tuple[Outcome, str]:
    """To ``back``, or to level 0 where that is refused (blocked meanwhile, or the patch broke the network):
    it takes no catalog, and the unhealthy level has to go. Then also the sentence that says so, else ""."""
    try:
        return revert.locked(host, Wish(level=back, reason=reason)), ""
    except LivepatchError as error:
        if back == 0:
            raise
        undone = revert.locked(host, Wish(level=0, reason=reason))
        why = error.message.replace("; nothing was changed", "").rstrip(".")
        said = "it went to level 0" if undone.result is True else "nor to level 0"
        return undone, f"It could not be reverted to level {back} ({why}); {said}."
