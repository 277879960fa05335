"""Go back: reverse a transition that is running, or move to a lower level by the least risky way."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from livepatch_core.errors import LivepatchError
from livepatch_core.host import change, move, recovery
from livepatch_core.host.account import account, failure, shown
from livepatch_core.host.approval import Source, authority, by_hand
from livepatch_core.host.context import Host
from livepatch_core.host.intent import Act
from livepatch_core.host.lock import exclusive
from livepatch_core.host.move import Wish
from livepatch_core.host.outcome import Outcome, changes, joined, refused
from livepatch_core.host.record import Record, read_record
from livepatch_core.host.situation import Situation, observe
from livepatch_core.kernel.patches import Patch, PatchState
from livepatch_core.kernel.running import Kernel, read_kernel
from livepatch_core.words import Kind


@dataclass(frozen=True)
class _Running:
    """A transition to be reversed, and what the host is around it."""

    patch: Patch
    kernel: Kernel
    situation: Situation

    @property
    def target(self) -> bool:
        """What ``enabled`` has to become: the opposite of where the transition goes."""
        return not self.patch.enabled

    @property
    def names_after(self) -> tuple[str, ...]:
        """The patches there will be: that of a reversed load goes, all others stay."""
        return tuple(one.name for one in self.kernel.patches if self.target or one.name != self.patch.name)

    @property
    def level_after(self) -> int | None:
        return self.situation.level_with(self.names_after)

    @property
    def kernel_after(self) -> Kernel:
        """The kernel as it will be, as far as planning the next move asks."""
        left = (one for one in self.kernel.patches if one.name in self.names_after)
        at_rest = tuple(dataclasses.replace(one, enabled=True, transition=False) for one in left)
        return dataclasses.replace(self.kernel, patches=at_rest)


def revert(host: Host, wish: Wish) -> Outcome:
    """Reverse what runs; otherwise go to ``wish.level`` (0 when none and no approval is given).

    A transition is reversed as it is, without asking where it would have led; with a level or an approval
    the host then goes on there. Raises LivepatchError for whatever is refused or fails.
    """
    with exclusive(host.settings.lock_file, "revert", test=wish.test):
        return locked(host, wish)


def locked(host: Host, wish: Wish) -> Outcome:
    """``revert`` for a caller that holds the host's lock."""
    try:
        reversed_ = _reverse_running(host, wish)
    except change.EndedFirst:  # who named no level wanted the one from before, which nobody can name now
        if not _goes_on(wish):
            raise
        reversed_ = None
    if reversed_ is None:
        return move.locked(host, wish if _goes_on(wish) else dataclasses.replace(wish, level=0))
    out = reversed_.result is True or reversed_.details.get("ending") == change.Ending.OVERSHOT
    if not (out and _goes_on(wish)):
        return reversed_
    try:
        return _joined(reversed_, move.locked(host, wish))
    except LivepatchError as error:  # what it says of the kernel begins with the reversed transition
        return _joined(reversed_, refused(error))


def _goes_on(wish: Wish) -> bool:
    """Whether the host goes to a level that was named, once nothing is in transition."""
    return wish.level is not None or wish.approval is not None


def _reverse_running(host: Host, wish: Wish) -> Outcome | None:
    """None when no transition is running."""
    record = read_record(host.settings.record_file)
    kernel = read_kernel(host.roots)
    situation = observe(host, kernel, record)
    if situation.transition is None:
        return None
    if situation.transition.state is PatchState.UNKNOWN:
        move.refuse_unreadable(situation)
    running = _Running(situation.transition, kernel, situation)
    record = _authorised(host, wish, record, running)
    if wish.test:
        return _predicted(host, wish, record, running)
    return _reverse(host, wish, record, running)


def _authorised(host: Host, wish: Wish, record: Record, running: _Running) -> Record:
    """Reversing is a move too: an approval or a reason, and the approval must be the newest."""
    if wish.approval is not None and wish.level is None:
        record = move.note_approval(host, wish, record)
        move.aim(host, wish, record, running.kernel)
    else:
        by_hand(wish.level or 0, wish.reason, record, running.kernel.identity.build_id or "")
    return record


def _held(wish: Wish, record: Record, running: _Running) -> Record:
    """Reversed by hand, the host holds the level it comes back to, or the next highstate undid that."""
    level = running.level_after
    if wish.level is None and wish.approval is not None or level is None:
        return record
    return by_hand(level, wish.reason, record, running.kernel.identity.build_id or "")[1]


def _source(wish: Wish) -> Source:
    return Source.APPROVAL if wish.approval is not None and wish.level is None else Source.BY_HAND


def _reverse(host: Host, wish: Wish, record: Record, running: _Running) -> Outcome:
    boot_id, patch = change.boot_of(running.kernel), running.patch
    limits = change.limits_for(host, running.kernel.environment, None, wish.deadline)
    record = recovery.abandon(host, record, limits)
    loaded = record.find_loaded(patch.name, boot_id)
    intent = change.new_intent(
        host,
        Act.REVERSE,
        running.target,
        patch.name,
        boot_id,
        loaded=loaded,
        reason=wish.reason or "",
        authority=authority(_source(wish), running.level_after or 0, record),
    )
    done = change.reverse(host, record, intent, limits, _held(wish, record, running))
    kernel = read_kernel(host.roots)
    after = observe(host, kernel, done.record)
    before = tuple(one.name for one in running.kernel.patches)
    changed = changes(running.situation.level, after.level, before, tuple(one.name for one in kernel.patches))
    details = account([done])
    if done.ending is change.Ending.COMPLETE:
        comment = (
            f"The transition of {patch.name} ({patch.state}) was reversed in {done.seconds:.2f} s; "
            f"the kernel is at level {shown(after.level)}."
        )
        return Outcome(True, comment, changes=changed, details=details)
    kind, comment = failure(done, after, goes_on=_goes_on(wish))
    if done.ending is change.Ending.IN_TRANSITION:
        kind = Kind.REVERSE_STALLED
    return Outcome(False, comment, kind, changed, details)


def _predicted(host: Host, wish: Wish, record: Record, running: _Running) -> Outcome:
    patch = running.patch
    before = tuple(one.name for one in running.kernel.patches)
    level = running.level_after
    back = Outcome(
        None,
        f"Would reverse the transition of {patch.name} ({patch.state}); the kernel would be at level "
        f"{shown(level)} again.",
        changes=changes(running.situation.level, level, before, running.names_after),
    )
    if not _goes_on(wish):
        return back
    target, accepted = move.aim(host, wish, record, running.kernel)
    try:
        plan = move.make_plan(host, wish, running.kernel_after, target, accepted)
    except LivepatchError as error:
        return _joined(back, refused(error))
    return _joined(back, move.predicted(plan))


def _joined(first: Outcome, second: Outcome) -> Outcome:
    """One outcome of two acts: what was before the first, and what is after the second."""
    return dataclasses.replace(
        second,
        result=None if first.result is None and second.result else second.result,
        comment=f"{first.comment} {second.comment}",
        changes=joined(first.changes, second.changes),
    )
