"""Two levels for a kernel, built from the diffs in ``examples/patches``, as an operator builds his own."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "_utils"))

from lab import cache  # noqa: E402
from lab.kernels import Kernel  # noqa: E402
from livepatch_core.build import report, service  # noqa: E402

PATCHES = REPOSITORY / "examples/patches"
# A level holds every diff of the levels below it.
LEVELS = {1: ("meminfo-1.patch",), 2: ("meminfo-1.patch", "meminfo-2.patch")}


@dataclass(frozen=True)
class Level:
    """A built module; ``kernel_build`` is the build-id of the kernel image it was proven against."""

    number: int
    module: Path
    kernel_build: str
    fixes: tuple[str, ...]


def build_levels(kernel: Kernel, output: Path) -> list[Level]:
    """Build both levels into ``output`` and print what the builder reports."""
    return [_build(kernel, number, output) for number in LEVELS]


def _build(kernel: Kernel, number: int, output: Path) -> Level:
    diffs = [(name, (PATCHES / name).read_text()) for name in LEVELS[number]]
    document = service.produce(
        service.Order(kernel.release, diffs, level=number), cache.root() / "builder", output, progress=_say
    )
    print(report.as_text(document), flush=True)
    fixes = tuple(f"CVE-2026-{100 + one:04}" for one in range(1, number + 1))
    return Level(number, Path(document["path"]), document["built_for"]["vmlinux"], fixes)


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
