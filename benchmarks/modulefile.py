"""Reading everything about a module file: this library against ``modinfo`` and ``readelf -Wa``.

    python3 benchmarks/modulefile.py [FILE.ko ...] [--pairs N]

Prints a line for each file: medians, and their ratio. Without FILE: three modules that the tests use, and
the largest module of the running kernel. The library reads in this process, from disk, nothing kept between
reads; the two programs run one after the other, their output discarded. Both read the same file, in turn, so
that load hits both alike. ``readelf`` cannot read compressed modules: it gets a decompressed copy, made
beforehand, which spares it the decompression that the library does.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO / "_utils"))

from livepatch_core.modulefile.read import payload, read_module

DATA = REPO / "tests/unit/data/modulefile"
TESTED = ("lp_one-6.1-signed.ko.xz", "lp_full-6.1.ko.xz", "standin_kpatch.ko.xz")
LEAST_PAIRS = 20


@dataclass(frozen=True)
class Result:
    """Seconds of each read, pair by pair."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ours) / statistics.median(self.theirs)


def timed(act: Callable[[], object]) -> float:
    """Seconds that ``act`` takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def program(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def measure(file: Path, pairs: int) -> Result:
    """Alternating reads of one file; one pair first that is not counted, so that caches are warm."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "module.ko"
        plain.write_bytes(payload(file.read_bytes()))

        def theirs() -> None:
            program(modinfo, str(file))
            program(readelf, "-Wa", str(plain))

        def ours() -> None:
            read_module(file.read_bytes())

        modinfo, readelf = tool("modinfo"), tool("readelf")
        found = [(timed(ours), timed(theirs)) for _ in range(pairs + 1)][1:]
    return Result(tuple(pair[0] for pair in found), tuple(pair[1] for pair in found))


def tool(name: str) -> str:
    """The program's path; modinfo is in /usr/sbin, which is not in everybody's PATH."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        raise SystemExit(f"{name} is not installed: on Debian, apt-get install kmod binutils")
    return found


def default_files() -> list[Path]:
    """What to read when nobody says."""
    installed = Path("/lib/modules", platform.release()).rglob("*.ko*")
    largest = max((path for path in installed if path.suffix != ".zst"), key=size_of, default=None)
    return [*(DATA / name for name in TESTED), *([largest] if largest else [])]


def size_of(path: Path) -> int:
    return path.stat().st_size


def line(file: Path, result: Result) -> str:
    ours, theirs = statistics.median(result.ours) * 1e3, statistics.median(result.theirs) * 1e3
    return f"{file.name:32} {size_of(file) / 1024:9.0f} {ours:10.2f} {theirs:10.2f} {result.ratio:8.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.ko")
    parser.add_argument("--pairs", type=int, default=40, help=f"pairs of reads, at least {LEAST_PAIRS}")
    arguments = parser.parse_args()
    pairs = max(arguments.pairs, LEAST_PAIRS)
    print(f"medians of {pairs} alternating pairs, in ms; theirs: modinfo + readelf -Wa; ratio: ours / theirs")
    print(f"{'file':32} {'KiB':>9} {'ours':>10} {'theirs':>10} {'ratio':>8}")
    for file in arguments.files or default_files():
        print(line(file, measure(file, pairs)), flush=True)


if __name__ == "__main__":
    main()
