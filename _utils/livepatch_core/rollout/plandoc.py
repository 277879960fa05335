"""A plan as bytes: canonical JSON, its hash and its id. Pure.

``{"plan": ..., "sha256": ...}`` with sorted keys and no spaces: equal plans are equal bytes. The digest is of
the plan as it stands there, fields of newer versions included; it tells a damaged file from a whole one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.rollout import options as option_document
from livepatch_core.rollout.model import SCHEMA, Grant, Group, Method, Placing, Plan
from livepatch_core.words import Kind

PLACING = (
    "minion", "group", "reason", "wave", "build_id", "domain", "stratum", "before", "version", "method",
)  # fmt: skip


def encode(plan: Plan) -> bytes:
    """Ends with a newline."""
    written = document(plan)
    return _canonical({"plan": written, "sha256": _digest(written)}) + b"\n"


def decode(data: bytes) -> Plan:
    """Raises LivepatchError (journal) that says what is wrong with it."""
    try:
        whole = json.loads(data)
        written, digest = whole["plan"], whole["sha256"]
        sound = digest == _digest(written)
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise _damaged(f"it is no plan document ({problem})") from problem
    if not sound:
        raise _damaged("its digest does not match its content")
    schema = written.get("schema") if isinstance(written, dict) else None
    if schema != SCHEMA:
        raise _damaged(f"it has schema {schema}, this version reads {SCHEMA}")
    try:
        return _plan(written)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise _damaged(f"a field is missing or has another shape ({problem!r})") from problem
    except LivepatchError as problem:
        raise _damaged(problem.message) from problem


def plan_hash(plan: Plan) -> str:
    """sha256, hex; the one that stands in its bytes."""
    return _digest(document(plan))


def rollout_id(plan: Plan) -> str:
    """``YYYYMMDD-HHMMSS-xxxx`` of the time it was made (UTC) and the beginning of its hash."""
    return f"{datetime.fromisoformat(plan.at):%Y%m%d-%H%M%S}-{plan_hash(plan)[:4]}"


def document(plan: Plan) -> dict[str, Any]:
    """Plain data. What older plans do not have is left out where it is not known: they keep their hash."""
    return {
        **({} if plan.rev is None else {"rev": plan.rev}),
        "schema": plan.schema,
        "options": option_document.document(plan.options),
        "target": plan.target,
        "at": plan.at,
        "hosts": [_placing_document(one) for one in plan.hosts],
        "waves": [list(wave) for wave in plan.waves],
        "grants": {build: asdict(one) for build, one in plan.grants.items()},
        "back": {
            build: {str(level): one.sha256 for level, one in levels.items()}
            for build, levels in plan.back.items()
        },
        "limits": dict(plan.limits),
        "domain_limits": dict(plan.domain_limits),
        "uncovered_strata": list(plan.uncovered_strata),
        "arithmetic": dict(plan.arithmetic),
        "notes": list(plan.notes),
        "testing": list(plan.testing),
        "arrivals": {
            release: {build: asdict(one) for build, one in builds.items()}
            for release, builds in plan.arrivals.items()
        },
    }


def _placing_document(placing: Placing) -> dict[str, Any]:
    """asdict copies deeply, which takes most of the time of a large plan. An empty kernel and an unknown
    level are left out: older plans, which have none, keep their hash."""
    words: dict[str, Any] = {"group": str(placing.group), "method": str(placing.method)}
    if placing.kernel:
        words["kernel"] = placing.kernel
    if placing.level is not None:
        words["level"] = placing.level
    return {**{key: getattr(placing, key) for key in PLACING}, **words}


def _plan(written: Mapping[str, Any]) -> Plan:
    return Plan(
        schema=written["schema"],
        options=option_document.from_document(written["options"]),
        target=written["target"],
        at=written["at"],
        hosts=tuple(_placing(one) for one in written["hosts"]),
        waves=tuple(tuple(wave) for wave in written["waves"]),
        grants=_grants(written["grants"]),
        back={
            build: {int(level): Grant(int(level), sha256) for level, sha256 in levels.items()}
            for build, levels in written["back"].items()
        },
        limits=written["limits"],
        domain_limits=written["domain_limits"],
        uncovered_strata=tuple(written["uncovered_strata"]),
        arithmetic=written["arithmetic"],
        notes=tuple(written["notes"]),
        testing=tuple(written["testing"]),
        arrivals={release: _grants(builds) for release, builds in written.get("arrivals", {}).items()},
        rev=written.get("rev"),
    )


def _grants(written: Mapping[str, Any]) -> dict[str, Grant]:
    return {build: Grant(one["level"], one["sha256"]) for build, one in written.items()}


def _placing(written: Mapping[str, Any]) -> Placing:
    """The method is missing where a plan was made by a version that had but one."""
    words = {"group": Group(written["group"]), "method": Method(written.get("method", Method.LIVEPATCH))}
    newer = {"kernel": written.get("kernel", ""), "level": written.get("level")}
    return Placing(**{**{key: written[key] for key in PLACING if key not in words}, **words, **newer})


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _digest(written: Any) -> str:
    return hashlib.sha256(_canonical(written)).hexdigest()


def _damaged(why: str) -> LivepatchError:
    return LivepatchError(
        Kind.JOURNAL,
        f"The plan cannot be read: {why}. No host was touched.",
        remedy="Take it from a copy, or plan again.",
    )
