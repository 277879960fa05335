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


@pytest.mark.parametrize("value", [None, "", "relative", 3, "/no/such/file", "/dev/zero", "/"])
def test_files(value: object) -> None:
    with pytest.raises(LivepatchError) as caught:
        calls.read_file(value)
    assert caught.value.kind is Kind.ARGUMENT


def test_texts_and_times() -> None:
    assert (calls.text("x", None), calls.text("x", ""), calls.text("x", "y")) == (None, None, "y")
    with pytest.raises(LivepatchError, match="twice"):
        calls.text("kernel_build", 112233)
    with pytest.raises(LivepatchError, match="not UTF-8"):
        calls.text("notes", "caf\udce9")
    assert calls.timeout(3599) == 3599
    for wrong in (0, 3600, 1.5, True, "30"):
        with pytest.raises(LivepatchError, match="not whole seconds from 1 to 3599"):
            calls.timeout(wrong)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", calls.now())


def test_both_return_codes() -> None:
    """salt-run reads the one in the answer, an orchestration the one in the runner's context."""
    context: dict[str, Any] = {}
    assert calls.concluded(lambda: {"result": True}, (), context) == {"result": True}
    assert context == {}
    refused = calls.concluded(dict, ("lvl",), context)
    assert (refused["result"], refused["retcode"], context) == (False, 1, {"retcode": 1})


def test_who_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    assert calls.author_of("alice", "ticket 42").who == "alice"
    for nobody in (None, "UNKNOWN", "Reactor"):  # an event may be forged: a reaction to one is nobody's word
        with pytest.raises(LivepatchError, match="approves nothing"):
            calls.author_of(nobody, "ticket 42")
