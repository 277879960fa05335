"""A unified diff as a value, and its strict application to source text.

Context must match exactly; a hunk may have moved if it fits at one place only. Each line of the result
remembers which line of the original it was, so that the compiler can be told (``#line``) and code below a
hunk that uses ``__LINE__`` (WARN, lockdep, BUILD_BUG names) does not change.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

from livepatch_core.build.refusals import Refusal, Refused

_HUNK = re.compile(r"^@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_UNSUPPORTED = re.compile(
    r"(\.(S|s|lds|rs|dts|dtsi|pl|sh|py)$)|(^|/)(Makefile|Kbuild|Kconfig)([.\w]*)$|(^|/)vdso/|^lib/vdso|"
    r"^arch/x86/(boot|realmode|purgatory|um)/|^arch/x86/kernel/head64\.c$|^scripts/|^usr/"
)
_NOT_KERNEL = re.compile(
    r"^(Documentation|tools|samples|LICENSES|debian)/|^(MAINTAINERS|CREDITS|COPYING|README)$|\.(rst|txt|md)$"
)
_OTHER_MACHINE = re.compile(r"^arch/(?!x86/)")


MAX_HUNKS = 20_000  # a whole stable release has about 5,000
MAX_TEXT = 16 << 20  # characters


class Line(NamedTuple):
    """A source line without its newline; ``origin`` counts from 1 in the unpatched file, None for an added
    line.
    """

    text: str
    origin: Optional[int]


@dataclass(frozen=True)
class Hunk:
    """``lines`` keep their first column: blank, '-' or '+'. ``number`` counts from 1 in its file."""

    number: int
    old_start: int
    old_count: int
    lines: tuple[str, ...]

    @property
    def old(self) -> tuple[str, ...]:
        return tuple(line[1:] for line in self.lines if line[0] != "+")


@dataclass(frozen=True)
class FilePatch:
    """What a diff does to one file. ``path`` is relative to the top of the kernel source."""

    path: str
    hunks: tuple[Hunk, ...]
    created: bool = False
    deleted: bool = False


class Moved(NamedTuple):
    """A hunk that applied ``by`` lines away from where it said."""

    hunk: int
    by: int


def _bad(line: int, why: str) -> Refused:
    return Refused(
        Refusal.DIFF_SYNTAX,
        f"The diff cannot be read at its line {line}: {why}.",
        remedy="Give a unified diff (diff -up, git diff).",
    )


def _path(header: str, number: int) -> Optional[str]:
    """The path of a ---/+++ line with its first component stripped; None for /dev/null."""
    name = header[4:].split("\t")[0].strip()
    if name == "/dev/null":
        return None
    parts = name.split("/")
    if len(parts) < 2 or {"", ".", ".."} & {*parts} or "\0" in name:
        raise _bad(number, f"{name!r} is not a path inside a source tree")
    return "/".join(parts[1:])


def _renamed(old: str, new: str) -> Refused:
    return Refused(
        Refusal.UNSUPPORTED_FILE,
        f"It is renamed from {old}.",
        file=new,
        remedy="Patch the file under its old name.",
    )


def _check_rename(lines: Sequence[str], at: int) -> None:
    """git's lines for a file that is renamed; without a hunk they are all there is."""
    both = re.fullmatch(r"rename from (.*)\nrename to (.*)", "\n".join(lines[at : at + 2]))
    if both and not all(_elsewhere(path) for path in both.groups()):
        raise _renamed(both[1], both[2])


def _elsewhere(path: str) -> bool:
    """Whether a file is no part of the kernel, or of another machine's."""
    return bool(_NOT_KERNEL.search(path) or _OTHER_MACHINE.search(path))


