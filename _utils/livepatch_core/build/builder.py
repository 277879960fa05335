"""The stages in order: diff, two compilations, difference, proof, extraction, module, verification."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from livepatch_core.build import kmod
from livepatch_core.build.btfids import check_lists
from livepatch_core.build.case import Difference
from livepatch_core.build.compile import Bench
from livepatch_core.build.differ import difference
from livepatch_core.build.extract import Extracted
from livepatch_core.build.gathering import Gathering, new_globals, published
from livepatch_core.build.hooks import declared_hooks, declared_states
from livepatch_core.build.kernelimages import Kernel
from livepatch_core.build.kmod import Manifest
from livepatch_core.build.layout import check_layouts
from livepatch_core.build.locate import Proof
from livepatch_core.build.objectfile import read_object
from livepatch_core.build.pairs import Pairs, compile_pairs
from livepatch_core.build.proving import Change, prove
from livepatch_core.build.refusals import Notice, Refusal, Refused, Warning_
from livepatch_core.build.series import Units, apply_series, find_units
from livepatch_core.build.special import ORC_ADDRESSES
from livepatch_core.build.target import Target, check_parts
from livepatch_core.build.unit import Unit
from livepatch_core.build.verify import verify

Progress = Callable[[str], None]
FAN_OUT = 50


@dataclass(frozen=True)
class Options:
    """What the author asks for.

    ``accept``: subject -> why it is safe (``init:FUNCTION``, ``gone:FUNCTION``, ``struct NAME``,
    ``static:VARIABLE``, ``unit:FILE``).
    ``fan_out``: most translation units that a header change may touch. ``forced``: source file -> functions
    to replace although unchanged.
    """

    name: str
    replace: bool = True
    level: int = 0
    accept: Mapping[str, str] = field(default_factory=dict)
    fan_out: int = FAN_OUT
    jobs: int = 2
    forced: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cache: Path | None = None


@dataclass
class Built:
    """A finished build. ``module`` is None for a check."""

    module: bytes | None
    manifest: Manifest
    changes: list[Difference]
    units: list[Extracted]
    warnings: list[Warning_]
    seconds: dict[str, float]
    objects: dict[str, tuple[bytes, bytes]]  # source file -> (original object, patched object)


class _Clock:
    """Seconds of each stage, and progress while it runs."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._progress(name)
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begin


