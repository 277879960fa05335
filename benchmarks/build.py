"""Seconds from a diff to a module, stage by stage, and what a kernel build would take instead.

    python -m benchmarks.build --cache DIR [--release 6.1.0-56-amd64] [--runs 5]

With an empty DIR: what fetching the kernel's parts takes, and the first build, which reads the kernel's
image. Then one-file diffs of different sizes, each built ``--runs`` times with warm caches. kpatch-build and
klp-build compile the whole kernel first; that is *estimated*: the rate of compiling sampled files, times
their number.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_utils"))

from livepatch_core.build import debian
from livepatch_core.build.builder import Options, build
from livepatch_core.build.compile import compile_units, make_bench
from livepatch_core.build.target import Target
from tests.kernel.build.edits import Edits, diff

# Source files of Debian's amd64 configuration: 2,321 built in, about 8,800 in modules (counted once for 6.1).
WHOLE_KERNEL = 2321 + 8800
SAMPLE = ("fs/proc/meminfo.c", "fs/pipe.c", "kernel/sys.c", "net/ipv4/udp.c", "mm/mmap.c", "block/bio.c")
PREFETCH = "\n\tprefetch({});\n"
SYSCALL, XFS, DEVICE = (
    "\tstruct new_utsname tmp;\n",
    "\tstruct xfs_mount\t*mp = XFS_M(dentry->d_sb);\n",
    "int netif_receive_skb(struct sk_buff *skb)\n{\n\tint ret;\n",
)
EDITS: dict[str, Edits] = {
    "small file": {"fs/proc/meminfo.c": [("VmallocChunk:", "VMALLOCCHUNK:")]},
    "system call": {"kernel/sys.c": [(SYSCALL, SYSCALL + "\tcond_resched();\n")]},
    "a module": {"fs/xfs/xfs_super.c": [(XFS, XFS + PREFETCH.format("mp"))]},
    "large file": {"net/core/dev.c": [(DEVICE, DEVICE + PREFETCH.format("skb"))]},
}


def timed_build(target: Target, cache: Path, edits: Edits) -> tuple[float, dict[str, float]]:
    """Seconds of one build, all and by stage."""
    text = diff(target.source, edits)
    begin = time.monotonic()
    built = build(target, [text], Options("bench", cache=cache), scratch=cache / "scratch")
    return time.monotonic() - begin, built.seconds


def measure(target: Target, cache: Path, runs: int) -> list[float]:
    """Prints a line for each kind of diff; all times."""
    times = []
    for name, edits in EDITS.items():
        done = [timed_build(target, cache, edits) for _ in range(runs)]
        own, stages = [seconds for seconds, _ in done], done[-1][1]
        times += own
        parts = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in stages.items() if seconds >= 0.05)
        print(f"{name:12} median {statistics.median(own):5.1f} s   last: {parts}", flush=True)
    return times


def compile_rate(target: Target) -> float:
    """Seconds for one file, one after another, as a kernel build compiles it."""
    with tempfile.TemporaryDirectory() as name:
        bench = make_bench(target, target.source, Path(name), "objects")
        begin = time.monotonic()
        compile_units(bench, SAMPLE, split=False)
        return (time.monotonic() - begin) / len(SAMPLE)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--release", default="6.1.0-56-amd64")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    begin = time.monotonic()
    cold = debian.cached_target(arguments.release, arguments.cache) is None
    cache = arguments.cache.absolute()
    target = debian.fetch(arguments.release, cache, print).absolute()
    fetched = time.monotonic() - begin
    first, _ = timed_build(target, cache, EDITS["small file"])
    times = sorted(measure(target, cache, arguments.runs))
    median, p90 = statistics.median(times), times[min(len(times) - 1, int(len(times) * 0.9))]
    print(f"all: median {median:.1f} s, p90 {p90:.1f} s")
    if cold:
        print(f"from nothing: {fetched:.1f} s to fetch the parts, {first:.1f} s the first build, "
              f"{fetched + first - median:.1f} s more than a warm one")  # fmt: skip
    whole = compile_rate(target) * WHOLE_KERNEL / 2  # two cores
    print(f"a kernel build: about {whole / 3600:.1f} h (estimate), {whole / median:.0f} times as long")


if __name__ == "__main__":
    main()
