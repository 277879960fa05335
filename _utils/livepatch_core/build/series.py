"""The patched source files of a series of diffs, and the translation units that they reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from livepatch_core.build import headers, patchset
from livepatch_core.build.compile import object_path
from livepatch_core.build.refusals import Notice, Refusal, Refused, Warning_
from livepatch_core.build.target import Target


@dataclass
class Sources:
    """The patched files and what they came from."""

    files: dict[str, list[patchset.Line]]
    warnings: list[Warning_]


def apply_series(source: Path, diffs: Sequence[str]) -> Sources:
    """Apply diffs in order to the files of a source tree (in memory)."""
    files: dict[str, list[patchset.Line]] = {}
    warnings = []
    for diff in diffs:
        for file in patchset.kernel_files(patchset.parse_diff(diff)):
            lines = files.get(file.path)
            if lines is None:
                lines = [] if file.created else _read_source(source, file.path)
            files[file.path], moved = patchset.apply_hunks(lines, file)
            warnings += [
                Warning_(
                    Notice.HUNK_MOVED,
                    file.path,
                    str(m.hunk),
                    f"Hunk {m.hunk} was found {m.by:+d} lines from where it said.",
                )
                for m in moved
            ]
    return Sources(files, warnings)


def _read_source(source: Path, path: str) -> list[patchset.Line]:
    try:
        text = (source / path).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        raise Refused(
            Refusal.DOES_NOT_APPLY,
            "The kernel's source has no such file.",
            file=path,
            remedy="Make the diff against this kernel's source.",
        ) from None
    return patchset.lines_of(text)


@dataclass(frozen=True)
class Units:
    """Source files to compile; ``reached``: those that are only there because a header changed.

    ``unbuilt``: files of the diff that the Makefiles leave out of this configuration, as far as they were
    understood; it explains why one does not compile and decides nothing else.
    """

    paths: tuple[str, ...]
    reached: frozenset[str]
    unbuilt: frozenset[str] = frozenset()


def _makefile_path(path: str) -> str:
    """The source path under which Makefiles list a file's object."""
    return object_path(path)[:-2] + ".c"


def _built(makefiles: headers.Makefiles, path: str) -> bool:
    if path.startswith("arch/") and not path.startswith("arch/x86/"):
        return False
    return makefiles.mentioned(_makefile_path(path)) and makefiles.builds(path)


def find_units(target: Target, sources: Sources, fan_out: int, cache: Path | None) -> Units:
    """The units of a series. Raises ``Refused`` (FAN_OUT).

    A ``.c`` file that no Makefile lists is a part of others, like a header.
    """
    makefiles = headers.Makefiles(target.source, (target.headers / ".config").read_text(encoding="utf-8"))
    units, graph = [], None
    for path in sources.files:
        if path.endswith(".c") and makefiles.mentioned(_makefile_path(path)):
            units.append(path)
            continue
        if graph is None:
            kept = cache / f"includes/{target.version}.json" if cache is not None and target.version else None
            graph = headers.read_graph(target.source, kept)
        reached = graph.reached(path)
        users = [user for user in reached if _built(makefiles, user)]
        if path.endswith(".c") and reached and not users:
            raise Refused(
                Refusal.INCLUDED_SOURCE,
                f"It is compiled as a part of {', '.join(reached[:3])}, which this kernel was built without.",
                file=path,
                remedy="Leave the file out of the diff.",
            )
        headers.check_fan_out(path, users, fan_out)
        units += users or ([path] if path.endswith(".c") else [])
    unbuilt = frozenset(path for path in units if path in sources.files and not _built(makefiles, path))
    return Units(tuple(dict.fromkeys(units)), frozenset(units) - frozenset(sources.files), unbuilt)