class _Build:
    def __init__(
        self, target: Target, diffs: Sequence[str], options: Options, scratch: Path, progress: Progress
    ) -> None:
        kmod.check_name(options.name)
        self.kernel: Kernel | None = None
        self.target, self.diffs, self.options, self.scratch = target, diffs, options, scratch
        self.clock = _Clock(progress)
        self.warnings: list[Warning_] = []

    def run(self, *, emit: bool) -> Built:
        with self.clock.stage("apply"):
            check_parts(self.target)
            sources = apply_series(self.target.source, self.diffs)
            self.warnings += sources.warnings
            units = find_units(self.target, sources, self.options.fan_out, self.options.cache)
        with self.clock.stage("compile"):
            pairs = compile_pairs(
                self.target, sources, units, self.scratch, self.options.jobs, self.options.accept
            )
            for path, why in pairs.absent.items():
                self._warn_left_out(path, f"It is left out: {why}.")
        with self.clock.stage("compare"):
            changes = self._compare(pairs, units)
        with self.clock.stage("prove"):
            kernel = self.kernel or Kernel(self.target, self.options.cache)
            changes, proofs = self._prove(kernel, changes, units, pairs.bench)
        with self.clock.stage("extract"):
            gathering = Gathering(kernel, changes, proofs)
            extracted = gathering.run()
            changes, extracted, proofs = _contributing(changes, extracted, proofs)
            manifest = gathering.manifest(
                self.options.name, extracted, replace=self.options.replace, level=self.options.level
            )
        differences = [change.difference for change in changes]
        module = None
        if emit:
            with self.clock.stage("link"):
                linked = kmod.link_module(pairs.bench, self.scratch / "module", manifest, extracted)
                module = kmod.convert(linked, extracted)
            with self.clock.stage("verify"):
                verify(module, manifest, [*zip(differences, extracted, proofs)], kernel)
        warnings = self.warnings + [w for difference in differences for w in difference.warnings]
        objects = {one.path: (one.object, other.object) for one, other in pairs.both}
        return Built(module, manifest, differences, extracted, warnings, self.clock.seconds, objects)

    def _warn_left_out(self, path: str, text: str) -> None:
        self.warnings.append(Warning_(Notice.UNIT_NOT_BUILT, path, "", text))

    def _compare(self, pairs: Pairs, units: Units) -> list[Change]:
        changes, effective = [], False
        for one, other in pairs.both:
            original, patched = (
                Unit(one.path, read_object(one.object)),
                Unit(one.path, read_object(other.object)),
            )
            self.warnings += check_layouts(original, patched, self.options.accept)
            check_lists(original, patched)
            _check_unwinding(original, patched)
            forced = self.options.forced.get(one.path, ())
            change = difference(original, patched, accept=self.options.accept, forced=forced)
            acts = bool(change.changed or declared_hooks(patched))
            effective = effective or acts
            # Another unit may need what this one only adds or shows; a state is the whole module's.
            if acts or new_globals(change) or published(change) or declared_states(patched):
                changes.append(Change(change, one.owner))
                continue
            self.warnings += change.warnings
            if one.path not in units.reached:
                text = "The diff does not change the code of this file."
                self.warnings.append(Warning_(Notice.UNIT_UNCHANGED, one.path, "", text))
        if not effective:
            paths = ", ".join(one.path for one, _ in pairs.both)
            where = f"in {paths}" if paths else "that this kernel was built with"
            raise Refused(
                Refusal.NOTHING_CHANGED,
                f"The diff changes no code {where}.",
                remedy="There is nothing to live-patch.",
            )
        return changes

    def _prove(
        self, kernel: Kernel, changes: list[Change], units: Units, bench: Bench
    ) -> tuple[list[Change], list[Proof]]:
        """The changes that are part of this kernel and their proofs; reached files that are not are
        dropped.
        """
        kept, proofs = [], []
        for change in changes:
            try:
                proofs.append(prove(kernel, change, bench))
            except Refused as refused:
                if refused.refusal is not Refusal.NOT_BUILT or change.path not in units.reached:
                    raise
                self._warn_left_out(change.path, self._why_left_out(change.path, refused.message, units))
                continue
            kept.append(change)
        if not kept:
            raise Refused(
                Refusal.NOT_BUILT,
                "This kernel contains none of the files that the diff reaches.",
                remedy="There is nothing to patch.",
            )
        return kept, proofs

    def _why_left_out(self, path: str, message: str, units: Units) -> str:
        """The notice of a reached file that the image does not hold. Raises ``Refused`` (IMAGE_DIFFERS) where
        the Makefiles say that it does.
        """
        if path not in units.built:
            return f"It is not part of this kernel: {message}"
        reason = self.options.accept.get(f"unit:{path}")
        if reason is None:
            raise Refused(
                Refusal.IMAGE_DIFFERS,
                "The Makefiles put it into this kernel, but the image does not hold what it compiles to.",
                file=path,
                remedy=f"If the kernel does not have the file, accept 'unit:{path}' with the reason.",
            )
        return f"It is left out: {message} Accepted: {reason}"


def _check_unwinding(original: Unit, patched: Unit) -> None:
    """objtool gives up on code that it cannot follow and lets kbuild go on, with neither unwind tables nor
    return sites.
    """
    had = original.file.section(ORC_ADDRESSES)
    if had and not patched.file.section(ORC_ADDRESSES) and any(patched.functions()):
        raise Refused(
            Refusal.TOOLCHAIN,
            "objtool gave up on the patched file: it has no unwind tables, which the original has.",
            file=patched.path,
            remedy="Write the change in another way: something in it (assembler, a jump) cannot be followed.",
        )


def _contributing(
    changes: list[Change], units: list[Extracted], proofs: list[Proof]
) -> tuple[list[Change], list[Extracted], list[Proof]]:
    """Without the units that nothing was taken from: those that only define what no other unit uses.

    Raises ``Refused`` where such a unit has changed code all the same: the module would not have it.
    """
    kept = [n for n, unit in enumerate(units) if unit.functions or unit.new or unit.hooks]
    for n, change in enumerate(changes):
        if n not in kept and change.difference.changed:
            raise Refused(
                Refusal.NOTRACE,
                "Its code changes, and no function that can be redirected calls it.",
                file=change.path,
                function=change.difference.changed[0],
                remedy="Make the change in its callers.",
            )
    return [changes[n] for n in kept], [units[n] for n in kept], [proofs[n] for n in kept]


def build(
    target: Target,
    diffs: Sequence[str],
    options: Options,
    *,
    scratch: Path,
    progress: Progress = lambda stage: None,
    emit: bool = True,
    kernel: Kernel | None = None,
) -> Built:
    """Build (or with ``emit=False`` only check) a livepatch module. Raises ``Refused``.

    ``scratch``: a directory for intermediate files; a new one below it is used and removed. ``kernel``: the
    target's images, for a caller that builds much and wants them read once.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=scratch.absolute(), prefix="build-"))
    try:
        job = _Build(target.absolute(), diffs, options, directory, progress)
        job.kernel = kernel
        return job.run(emit=emit)
    finally:
        shutil.rmtree(directory)
