"""The pure parts of the corpus's benchmarks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import build_corpus
from benchmarks.build_corpus import Corpus, Result, changed_words, judged, nearest
from benchmarks.build_corpus_load import Batch, complaints, fresh_lines, parse_counts, read_rows
from benchmarks.build_crosscheck import symbol_table
from lab.errors import GuestError
from livepatch_core.build.headers import check_fan_out
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


class Whole(SimpleNamespace):
    """A stand-in for the corpus, which is too big to be sent to another process."""

    def __reduce__(self) -> Any:
        raise AssertionError("the corpus was sent")


def test_workers_are_sent_paths_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each result is the parent's to keep: one line for each file, all of them known in the end."""

    def attempt(corpus: Any, path: str, output: Path) -> Result:
        return Result(path, "built", files=[path, *corpus.headers], module=output.name)

    monkeypatch.setattr(build_corpus, "attempt", attempt)
    corpus: Any = Whole(kernel=SimpleNamespace(image=str), graph=None, headers=["a.h"], judged={})
    paths = [f"{number}.c" for number in range(20)]
    build_corpus.run(corpus, tmp_path / "results.jsonl", paths, workers=2)
    kept = build_corpus.read_results(tmp_path / "results.jsonl")
    assert sorted(kept) == sorted(paths)
    assert {(row.outcome, row.kind, row.module) for row in kept.values()} == {("built", "", "modules")}
    assert set(corpus.judged) == {(path, "a.h") for path in paths}


def test_what_is_not_in_force_is_written_down_before_a_guest_can_die(tmp_path: Path) -> None:
    class Guest:
        """Loads c_a and c_b, lacks what c_c patches, and dies when it is asked to remove one."""

        def dmesg(self) -> str:
            return ""

        def put(self, path: str, data: bytes) -> None: ...

        def exec(self, command: list[str], timeout: float) -> Any:
            verb, name = command[2:4]
            if verb == "remove":
                raise GuestError("it", "is gone")
            return SimpleNamespace(rc=3 if name == "c_c" else 0, text="", error_text="")

    guest: Any = Guest()
    batch = Batch(guest, tmp_path, tmp_path / "loaded.jsonl")
    for name in ("c_a", "c_c", "c_b"):
        (tmp_path / f"{name}.ko").touch()
        batch.load(Result(f"{name}.c", "built", objects=["vmlinux"], module=f"{name}.ko"))
    with pytest.raises(GuestError):
        batch.finish()
    assert {name: row.outcome for name, row in read_rows(batch.journal).items()} == {"c_c.ko": "missing"}
    assert sorted(batch.rows) == ["c_a", "c_b"]


def test_table_says_what_a_limit_by_name_brought() -> None:
    rows = [
        Result("a.c", "built"),
        Result("b.c", "built", fan_out=200),
        Result("c.c", "refused", "layout", fan_out=200),
        Result("d.c", "refused", "patched-compile"),
    ]
    text = build_corpus.table({row.path: row for row in rows})
    assert "66.7 % were built" in text
    assert "with the builder's own fan_out, 33.3 %: a higher one was named for 2" in text


@pytest.mark.parametrize(("users", "named"), [(50, False), (51, True), (200, True), (201, False)])
def test_a_limit_is_named_where_that_is_enough(users: int, named: bool) -> None:
    corpus = Corpus.__new__(Corpus)
    corpus.fan_out = 200
    with pytest.raises(Refused) as caught:
        check_fan_out("a.h", [str(number) for number in range(users)], users - 1)
    assert corpus.may_name(caught.value) is named
