"""What an answer of a host means: from whatever came back to where the host stands. Pure.

No answer makes a host healthy by being there. What cannot be read, or does not say enough, is followed by
a look at the host; only a look that shows the level in force under the boot id of before counts, or the
account of the move itself that says the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from livepatch_core.rollout.model import Grant
from livepatch_core.rollout.states import Place
from livepatch_core.words import CheckVerdict, Flag, Kind, Verdict

STALLED = frozenset({Kind.STALLED, Kind.REVERSED, Kind.REVERSE_STALLED})
# What going back cannot cure and a reboot can: a transition that ends in neither direction, a forced patch, a
# way back that the kernel does not offer.
REBOOT = frozenset({Kind.REVERSE_STALLED, Kind.REBOOT_OWED, Kind.STATE, Kind.UNSUPPORTED})
VERDICTS = frozenset(str(one) for one in Verdict)
KINDS = frozenset(str(one) for one in Kind)
TEXT = 300  # characters of an explanation that are kept; the whole is in the job cache and the host's journal


@dataclass(frozen=True)
class Order:
    """What one host was told. level: where it is to go. rev: of the approval. boot: its boot id when it
    was staged, empty where that is not known. back: it is a rollback."""

    level: int
    rev: int
    boot: str = ""
    back: bool = False


@dataclass(frozen=True)
class Finding:
    """place: where the host stands now; MOVING: look again; APPROVED: it did not get the command. there:
    it is at its level already. again: and this rollout has told it before. boot, build, level: as it says
    itself, from staging or after a restart.

    Of hosts that are started with another kernel: kernel, its release (after the restart that of the one
    which runs); leaves: the boot was ordered; away: seconds.
    """

    place: Place
    kind: str = ""
    text: str = ""
    there: bool = False
    again: bool = False
    boot: str = ""
    build: str = ""
    level: Optional[int] = None
    kernel: str = ""
    leaves: bool = False
    away: Optional[float] = None

    def document(self) -> dict[str, Any]:
        """Without what is empty."""
        said = {
            "to": str(self.place),
            "kind": self.kind,
            "text": self.text[:TEXT],
            "boot": self.boot,
            "build": self.build,
            "kernel": self.kernel,
            "there": self.there,
            "again": self.again,
            "leaves": self.leaves,
        }
        shown: dict[str, Any] = {key: value for key, value in said.items() if value}
        numbers = {"level": self.level, "away": self.away}
        return {**shown, **{key: value for key, value in numbers.items() if value is not None}}


@dataclass(frozen=True)
class Seen:
    """A look, as far as it could be read. level: None where the host does not know. last: how its last
    act by an approval ended (rev, kind, comment), if it ended. version: of its extension. restart: of
    its last one, if there was one. unasked: whether its verdict is unknown only since another live-patch
    system, which a look does not ask, is in a kernel in which ours has nothing."""

    verdict: Verdict
    level: Optional[int]
    boot: str
    build: str
    rev: int
    flags: frozenset[str]
    health: Optional[str]
    comment: str
    last_rev: int = 0
    last_result: Optional[bool] = None
    last_kind: str = ""
    last_comment: str = ""
    release: str = ""
    version: str = ""
    restart: Mapping[str, Any] = field(default_factory=dict, hash=False)
    unasked: bool = False


def document_of(entry: object) -> Optional[Mapping[str, Any]]:
    """The mapping that a host returned; None for text, a traceback, a list, or nothing."""
    document = entry.get("return") if isinstance(entry, Mapping) else None
    return document if isinstance(document, Mapping) else None


def read_look(document: object) -> Optional[Seen]:
    """None where it is no look, or one without what decides."""
    if not isinstance(document, Mapping):
        return None
    verdict, level, boot, rev = (document.get(key) for key in ("verdict", "level", "boot_id", "rev"))
    if not isinstance(verdict, str) or verdict not in VERDICTS or not isinstance(boot, str) or not boot:
        return None
    if type(rev) is not int or not (level is None or type(level) is int):
        return None
    health, flags, last = document.get("health"), document.get("flags"), document.get("last")
    last = last if isinstance(last, Mapping) else {}
    restart = document.get("restart")
    return Seen(
        Verdict(verdict),
        level,
        boot,
        _text(document.get("build_id")),
        rev,
        frozenset(str(one) for one in flags) if isinstance(flags, (list, tuple)) else frozenset(),
        _text(health.get("verdict")) if isinstance(health, Mapping) else None,
        _text(document.get("comment")),
        last["rev"] if type(last.get("rev")) is int else 0,
        last["result"] if isinstance(last.get("result"), bool) else None,
        _text(last.get("kind")),
        _text(last.get("comment")),
        _text(document.get("release")),
        _text(document.get("version")),
        restart if isinstance(restart, Mapping) else {},
        isinstance(document.get("unasked"), list) and bool(document["unasked"]),
    )


def staged(entry: object, build: str, grants: Mapping[str, Grant]) -> Finding:
    """The answer to staging. build: the kernel build of the plan, empty where it knew none. grants: the
    plan's, by kernel build."""
    document = document_of(entry)
    if document is None or not isinstance(document.get("result"), bool):
        return Finding(Place.FAILED, Kind.INTERNAL, f"its answer to staging cannot be read: {shown(entry)}")
    if document["result"] is False:
        return refused(document)
    seen = read_look(document.get("look"))
    if seen is None:
        return Finding(
            Place.FAILED, Kind.INTERNAL, f"its answer to staging says not what it is: {shown(entry)}"
        )
    if build and seen.build != build:
        return Finding(
            Place.FAILED, Kind.KERNEL_MISMATCH, f"it runs kernel build {seen.build}, planned was {build}"
        )
    if seen.verdict in (Verdict.PATCHING, Verdict.REVERTING, Verdict.STALLED):
        return Finding(Place.FAILED, Kind.BUSY, f"a transition is running there: {seen.comment}")
    if seen.level is None:
        return Finding(Place.FAILED, Kind.DRIFT, f"nobody knows its level: {seen.comment}")
    there = seen.build in grants and at_level(seen, grants[seen.build].level)
    return Finding(Place.STAGED, boot=seen.boot, build=seen.build, level=seen.level, there=there)


