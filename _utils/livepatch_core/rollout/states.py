"""The words of a rollout while it runs: what it is, what it is doing, and where each host stands."""

from __future__ import annotations

from livepatch_core.words import Word


class Standing(Word):
    """What a rollout is."""

    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    ABORTING = "aborting"  # nothing more is dispatched; what is in flight finishes
    ABORTED = "aborted"
    COMPLETED = "completed"
    EXCEPTIONS = "completed_with_exceptions"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"


ENDED = frozenset(
    {
        Standing.ABORTED,
        Standing.COMPLETED,
        Standing.EXCEPTIONS,
        Standing.ROLLED_BACK,
        Standing.ROLLBACK_FAILED,
    }
)


class Phase(Word):
    """What a running rollout is at."""

    WINDOW = "window"  # waits until its wave may begin
    DISPATCH = "dispatch"
    SOAK = "soak"
    GATE = "gate"
    LATE = "late"  # all waves are through; waits for hosts that were not there at their turn


class Place(Word):
    """Where a host stands. Every targeted host has exactly one."""

    INELIGIBLE = "ineligible"  # the plan says why
    ABSENT = "absent"  # offline when the plan was made
    PENDING = "pending"
    STAGING = "staging"  # asked to fetch the module; nothing is approved yet
    STAGED = "staged"
    APPROVED = "approved"  # may move, was not told yet
    MOVING = "moving"
    RETURNED = "returned"  # started with another kernel, and not verified yet
    GATING = "gating"  # moved; its gates are being asked
    HEALTHY = "healthy"
    ALREADY = "already_ok"
    FAILED = "failed"
    STALLED = "stalled"
    UNREACHABLE = "unreachable"  # did not answer when its turn came; was never approved
    LOST = "lost_after_patch"  # answered, was told to move, and is gone or was restarted by something else
    SKIPPED = "skipped"
    RECALLED = "recalled"  # approved for the level it came from, not told yet
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"
    NEEDS_REBOOT = "needs_reboot"


FORWARD = frozenset({Place.STAGING, Place.STAGED, Place.APPROVED, Place.MOVING, Place.RETURNED, Place.GATING})
BACKWARD = frozenset({Place.RECALLED, Place.ROLLING_BACK})
# A host that failed keeps its place in its domain: the more fail, the slower it goes, until nothing goes.
OCCUPYING = FORWARD | {Place.FAILED, Place.STALLED, Place.LOST}
WELL = frozenset({Place.HEALTHY, Place.ALREADY})
ABSENTEES = frozenset({Place.ABSENT, Place.UNREACHABLE})
TROUBLED = frozenset(
    {
        Place.FAILED,
        Place.STALLED,
        Place.UNREACHABLE,
        Place.LOST,
        Place.SKIPPED,
        Place.ROLLBACK_FAILED,
        Place.NEEDS_REBOOT,
    }
)
NOT_THERE = TROUBLED | {Place.ABSENT, Place.PENDING}  # what keeps a rollout from being simply completed
# Not one that is between two kernels (state.py, is_stray): that is heard first.
RETRIABLE = frozenset({Place.FAILED, Place.STALLED, Place.UNREACHABLE, Place.LOST, Place.ABSENT})
SKIPPABLE = RETRIABLE | {Place.PENDING}


class Counter(Word):
    """What thresholds count. ``gate``: a gate asked of no host failed."""

    FAILED = "failed"
    STALLED = "stalled"
    UNREACHABLE = "unreachable"
    LOST = "lost"
    GATE = "gate"


COUNTED = {
    Counter.FAILED: Place.FAILED,
    Counter.STALLED: Place.STALLED,
    Counter.UNREACHABLE: Place.UNREACHABLE,
    Counter.LOST: Place.LOST,
}
