"""The patched source files of a series of diffs, and the translation units that they reach."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from livepatch_core.build import headers, patchset
from livepatch_core.build.compile import object_path
from livepatch_core.build.makefiles import Makefiles
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
            if file.created:
                _check_free(source, files, file.path)
                lines = []
            elif lines is None:
                lines = _read_source(source, file.path)
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


# No file can be at such a path: it leads through a file or to a directory, or is too long.
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


def _does_not_apply(path: str, why: str) -> Refused:
    remedy = "Make the diff against this kernel's source."
    return Refused(Refusal.DOES_NOT_APPLY, why, file=path, remedy=remedy)


def _read_source(source: Path, path: str) -> list[patchset.Line]:
    try:
        text = (source / path).read_text(encoding="utf-8", errors="surrogateescape")
    except (OSError, UnicodeEncodeError) as error:
        if isinstance(error, OSError) and error.errno not in _NOWHERE:
            raise Refused(
                Refusal.SOURCE,
                f"The kernel's source cannot be read: {error.strerror}.",
                file=path,
                remedy="Unpack the source anew.",
            ) from None
        raise _does_not_apply(path, "The kernel's source has no such file.") from None
    return patchset.lines_of(text)


def _check_free(source: Path, made: Iterable[str], path: str) -> None:
    """Raises ``Refused`` where a diff creates a file that is there, or that cannot be there."""
    if any(f"{path}/".startswith(f"{other}/") or other.startswith(f"{path}/") for other in made):
        raise _does_not_apply(path, "The diff creates it, but the series has it already.")
    try:
        os.lstat(source / path)
    except FileNotFoundError:
        return
    except (OSError, UnicodeEncodeError):
        raise _does_not_apply(path, "The diff creates it, where no file can be.") from None
    raise _does_not_apply(path, "The diff creates it, but the kernel's source has such a file.")


@dataclass(frozen=True)
class Units:
    """Source files to compile; ``reached``: those that are only there because a header changed. Assembler
    files are among them to see that their code stays as it is.

    ``unbuilt``: those that the Makefiles leave out of this configuration; it explains why one does not
    compile and decides nothing else. ``built``: those that the Makefiles put into it. ``foreign``: those that
    no Makefile makes an object of the running kernel of, which need not compile.
    """

    paths: tuple[str, ...]
    reached: frozenset[str]
    unbuilt: frozenset[str] = frozenset()
    built: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()


# Not the running kernel's code: of the boot loader's side or the build's, of another machine, mapped into
# processes, or the linker's script.
_PROGRAMS = re.compile(
    r"^arch/x86/(boot|realmode|purgatory|tools|um|entry/vdso)/|^drivers/firmware/efi/libstub/|\.lds\.S$"
)
_OTHER_MACHINE = re.compile(r"^arch/(?!x86/)|^drivers/s390/")  # no Makefile but arch/s390's names the latter


@dataclass
class _Configuration:
    """Which files belong to the kernel, as far as its Makefiles tell."""

    makefiles: Makefiles
    graph: headers.Graph

    def builds(self, path: str) -> Optional[bool]:
        if _OTHER_MACHINE.search(path):
            return False
        return self.makefiles.builds(_makefile_path(path))

    def own_object(self, path: str) -> bool:
        """Whether an object is made of a file; if not, it is compiled as a part of others, like a header."""
        return self.makefiles.mentioned(_makefile_path(path)) or self.builds(path) is not None

    def users(self, path: str) -> list[str]:
        """The files to compile because they include ``path``. One that no Makefile names is one of them
        unless another file includes it: the kernel's image decides about it.
        """
        return [user for user in self.graph.reached(path) if self._uses(user)]

    def assembled(self, path: str) -> list[str]:
        """The assembler files of the running kernel that may read ``path``."""
        users = (user for user in self.graph.reached(path, ".S") if not _PROGRAMS.search(user))
        return [user for user in users if self.builds(user) is not False and self.own_object(user)]

    def foreign(self, path: str) -> bool:
        """Whether a file is surely not the running kernel's, although no list leaves it out."""
        return bool(_PROGRAMS.search(path)) or self.makefiles.names_nothing(_makefile_path(path))

    def _uses(self, user: str) -> bool:
        if self.builds(user) is False:
            return False
        return self.own_object(user) or not any(i.endswith(".c") for i in self.graph.includers.get(user, ()))


def _check_reaching(target: Target, graph: headers.Graph, path: str) -> None:
    """A header that the graph shows no user of may have some: a macro, or a flag of the compiler, names it.
    One that the diff creates is not in the graph; device trees are no code.
    """
    if not path.endswith(".h") or path.startswith("include/dt-bindings/"):
        return
    if (target.source / path).exists() and not graph.reached(path) and not graph.reached(path, ".S"):
        raise Refused(
            Refusal.NOTHING_CHANGED,
            "No source file is seen to include it, so nothing would be compiled with the change.",
            file=path,
            remedy="Leave it out of the diff, or roll the fix out with a reboot.",
        )


def _makefile_path(path: str) -> str:
    """The source path under which Makefiles list a file's object."""
    return object_path(path)[:-2] + ".c"


def find_units(target: Target, sources: Sources, fan_out: int, cache: Path | None) -> Units:
    """The units of a series. Raises ``Refused`` (FAN_OUT, INCLUDED_SOURCE).

    A ``.c`` file may be compiled, or be a part of others like a header, or both.
    """
    kept = headers.graph_file(cache, target.version) if cache is not None and target.version else None
    config = (target.headers / ".config").read_text(encoding="utf-8")
    known = _Configuration(Makefiles(target.source, config), headers.read_graph(target.source, kept))
    units: list[str] = []
    for path in sources.files:
        compiled = path.endswith(".c") and known.own_object(path)
        units += [path] if compiled else []
        users = known.users(path)
        if path.endswith(".c") and not compiled and not users:
            reached = known.graph.reached(path)
            if reached:
                raise Refused(
                    Refusal.INCLUDED_SOURCE,
                    f"It is compiled as a part of {', '.join(reached[:3])}, which this kernel was built "
                    f"without.",
                    file=path,
                    remedy="Leave the file out of the diff.",
                )
            units.append(path)
        _check_reaching(target, known.graph, path)
        headers.check_fan_out(path, users, fan_out)
        units += [*users, *known.assembled(path)]
    verdicts = {path: known.builds(path) for path in units}
    return Units(
        tuple(verdicts),
        frozenset(units) - frozenset(sources.files),
        frozenset(path for path, verdict in verdicts.items() if verdict is False),
        frozenset(path for path, verdict in verdicts.items() if verdict),
        frozenset(path for path, verdict in verdicts.items() if verdict is None and known.foreign(path)),
    )