def _read_hunk(lines: Sequence[str], at: int, number: int) -> tuple[Hunk, int]:
    """The hunk whose @@ line is lines[at], and the index after it."""
    match = _HUNK.match(lines[at])
    if match is None:
        raise _bad(at + 1, "not a hunk header")
    old_left, new_left = int(match[2] or 1), int(match[4] or 1)
    old_count, body, index = old_left, [], at + 1
    while old_left > 0 or new_left > 0:
        line = lines[index] if index < len(lines) else None
        if line is None or (line and line[0] not in " -+\\"):
            raise _bad(index + 1, f"hunk {number} ends before the counts in its header are reached")
        index += 1
        line = line or " "  # mail programs strip the blank of an empty context line
        if line[0] == "\\":
            continue
        old_left, new_left = old_left - (line[0] != "+"), new_left - (line[0] != "-")
        body.append(line)
    if old_left < 0 or new_left < 0:
        raise _bad(index, f"hunk {number} is longer than the counts in its header")
    if index < len(lines) and lines[index].startswith("\\"):
        index += 1
    return Hunk(number, int(match[1]), old_count, tuple(body)), index


def _read_file(lines: Sequence[str], at: int) -> tuple[FilePatch, int]:
    """The file patch whose --- line is lines[at], and the index after it."""
    old = _path(lines[at], at + 1)
    if at + 1 >= len(lines) or not lines[at + 1].startswith("+++ "):
        raise _bad(at + 2, "a --- line without its +++ line")
    new, index = _path(lines[at + 1], at + 2), at + 2
    hunks: list[Hunk] = []
    while index < len(lines) and lines[index].startswith("@@ "):
        hunk, index = _read_hunk(lines, index, len(hunks) + 1)
        hunks.append(hunk)
    path = new or old
    if path is None or not hunks:
        raise _bad(at + 1, "a file without a name or without hunks")
    if old and new and old != new:
        raise _renamed(old, new)
    return FilePatch(path, tuple(hunks), created=old is None, deleted=new is None), index


def parse_diff(text: str) -> tuple[FilePatch, ...]:
    """Every file of a unified diff, in order. Raises ``Refused`` (DIFF_SYNTAX)."""
    if len(text) > MAX_TEXT:
        raise _bad(1, f"it has more than {MAX_TEXT >> 20} MiB")
    lines = text.split("\n")  # not splitlines(): sources hold form feeds
    files, index = [], 0
    if sum(line.startswith("@@ ") for line in lines) > MAX_HUNKS:
        raise _bad(1, f"it has more than {MAX_HUNKS} hunks")
    while index < len(lines):
        if lines[index].startswith("--- ") and index + 1 < len(lines) and lines[index + 1].startswith("+++ "):
            file, index = _read_file(lines, index)
            files.append(file)
        elif lines[index].startswith(("GIT binary patch", "Binary files ")):
            raise _bad(index + 1, "it holds a binary change")
        elif lines[index].startswith("@@ "):
            raise _bad(index + 1, "a hunk without a file")
        else:
            _check_rename(lines, index)
            index += 1
    if not files:
        raise _bad(1, "it changes no file")
    return tuple(files)


def kernel_files(files: Sequence[FilePatch]) -> tuple[FilePatch, ...]:
    """Those files that are kernel C code of this machine; refuses what no live patch can change."""
    kept = []
    for file in files:
        if _elsewhere(file.path):
            continue
        if _UNSUPPORTED.search(file.path) or not file.path.endswith((".c", ".h")):
            raise Refused(
                Refusal.UNSUPPORTED_FILE,
                "Assembler, vdso, boot code, build and configuration files cannot be live-patched.",
                file=file.path,
                remedy="Leave this file out of the diff, or roll the fix out with a reboot.",
            )
        if file.deleted or (file.created and file.path.endswith(".c")):
            raise Refused(
                Refusal.NEW_FILE,
                "A source file that is added or removed needs a build-file change, which cannot be "
                "live-patched.",
                file=file.path,
                remedy="Move the new functions into the file that calls them.",
            )
        kept.append(file)
    if not kept:
        raise Refused(
            Refusal.NOTHING_CHANGED,
            "The diff touches no C code of this kernel.",
            remedy="There is nothing to live-patch.",
        )
    return tuple(kept)


