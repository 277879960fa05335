from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.errors import LivepatchError
from livepatch_core.rollout.model import HostFacts
from livepatch_core.rollout.plandoc import decode, document, encode, plan_hash, rollout_id
from livepatch_core.words import Kind
from tests.unit.rollout.fleets import (
    BUILDS,
    KERNEL,
    fleet,
    host,
    plan_of,
    some_hosts,
    some_options,
    uncovered,
)

PLAN = plan_of([*fleet(6), host("away", online=False)], {"allow_testing": True}, testing=[BUILDS[0]])


@given(some_hosts(), some_options())
def test_plan_comes_back_from_its_bytes(hosts: list[HostFacts], options: dict[str, Any]) -> None:
    plan = plan_of(hosts, options)
    data = encode(plan)
    assert decode(data) == plan
    assert encode(decode(data)) == data
    assert json.loads(data)["sha256"] == plan_hash(plan)


def test_id_is_the_time_and_the_hash() -> None:
    assert rollout_id(PLAN) == f"20261124-120000-{plan_hash(PLAN)[:4]}"


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each single value of a document."""
    if isinstance(value, dict) and value:
        for key in value:
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, list) and value:
        for index, one in enumerate(value):
            yield from leaves(one, (*path, index))
    else:
        yield path


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return f"{value}x" if isinstance(value, str) else "x"


def test_any_changed_value_is_noticed() -> None:
    """By the digest that stands in the bytes."""
    for path in leaves(document(PLAN)):
        whole = json.loads(encode(PLAN))
        inner = whole["plan"]
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = changed(inner[path[-1]])
        with pytest.raises(LivepatchError, match="digest"):
            decode(json.dumps(whole).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"target": "other"},
        {"at": "2026-11-24T12:00:01+00:00"},
        {"options": replace(PLAN.options, seed=1)},
        {"options": replace(PLAN.options, look_every=61.0)},
        {"hosts": PLAN.hosts[1:]},
        {"hosts": (replace(PLAN.hosts[0], reason="other"), *PLAN.hosts[1:])},
        {"waves": PLAN.waves[1:]},
        {"grants": {}},
        {"back": {}},
        {"limits": {}},
        {"domain_limits": {}},
        {"uncovered_strata": ("a",)},
        {"arithmetic": {}},
        {"notes": ("a",)},
        {"testing": ()},
        {"rev": 7},
        {"schema": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_hash_changes_with_every_field_of_the_plan(change: dict[str, Any]) -> None:
    assert plan_hash(replace(PLAN, **change)) != plan_hash(PLAN)


def resealed(plan: dict[str, Any]) -> bytes:
    """Bytes with a right digest, as another version would write them."""
    text = json.dumps(plan, sort_keys=True, separators=(",", ":"))
    return json.dumps({"plan": plan, "sha256": hashlib.sha256(text.encode()).hexdigest()}).encode()


def test_fields_of_a_newer_version_are_ignored() -> None:
    newer = {**document(PLAN), "colour": "blue"}
    newer["hosts"] = [{**one, "colour": "blue"} for one in newer["hosts"]]
    newer["grants"] = {build: {**one, "colour": "blue"} for build, one in newer["grants"].items()}
    assert decode(resealed(newer)) == PLAN


def test_a_plan_of_before_kernels_were_planned_is_read_and_keeps_its_hash() -> None:
    """A kept plan is found by its hash (verbs.py)."""
    plan = plan_of([uncovered("a"), host("b")], {"fallback": "kexec"})
    assert {one.minion: one.kernel for one in plan.hosts} == {"a": KERNEL, "b": ""}
    older = document(plan)
    for one in older["hosts"]:
        one.pop("kernel", None)
        one.pop("level", None)
    data = resealed(older)
    assert {(one.kernel, one.level) for one in decode(data).hosts} == {("", None)}
    assert decode(data).rev is None
    assert plan_hash(decode(data)) == json.loads(data)["sha256"] != plan_hash(plan)


def test_the_ledger_that_it_was_made_from_is_kept() -> None:
    plan = plan_of([host("a", level=1), host("b", level=2)], rev=12)
    kept = decode(encode(plan))
    assert kept == plan and kept.rev == 12
    assert {one.minion: one.level for one in kept.hosts} == {"a": 1, "b": None}, "of those that move"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 2}, "schema 2"),
        ({"hosts": None}, "another shape"),
        ({"hosts": [{}]}, "another shape"),
        ({"options": {}}, "another shape"),
        ({"options": {**document(PLAN)["options"], "soak": -1}}, "option soak"),
        ({"back": {"a": {"one": None}}}, "another shape"),
    ],
)
def test_other_shapes_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(LivepatchError, match=says) as refused:
        decode(resealed({**document(PLAN), **change}))
    assert refused.value.kind is Kind.JOURNAL


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff", b"null", b'{"plan": 1, "sha256": "x"}', b"[" * 100_000]
)
def test_what_is_no_plan_is_refused(data: bytes) -> None:
    with pytest.raises(LivepatchError):
        decode(data)


@given(st.data())
def test_plans_cut_short_are_refused(data: st.DataObject) -> None:
    whole = encode(PLAN)
    with pytest.raises(LivepatchError, match="cannot be read"):
        decode(whole[: data.draw(st.integers(0, len(whole) - 2))])


@given(st.data())
def test_a_flipped_bit_never_makes_another_plan(data: st.DataObject) -> None:
    damaged = bytearray(encode(PLAN))
    damaged[data.draw(st.integers(0, len(damaged) - 2))] ^= 1 << data.draw(st.integers(0, 7))
    with suppress(LivepatchError):
        assert decode(bytes(damaged)) == PLAN