def anew(entry: object) -> Finding:
    """A host that is approved and was not told yet: under which boot id it will be told."""
    seen = read_look(document_of(entry))
    if seen is None:
        return Finding(Place.FAILED, Kind.INTERNAL, f"what it is cannot be read: {shown(entry)}")
    return Finding(Place.APPROVED, boot=seen.boot)


def moved(entry: object, order: Order) -> Finding:
    """The return of a move. MOVING where only a look can tell."""
    document = document_of(entry)
    look = Finding(Place.MOVING, text=f"its answer does not tell: {shown(entry)}")
    if document is None or not isinstance(document.get("result"), bool) or "test" in document:
        return look
    comment = _text(document.get("comment"))
    if document["result"] is False:
        kind = _kind(document)
        return look if kind == Kind.BUSY else failed(kind, comment, order)
    changes = document.get("changes")
    level = changes.get("level") if isinstance(changes, Mapping) else None
    new = level.get("new") if isinstance(level, Mapping) else None
    if order.back or type(new) is not int or new != order.level:
        return look  # a rollback is verified by a look; "nothing to do" is no account of what is in force
    return Finding(Place.HEALTHY)


def looked(entry: object, order: Order, *, overdue: bool) -> Finding:
    """What a look at a host that was told to move says. overdue: it had its time; if it is still moving
    it stalls."""
    seen = read_look(document_of(entry))
    if seen is None:
        return Finding(_bad(order), Kind.INTERNAL, f"what it is cannot be read: {shown(entry)}")
    if order.boot and seen.boot != order.boot and not order.back:
        return Finding(Place.LOST, Kind.HEALTH, "it was restarted after it was told to move")
    if seen.verdict in (Verdict.PATCHING, Verdict.REVERTING) and not overdue:
        return Finding(Place.MOVING, text=seen.comment)
    if seen.verdict in (Verdict.PATCHING, Verdict.REVERTING, Verdict.STALLED):
        return failed(Kind.STALLED, seen.comment, order)
    if seen.rev < order.rev:
        return Finding(Place.APPROVED, text="the command has not reached it")
    return _settled(seen, order, overdue)


