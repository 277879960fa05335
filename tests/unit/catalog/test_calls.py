from __future__ import annotations

import re
from typing import Any

import pytest

from livepatch_core.catalog import calls
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind


def refusing() -> dict[str, Any]:
    raise LivepatchError(Kind.BLOCKED, "It is blocked.", remedy="Take another.")


def test_answers() -> None:
    assert calls.answer(lambda: {"a": 1}, ()) == {"a": 1}
    assert calls.answer(refusing, ()) == {
        "result": False,
        "comment": "It is blocked. Take another.",
        "kind": "blocked",
    }
    assert "no argument relase" in calls.answer(refusing, ["relase"])["comment"]


def test_type_error_is_no_usage_text() -> None:
    answer = calls.answer(lambda: {"a": len(3)}, ())  # type: ignore[arg-type]
    assert (answer["result"], answer["kind"]) == (False, "internal")


@pytest.mark.parametrize("value", [None, "", "relative", 3, "/no/such/file"])
def test_files(value: object) -> None:
    with pytest.raises(LivepatchError) as caught:
        calls.read_file(value)
    assert caught.value.kind is Kind.ARGUMENT


def test_texts_and_times() -> None:
    assert (calls.text("x", None), calls.text("x", ""), calls.text("x", "y")) == (None, None, "y")
    with pytest.raises(LivepatchError, match="twice"):
        calls.text("kernel_build", 112233)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", calls.now())
