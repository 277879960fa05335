"""What lets a host move, and who wins when two say different things (DESIGN: the approval rule).

Pure: an approval, the host's record and the caller's wish go in; a target or a refusal comes out. The
properties that hold for every interleaving are in tests/unit/host/test_approval.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.host.record import ByHand, Record
from livepatch_core.words import Kind, Word

DIGEST_LENGTH = 64  # hexadecimal digits of a SHA-256


class Source(Word):
    APPROVAL = "approval"
    BY_HAND = "by-hand"
    NEWEST = "newest"
    BOOT = "boot"  # a proven level, bounded by what the host was told before


@dataclass(frozen=True)
class Grant:
    """The level one kernel build may have; ``sha256`` is None exactly for level 0. since: the rev at which
    that was said, where it is handed out once more beside what a later one says of other builds."""

    level: int
    sha256: str | None
    since: int | None = None


@dataclass(frozen=True)
class Approval:
    ledger_id: str
    rev: int
    builds: Mapping[str, Grant]

    @property
    def digest(self) -> str:
        """Names the content: two approvals of one rev that differ must not both be obeyed."""
        content = {build: [grant.level, grant.sha256] for build, grant in self.builds.items()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def since(self, build: str) -> int:
        """The rev at which it was said what ``build`` may have; that of the whole where nothing is said."""
        grant = self.builds.get(build)
        return self.rev if grant is None or grant.since is None else grant.since


@dataclass(frozen=True)
class Target:
    """Where the host is to go. ``sha256`` None with a level above 0: the catalog's digest decides."""

    level: int | None  # None: the newest that the catalog has released
    sha256: str | None
    source: Source
    reason: str = ""


def authority(source: Source, level: int, record: Record) -> dict[str, Any]:
    """By what right a host goes to ``level``, for its journal: the approval, or whoever went without one.

    record: that of a host which has accepted the approval.
    """
    said: dict[str, Any] = {"source": str(source), "level": level}
    if source is not Source.APPROVAL and source is not Source.BOOT:
        return said
    return {**said, "ledger_id": record.ledger_id, "rev": record.rev}


def parse_approval(value: object) -> Approval:
    """A job argument or a pillar value; LivepatchError (unapproved, frozen) for whatever is none."""
    if value is None:
        raise _hold("no approval was given and none was found")
    if not isinstance(value, Mapping):
        raise _hold(f"the approval is not a mapping but {type(value).__name__}")
    if value.get("error"):
        raise _withheld(value["error"], value.get("kind") == Kind.FROZEN)
    ledger_id, rev, builds = value.get("ledger_id"), value.get("rev"), value.get("builds")
    if not isinstance(ledger_id, str) or not ledger_id:
        raise _hold("the approval names no ledger (ledger_id)")
    if type(rev) is not int or rev < 1:
        raise _hold(f"the approval's rev is {rev!r}, not a positive integer")
    if not isinstance(builds, Mapping):
        raise _hold("the approval lists no kernel builds")
    return Approval(
        ledger_id, rev, {str(build): _parse_grant(str(build), grant) for build, grant in builds.items()}
    )


def _parse_grant(build: str, value: object) -> Grant:
    if not isinstance(value, Mapping):
        raise _hold(f"the approval's entry for kernel build {build} is not a mapping")
    level, sha256, since = value.get("level"), value.get("sha256"), value.get("since")
    if since is not None and (type(since) is not int or since < 1):
        raise _hold(
            f"the approval's entry for kernel build {build} is of rev {since!r}, not an integer from 1"
        )
    if type(level) is not int or level < 0:
        raise _hold(f"the approval's level for kernel build {build} is {level!r}, not an integer from 0")
    if level == 0:
        return Grant(0, None, since)
    if not isinstance(sha256, str) or len(sha256) != DIGEST_LENGTH or set(sha256) - set("0123456789abcdef"):
        raise _hold(f"the approval for kernel build {build} carries no SHA-256 of level {level}")
    return Grant(level, sha256, since)


def judge(approval: Approval, record: Record, build_id: str) -> tuple[Target, Record]:
    """The target that ``approval`` gives this host, and the record that accepts it.

    Raises LivepatchError: foreign-ledger, superseded or unapproved; the host then stays as it is.
    """
    accepted = accept(approval, record)
    refuse_held(approval, record, build_id, build_id)
    grant = approval.builds.get(build_id)
    if grant is None:
        raise _hold(f"approval rev {approval.rev} names no level for this kernel build ({build_id})")
    return Target(grant.level, grant.sha256, Source.APPROVAL), accepted