def _settled(seen: Seen, order: Order, overdue: bool) -> Finding:
    """A host that has acted on the approval, or on a newer one, and is in no transition."""
    if at_level(seen, order.level):
        return still_well(seen, order)
    if seen.last_rev == order.rev and seen.last_result is False:
        return failed(seen.last_kind or Kind.INTERNAL, seen.last_comment or seen.comment, order)
    if seen.rev > order.rev:
        return failed(
            Kind.SUPERSEDED, f"a newer approval (rev {seen.rev}) holds there: {seen.comment}", order
        )
    if seen.last_rev < order.rev and not overdue:
        return Finding(Place.MOVING, text="it has begun and not ended")
    return failed(Kind.INTERNAL, f"it is at level {seen.level}, not {order.level}: {seen.comment}", order)


def still_well(seen: Seen, order: Order) -> Finding:
    """A host at its level: is it well?"""
    if order.back:
        owes = Flag.REBOOT_OWED in seen.flags
        return (
            Finding(Place.NEEDS_REBOOT, Kind.REBOOT_OWED, seen.comment)
            if owes
            else Finding(Place.ROLLED_BACK)
        )
    if seen.health == CheckVerdict.FAIL:
        return Finding(Place.FAILED, Kind.HEALTH, "it is not as well as before its move")
    return Finding(Place.HEALTHY)


def soaking(entry: object, order: Order, when: str = "in its soak") -> Finding:
    """A host in its soak."""
    seen = read_look(document_of(entry))
    if seen is None:
        return Finding(Place.FAILED, Kind.INTERNAL, f"what it is cannot be read: {shown(entry)}")
    if order.boot and seen.boot != order.boot:
        return Finding(Place.LOST, Kind.HEALTH, f"it was restarted {when}")
    if not at_level(seen, order.level):
        kind = Kind.SUPERSEDED if seen.rev > order.rev else Kind.DRIFT
        return Finding(
            Place.FAILED, kind, f"it left level {order.level} {when}: {seen.verdict}, {seen.comment}"
        )
    return still_well(seen, order)


def soaked(entry: object, order: Order) -> Finding:
    """A host whose soak is over. One that loads its level, as after a boot, is not judged by this look."""
    seen = read_look(document_of(entry))
    if seen is not None and seen.verdict is Verdict.PATCHING:
        return Finding(Place.HEALTHY)
    return soaking(entry, order, "after its soak")


def refused(document: Mapping[str, Any]) -> Finding:
    """What a host says that it will not do, or could not."""
    return Finding(Place.FAILED, _kind(document), _text(document.get("comment")))


def failed(kind: str, text: str, order: Order) -> Finding:
    if order.back:
        return Finding(Place.NEEDS_REBOOT if kind in REBOOT else Place.ROLLBACK_FAILED, kind, text)
    return Finding(Place.STALLED if kind in STALLED else Place.FAILED, kind, text)


def shown(entry: object) -> str:
    """What came back, short, for people."""
    said = entry.get("return") if isinstance(entry, Mapping) else entry
    return repr(said)[:120]


def at_level(seen: Seen, level: int) -> bool:
    """Whether the level is in force: patched at it, or nothing in force for 0. Levels are klp's: at 0, what
    another system has in force is not asked."""
    if level:
        return seen.verdict is Verdict.PATCHED and seen.level == level
    nothing = seen.verdict in (Verdict.UNPATCHED, Verdict.UNCOVERED, Verdict.UNSUPPORTED)
    return (nothing or (seen.verdict is Verdict.UNKNOWN and seen.unasked)) and not seen.level


def _bad(order: Order) -> Place:
    return Place.ROLLBACK_FAILED if order.back else Place.FAILED


def _kind(document: Mapping[str, Any]) -> str:
    """The host's own word if it is one of ours: kinds are counted by."""
    said = document.get("kind")
    return said if isinstance(said, str) and said in KINDS else str(Kind.INTERNAL)


def _text(value: object) -> str:
    return value[:TEXT] if isinstance(value, str) else ""
