"""What happened in a rollout, line by line, from its journal. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Optional

from livepatch_core.rollout.records import Type
from livepatch_core.rollout.states import WELL, Place

NAMES_SHOWN = 8


class Line(NamedTuple):
    """at: ISO 8601, UTC. weight: note, bad or good; how a page colours it."""

    at: str
    text: str
    weight: str = "note"


def timeline(records: Iterable[Mapping[str, Any]]) -> list[Line]:
    """Records of no interest to people (jobs sent, looks) are left out."""
    lines = []
    for record in records:
        spell = SPELLINGS.get(str(record.get("type")))
        line = spell(record) if spell is not None else None
        if line is not None:
            lines.append(Line(str(record.get("at", "")), *line))
    return lines


def names(hosts: Iterable[str]) -> str:
    """Host names for a sentence, a bounded number of them."""
    listed = sorted(hosts)
    more = f" and {len(listed) - NAMES_SHOWN} more" if len(listed) > NAMES_SHOWN else ""
    return ", ".join(listed[:NAMES_SHOWN]) + more


Spelt = Optional[tuple[str, str]]


def _started(record: Mapping[str, Any]) -> Spelt:
    by = record.get("by", {})
    return f"started by {by.get('who', '?')}: {by.get('why', '')}", "note"


def _adopted(record: Mapping[str, Any]) -> Spelt:
    mine = record.get("owner", {})
    return f"driven by the {mine.get('kind')} process {mine.get('pid')} of {mine.get('user')}", "note"


def _command(record: Mapping[str, Any]) -> Spelt:
    given = ", ".join(f"{key}={value}" for key, value in (record.get("arguments") or {}).items())
    return f"{record['verb']}{f' ({given})' if given else ''} by {record['who']}: {record['why']}", "note"


def _refused(record: Mapping[str, Any]) -> Spelt:
    return f"{record['verb']} by {record['who']} was not obeyed: {record['reason']}", "bad"


def _phase(record: Mapping[str, Any]) -> Spelt:
    return f"wave {record.get('wave')}: {record['phase']}", "note"


def _round(record: Mapping[str, Any]) -> Spelt:
    if record.get("back"):
        hosts = record.get("hosts") or []
        return f"round {record['round']}: {len(hosts)} hosts go back ({names(hosts)})", "bad"
    hosts = [name for job in record.get("jobs", ()) for name in job[1]]
    return f"round {record['round']}: {len(hosts)} hosts staged ({names(hosts)})", "note"


def _approved(record: Mapping[str, Any]) -> Spelt:
    return f"approved as rev {record['rev']} of ledger {record['ledger_id']}", "note"


def _hosts(record: Mapping[str, Any]) -> Spelt:
    """A record of a deadline names no hosts: what it made of them is in ``became``."""
    became = record.get("became") or {}
    said = record.get("hosts") or record.get("to") or {}
    said = said if isinstance(said, Mapping) else {}
    told = {name: one for name, one in said.items() if isinstance(one, Mapping) and one.get("to")}
    well = {name: one for name, one in told.items() if str(one["to"]) in GOOD and name not in became}
    counts = Counter(str(one["to"]) for one in (*well.values(), *became.values()))
    if not counts:
        return None
    text = ", ".join(f"{count} {to}" for to, count in sorted(counts.items()))
    return text + _troubled(became), "bad" if became else "good"


def _troubled(became: Mapping[str, Mapping[str, Any]]) -> str:
    return "".join(
        f"; {name}: {one.get('text') or one.get('kind') or one.get('to')}"
        for name, one in sorted(became.items())[:NAMES_SHOWN]
    )


def _verdict(record: Mapping[str, Any]) -> Spelt:
    tried = " (dry run)" if record.get("dry_run") else ""
    weight = {"pass": "good", "fail": "bad"}.get(str(record["verdict"]), "note")
    text = f"gate {record['gate']}{tried}: {record['verdict']}, {record.get('reason', '')}"
    return text + _troubled(record.get("became") or {}), weight


def _tripped(record: Mapping[str, Any]) -> Spelt:
    return f"stopped: {record.get('reason') or record['counter']} (then: {record['action']})", "bad"


def _back(record: Mapping[str, Any]) -> Spelt:
    return f"rolling back ({record['scope']}), {len(record['hosts'])} hosts: {record['why']}", "bad"


def _ended(record: Mapping[str, Any]) -> Spelt:
    good = str(record["state"]).startswith("completed")
    return f"{record['state']}: {record['reason']}", "good" if good else "bad"


GOOD = WELL | {Place.ROLLED_BACK}
SPELLINGS: Mapping[str, Callable[[Mapping[str, Any]], Spelt]] = {
    str(Type.STARTED): _started,
    str(Type.ADOPTED): _adopted,
    str(Type.COMMAND): _command,
    str(Type.REFUSED): _refused,
    str(Type.PHASE): _phase,
    str(Type.ROUND): _round,
    str(Type.APPROVED): _approved,
    str(Type.ANSWERS): _hosts,
    str(Type.SILENT): _hosts,
    str(Type.HOSTS): _hosts,
    str(Type.VERDICT): _verdict,
    str(Type.TRIPPED): _tripped,
    str(Type.BACK): _back,
    str(Type.BLOCKED): lambda record: ("the level was blocked for the fleet", "bad"),
    str(Type.PAUSED): lambda record: (f"paused: {record['reason']}", "bad"),
    str(Type.TROUBLE): lambda record: (f"trouble: {record['why']}", "bad"),
    str(Type.ENDED): _ended,
}
