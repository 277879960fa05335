"""The next step of the gates that are being asked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from livepatch_core.rollout import gates
from livepatch_core.rollout.clock import Now
from livepatch_core.rollout.inquiries import MEASURES, names_for
from livepatch_core.rollout.model import Gate, GateType, When
from livepatch_core.rollout.records import Type
from livepatch_core.rollout.state import Inquiry, State
from livepatch_core.rollout.states import Place, Standing
from livepatch_core.rollout.steps import Measure, Rest, Step, Write, batches
from livepatch_core.words import CheckVerdict

EVIDENCE = 20  # hosts whose answers a verdict shows, those that did not pass first
ASKING = (Standing.RUNNING, Standing.ABORTING)


def advance(state: State, now: Now) -> Optional[Step | Rest]:
    if state.standing not in ASKING or state.trip is not None and state.standing is Standing.RUNNING:
        return None
    inquiry = state.inquiry
    if inquiry is None:
        return _begin(state)
    gate = state.gate(inquiry.gate)
    if inquiry.out:
        return None if _answers_missing(state) else _verdict(state, inquiry, gate, now)
    if now.t < inquiry.next_t:
        return Rest(f"gate {gate.name}, attempt {inquiry.attempt} of {gate.attempts}", inquiry.next_t)
    return _put(state, inquiry, gate)


def _begin(state: State) -> Optional[Step]:
    """The gates of each host, once all hosts of the round have landed."""
    under_way = (Place.MOVING, Place.RETURNED, Place.STAGING, Place.STAGED)
    moving = any(state.counts[one] for one in under_way)
    if not state.counts[Place.GATING] or moving or (state.forward and state.counts[Place.APPROVED]):
        return None
    return Write(Type.INQUIRY, {"when": str(When.HOST)}) if names_for(state, When.HOST) else None


def _answers_missing(state: State) -> bool:
    return any(job.purpose == "gate" for job in state.jobs.values())


def _put(state: State, inquiry: Inquiry, gate: Gate) -> Step | Rest:
    if gate.type is GateType.CONFIRM:
        return _confirmation(state, inquiry, gate)
    if gate.type in MEASURES:
        return Measure(gate.name)
    names = [name for name in _concerned(state, inquiry) if name in inquiry.tallies or inquiry.attempt == 1]
    twins = _twins(state, names) if gate.twin else {}
    body = {"gate": gate.name, "attempt": inquiry.attempt, "twins": twins}
    return Write(Type.ASK, body, batches(dict.fromkeys([*names, *twins.values()])))


def _concerned(state: State, inquiry: Inquiry) -> list[str]:
    place = Place.GATING if inquiry.when == When.HOST else Place.HEALTHY
    return [name for name in inquiry.hosts if state.hosts[name].place is place]


def _twins(state: State, names: list[str]) -> dict[str, str]:
    """For each host one of its stratum that has no patch yet; hosts share one. Who is tried again may have
    one, and what one that was away runs the plan did not know."""
    first: dict[str, str] = {}
    for name, host in state.hosts.items():
        if host.place is Place.PENDING and not host.forward_rev and host.placing.wave is not None:
            first.setdefault(host.placing.stratum, name)
    strata = {name: state.hosts[name].placing.stratum for name in names}
    return {name: first[stratum] for name, stratum in strata.items() if stratum in first}


def _confirmation(state: State, inquiry: Inquiry, gate: Gate) -> Step | Rest:
    said = state.confirmed.get(gate.name)
    if said is None:
        return Rest(f"a person's word: confirm gate {gate.name}")
    body = _body(state, inquiry, gate, {"": CheckVerdict.PASS}, {}, said, {"": {"value": said}})
    return Write(Type.VERDICT, body)


def _verdict(state: State, inquiry: Inquiry, gate: Gate, now: Now) -> Step:
    names = [""] if gate.type in MEASURES else _concerned(state, inquiry)
    decided: dict[str, CheckVerdict] = {}
    open_: dict[str, list[int]] = {}
    evidence: dict[str, Any] = {}
    reasons: dict[CheckVerdict, str] = {}
    for name in names:
        if name and inquiry.attempt > 1 and name not in inquiry.tallies:
            continue  # decided in an earlier attempt
        said = inquiry.values.get(name, {"none": "it was not asked"})
        found = gates.judge(gate, said, inquiry.values.get(inquiry.twins.get(name, "-")))
        tally = _tally(inquiry.tallies.get(name, [0, 0, 0]), found.good)
        word = gates.tally_verdict(gate, tally)
        if word is None:
            open_[name] = tally
        else:
            decided[name] = word
            reasons.setdefault(word, f"{name}: {found.reason}" if name else found.reason)
        evidence[name] = {
            "value": said.get("value"),
            "good": found.good,
            "reason": found.reason,
            **_proof(said),
        }
    worst = next((one for one in (CheckVerdict.FAIL, CheckVerdict.INCONCLUSIVE) if one in reasons), None)
    reason = reasons[worst] if worst else "passed"
    return Write(Type.VERDICT, _body(state, inquiry, gate, decided, open_, reason, evidence))


def _proof(said: Mapping[str, Any]) -> dict[str, Any]:
    return {"evidence": said["evidence"]} if "evidence" in said else {}


def _tally(before: list[int], good: Optional[bool]) -> list[int]:
    return [before[0] + (good is True), before[1] + (good is False), before[2] + (good is None)]


def _body(
    state: State,
    inquiry: Inquiry,
    gate: Gate,
    decided: Mapping[str, CheckVerdict],
    open_: Mapping[str, list[int]],
    reason: str,
    evidence: Mapping[str, Any],
) -> dict[str, Any]:
    """What the journal keeps: the question, the answers, the rule, the times (of the record)."""
    first = sorted(evidence, key=lambda name: (evidence[name].get("good") is True, name))[:EVIDENCE]
    words = set(decided.values())
    verdict = next(
        (one for one in (CheckVerdict.FAIL, CheckVerdict.INCONCLUSIVE) if one in words), CheckVerdict.PASS
    )
    return {
        "gate": gate.name,
        "asks": str(gate.type),
        "when": str(gate.when),
        "lap": state.lap,
        "attempt": inquiry.attempt,
        "verdict": str(verdict) if decided or not open_ else "open",
        "dry_run": gate.dry_run,
        "decided": {name: str(word) for name, word in decided.items()},
        "open": dict(open_),
        "reason": reason,
        "question": dict(gate.arguments),
        "predicate": dict(gate.predicate),
        "evidence": {name: evidence[name] for name in first},
    }
