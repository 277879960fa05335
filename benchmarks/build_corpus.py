"""Real fixes through the builder: every source file that differs between two Debian source packages, applied
backwards to the newer kernel.

python benchmarks/build_corpus.py --cache DIR build [--sample 40 --seed 1] # resumable; prints the table
python benchmarks/build_corpus.py --cache DIR table

For each ``.c`` file of the areas below the diff is "newer source -> older source". What does not compile
alone gets the headers, and then the other files, that the compiler's own complaints ask for. Nothing of the
sources is kept but in the cache; results are one JSON line for each file, so that a stopped run goes on where
it was.
"""

from __future__ import annotations

import argparse
import difflib
import json
import random
import re
import statistics
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_utils"))

from livepatch_core.build import debian
from livepatch_core.build.builder import Options, build
from livepatch_core.build.headers import read_graph
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.target import Target

RELEASE, NEWER, OLDER = "6.1.0-56-amd64", "6.1.192-2", "6.1.187-1"
AREAS = ("net", "fs", "mm", "kernel", "block", "drivers/md", "security", "virt", "arch/x86/kvm")
FAN_OUT = 30  # files that a header may reach; more takes minutes
ROUNDS = 4  # how often headers or files are added before a diff counts as incomplete
_NAMED = re.compile(r"[‘'\"`]([A-Za-z_]\w+)[’'\"]|member named '(\w+)'")

# Refusals that say that the diff itself is no patch of this kernel, so the builder is not judged by it.
NOT_A_PATCH = frozenset({Refusal.NOTHING_CHANGED, Refusal.NOT_BUILT, Refusal.ORIGINAL_COMPILE})
INCOMPLETE = frozenset({Refusal.PATCHED_COMPILE})


@dataclass
class Result:
    """What became of one file. ``outcome``: built, refused or failed; ``kind``: the refusal's word."""

    path: str
    outcome: str
    kind: str = ""
    message: str = ""
    seconds: float = 0.0
    files: list[str] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    module: str = ""


class Corpus:
    """The two source trees and what differs between them."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.target: Target = debian.fetch(RELEASE, cache, print)
        self.newer = self.target.source
        self.older = debian.fetch_source("6.1", OLDER, cache, print)

    def changed(self) -> list[str]:
        """The ``.c`` files of the areas that exist in both trees and differ, sorted."""
        found = []
        for area in AREAS:
            for path in sorted((self.newer / area).rglob("*.c")):
                name = str(path.relative_to(self.newer))
                other = self.older / name
                if other.exists() and other.read_bytes() != path.read_bytes():
                    found.append(name)
        return found

    def differs(self, path: str) -> bool:
        one, other = self.newer / path, self.older / path
        return one.exists() and other.exists() and one.read_bytes() != other.read_bytes()

    def diff(self, path: str) -> str:
        """newer -> older, as a unified diff."""
        texts = [
            (tree / path).read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True)
            for tree in (self.newer, self.older)
        ]
        return "".join(difflib.unified_diff(*texts, f"a/{path}", f"b/{path}"))

    def headers_for(self, path: str, names: set[str], have: set[str]) -> list[str]:
        """Differing headers whose difference mentions one of ``names`` and which ``path`` includes: the
        nearest.
        """
        if not hasattr(self, "_headers"):
            tops = ("include", *AREAS, "arch/x86", "drivers", "lib", "crypto", "io_uring")
            paths = {str(p.relative_to(self.newer)) for top in tops for p in (self.newer / top).rglob("*.h")}
            self._headers = {p: self.diff(p) for p in sorted(paths) if self.differs(p)}
            self._graph = read_graph(self.newer, self.cache / f"includes/{NEWER}.json")
        here = path.rpartition("/")[0]
        found = []
        for header, text in self._headers.items():
            changed = "\n".join(
                line[1:] for line in text.split("\n") if line[:1] in "+-" and line[:3] not in ("+++", "---")
            )
            if header in have or not any(re.search(rf"\b{re.escape(name)}\b", changed) for name in names):
                continue
            if path in self._graph.reached(header):
                found.append(header)
        return sorted(found, key=lambda h: (not h.startswith(here), not h.startswith("include/"), h))[:1]


def attempt(corpus: Corpus, path: str, output: Path) -> Result:
    """Build one file's diff, growing it by what the compiler asks for."""
    files, begin = [path], time.monotonic()
    for _ in range(ROUNDS):
        diffs = [corpus.diff(file) for file in files]
        name = "c_" + re.sub(r"\W+", "_", path[:-2])[-50:].strip("_").lower()
        try:
            begin = time.monotonic()
            built = build(
                corpus.target,
                diffs,
                Options(name, cache=corpus.cache, fan_out=FAN_OUT),
                scratch=corpus.cache / "scratch",
            )
        except Refused as refused:
            more = grow(corpus, refused, files) if refused.refusal is Refusal.PATCHED_COMPILE else []
            if not more:
                seconds = time.monotonic() - begin
                return Result(path, "refused", str(refused.refusal), str(refused)[:600], seconds, files)
            files = [*more, *files]
            continue
        seconds = time.monotonic() - begin
        module = output / f"{name}.ko"
        module.write_bytes(built.module or b"")
        functions = [f"{u.owner}:{f.old_name}" for u in built.units for f in u.functions]
        return Result(
            path,
            "built",
            "",
            "",
            seconds,
            files,
            sorted({u.owner for u in built.units}),
            functions,
            module.name,
        )
    return Result(path, "refused", str(Refusal.PATCHED_COMPILE), "still incomplete", 0.0, files)


