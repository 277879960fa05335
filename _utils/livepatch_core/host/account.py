"""What became of an act, for people and for programs."""

from __future__ import annotations

from typing import Any

from livepatch_core.host.change import Change, Ending
from livepatch_core.host.situation import Situation
from livepatch_core.host.stall import sentence, straggler_documents, unseen_documents
from livepatch_core.words import Kind

UNPROVEN_REMEDY = (
    "Load that module again as it was, or go to level 0 (livepatch.revert), then to a level built for it."
)


def failure(last: Change, after: Situation, *, goes_on: bool = False) -> tuple[Kind, str]:
    """The sentence for a change that did not end as asked: what happened, what the kernel is, what to do.
    goes_on: the caller goes on to the level that was asked for.
    """
    patch, act = last.intent.patch, last.intent.act
    who = sentence(last.stall)
    now = f"The kernel is at level {shown(after.level)} now"
    if last.ending is Ending.REVERSED:
        return (
            Kind.REVERSED,
            f"The transition of {patch} ({act}) stalled and was reversed. {who} {now}. See to what held it "
            "up, then ask again.",
        )
    if last.ending is Ending.OVERSHOT:
        todo = "" if goes_on else " Apply the level that you want."
        return (
            Kind.STALLED,
            f"The transition of {patch} ended just before it was reversed: it was disabled instead, "
            f"and {', '.join(last.lost)}, which it had replaced, did not come back. {now}.{todo}",
        )
    if last.ending is Ending.REVERSE_STALLED:
        gone = f" {', '.join(last.lost)} is gone already and does not come back." if last.lost else ""
        return (
            Kind.REVERSE_STALLED,
            f"The transition of {patch} ({act}) stalled, and so did its reversal. {who} The kernel is "
            "still in transition; both old and new code "
            f"are in use, each task in one of them.{gone} Let the threads named leave the function (or end "
            "them); livepatch.wait watches it.",
        )
    if last.ending is Ending.IN_TRANSITION:
        return (
            Kind.STALLED,
            f"The transition of {patch} ({act}) is past its deadline and was left running. {who} "
            "It ends by itself when they leave; "
            "livepatch.wait watches it, livepatch.revert reverses it.",
        )
    if last.ending is Ending.TAKEN_BACK:
        return (
            Kind.DRIFT,
            f"Somebody else took {patch} back during its transition ({act}). {now}. Find out who before "
            "asking again.",
        )
    return Kind.DRIFT, _unproved(patch, after, now)


def _unproved(patch: str, after: Situation, now: str) -> str:
    """Of a transition that has ended, but not with what was promised."""
    if after.missing:
        missing = ", ".join(f"{function} of {obj}" for obj, function, _ in after.missing)
        return (
            f"The transition of {patch} ended, but not all that it promised is in force: {missing}. {now}; "
            "livepatch.status says what is."
        )
    if after.unproven:
        return f"{'; '.join(map(str, after.unproven))}. {now}. {UNPROVEN_REMEDY}"
    return (
        f"The transition of {patch} ended, but the kernel does not show it as the module that was loaded. "
        f"{now}; livepatch.status says what is in force."
    )


def account(done: list[Change]) -> dict[str, Any]:
    """Plain data about the changes that one act made, the last one's stragglers included."""
    last = done[-1]
    said: dict[str, Any] = {"seconds": round(sum(one.seconds for one in done), 3), "ending": str(last.ending)}
    said["journal"] = {"seq": last.record.journal.seq, "hash": last.record.journal.hash}
    said["steps"] = [f"{one.intent.act} {one.intent.patch}: {one.ending}" for one in done]
    left = [name for one in done for name in one.left]
    if left:
        said["left_modules"] = left
    if last.stall is not None:
        said["stragglers"] = straggler_documents(last.stall)
        said["unseen"] = unseen_documents(last.stall)
        said["scan_complete"] = last.stall.complete
    return said


def shown(level: int | None) -> str:
    """A level in a sentence."""
    return "unknown" if level is None else str(level)
