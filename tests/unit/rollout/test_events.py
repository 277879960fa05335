"""Tags, payloads that stay small, and lines for a terminal."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.rollout import events

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.tuples(st.text()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.text(), anything))
def test_payloads_are_plain(data: dict[str, Any]) -> None:
    json.dumps(events.small(data))


def test_payloads_are_small() -> None:
    data = {
        "text": "x" * 10**6,
        "hosts": [f"hv{one}" for one in range(10**5)],
        "deep": {"a": ["y" * 10**5] * 100},
    }
    assert len(json.dumps(events.small(data))) < 20_000


def test_lines() -> None:
    assert events.sentence("wave/0/soak", {"counts": {"healthy": 2}}) == "canaries: soak (2 healthy)"
    assert events.sentence("wave/2/dispatch", {"counts": {"pending": 9, "healthy": 1}}) == (
        "wave 2 dispatch (9 pending, 1 healthy)"
    )
    assert events.sentence("host/hv1/failed", {"kind": "health", "text": "a probe failed"}) == (
        "host hv1 failed: a probe failed"
    )
    assert (
        events.sentence("round", {"round": 2, "hosts": 5, "back": False})
        == "round: round 2, hosts 5, back False"
    )
    assert events.sentence("blocked", {}) == "blocked"
