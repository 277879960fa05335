"""Three verdicts: what cannot be judged is neither pass nor fail."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.rollout.gates import (
    MISSING,
    OPERATORS,
    against_twin,
    extract,
    holds,
    judge,
    keep,
    tally_verdict,
)
from livepatch_core.rollout.model import Gate, GateType, When
from livepatch_core.words import CheckVerdict

ANSWER = {"a": {"b": [1, {"c": "x"}]}, "n": None}


def a_gate(**changes: Any) -> Gate:
    known: dict[str, Any] = {"name": "g", "type": GateType.FUNCTION, "when": When.WAVE}
    return Gate(**{**known, **changes})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", ANSWER),
        ("a.b.0", 1),
        ("a.b.1.c", "x"),
        ("n", None),
        ("a.x", MISSING),
        ("a.b.7", MISSING),
        ("n.a", MISSING),
    ],
)
def test_what_stands_at_a_path(path: str, value: Any) -> None:
    assert extract(ANSWER, path) is value or extract(ANSWER, path) == value


@pytest.mark.parametrize(
    ("op", "value", "wanted", "good"),
    [
        ("==", 3, 3, True),
        ("==", True, 1, False),  # Python's True is 1; an operator's is not
        ("!=", "a", "b", True),
        ("<=", 3, 3, True),
        ("<", "2.5", 3, True),  # Prometheus answers with text
        (">", 2, 3, False),
        (">=", "NaN", 3, None),
        ("<", True, 3, None),
        ("<", None, 3, None),
        ("in", "a", ["a", "b"], True),
        ("in", 3, "3", None),
        ("contains", "all is well", "well", True),
        ("contains", ["a"], "b", False),
        ("contains", 7, "b", None),
        ("matches", "0% packet loss", r"\b0% packet", True),
        ("matches", "x", "(", None),
        ("exists", None, True, True),
        ("exists", MISSING, True, False),
        ("exists", MISSING, False, True),
        ("==", MISSING, 3, None),
        ("sounds like", 3, 3, None),
    ],
)
def test_predicates(op: str, value: Any, wanted: Any, good: Any) -> None:
    assert holds(op, value, wanted).good is good


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(op=st.sampled_from([*OPERATORS, "nonsense"]), value=ANYTHING | st.just(MISSING), wanted=ANYTHING)
def test_no_answer_raises(op: str, value: Any, wanted: Any) -> None:
    assert holds(op, value, wanted).good in (True, False, None)
    assert against_twin(op, value, wanted, "10%").good in (True, False, None)


@given(
    entry=ANYTHING
    | st.fixed_dictionaries({"return": ANYTHING}, optional={"retcode": ANYTHING, "success": ANYTHING})
)
def test_no_return_raises(entry: Any) -> None:
    for kind in (GateType.FUNCTION, GateType.HEALTH):
        gate = a_gate(type=kind, predicate={"path": "a", "op": "==", "value": 1})
        assert judge(gate, keep(gate, entry), None).good in (True, False, None)


@pytest.mark.parametrize(
    ("op", "value", "twin", "tolerance", "good"),
    [
        ("<=", 110, 100, "10%", True),
        ("<=", 111, 100, "10%", False),
        (">=", 5, 7, 2, True),
        (">=", 4, 7, 2, False),
        ("==", 7.5, 7, 0.5, True),
        ("==", "running", "running", 0, True),
        ("==", "running", "dead", 0, False),
        ("<=", "a", 7, 1, None),
        ("<=", 1, MISSING, 1, None),
    ],
)
def test_a_twin(op: str, value: Any, twin: Any, tolerance: Any, good: Any) -> None:
    assert against_twin(op, value, twin, tolerance).good is good


def test_a_host_without_twin_cannot_be_judged() -> None:
    gate = a_gate(predicate={"path": "", "op": "<=", "value": "10%"}, twin=True)
    assert judge(gate, {"value": 3}, None).good is None
    assert judge(gate, {"value": 3}, {"none": "it did not answer"}).good is None
    assert judge(gate, {"value": 3}, {"value": 3}).good is True


def test_a_function_that_failed_is_no_data() -> None:
    gate = a_gate(predicate={"path": "", "op": "==", "value": True})
    assert judge(gate, keep(gate, {"return": True, "retcode": 1, "success": True}), None).good is None
    assert judge(gate, keep(gate, "Minion did not return. [No response]"), None).good is None
    assert judge(gate, keep(gate, {"return": True, "retcode": 0, "success": True}), None).good is True


@pytest.mark.parametrize(
    ("tally", "verdict"),
    [
        ((2, 0, 0), CheckVerdict.PASS),
        ((1, 1, 0), None),
        ((1, 2, 0), CheckVerdict.FAIL),
        ((1, 1, 1), CheckVerdict.INCONCLUSIVE),
        ((0, 0, 2), None),
        ((0, 0, 3), CheckVerdict.INCONCLUSIVE),
    ],
)
def test_two_of_three(tally: tuple[int, int, int], verdict: Any) -> None:
    assert tally_verdict(a_gate(needed=2, attempts=3), tally) is verdict


@given(
    needed=st.integers(1, 5),
    more=st.integers(0, 5),
    answers=st.lists(st.sampled_from((0, 1, 2)), max_size=12),
)
def test_every_gate_comes_to_an_end(needed: int, more: int, answers: list[int]) -> None:
    """After as many answers as it may have it is decided, and never by fewer passes than it needs."""
    gate = a_gate(needed=needed, attempts=needed + more)
    tally = [0, 0, 0]
    for one in answers:
        if tally_verdict(gate, tally) is None:
            tally[one] += 1
    verdict = tally_verdict(gate, tally)
    assert verdict is not None or sum(tally) < gate.attempts
    assert (verdict is CheckVerdict.PASS) == (tally[0] >= needed)
