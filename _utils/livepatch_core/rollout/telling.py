"""Which records are told as events, and what little they carry. Pure; whole tags are made by who fires
them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from livepatch_core.rollout.records import Record, Type
from livepatch_core.rollout.state import State
from livepatch_core.rollout.states import TROUBLED, Place

Event = tuple[str, dict[str, Any]]
BAD = TROUBLED - {Place.SKIPPED}  # skipping is a command, and told as one
TELLS_HOSTS = frozenset({str(Type.ANSWERS), str(Type.SILENT), str(Type.HOSTS)})


def events(state: State, record: Record) -> Iterator[Event]:
    """state: after the record. Of hosts only those that did not do well are told one by one."""
    if record.type in SIMPLE:
        yield SIMPLE[record.type], {"reason": state.reason}
    elif record.type in MADE:
        yield MADE[record.type](state, record.body)
    elif record.type == Type.ENDED:
        yield str(record.body["state"]), {"reason": record.body["reason"], "counts": _counts(state)}
    if record.type in TELLS_HOSTS:
        yield f"wave/{max(state.lap, 0)}/progress", {"counts": _counts(state)}
    for name in state.moved:
        host = state.hosts[name]
        if host.place in BAD:
            yield f"host/{name}/{host.place}", {"kind": host.kind, "text": host.text}


def _counts(state: State) -> dict[str, int]:
    return {str(place): count for place, count in state.counts.items() if count}


def _phase(state: State, body: Mapping[str, Any]) -> Event:
    return f"wave/{max(body['lap'], 0)}/{body['phase']}", {"counts": _counts(state)}


def _command(_state: State, body: Mapping[str, Any]) -> Event:
    return COMMANDS[body["verb"]], {"who": body["who"], "why": body["why"]}


def _verdict(_state: State, body: Mapping[str, Any]) -> Event:
    said = {"wave": body["lap"], "reason": body["reason"], "dry_run": body["dry_run"]}
    return f"gate/{body['gate']}/{body['verdict']}", said


def _tripped(_state: State, body: Mapping[str, Any]) -> Event:
    return "threshold", {
        key: body[key] for key in ("counter", "scope", "number", "limit", "action", "reason")
    }


def _back(_state: State, body: Mapping[str, Any]) -> Event:
    return "rollback", {"scope": body["scope"], "hosts": len(body["hosts"]), "reason": body["why"]}


def _round(_state: State, body: Mapping[str, Any]) -> Event:
    hosts = len(body["hosts"]) if body.get("back") else sum(len(one[1]) for one in body["jobs"])
    return "round", {"round": body["round"], "hosts": hosts, "back": bool(body.get("back"))}


SIMPLE: Mapping[str, str] = {
    str(Type.STARTED): "started",
    str(Type.PAUSED): "paused",
    str(Type.BLOCKED): "blocked",
}
COMMANDS: Mapping[str, str] = {
    "pause": "paused",
    "resume": "resumed",
    "promote": "promoted",
    "retry": "retried",
    "skip": "skipped",
    "abort": "aborting",
    "rollback": "rollback/asked",
    "confirm": "confirmed",
}
MADE: Mapping[str, Callable[[State, Mapping[str, Any]], Event]] = {
    str(Type.ADOPTED): lambda _state, body: ("adopted", {"owner": dict(body["owner"])}),
    str(Type.PHASE): _phase,
    str(Type.COMMAND): _command,
    str(Type.VERDICT): _verdict,
    str(Type.TRIPPED): _tripped,
    str(Type.BACK): _back,
    str(Type.ROUND): _round,
    str(Type.TROUBLE): lambda _state, body: ("trouble", {"why": body["why"]}),
}
