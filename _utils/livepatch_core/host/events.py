"""What a host tells its master of its own accord. Pure: acts and crashes in, small payloads out.

Tags are ``salt/livepatch/host/<minion id>/<what>``: the act's name, or ``crash``. They are hints, since a
minion can send any: what decides asks the host (livepatch.status), where all that is said here stands too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from livepatch_core.host.outcome import Outcome
from livepatch_core.host.quarantine import Ward, Warded

PREFIX = "salt/livepatch/host"
COMMENT = 400  # characters: a payload stays well below a kilobyte
LONG = ("missing", "patches")  # changes that have as many lines as a patch has functions
EVIDENCE = 5  # lines


@dataclass(frozen=True)
class Event:
    tag: str
    data: Mapping[str, Any]


def of_act(act: str, outcome: Outcome, who: Mapping[str, str]) -> Event | None:
    """None when the act changed nothing, or was a prediction.

    A load that was reversed changed nothing in the end, but stands in the journal: that is told.
    """
    if outcome.result is None or not (outcome.changes or "journal" in outcome.details):
        return None
    data: dict[str, Any] = {
        "act": act,
        "result": outcome.result,
        "comment": outcome.comment[:COMMENT],
        "kind": str(outcome.kind) if outcome.kind is not None else None,
        "changes": {what: one for what, one in outcome.changes.items() if what not in LONG},
        "journal": outcome.details.get("journal"),
        "user": who.get("user", ""),
        "jid": who.get("jid", ""),
    }
    return Event(f"{PREFIX}/{who.get('id', '')}/{act}", data)


def of_crash(warded: Warded, who: Mapping[str, str]) -> Event:
    """A level that the host went down with, told when the master can be told again."""
    data = {
        "act": "crash",
        "level": warded.level,
        "sha256": warded.sha256,
        "kernel": warded.kernel,
        "ward": str(warded.ward),
        "reason": warded.reason,
        "at": warded.at,
        "evidence": list(warded.evidence[:EVIDENCE]),
    }
    return Event(f"{PREFIX}/{who.get('id', '')}/crash", data)


def is_crash(warded: Warded) -> bool:
    """Whether the crash breaker wrote it: one by hand is told by the act, and has no evidence."""
    return warded.ward is Ward.INCONCLUSIVE or bool(warded.evidence)
