"""Gates while they are being asked: what was put, what came back, what was decided. Changes a State, as
fold.py does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from livepatch_core.rollout.fleet import Verb
from livepatch_core.rollout.model import Gate, GateType, OnNoData, When
from livepatch_core.rollout.state import Inquiry, State
from livepatch_core.rollout.states import Place, Standing
from livepatch_core.words import CheckVerdict, Kind

MEASURES = frozenset({GateType.PROMETHEUS, GateType.HTTP, GateType.CONFIRM})  # no host is asked
KEPT = 200  # verdicts that a State remembers; the journal has all


def names_for(state: State, when: When) -> list[str]:
    """The gates of one kind that still count in this lap, in the plan's order."""
    gates = state.plan.options.gates
    return [one.name for one in gates if one.when is when and (one.name, state.lap) not in state.waived]


def begun(state: State, body: Mapping[str, Any]) -> None:
    when = When(body["when"])
    if when is When.HOST and state.round is not None:
        names = [name for name in state.round.members if state.hosts[name].place is Place.GATING]
    else:
        names = list(state.well)
    state.inquiry = Inquiry(when, names_for(state, when), dict.fromkeys(names), next_t=state.t)


def asked(state: State, body: Mapping[str, Any]) -> None:
    inquiry = state.inquiry
    if inquiry is None:
        return
    inquiry.out, inquiry.values, inquiry.twins = True, {}, dict(body.get("twins", {}))
    verb = Verb.LOOK if state.gate(body["gate"]).type is GateType.ANSWERS else Verb.ASK
    state.add_jobs(body.get("jobs", ()), verb, "gate", body["gate"])


def answered(state: State, name: str, said: Mapping[str, Any]) -> None:
    if state.inquiry is not None:
        state.inquiry.values[name] = said


def measured(state: State, body: Mapping[str, Any]) -> None:
    state.well_again()
    if state.inquiry is not None:
        state.inquiry.out, state.inquiry.values = True, {"": body}


def judged(state: State, body: Mapping[str, Any]) -> None:
    """decided: host -> verdict; open: host -> what it has so far, to be asked once more."""
    inquiry = state.inquiry
    if inquiry is None:
        return
    state.verdicts.append({**body, "epoch": state.epoch})
    del state.verdicts[:-KEPT]
    inquiry.out, inquiry.values = False, {}
    gate = state.gate(body["gate"])
    state.confirmed.pop(gate.name, None)  # a word counts once
    stuck = [] if gate.dry_run else _apply(state, gate, body["decided"], body.get("reason", ""))
    if body["open"]:
        inquiry.tallies = {name: list(tally) for name, tally in body["open"].items()}
        inquiry.attempt += 1
        inquiry.next_t = state.t + state.plan.options.look_every
        return
    inquiry.attempt, inquiry.tallies, inquiry.next_t = 1, {}, state.t
    if stuck and state.standing is Standing.ABORTING:
        _fail(state, stuck, gate, "it could not be judged before the rollout was aborted")
    elif stuck:
        who = f" on {len(stuck)} hosts, the first {stuck[0]}" if stuck[0] else ""
        state.stand(
            Standing.PAUSED, f"gate {gate.name} could not be judged{who}: {body.get('reason', 'no data')}"
        )
        return
    inquiry.index += 1
    if inquiry.index == len(inquiry.names):
        _close(state, inquiry)


def _apply(state: State, gate: Gate, decided: Mapping[str, str], reason: str) -> list[str]:
    """Hosts ("" for all) that pause the rollout."""
    bad = [name for name, word in decided.items() if word == CheckVerdict.FAIL]
    open_ = [name for name, word in decided.items() if word == CheckVerdict.INCONCLUSIVE]
    if gate.on_no_data is OnNoData.FAIL:
        bad, open_ = bad + open_, []
    _fail(state, bad, gate, reason)
    return [] if gate.on_no_data is OnNoData.PASS else open_


def _fail(state: State, names: list[str], gate: Gate, reason: str) -> None:
    for name in names:
        if not name:
            state.gate_failed, state.gate_reason = gate.name, reason
        elif state.hosts[name].place in (Place.GATING, Place.HEALTHY):
            state.put(name, Place.FAILED, Kind.HEALTH, f"gate {gate.name}: {reason}")


def _close(state: State, inquiry: Inquiry) -> None:
    state.inquiry = None
    if inquiry.when != When.HOST:
        state.inquired_t = state.t
        return
    for name in inquiry.hosts:
        if state.hosts[name].place is Place.GATING:
            state.put(name, Place.HEALTHY)
