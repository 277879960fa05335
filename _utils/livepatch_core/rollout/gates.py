"""Is the answer to a gate's question good? Three verdicts: what cannot be judged is neither pass nor
fail. Pure.

A predicate is ``{"path": "a.b.0", "op": "<=", "value": 3}``; path "" is the whole answer. With ``twin``
the answer is compared with that of a host of the same stratum that has no patch yet: ``value`` is then
how much worse it may be, an amount or a percentage of the twin's value ("10%").
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

from livepatch_core.rollout.model import Gate, GateType
from livepatch_core.words import CheckVerdict

SHOWN = 200  # characters of a value that are kept as evidence
NUMERIC: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
OPERATORS = (*NUMERIC, "==", "!=", "in", "contains", "matches", "exists")


class Missing:
    """There is no such path."""


MISSING = Missing()


class Judgement(NamedTuple):
    """good: None where it cannot be judged; reason says why, or what was compared."""

    good: Optional[bool]
    reason: str


def extract(answer: Any, path: str) -> Any:
    """What stands at ``path``; MISSING where nothing does. Numbers index lists."""
    for part in path.split(".") if path else ():
        if isinstance(answer, Mapping) and part in answer:
            answer = answer[part]
        elif isinstance(answer, (list, tuple)) and part.isdigit() and int(part) < len(answer):
            answer = answer[int(part)]
        else:
            return MISSING
    return answer


def holds(op: str, value: Any, wanted: Any) -> Judgement:
    """Whether ``value op wanted``."""
    if op == "exists":
        return Judgement((value is not MISSING) == bool(wanted), f"exists: {value is not MISSING}")
    if value is MISSING:
        return Judgement(None, "the answer does not have what is asked for")
    said = f"{shown(value)} {op} {shown(wanted)}"
    good = _compare(op, value, wanted)
    return Judgement(good, said if good is not None else f"{said} cannot be compared")


def _compare(op: str, value: Any, wanted: Any) -> Optional[bool]:
    if op in ("==", "!="):
        same = value == wanted and isinstance(value, bool) == isinstance(wanted, bool)
        return same if op == "==" else not same
    if op in NUMERIC:
        first, second = number(value), number(wanted)
        return None if first is None or second is None else NUMERIC[op](first, second)
    if op == "in":
        return value in wanted if _contains(wanted, value) else None
    if op == "contains":
        return wanted in value if _contains(value, wanted) else None
    return _matches(value, wanted) if op == "matches" else None


def _matches(value: Any, pattern: Any) -> Optional[bool]:
    """The pattern is the operator's own; one that is none cannot be judged."""
    if not isinstance(value, str) or not isinstance(pattern, str):
        return None
    try:
        return re.search(pattern, value) is not None
    except re.error:
        return None


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(whole, str):
        return isinstance(part, str)
    return isinstance(whole, (list, tuple, dict)) and not (
        isinstance(whole, dict) and isinstance(part, (list, dict))
    )


def number(value: Any) -> Optional[float]:
    """Of an int, a float, or text that is one (Prometheus answers with text); never of a bool, NaN or
    infinity."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def against_twin(op: str, value: Any, twin: Any, tolerance: Any) -> Judgement:
    """``value`` compared with the twin's, which it may miss by ``tolerance``."""
    first, second, slack = number(value), number(twin), _slack(tolerance, twin)
    if first is None or second is None or slack is None:
        if op in ("==", "!=") and MISSING not in (value, twin):
            return holds(op, value, twin)
        return Judgement(None, f"{shown(value)} and the twin's {shown(twin)} cannot be compared")
    reason = f"{shown(value)} {op} {shown(twin)} of its twin, give or take {slack:g}"
    if op in ("<", "<="):
        return Judgement(NUMERIC[op](first, second + slack), reason)
    if op in (">", ">="):
        return Judgement(NUMERIC[op](first, second - slack), reason)
    near = abs(first - second) <= slack
    return Judgement(near if op == "==" else not near, reason)


def _slack(tolerance: Any, twin: Any) -> Optional[float]:
    if isinstance(tolerance, str) and tolerance.endswith("%"):
        share, base = number(tolerance[:-1]), number(twin)
        return None if share is None or base is None else abs(base) * share / 100
    return number(tolerance)


def keep(gate: Gate, entry: Any) -> dict[str, Any]:
    """What is kept of one host's answer: the value that the predicate asks for, or why there is none."""
    if not isinstance(entry, Mapping) or "return" not in entry:
        return {"none": "the answer cannot be read"}
    answer = entry["return"]
    if gate.type is GateType.HEALTH:
        word = answer.get("verdict") if isinstance(answer, Mapping) else None
        return {"value": word} if isinstance(word, str) else {"none": f"no verdict: {shown(answer)}"}
    if entry.get("retcode") not in (0, None) or entry.get("success") is False:
        return {"none": f"the function failed: {shown(answer)}"}
    value = extract(answer, str(gate.predicate.get("path", "")))
    return (
        {"none": "the answer does not have it", "missing": True}
        if value is MISSING
        else {"value": _small(value)}
    )


def _small(value: Any) -> Any:
    """As it is if it is small and plain; a journal is no place for a large one, and "contains" needs the
    whole."""
    try:
        return value if len(json.dumps(value, allow_nan=False)) <= 20 * SHOWN else {"too large": shown(value)}
    except (TypeError, ValueError):
        return {"not plain": shown(value)}


def judge(gate: Gate, said: Mapping[str, Any], twin: Optional[Mapping[str, Any]]) -> Judgement:
    """One answer, as ``keep`` or Fleet.measure left it."""
    if "value" not in said and not (said.get("missing") and gate.predicate.get("op") == "exists"):
        return Judgement(None, str(said.get("none") or said.get("no_data") or "no data"))
    value = said.get("value", MISSING)
    if gate.type is GateType.HEALTH:
        good = {CheckVerdict.PASS: True, CheckVerdict.FAIL: False}.get(value)
        return Judgement(good, f"health: {value}")
    if gate.type is GateType.ANSWERS or (gate.type is GateType.HTTP and not gate.predicate):
        return Judgement(value if isinstance(value, bool) else None, f"answered: {shown(value)}")
    op, wanted = str(gate.predicate.get("op", "==")), gate.predicate.get("value")
    if not gate.twin:
        return holds(op, value, wanted)
    if twin is None or "value" not in twin:
        return Judgement(None, "there is no twin to compare with")
    return against_twin(op, value, twin["value"], wanted)


def tally_verdict(gate: Gate, tally: Sequence[int]) -> Optional[CheckVerdict]:
    """tally: passes, fails, neither. Pass needs ``needed`` passes of ``attempts``; fail is certain as
    soon as they cannot be reached through fails alone. None: ask once more."""
    passes, fails, neither = tally
    if passes >= gate.needed:
        return CheckVerdict.PASS
    if fails > gate.attempts - gate.needed:
        return CheckVerdict.FAIL
    return CheckVerdict.INCONCLUSIVE if passes + fails + neither >= gate.attempts else None


def shown(value: Any) -> str:
    return "nothing" if value is MISSING else (value if isinstance(value, str) else repr(value))[:SHOWN]
