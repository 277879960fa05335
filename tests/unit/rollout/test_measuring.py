"""Gates that ask Prometheus or a web server: what an answer says, and that one that is none says nothing."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.rollout.measuring import answered, measure, sample
from livepatch_core.rollout.model import Gate, GateType, When


def vector(*values: str) -> str:
    result = [{"metric": {}, "value": [1764000000.5, value]} for value in values]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})


@pytest.mark.parametrize(
    ("status", "body", "wanted"),
    [
        (200, vector("3.5"), 3.5),
        (200, vector(), "0 series"),
        (200, vector("1", "2"), "2 series"),
        (200, vector("NaN"), "NaN"),
        (200, json.dumps({"status": "success", "data": {"resultType": "scalar", "result": [1.0, "7"]}}), 7.0),
        (200, json.dumps({"status": "success", "data": {"resultType": "matrix", "result": []}}), "no number"),
        (400, json.dumps({"status": "error", "error": "parse error"}), "parse error"),
        (502, "<html>bad gateway</html>", "502"),
        (200, "[]", "200"),
    ],
)
def test_answers_of_prometheus(status: int, body: str, wanted: Any) -> None:
    said = sample(status, body)
    if isinstance(wanted, float):
        assert said["value"] == wanted
    else:
        assert wanted in said["no_data"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["status", "data", "result", "value", "resultType"]), inner)
        ),
    )
)
def test_no_answer_raises(document: Any) -> None:
    said = sample(200, json.dumps(document))
    assert ("value" in said) != ("no_data" in said)


def gate(
    url: str, kind: GateType = GateType.HTTP, predicate: Mapping[str, Any] | None = None, **more: Any
) -> Gate:
    return Gate("g", kind, When.WAVE, {"url": url, "timeout": 10, **more}, predicate or {})


@pytest.mark.parametrize(
    ("predicate", "more", "status", "body", "wanted"),
    [
        ({}, {}, 200, "ok", {"value": True}),
        ({}, {}, 500, "ok", {"value": False}),
        ({}, {"status": 204}, 204, "", {"value": True}),
        ({"path": "a.b", "op": "<", "value": 3}, {}, 200, '{"a": {"b": 2}}', {"value": 2}),
        ({"path": "", "op": "contains", "value": "ok"}, {}, 200, "all ok", {"value": "all ok"}),
        ({"path": "a", "op": "<", "value": 3}, {}, 200, "{}", {"no_data": "the answer has no a"}),
        (
            {"path": "a", "op": "<", "value": 3},
            {},
            503,
            "{}",
            {"no_data": "it answered with status 503, not 200"},
        ),
    ],
)
def test_answers_of_a_web_server(predicate: Any, more: Any, status: int, body: str, wanted: Any) -> None:
    assert answered(gate("http://x", predicate=predicate, **more), status, body) == wanted


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = vector("2").encode() if self.path.startswith("/api/v1/query?query=up") else b"hello"
            self.send_response(404 if self.path == "/gone" else 200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_said: Any) -> None:
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{serving.server_port}"
    finally:
        serving.shutdown()
        thread.join()
        serving.server_close()


def test_a_real_server_is_asked(server: str) -> None:
    said = measure(gate(server, GateType.PROMETHEUS, query="up"))
    assert said["value"] == 2.0
    assert said["evidence"]["query"] == "up"
    assert measure(gate(f"{server}/x"))["value"] is True
    gone = measure(gate(f"{server}/gone"))
    assert (gone["value"], gone["evidence"]["status"]) == (False, 404)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "file:///etc/passwd", "gopher://x", "not a url", ""])
def test_what_cannot_be_asked_is_no_data(url: str) -> None:
    assert "no_data" in measure(gate(url, timeout=2))