def accept(approval: Approval, record: Record) -> Record:
    """The record of a host that obeys ``approval`` from now on.

    Also where it names no level for this kernel build, is held up by a level set by hand, or cannot be
    carried out: an older one, which does and could, is outranked all the same. Raises LivepatchError:
    foreign-ledger or superseded.
    """
    if record.ledger_id and approval.ledger_id != record.ledger_id:
        raise LivepatchError(
            Kind.FOREIGN_LEDGER,
            f"The approval comes from ledger {approval.ledger_id}, but this host obeys {record.ledger_id}; "
            "nothing was changed.",
            remedy="If the ledger was really replaced, run livepatch.adopt_ledger on this host.",
        )
    if approval.rev < record.rev:
        raise _superseded(
            f"Approval rev {approval.rev} is older than rev {record.rev}, which this host has acted on"
        )
    if approval.rev == record.rev and record.approval_digest not in ("", approval.digest):
        raise _superseded(f"This host has acted on another approval of the same rev {record.rev}")
    levels = {build: grant.level for build, grant in approval.builds.items()}
    revs = {build: approval.since(build) for build in levels}
    return record.accept(approval.ledger_id, approval.rev, approval.digest, levels, revs)


def refuse_held(approval: Approval, record: Record, build_id: str, to: str) -> None:
    """Raises LivepatchError (superseded) where what was said by hand of this kernel build is newer than what
    ``approval`` says of ``to``: of the same build, or of the release of a kernel that is to be started."""
    held, since = record.by_hand, approval.since(to)
    if held is not None and held.binds(build_id) and since <= held.above_rev:
        raise held_by_hand(held, f"what was approved, at rev {since}, is not newer")


def held_by_hand(held: ByHand, why: str) -> LivepatchError:
    return LivepatchError(
        Kind.SUPERSEDED,
        f"This host was told by hand to be at level {held.level} ({held.reason}), and {why}; nothing was "
        "changed.",
        remedy="Approve a level of this kernel build anew, or lift the hold (livepatch.unhold).",
    )


def by_hand(level: object, reason: object, record: Record, build_id: str) -> tuple[Target, Record]:
    """A level of this kernel build, given by hand: needs a reason, and holds until an approval of a higher
    rev arrives."""
    if type(level) is not int or level < 0:
        raise LivepatchError(
            Kind.ARGUMENT,
            f"The level is {level!r}, not an integer from 0; nothing was changed.",
            remedy="Give level=N, where 0 means unpatched.",
        )
    if not isinstance(reason, str) or not reason.strip():
        raise LivepatchError(
            Kind.UNAPPROVED,
            f"Level {level} was asked for by hand without a reason; nothing was changed.",
            remedy="Give reason='...' (it goes into the host's journal), or an approval.",
        )
    held = ByHand(level, reason.strip(), record.rev, build_id)
    return Target(level, None, Source.BY_HAND, held.reason), record.hold(held)


def hear_state(level: int, reason: object, record: Record) -> Record:
    """The record of a host to which a state says that from now on, whether it can be carried out or not. The
    level and reason that it said before are no new word."""
    target, _ = by_hand(level, reason, record, "")
    said = record.by_state
    if said is not None and (said.level, said.reason) == (level, target.reason):
        return record
    return dataclasses.replace(record, by_state=ByHand(level, target.reason, record.rev), state_is_last=True)


def by_state(level: int, reason: object, record: Record, build_id: str) -> tuple[Target, Record]:
    """As ``by_hand``, said by a state at each of its runs: as old as when it was new, so what was approved of
    this kernel build or said by hand since then wins (a revert because of its health is such a word), with
    whatever reason. Another level or reason is a new one.

    Raises LivepatchError (superseded) unless the host was told the same since; then nothing is held.
    """
    record = hear_state(level, reason, record)
    said, held = record.by_state, record.by_hand
    assert said is not None  # it has just been heard
    target = Target(level, None, Source.BY_HAND, said.reason)
    if held is not None and not held.binds(build_id):
        held = None
    if said.binds(build_id) and (held is None or record.state_is_last):
        new = record.hold(dataclasses.replace(said, kernel=build_id))
        return target, dataclasses.replace(new, state_is_last=True)
    if (held.level if held is not None else record.bounds.get(build_id)) == level:
        return target, record
    if held is not None:
        raise held_by_hand(held, f"a state says level {level} ({said.reason}) since before that")
    raise LivepatchError(
        Kind.SUPERSEDED,
        f"A state asked for level {level} ({said.reason}) when rev {said.above_rev} was the newest, and "
        f"this kernel build was approved a level anew since (rev {record.rev} is the newest); nothing was "
        "changed.",
        remedy="Take the level out of the state, or change its reason; or give it by hand (livepatch.apply).",
    )


def _hold(why: str) -> LivepatchError:
    return LivepatchError(
        Kind.UNAPPROVED,
        f"This host holds its level, because {why}; nothing was changed.",
        remedy="Approve a level for it (livepatch_ledger.approve), or give level= and reason= by hand.",
    )


def _withheld(why: object, frozen: bool) -> LivepatchError:
    """frozen: somebody wants it so, and the sentence says who, since when and why."""
    if not frozen:
        return _hold(f"the approval could not be had: {why}")
    return LivepatchError(
        Kind.FROZEN,
        f"This host holds its level, because {why}; nothing was changed.",
        remedy="When that is over: livepatch_ledger.unfreeze.",
    )


def _superseded(why: str) -> LivepatchError:
    return LivepatchError(
        Kind.SUPERSEDED,
        f"{why}; nothing was changed.",
        remedy="Refresh the pillar, or present the newest approval.",
    )