def lines_of(text: str) -> list[Line]:
    """The lines of an unpatched file."""
    lines = text.split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    return [Line(line, number) for number, line in enumerate(lines, 1)]


def _fits(lines: Sequence[Line], at: int, old: Sequence[str]) -> bool:
    return 0 <= at <= len(lines) - len(old) and all(lines[at + i].text == text for i, text in enumerate(old))


def _place(lines: Sequence[Line], hunk: Hunk, expected: int, path: str) -> int:
    """The index where the hunk fits: where it says, else the only other place."""
    old = hunk.old
    if _fits(lines, expected, old):
        return expected
    places = [at for at in range(len(lines) - len(old) + 1) if _fits(lines, at, old)] if old else []
    if len(places) == 1:
        return places[0]
    why = "fits nowhere" if not places else f"fits at {len(places)} places"
    raise Refused(
        Refusal.DOES_NOT_APPLY,
        f"Hunk {hunk.number} (line {hunk.old_start}) {why} in the kernel's source.",
        file=path,
        remedy="Make the diff against the source of exactly this kernel.",
        hunk=hunk.number,
    )


def apply_hunks(lines: Sequence[Line], file: FilePatch) -> tuple[list[Line], tuple[Moved, ...]]:
    """The patched lines, and the hunks that were found elsewhere than they said."""
    result, moved, drift, floor = list(lines), [], 0, 0
    for hunk in file.hunks:
        # With an empty old side the header names the line *after which* text is added.
        expected = hunk.old_start + drift - (1 if hunk.old_count else 0)
        at = _place(result, hunk, expected, file.path)
        if at < floor:
            raise Refused(
                Refusal.DOES_NOT_APPLY,
                f"Hunk {hunk.number} overlaps the one before it.",
                file=file.path,
                remedy="Make the diff anew (diff -u, git diff); this one was edited.",
            )
        if at != expected:
            moved.append(Moved(hunk.number, at - expected))
        new, position = [], at
        for line in hunk.lines:
            if line[0] == "+":
                new.append(Line(line[1:], None))
                continue
            if line[0] == " ":
                new.append(result[position])
            position += 1
        result[at:position] = new
        floor = at + len(new)
        drift += len(new) - (position - at) + (at - expected)
    return result, tuple(moved)


_QUOTED = {'"': re.compile(r'(?:\\.|[^"\\])*"'), "'": re.compile(r"(?:\\.|[^'\\])*'")}
_SIGN = re.compile(r'["\']|//|/\*')


def _comment_open(text: str, inside: bool) -> bool:
    """Whether a /* comment is open after this line, given whether one was before it."""
    at, open_quotes = 0, set()
    while True:
        if inside:
            end = text.find("*/", at)
            if end < 0:
                return True
            at, inside = end + 2, False
        sign = _SIGN.search(text, at)
        if sign is None or sign[0] == "//":
            return False
        at, inside = sign.end(), sign[0] == "/*"
        if not inside and sign[0] not in open_quotes:
            closed = _QUOTED[sign[0]].match(text, at)
            if closed is None:
                # A lone apostrophe (#error don't): no later one closes either, and looking once is enough.
                open_quotes.add(sign[0])
            else:
                at = closed.end()


def render(lines: Sequence[Line], *, directives: bool) -> str:
    """Source text; with ``directives`` every kept line has its original number for the compiler.

    A directive is postponed inside a comment and after a line that ends in a backslash, where it would be
    text.
    """
    out, counter, comment, continued = [], 1, False, False
    for line in lines:
        if (
            directives
            and line.origin is not None
            and line.origin != counter
            and not comment
            and not continued
        ):
            out.append(f"#line {line.origin}")
            counter = line.origin
        out.append(line.text)
        counter += 1
        comment = _comment_open(line.text, comment)
        continued = line.text.endswith("\\")
    return "\n".join(out) + "\n" if out else ""
