"""The pure parts of the corpus's benchmarks."""

from __future__ import annotations

import pytest

from benchmarks.build_corpus import Result, changed_words, judged, nearest
from benchmarks.build_corpus_load import complaints, fresh_lines, parse_counts
from benchmarks.build_crosscheck import symbol_table
from livepatch_core.build.refusals import Refusal, Refused
from tests.unit.build.objects import Source


@pytest.mark.parametrize(
    ("served", "chosen"),
    [
        (["6.1.192-2", "6.1.187-1"], "6.1.187-1"),
        (["6.1.192-2", "6.1.180-1", "6.1.190-1"], "6.1.190-1"),
        (["6.1.170-3", "6.1.192-2"], "6.1.170-3"),
    ],
)
def test_nearest_older_source(served: list[str], chosen: str) -> None:
    assert nearest(served, "6.1.192-2") == chosen


def test_no_other_source_is_said() -> None:
    with pytest.raises(Refused) as caught:
        nearest(["6.1.192-2"], "6.1.192-2")
    assert caught.value.refusal is Refusal.SOURCE


def test_words_of_changed_lines_only() -> None:
    assert changed_words("--- a/x\n+++ b/x\n@@ -1 +1 @@\n same one\n-int old;\n+int fresh;\n") == [
        "fresh",
        "int",
        "old",
    ]


def test_diffs_that_do_not_compile_or_change_nothing_are_not_judged() -> None:
    kinds = ("", "layout", "nothing-changed", "patched-compile", "not-built", "original-compile")
    rows = {kind: Result(kind, "refused" if kind else "built", kind) for kind in kinds}
    assert [row.path for row in judged(rows)] == ["", "layout"]


def test_hits_by_module_and_function() -> None:
    text = "p:corpus/p1 c_a:f\np:corpus/p2 c_b:g.isra.0\n=\n  p1      12      0\n  p2      0      0"
    assert parse_counts(text) == {"c_a": {"f": 12}, "c_b": {"g.isra.0": 0}}


def test_backtrace_of_a_provoked_lack_of_memory_is_no_complaint() -> None:
    oom = ["tail invoked oom-killer: gfp_mask=0xcc0", "CPU: 0 PID: 9 Comm: tail", "Call Trace:"]
    warning = ["------------[ cut here ]------------", "WARNING: CPU: 0 at kernel/x.c:1"]
    assert complaints(oom) == []
    assert complaints([*oom, *["fine"] * 8, *warning])[-1] == warning[-1]
    assert complaints(["INFO: task stuck for 120 s", "Call Trace:"])[0].startswith("INFO")


def test_log_that_lost_lines_is_not_taken_for_a_quiet_one() -> None:
    assert fresh_lines(["a", "b"], ["a", "b", "c"]) == ["c"]
    assert fresh_lines(["a", "b"], ["a", "b and on", "c"]) == ["b and on", "c"]
    assert fresh_lines([], ["a"]) == ["a"]
    assert fresh_lines(["a"], ["a"]) == fresh_lines([], []) == []
    assert complaints(fresh_lines(["a", "b"], ["a", "b"])) == []
    assert complaints(fresh_lines(["a", "b"], ["b", "c"]))


def test_symbol_table_begins_with_the_file_and_its_locals() -> None:
    source = Source()
    source.function("shown", b"\xe8\0\0\0\0\xc3", calls={1: "outside"})
    rows = symbol_table("fs/x.c", source.file()).splitlines()
    assert rows[2].endswith("FILE    LOCAL  DEFAULT  ABS x.c")
    assert any(row.split()[3:5] == ["FUNC", "GLOBAL"] and row.endswith(" outside") for row in rows)
