"""Gates as an operator writes them. Pure; what a gate answers is decided elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from livepatch_core.rollout import reading
from livepatch_core.rollout.gates import NUMERIC, OPERATORS
from livepatch_core.rollout.model import Gate, GateType, OnNoData, When

KEYS = (
    "name",
    "type",
    "when",
    "arguments",
    "predicate",
    "on_no_data",
    "dry_run",
    "needed",
    "attempts",
    "twin",
)
PREDICATE = ("path", "op", "value")
TWIN_OPERATORS = (*NUMERIC, "==", "!=")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # it stands in event tags

# For each type: arguments it must have, others it may have, and at which times it can be asked.
ALL_TIMES = tuple(When)
SHAPES: Mapping[GateType, tuple[tuple[str, ...], tuple[str, ...], tuple[When, ...]]] = {
    GateType.FUNCTION: (("fun",), ("args", "kwargs"), ALL_TIMES),
    GateType.HEALTH: ((), (), ALL_TIMES),
    GateType.ANSWERS: ((), (), ALL_TIMES),
    GateType.PROMETHEUS: (("url", "query"), ("timeout",), (When.SOAK, When.WAVE)),
    GateType.HTTP: (("url",), ("timeout", "status"), (When.SOAK, When.WAVE)),
    GateType.CONFIRM: ((), ("text",), (When.WAVE,)),
}
NEED_PREDICATE = (GateType.FUNCTION, GateType.PROMETHEUS)
MAY_HAVE_PREDICATE = (*NEED_PREDICATE, GateType.HTTP)


def parse_gate(key: str, value: object) -> Gate:
    """One gate; raises LivepatchError (argument). Defaults: asked at the end of a wave, one answer is
    enough."""
    given = reading.mapping(key, value, KEYS)
    kind = reading.word(f"{key}:type", given.get("type"), GateType)
    twin = reading.yes_or_no(f"{key}:twin", given.get("twin", False))
    attempts = reading.count(f"{key}:attempts", given.get("attempts", 1), 1, 20)
    gate = Gate(
        name=_name(f"{key}:name", given.get("name", str(kind))),
        type=kind,
        when=_when(f"{key}:when", given.get("when", "wave"), kind),
        arguments=_arguments(f"{key}:arguments", given.get("arguments", {}), kind),
        predicate=_predicate(f"{key}:predicate", given.get("predicate", {}), kind, twin),
        on_no_data=reading.word(f"{key}:on_no_data", given.get("on_no_data", "pause"), OnNoData),
        dry_run=reading.yes_or_no(f"{key}:dry_run", given.get("dry_run", False)),
        needed=reading.count(f"{key}:needed", given.get("needed", 1), 1, attempts),
        attempts=attempts,
        twin=twin,
    )
    if twin and kind is not GateType.FUNCTION:
        raise reading.refuse(f"{key}:twin", True, "false: only what a host's function answers has a twin")
    return gate


def parse_gates(key: str, value: object) -> tuple[Gate, ...]:
    """All gates; their names differ, as verdicts are told apart by them."""
    gates = reading.sequence(key, value, parse_gate)
    for index, gate in enumerate(gates):
        if gate.name in {one.name for one in gates[:index]}:
            raise reading.refuse(f"{key}[{index}]:name", gate.name, "a name that no other gate has")
    return gates


def gate_document(gate: Gate) -> dict[str, Any]:
    return {
        "name": gate.name,
        "type": str(gate.type),
        "when": str(gate.when),
        "arguments": dict(gate.arguments),
        "predicate": dict(gate.predicate),
        "on_no_data": str(gate.on_no_data),
        "dry_run": gate.dry_run,
        "needed": gate.needed,
        "attempts": gate.attempts,
        "twin": gate.twin,
    }


def _name(key: str, value: object) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise reading.refuse(key, value, "1 to 64 letters, digits, dots, dashes and underscores")
    return value


def _when(key: str, value: object, kind: GateType) -> When:
    when = reading.word(key, value, When)
    times = SHAPES[kind][2]
    if when not in times:
        raise reading.refuse(key, value, f"{reading.one_of(times)} for a gate of type {kind}")
    return when


def _arguments(key: str, value: object, kind: GateType) -> Mapping[str, Any]:
    must, may, _ = SHAPES[kind]
    given = dict(reading.mapping(key, value, (*must, *may)))
    for one in must:
        reading.text(f"{key}:{one}", given.get(one))
    for one, shape in (("args", list), ("kwargs", dict)):
        if not isinstance(given.get(one, shape()), shape):
            raise reading.refuse(f"{key}:{one}", given[one], f"a {shape.__name__}")
    if "timeout" in given:
        given["timeout"] = reading.seconds(f"{key}:timeout", given["timeout"], 0.1)
    if "status" in given:
        reading.count(f"{key}:status", given["status"], 100, 599)
    plain: Mapping[str, Any] = reading.plain(key, given)
    return plain


def _predicate(key: str, value: object, kind: GateType, twin: bool) -> Mapping[str, Any]:
    given = reading.mapping(key, value, PREDICATE)
    if not given and kind not in NEED_PREDICATE:
        return {}
    if kind not in MAY_HAVE_PREDICATE:
        raise reading.refuse(key, value, f"left out: a gate of type {kind} judges by itself")
    op = reading.choice(f"{key}:op", given.get("op"), TWIN_OPERATORS if twin else OPERATORS)
    filled = {"path": "", **({"value": True} if op == "exists" else {}), **given}
    if "value" not in filled or not isinstance(filled["path"], str):
        raise reading.refuse(key, value, "{path: 'a.b', op: '<=', value: 3} (without path: the whole answer)")
    if op == "matches":
        _pattern(f"{key}:value", filled["value"])
    plain: Mapping[str, Any] = reading.plain(key, filled)
    return plain


def _pattern(key: str, value: object) -> None:
    try:
        re.compile(reading.text(key, value))
    except re.error as problem:
        raise reading.refuse(key, value, f"a regular expression ({problem})") from problem
