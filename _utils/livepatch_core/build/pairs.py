"""Compiling every unit twice: as the kernel has it, and patched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from livepatch_core.build import compile as compiling
from livepatch_core.build import patchset, tree
from livepatch_core.build.compile import Bench, Compiled, Complaint
from livepatch_core.build.objectfile import read_object
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.series import Sources, Units
from livepatch_core.build.target import Target


@dataclass(frozen=True)
class Pairs:
    """``both``: original and patched side of each unit; ``absent``: reached files that do not compile and may
    be left out -> why.
    """

    both: list[tuple[Compiled, Compiled]]
    absent: dict[str, str]
    bench: Bench


class _Compiler:
    def __init__(
        self,
        target: Target,
        sources: Sources,
        units: Units,
        scratch: Path,
        jobs: int,
        accept: Mapping[str, str],
    ) -> None:
        self.target, self.sources, self.units, self.scratch = target, sources, units, scratch
        self.accept = accept
        self.jobs = max(1, jobs // 2)  # for each of the two sides, which run at the same time
        self.before = compiling.make_bench(target, target.source, scratch, "original")
        self.after = compiling.make_bench(target, scratch / "source", scratch, "patched")

    def run(self) -> Pairs:
        self._view()
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(compiling.compile_units, self.before, self.units.paths, jobs=self.jobs)
            second = pool.submit(compiling.compile_units, self.after, self.units.paths, jobs=self.jobs)
            originals, patched = first.result(), second.result()
        failed = (one for one in originals if isinstance(one, Complaint))
        absent = {one.path: left_out(one, self.units, self.accept) for one in failed}
        present = [one for one in originals if isinstance(one, Compiled)]
        patched = self._again([other for other in patched if other.path not in absent], originals)
        both = []
        for one, other in zip(present, patched):
            if isinstance(other, Complaint):
                raise self._patched_failed(other)
            if one.path.endswith(".S"):
                _check_assembled(one, other)
            else:
                both.append((one, other))
        return Pairs(both, absent, self.before)

    def _view(self, directories: Iterable[str] = ()) -> None:
        own = {os.path.dirname(path) for path in self.units.paths}
        made = [compiling.object_path(path) for path in self.units.paths]  # a link's .. leads to the original
        own.update(path.partition("/../")[0] for path in made if "/../" in path)
        texts = {path: patchset.render(lines, directives=True) for path, lines in self.sources.files.items()}
        tree.source_view(self.target.source, self.after.source, texts, sorted(own.union(directories)))

    def _stale(self, unit: Compiled | Complaint) -> bool:
        """Whether a patched unit read (or may have failed because it read) the unpatched version of a
        file.
        """
        if isinstance(unit, Complaint):
            return any(path.endswith(".h") for path in self.sources.files)
        own = {os.path.realpath(self.target.source / path) for path in self.sources.files}
        return bool(own & unit.dependencies)

    def _again(
        self, patched: Sequence[Compiled | Complaint], originals: Sequence[Compiled | Complaint]
    ) -> list[Compiled | Complaint]:
        """Compile stale units again, with every directory real that the originals read from."""
        stale = [unit.path for unit in patched if self._stale(unit)]
        if not stale:
            return list(patched)
        top = os.path.realpath(self.target.source) + "/"
        read = {path for one in originals if isinstance(one, Compiled) for path in one.dependencies}
        shutil.rmtree(self.after.source)
        self._view(os.path.dirname(path)[len(top) :] for path in read if path.startswith(top))
        again = {unit.path: unit for unit in compiling.compile_units(self.after, stale, jobs=self.jobs)}
        for unit in again.values():
            if isinstance(unit, Compiled) and self._stale(unit):
                raise Refused(
                    Refusal.SOURCE,
                    "The patched unit read an unpatched version of a patched file.",
                    file=unit.path,
                    remedy="Report this diff.",
                )
        return [again.get(unit.path, unit) for unit in patched]

    def _patched_failed(self, complaint: Complaint) -> Refused:
        """Compile once more without #line, so that the author sees line numbers of the patched file."""
        for path, lines in self.sources.files.items():
            text = patchset.render(lines, directives=False)
            (self.after.source / path).write_text(text, encoding="utf-8", errors="surrogateescape")
        again = compiling.compile_units(self.after, [complaint.path])[0]
        text = again.text if isinstance(again, Complaint) else complaint.text
        return Refused(
            Refusal.PATCHED_COMPILE,
            f"The patched file does not compile:\n{text[:2000]}",
            file=complaint.path,
            remedy="Correct the diff.",
            compiler=text,
        )


def _check_assembled(one: Compiled, other: Compiled) -> None:
    if _content(one.object) != _content(other.object):
        raise Refused(
            Refusal.UNSUPPORTED_FILE,
            "The diff changes a header that this assembler file reads, and its code with it; assembler "
            "cannot be live-patched.",
            file=one.path,
            remedy="Keep what assembler files use as it is, or roll the fix out with a reboot.",
        )


def _content(data: bytes) -> list[tuple[object, ...]]:
    """What an object puts into the kernel: its allocated sections and what they refer to."""
    file = read_object(data)
    named = [(s.name, s.section, s.value) for s in file.symbols]
    return [
        (
            s.name,
            s.size,
            bytes(s.data),
            [(r.offset, r.type, named[r.symbol], r.addend) for r in s.relocations],
        )
        for s in file.sections
        if s.allocated
    ]


def not_built(path: str) -> Refused:
    return Refused(
        Refusal.NOT_BUILT,
        "This kernel was built without the file: its configuration leaves it out, and it does not compile.",
        file=path,
        remedy="Leave the file out of the diff.",
    )


def original_failed(complaint: Complaint, remedy: str = "") -> Refused:
    return Refused(
        Refusal.ORIGINAL_COMPILE,
        f"The unpatched file does not compile, so this is not the diff's fault: {complaint.text[:1000]}",
        file=complaint.path,
        remedy=remedy
        or "The file may not belong to this configuration, or source and headers do not belong together.",
    )


def left_out(complaint: Complaint, units: Units, accept: Mapping[str, str]) -> str:
    """Why the build may go on without a file that does not compile unpatched. Raises ``Refused``.

    That it does not compile says nothing of the kernel: its Makefile may do what is not done here.
    """
    path, subject = complaint.path, f"unit:{complaint.path}"
    if path in units.unbuilt:
        raise not_built(path)
    if path not in units.reached:
        raise original_failed(complaint)
    if path in units.foreign:
        return "no Makefile makes an object of the running kernel of it, and it does not compile"
    if subject in accept:
        return f"it does not compile here; accepted: {accept[subject]}"
    raise original_failed(
        complaint,
        "The file includes what the diff changes, and would keep the old code. If it is not a part of this "
        f"kernel, or may stay as it is, accept {subject!r} with the reason.",
    )


def compile_pairs(
    target: Target, sources: Sources, units: Units, scratch: Path, jobs: int, accept: Mapping[str, str]
) -> Pairs:
    """Both sides of every unit. Raises ``Refused`` (NOT_BUILT, ORIGINAL_COMPILE, PATCHED_COMPILE)."""
    return _Compiler(target, sources, units, scratch, jobs, accept).run()
