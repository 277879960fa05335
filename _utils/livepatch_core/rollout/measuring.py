"""Gates that ask no minion: a query to Prometheus, an HTTP request. Bounded in time and size."""

from __future__ import annotations

import http.client
import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from livepatch_core.rollout.gates import MISSING, extract
from livepatch_core.rollout.model import Gate, GateType

SECONDS = 10.0
MOST = 1 << 20  # bytes of an answer
SHOWN = 500  # characters of it in the evidence
OK = 200


def measure(gate: Gate) -> Mapping[str, Any]:
    """``{"value", "evidence"}``, or ``{"no_data": why, "evidence"}``.

    value: for Prometheus a number; for HTTP what stands at the predicate's path of the answer, or without a
    predicate whether the status is the one wanted (200).
    """
    address = _address(gate)
    evidence: dict[str, Any] = {"url": address}
    seconds = float(gate.arguments.get("timeout", SECONDS))
    try:
        status, body = get(address, seconds)
    except (OSError, http.client.HTTPException, ValueError) as problem:
        return {"no_data": f"{_what(gate)} did not answer: {_said(problem)}", "evidence": evidence}
    evidence["answer"] = body[:SHOWN]
    if gate.type is GateType.PROMETHEUS:
        evidence["query"] = str(gate.arguments.get("query"))
        return {**sample(status, body), "evidence": evidence}
    return {**answered(gate, status, body), "evidence": {**evidence, "status": status}}


def get(address: str, seconds: float) -> tuple[int, str]:
    """Status and text of an answer, also of one that says no. Raises OSError, HTTPException, ValueError."""
    request = urllib.request.Request(address, headers={"User-Agent": "saltext.livepatch"})
    if not address.startswith(("http://", "https://")):
        raise ValueError("only http and https are asked")
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return int(answer.status), answer.read(MOST).decode("utf-8", "replace")
    except urllib.error.HTTPError as said:
        with said:
            return int(said.code), said.read(MOST).decode("utf-8", "replace")


def answered(gate: Gate, status: int, body: str) -> dict[str, Any]:
    """What an HTTP answer says. Pure. With a predicate an answer of another status is none."""
    wanted = gate.arguments.get("status", OK)
    if not gate.predicate:
        return {"value": status == wanted}
    if status != wanted:
        return {"no_data": f"it answered with status {status}, not {wanted}"}
    value = extract(_json(body), str(gate.predicate.get("path", "")))
    if value is MISSING:
        return {"no_data": f"the answer has no {gate.predicate.get('path')}"}
    return {"value": value}


def sample(status: int, body: str) -> dict[str, Any]:
    """The one number in an answer of Prometheus's query API. Pure.

    Several series are no answer: which of them counts is for the query to say (sum, max ...).
    """
    document = _json(body)
    if status != OK or not isinstance(document, Mapping) or document.get("status") != "success":
        said = document.get("error") if isinstance(document, Mapping) else None
        return {"no_data": f"Prometheus answered {status}: {said or body[:SHOWN]}"}
    data = document.get("data")
    kind, result = (data.get("resultType"), data.get("result")) if isinstance(data, Mapping) else (None, None)
    if kind == "vector" and isinstance(result, list):
        if len(result) != 1:
            return {"no_data": f"the query gives {len(result)} series, one is needed"}
        result = result[0].get("value") if isinstance(result[0], Mapping) else None
    try:
        at, value = float(result[0]), float(result[1])  # type: ignore[index]
    except (TypeError, ValueError, IndexError):
        return {"no_data": f"the query gives no number ({kind})"}
    if math.isnan(value):
        return {"no_data": "the query gives NaN"}
    return {"value": value, "at": at}


def _address(gate: Gate) -> str:
    url = str(gate.arguments.get("url", ""))
    if gate.type is GateType.PROMETHEUS:
        query = urllib.parse.urlencode({"query": str(gate.arguments.get("query", ""))})
        return f"{url.rstrip('/')}/api/v1/query?{query}"
    return url


def _json(body: str) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body[:SHOWN]


def _what(gate: Gate) -> str:
    return "Prometheus" if gate.type is GateType.PROMETHEUS else str(gate.arguments.get("url"))


def _said(problem: Exception) -> str:
    reason = getattr(problem, "reason", None)
    return str(reason or problem) or type(problem).__name__
