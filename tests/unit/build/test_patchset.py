"""Diffs: what is read, how it is applied, and that hostile ones are refused."""

from __future__ import annotations

import difflib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livepatch_core.build.patchset import apply_hunks, kernel_files, lines_of, parse_diff, render
from livepatch_core.build.refusals import Refusal, Refused

SOURCE = "".join(f"line {number}\n" for number in range(1, 21))


def diff(old: str, new: str, path: str = "fs/x.c", context: int = 3) -> str:
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{path}", f"b/{path}", n=context
    )
    return "".join(lines)


def applied(old: str, text: str) -> str:
    (file,) = parse_diff(text)
    return render(apply_hunks(lines_of(old), file)[0], directives=False)


texts = st.lists(st.sampled_from(["a", "b", "", "{", "}", "x = 1;"]), min_size=1, max_size=30).map(
    lambda lines: "".join(f"{line}\n" for line in lines)
)


@given(old=texts, new=texts, context=st.integers(3, 5))
def test_a_diff_of_two_texts_turns_one_into_the_other(old: str, new: str, context: int) -> None:
    text = diff(old, new, context=context)
    if text:
        assert applied(old, text) == new


@given(old=texts, new=texts)
def test_directives_give_kept_lines_their_old_numbers(old: str, new: str) -> None:
    text = diff(old, new)
    if not text:
        return
    (file,) = parse_diff(text)
    lines = apply_hunks(lines_of(old), file)[0]
    number, seen = 1, []
    for line in render(lines, directives=True).split("\n")[:-1]:
        if line.startswith("#line "):
            number = int(line[6:])
            continue
        seen.append((line, number))
        number += 1
    kept = [(line.text, line.origin) for line in lines]
    assert [(text, n if origin is not None else None) for (text, n), (_, origin) in zip(seen, kept)] == kept


def test_directive_waits_for_the_end_of_comment_and_continuation() -> None:
    old = "#define A \\\n  1 \\\n  2\n/* x\n y */\nint b;\n"
    new = "#define A \\\n  0 \\\n  1 \\\n  2\n/* x\n z\n y */\nint b;\n"
    (file,) = parse_diff(diff(old, new))
    shown = render(apply_hunks(lines_of(old), file)[0], directives=True).split("\n")
    assert shown.index("#line 4") == shown.index("/* x") - 1
    assert shown.index("#line 6") == shown.index("int b;") - 1
    assert sum(line.startswith("#line") for line in shown) == 2


def test_hunk_that_moved_is_found_and_reported() -> None:
    text = diff(SOURCE, SOURCE.replace("line 10\n", "line ten\n"))
    (file,) = parse_diff(text)
    lines, moved = apply_hunks(lines_of("new 1\nnew 2\n" + SOURCE), file)
    assert "line ten" in [line.text for line in lines]
    assert [(m.hunk, m.by) for m in moved] == [(1, 2)]


@pytest.mark.parametrize(
    ("old", "expected"), [("nothing like it\n", "fits nowhere"), (SOURCE + SOURCE, "fits at 2 places")]
)
def test_hunk_without_its_place_is_refused_by_number(old: str, expected: str) -> None:
    (file,) = parse_diff(diff(SOURCE, SOURCE.replace("line 10\n", "line ten\n")))
    shifted = [line._replace(text=line.text) for line in lines_of("pad\n" + old)]
    with pytest.raises(Refused) as caught:
        apply_hunks(shifted, file)
    assert caught.value.refusal is Refusal.DOES_NOT_APPLY
    assert "Hunk 1" in str(caught.value)
    assert expected in str(caught.value)
    assert caught.value.file == "fs/x.c"


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("arch/x86/entry/entry_64.S", Refusal.UNSUPPORTED_FILE),
        ("arch/x86/entry/vdso/vclock_gettime.c", Refusal.UNSUPPORTED_FILE),
        ("fs/Makefile", Refusal.UNSUPPORTED_FILE),
        ("net/Kconfig", Refusal.UNSUPPORTED_FILE),
        ("arch/x86/boot/main.c", Refusal.UNSUPPORTED_FILE),
        ("arch/arm64/kernel/traps.c", Refusal.NOTHING_CHANGED),
        ("Documentation/x.rst", Refusal.NOTHING_CHANGED),
    ],
)
def test_files_that_no_live_patch_can_change(path: str, refusal: Refusal) -> None:
    with pytest.raises(Refused) as caught:
        kernel_files(parse_diff(diff("a\n", "b\n", path)))
    assert caught.value.refusal is refusal


def test_new_source_file_is_refused_and_new_header_is_not() -> None:
    new = "--- /dev/null\n+++ b/fs/new.{}\n@@ -0,0 +1,1 @@\n+int x;\n"
    with pytest.raises(Refused) as caught:
        kernel_files(parse_diff(new.format("c")))
    assert caught.value.refusal is Refusal.NEW_FILE
    (header,) = kernel_files(parse_diff(new.format("h")))
    assert header.created


def test_rename_without_a_hunk_is_refused_for_kernel_files_only() -> None:
    rename = "diff --git a/{0} b/{1}\nsimilarity index 100%\nrename from {0}\nrename to {1}\n"
    change = diff("a\n", "b\n")
    with pytest.raises(Refused) as caught:
        parse_diff(rename.format("fs/old.c", "fs/new.c") + change)
    assert (caught.value.refusal, caught.value.file) == (Refusal.UNSUPPORTED_FILE, "fs/new.c")
    with pytest.raises(Refused):
        parse_diff(rename.format("Documentation/old.rst", "fs/new.h") + change)
    assert len(parse_diff(rename.format("Documentation/old.rst", "Documentation/new.rst") + change)) == 1
    assert len(parse_diff("We rename from here\nrename from to to\n" + change)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing here\n",
        "--- a/fs/x.c\n+++ b/fs/x.c\n@@ -1,3 +1,3 @@\n a\n",
        "--- a/fs/x.c\n+++ b/fs/x.c\n",
        "--- a/../../etc/passwd\n+++ b/../../etc/passwd\n@@ -1 +1 @@\n-a\n+b\n",
        "--- a/fs/x.c\n+++ b/fs/y.c\n@@ -1 +1 @@\n-a\n+b\n",
        "GIT binary patch\nliteral 5\n",
        "@@ -1 +1 @@\n-a\n+b\n",
        "--- a/fs/x.c\n+++ b/fs/x.c\n@@ -1,999999999 +1,1 @@\n a\n",
    ],
)
def test_what_is_no_diff_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        parse_diff(text)


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from(list("+-@ ,0123456789ab/\n\\\t")), max_size=200))
def test_any_text_is_a_diff_or_is_refused(text: str) -> None:
    for candidate in (text, "--- a/fs/x.c\n+++ b/fs/x.c\n" + text):
        try:
            assert parse_diff(candidate)
        except Refused:
            pass