def grow(corpus: Corpus, refused: Refused, files: list[str]) -> list[str]:
    """What to add to the diff after a patched unit did not compile."""
    if refused.file not in files and corpus.differs(refused.file):
        return [refused.file]
    names = {a or b for a, b in _NAMED.findall(str(refused.evidence.get("compiler", "")))}
    return corpus.headers_for(refused.file, names - {"struct", "const", "int", "void"}, set(files))


def read_results(path: Path) -> dict[str, Result]:
    if not path.exists():
        return {}
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {row["path"]: Result(**row) for row in rows}


def run(corpus: Corpus, results: Path, paths: list[str]) -> None:
    done = read_results(results)
    output = results.parent / "modules"
    output.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths, 1):
        if path in done:
            continue
        try:
            result = attempt(corpus, path, output)
        except Exception as error:  # noqa: BLE001 - anything but a refusal is a defect, and the run must show it
            result = Result(path, "failed", type(error).__name__, str(error)[:600])
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        print(
            f"{number}/{len(paths)} {path}: {result.outcome} {result.kind} {result.seconds:.1f} s", flush=True
        )


def table(results: dict[str, Result]) -> str:
    """The summary: outcomes, refusals by kind, seconds."""
    rows = list(results.values())
    built = [r for r in rows if r.outcome == "built"]
    kinds = Counter(r.kind for r in rows if r.outcome == "refused")
    judged = [r for r in rows if r.kind not in {str(k) for k in NOT_A_PATCH | INCOMPLETE}]
    times = sorted(r.seconds for r in built) or [0.0]
    lines = [f"{len(rows)} files: {len(built)} built, {sum(kinds.values())} refused, "
             f"{sum(r.outcome == 'failed' for r in rows)} failed"]  # fmt: skip
    lines += [f"  refused {kind:20} {count}" for kind, count in kinds.most_common()]
    share = 100 * len(built) / len(judged) if judged else 0.0
    lines.append(f"of the {len(judged)} that compile on both sides and change code, {share:.1f} % were built")
    p90 = times[min(len(times) - 1, int(len(times) * 0.9))]
    lines.append(f"seconds for the built ones: median {statistics.median(times):.1f}, p90 {p90:.1f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--sample", type=int, default=0, help="how many files, chosen by --seed; 0 = all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("command", choices=("build", "table"))
    arguments: Any = parser.parse_args()
    results = arguments.results or arguments.cache / "corpus" / "results.jsonl"
    results.parent.mkdir(parents=True, exist_ok=True)
    if arguments.command == "build":
        corpus = Corpus(arguments.cache)
        paths = corpus.changed()
        if arguments.sample:
            paths = random.Random(arguments.seed).sample(paths, min(arguments.sample, len(paths)))
        run(corpus, results, paths)
    print(table(read_results(results)))


if __name__ == "__main__":
    main()
