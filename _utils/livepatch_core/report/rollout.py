"""A rollout in a document that people keep: what was planned, what happened, what came of each host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livepatch_core.report.timeline import Line, timeline
from livepatch_core.rollout import plandoc, plantext, status
from livepatch_core.rollout.model import Plan
from livepatch_core.rollout.state import State

EVIDENCE = 300  # characters of a verdict's evidence in the text


@dataclass(frozen=True)
class Facts:
    """What a report is made from. document: as ``status`` shows it. plan_hash: of the plan as it was
    frozen."""

    document: Mapping[str, Any]
    plan: Plan
    plan_hash: str
    lines: Sequence[Line]
    verdicts: Sequence[Mapping[str, Any]]
    hosts: Sequence[tuple[str, str, str, str, str]]  # minion, group or place, wave, domain, what is known


def gather(directory: Path, now: float) -> Facts:
    """Reads journal and plan. Raises LivepatchError (journal)."""
    state, records = status.read(directory), status.story(directory)
    return Facts(
        document=status.document(state, now),
        plan=state.plan,
        plan_hash=plandoc.plan_hash(state.plan),
        lines=timeline(records),
        verdicts=[record for record in records if record["type"] == "verdict"],
        hosts=[_host(name, state) for name in state.hosts],
    )


def document(facts: Facts) -> dict[str, Any]:
    """Plain data, for programs."""
    return {
        "status": dict(facts.document),
        "plan": plandoc.document(facts.plan),
        "plan_hash": facts.plan_hash,
        "timeline": [line._asdict() for line in facts.lines],
        "verdicts": [dict(one) for one in facts.verdicts],
        "hosts": [dict(zip(("minion", "state", "wave", "domain", "known"), one)) for one in facts.hosts],
    }


def as_text(facts: Facts, width: int = 100) -> str:
    said = facts.document
    counts = ", ".join(f"{count} {place}" for place, count in said["counts"].items())
    head = [
        f"Rollout {said['id']}: level {said['level']} to {facts.plan.target}",
        f"  state      {said['state']} since {said['since']}",
        f"  reason     {said['reason']}",
        f"  started    by {said['by'].get('who', '?')}: {said['by'].get('why', '')}",
        f"  hosts      {said['targeted']} targeted: {counts}",
        f"  plan       {facts.plan_hash}",
    ]
    parts = [
        head,
        ["What happened (UTC)", *(f"  {line.at}  {line.text}" for line in facts.lines)],
        ["Waves", *(_wave(one) for one in said["waves"])],
        ["Verdicts of gates", *(_verdict(one) for one in facts.verdicts)] if facts.verdicts else [],
        ["Hosts", *_table(("host", "state", "wave", "domain", ""), facts.hosts)],
        ["The plan", *(f"  {line}" for line in plantext.as_text(facts.plan, width - 2).splitlines())],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _wave(wave: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count} {place}" for place, count in wave["counts"].items())
    name = "canaries" if wave["wave"] == 0 else f"wave {wave['wave']}"
    return f"  {name:<10} {wave['size']} hosts: {counts}"


def _verdict(record: Mapping[str, Any]) -> str:
    evidence = str(record.get("evidence", ""))[:EVIDENCE]
    return (
        f"  {record['at']}  {record['gate']}: {record['verdict']}, {record.get('reason', '')}  [{evidence}]"
    )


def _host(name: str, state: State) -> tuple[str, str, str, str, str]:
    host = state.hosts[name]
    placing = host.placing
    wave = "" if placing.wave is None else ("canary" if placing.wave == 0 else str(placing.wave))
    place = str(host.place) if str(host.place) != "ineligible" else str(placing.group)
    away = "" if host.away is None else f"; it was away for {host.away:.0f} s"
    return name, place, wave, placing.domain, f"{host.text or placing.reason}{away}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    whole = [head, *rows]
    widths = [max(len(row[column]) for row in whole) for column in range(len(head))]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in whole]
