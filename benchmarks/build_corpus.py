"""Real fixes through the builder: every source file that differs between two Debian source packages, applied
backwards to the newer kernel.

python benchmarks/build_corpus.py --cache DIR build [--sample 40] [--seed 1] # resumable; prints the table
python benchmarks/build_corpus.py --cache DIR build --workers 2 # two files at once
python benchmarks/build_corpus.py --cache DIR build --skip 204 # from the 205th on
python benchmarks/build_corpus.py --cache DIR build --again fan-out failed # judges these once more
python benchmarks/build_corpus.py --cache DIR build --fan-out 200 # names a higher limit where that is enough
python benchmarks/build_corpus.py --cache DIR table

For each ``.c`` file of the areas below the diff is "newer source -> older source". What does not compile
alone gets the headers, and then the other files, that the compiler's own complaints ask for; what still does
not is no patch and is not judged, a header that reaches too much or not. The order is the
seed's, so that whatever has been judged is a random sample. Nothing of the sources is kept but in the cache;
results are one JSON line for each file, so that a stopped run goes on where it was; a later line of a file
replaces an earlier one. Modules are built without ``replace``, so that a guest can hold many at once.
A machine that does other things too may need LIVEPATCH_TOOL_SECONDS=7200 in the environment.
Beside the seconds of the clock stands the processor time, which says what a file costs on a machine that
does other things too.
"""

from __future__ import annotations

import argparse
import difflib
import json
import multiprocessing
import os
import random
import re
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_utils"))

from livepatch_core.build import compile as compiling
from livepatch_core.build import debian, patchset, tree
from livepatch_core.build.builder import FAN_OUT, Built, Options, build
from livepatch_core.build.compile import Complaint
from livepatch_core.build.headers import Graph, graph_file, read_graph
from livepatch_core.build.kernelimages import Kernel
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.series import apply_series
from livepatch_core.build.target import Target

RELEASE, BASE, OLDER = "6.1.0-56-amd64", "6.1", "6.1.187-1"
AREAS = ("net", "fs", "mm", "kernel", "block", "drivers/md", "security", "virt", "arch/x86/kvm")
ROUNDS = 4  # how often headers or files are added before a diff counts as incomplete
_NAMED = re.compile(r"[‘'\"`]([A-Za-z_]\w+)[’'\"]|member named '(\w+)'")

# Refusals that are the builder's own fault: it must not meet anything that it does not know.
DEFECTS = frozenset(
    {
        Refusal.VERIFY,
        Refusal.MODPOST,
        Refusal.OBJECT_FORMAT,
        Refusal.RELOCATION_UNKNOWN,
        Refusal.SECTION_UNKNOWN,
    }
)
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
    processor: float = 0.0  # seconds of all processors, the compiler's included
    files: list[str] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    module: str = ""
    fan_out: int = 0  # the limit that was named for it; 0: the builder's own


class Corpus:
    """The two source trees and what differs between them."""

    def __init__(self, cache: Path, release: str = RELEASE, fan_out: int = FAN_OUT) -> None:
        self.cache = cache
        self.results = cache / "corpus" / "results.jsonl"
        self.fan_out = fan_out  # the highest limit that is named for a diff that needs it
        self.target: Target = debian.fetch(release, cache, print)
        self.kernel = Kernel(self.target.absolute(), cache)
        self.newer = self.target.source
        self.versions = self.target.version, older_version(cache, self.target.version)
        self.older = debian.fetch_source(BASE, self.versions[1], cache, print)
        self.judged: dict[tuple[str, ...], Result] = {}  # by the files of the diff

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

    def ordered(self, seed: int) -> list[str]:
        """The changed files in the seed's order: any beginning of it is a random sample."""
        paths = self.changed()
        random.Random(seed).shuffle(paths)
        return paths

    def differs(self, path: str) -> bool:
        one, other = self.newer / path, self.older / path
        return one.exists() and other.exists() and one.read_bytes() != other.read_bytes()

    @cached_property
    def graph(self) -> Graph:
        return read_graph(self.newer, graph_file(self.cache, self.versions[0]))

    @cached_property
    def headers(self) -> dict[str, list[str]]:
        """The differing headers, and the words of their differing lines; kept, as it takes a while."""
        kept = self.cache / f"corpus/headers_{'_'.join(self.versions)}.json"
        if not kept.exists():
            tops = ("include", *AREAS, "arch/x86", "drivers", "lib", "crypto", "io_uring")
            paths = {str(p.relative_to(self.newer)) for top in tops for p in (self.newer / top).rglob("*.h")}
            found = {path: changed_words(self.diff(path)) for path in sorted(paths) if self.differs(path)}
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(found), encoding="utf-8")
        words: dict[str, list[str]] = json.loads(kept.read_text(encoding="utf-8"))
        return words

    def suspects(self, files: list[str], rows: Iterable[Result]) -> list[str]:
        """What did not compile in other incomplete diffs with one of these headers."""
        headers = {file for file in files if file.endswith(".h")}
        failed = [r for r in rows if r.kind == str(Refusal.PATCHED_COMPILE) and headers & set(r.files)]
        seen = Counter(file for r in failed for file in r.files if file.endswith(".c") and file not in files)
        return [file for file, _ in seen.most_common(ROUNDS)]

    def incomplete(self, files: list[str], units: list[str]) -> Refused | None:
        """What the builder would say if it got as far as compiling ``units``: a fan-out is refused before,
        and all files of a header take minutes.
        """
        sources = apply_series(self.newer, [self.diff(file) for file in files])
        texts = {name: patchset.render(lines, directives=False) for name, lines in sources.files.items()}
        with tempfile.TemporaryDirectory(dir=self.cache / "scratch") as directory:
            scratch = Path(directory)
            bench = compiling.make_bench(self.target.absolute(), scratch / "source", scratch, "patched")
            tree.source_view(
                self.newer.absolute(), bench.source, texts, [os.path.dirname(unit) for unit in units]
            )
            for unit in units:
                said = compiling.compile_units(bench, [unit])[0]
                if isinstance(said, Complaint):
                    message = f"The patched file does not compile: {said.text[:500]}"
                    return Refused(Refusal.PATCHED_COMPILE, message, file=unit, compiler=said.text)
        return None

    def may_name(self, refused: Refused) -> bool:
        """Whether a higher limit, within the one that was given, is what ``refused`` asks for."""
        return FAN_OUT < int(refused.evidence.get("users", 0)) <= self.fan_out

    def diff(self, path: str) -> str:
        """newer -> older, as a unified diff."""
        one, other = (
            (tree / path).read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True)
            for tree in (self.newer, self.older)
        )
        return "".join(difflib.unified_diff(one, other, f"a/{path}", f"b/{path}"))

    def defining(self, path: str, name: str, have: set[str]) -> list[str]:
        """The differing file beside ``path`` in whose older version alone there is a function ``name``."""
        call = re.compile(rf"^[+].*\b{re.escape(name)}\(", re.MULTILINE)
        beside = sorted((self.newer / path).parent.glob("*.c"))
        names = [str(other.relative_to(self.newer)) for other in beside]
        return [n for n in names if n not in have and self.differs(n) and call.search(self.diff(n))][:1]

    def headers_for(self, path: str, names: set[str], have: set[str]) -> list[str]:
        """The differing header whose difference mentions one of ``names`` and which ``path`` includes; of
        several the one that the fewest files include.
        """
        found: list[tuple[int, str]] = []
        for header, words in self.headers.items():
            if header in have or not names.intersection(words):
                continue
            reached = self.graph.reached(header)
            if path in reached:
                found.append((len(reached), header))
        return [header for _, header in sorted(found)[:1]]


def nearest(served: list[str], newer: str) -> str:
    """OLDER if the archives serve it, else the served version nearest to it that is not ``newer``."""
    wanted, *others = ([int(n) for n in re.findall(r"\d+", v)] for v in (OLDER, *served))
    rows = [(abs(o[2] - wanted[2]), v) for o, v in zip(others, served) if v != newer and len(o) > 2]
    if not rows:
        raise Refused(Refusal.SOURCE, f"The archives serve no source of {BASE} beside {newer}.")
    return min(rows)[1]


def older_version(cache: Path, newer: str) -> str:
    """The version of the source package that the corpus goes back to; what is in the cache needs no look."""
    if (cache / "source" / f"{BASE}_{OLDER}").exists():
        return OLDER
    apt = debian.PrivateApt(cache / "apt")
    apt.update()
    return nearest([record["Version"] for record in apt.show(f"linux-source-{BASE}")], newer)


def changed_words(diff: str) -> list[str]:
    """The identifiers of a diff's added and removed lines."""
    lines = [d[1:] for d in diff.split("\n") if d[:1] in "+-" and d[:3] not in ("+++", "---")]
    return sorted(set(re.findall(r"[A-Za-z_]\w*", "\n".join(lines))))


def spent() -> float:
    """Processor seconds of this process and of all that it has waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def attempt(corpus: Corpus, path: str, output: Path) -> Result:
    """Build one file's diff, growing it by what the compiler asks for."""
    files = [path]
    for _ in range(ROUNDS):
        known = corpus.judged.get(tuple(sorted(files)))
        if known is not None:
            return replace(known, path=path)
        begin, before = time.monotonic(), spent()
        # A grown diff may touch many files: whether it is enough for this one, and for those that it was not
        # enough for before, is seen in a few compilations.
        alone = len(files) == 1
        first = [] if alone else [path, *corpus.suspects(files, read_results(corpus.results).values())]
        built = (corpus.incomplete(files, first) if first else None) or _build(corpus, path, files)
        named = corpus.fan_out if isinstance(built, Refused) and corpus.may_name(built) else 0
        if named:
            built = _build(corpus, path, files, named)
        if isinstance(built, Built):
            times = time.monotonic() - begin, spent() - before
            return replace(_built(path, files, built, output, times), fan_out=named)
        unseen = alone and built.refusal is Refusal.FAN_OUT
        refused = (corpus.incomplete(files, [path]) if unseen else None) or built
        more = grow(corpus, refused, files)
        if not more:
            seconds, processor = time.monotonic() - begin, spent() - before
            message = str(refused)[:600]
            kind = str(refused.refusal)
            return Result(path, "refused", kind, message, seconds, processor, files, fan_out=named)
        files = [*more, *files]
    return Result(path, "refused", str(Refusal.PATCHED_COMPILE), "still incomplete", files=files)


def _name(path: str) -> str:
    return "c_" + re.sub(r"\W+", "_", path[:-2])[-50:].strip("_").lower()


def _build(corpus: Corpus, path: str, files: list[str], fan_out: int = FAN_OUT) -> Built | Refused:
    try:
        return build(
            corpus.target,
            [corpus.diff(file) for file in files],
            Options(_name(path), replace=False, cache=corpus.cache, fan_out=fan_out),
            scratch=corpus.cache / "scratch",
            kernel=corpus.kernel,
        )
    except Refused as refused:
        return refused


def _built(path: str, files: list[str], built: Built, output: Path, times: tuple[float, float]) -> Result:
    """The result of a build whose module is written down; ``times``: seconds, and those of processors."""
    module = f"{_name(path)}.ko"
    (output / module).write_bytes(built.module or b"")
    functions = [f"{u.owner}:{f.old_name}" for u in built.units for f in u.functions]
    owners = sorted({unit.owner for unit in built.units})
    return Result(path, "built", "", "", *times, files, owners, functions, module)


def grow(corpus: Corpus, refused: Refused, files: list[str]) -> list[str]:
    """What to add to the diff after a patched unit did not compile, or misses what another file defines."""
    if refused.refusal is Refusal.SYMBOL_UNRESOLVED:
        return corpus.defining(refused.file, refused.function, set(files))
    if refused.refusal is not Refusal.PATCHED_COMPILE:
        return []
    if refused.file not in files and corpus.differs(refused.file):
        return [refused.file]
    names = {a or b for a, b in _NAMED.findall(str(refused.evidence.get("compiler", "")))}
    return corpus.headers_for(refused.file, names - {"struct", "const", "int", "void"}, set(files))


def read_results(path: Path) -> dict[str, Result]:
    if not path.exists():
        return {}
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")  # the last line may be half written
    rows = (json.loads(line) for line in whole.splitlines())
    return {row["path"]: Result(**row) for row in rows}


def judge(corpus: Corpus, path: str, output: Path) -> Result:
    """What becomes of one file, whatever that is."""
    try:
        return attempt(corpus, path, output)
    except Exception as error:  # noqa: BLE001 - anything but a refusal is a defect, and the run must show it
        return Result(path, "failed", type(error).__name__, str(error)[:600])


def _known(results: dict[str, Result]) -> dict[tuple[str, ...], Result]:
    return {tuple(sorted(result.files)): result for result in results.values() if result.files}


def run(
    corpus: Corpus, results: Path, paths: list[str], again: frozenset[str] = frozenset(), workers: int = 1
) -> None:
    """Judge what has no result yet, and what ended in one of the words ``again``."""
    done = {p: r for p, r in read_results(results).items() if not {r.outcome, r.kind} & again}
    corpus.judged, corpus.results = _known(done), results
    output = results.parent / "modules"
    output.mkdir(parents=True, exist_ok=True)
    todo = [path for path in paths if path not in done]
    for number, result in enumerate(_judge_all(corpus, todo, output, workers), len(paths) - len(todo) + 1):
        corpus.judged.setdefault(tuple(sorted(result.files)), result)
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        said = f"{result.outcome} {result.kind} {result.seconds:.1f} s"
        print(f"{number}/{len(paths)} {result.path}: {said}", flush=True)


def _judge_all(corpus: Corpus, paths: list[str], output: Path, workers: int) -> Iterator[Result]:
    """In order with one worker; as they come with several, which do not see each other's results."""
    if workers == 1:
        yield from (judge(corpus, path, output) for path in paths)
        return
    corpus.kernel.image("vmlinux"), corpus.graph, corpus.headers  # read once, before the fork
    _FORKED[:] = [(corpus, output)]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        for one in as_completed([pool.submit(_judge_forked, path) for path in paths]):
            yield one.result()


# What a worker is forked with: a corpus is too big to be sent with each file, and changes meanwhile.
_FORKED: list[tuple[Corpus, Path]] = []


def _judge_forked(path: str) -> Result:
    ((corpus, output),) = _FORKED
    return judge(corpus, path, output)


def judged(results: dict[str, Result]) -> list[Result]:
    """Those that are a patch of this kernel: both sides compile and the code changes."""
    left_out = {str(kind) for kind in NOT_A_PATCH | INCOMPLETE}
    return [result for result in results.values() if result.kind not in left_out]


def table(results: dict[str, Result], total: int = 0) -> str:
    """The summary: outcomes, refusals by kind, seconds. ``total``: how many files there are."""
    rows = list(results.values())
    built = [r for r in rows if r.outcome == "built"]
    kinds = Counter(r.kind for r in rows if r.outcome == "refused")
    times = sorted(r.seconds for r in built) or [0.0]
    of = f" of {total}" if total else ""
    lines = [f"{len(rows)}{of} files: {len(built)} built, {sum(kinds.values())} refused, "
             f"{sum(r.outcome == 'failed' for r in rows)} failed"]  # fmt: skip
    lines += [f"  refused {kind:20} {count}" for kind, count in kinds.most_common()]
    patches = judged(results)
    share = 100 * len(built) / len(patches) if patches else 0.0
    lines.append(
        f"of the {len(patches)} that compile on both sides and change code, {share:.1f} % were built"
    )
    named = [r for r in patches if r.fan_out]
    if named:
        share = 100 * sum(r.outcome == "built" and not r.fan_out for r in patches) / len(patches)
        lines.append(
            f"with the builder's own fan_out, {share:.1f} %: a higher one was named for {len(named)}"
        )
    p90 = times[min(len(times) - 1, int(len(times) * 0.9))]
    lines.append(f"seconds for the built ones: median {statistics.median(times):.1f}, p90 {p90:.1f}")
    busy = sorted(r.processor for r in built) or [0.0]
    p90 = busy[min(len(busy) - 1, int(len(busy) * 0.9))]
    lines.append(f"processor seconds for the built ones: median {statistics.median(busy):.1f}, p90 {p90:.1f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--sample", type=int, default=0, help="how many files, in --seed's order; 0 = all")
    parser.add_argument("--skip", type=int, default=0, help="how many files at the beginning are left out")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", nargs="*", default=(), help="outcomes and refusals to judge once more")
    parser.add_argument("--workers", type=int, default=1, help="files judged at once")
    parser.add_argument("--fan-out", type=int, default=FAN_OUT, help="limit to name where that is enough")
    parser.add_argument("command", choices=("build", "table"))
    arguments: Any = parser.parse_args()
    results = arguments.results or arguments.cache / "corpus" / "results.jsonl"
    results.parent.mkdir(parents=True, exist_ok=True)
    total = 0
    if arguments.command == "build":
        corpus = Corpus(arguments.cache, fan_out=arguments.fan_out)
        paths = corpus.ordered(arguments.seed)
        total = len(paths)
        again = frozenset(arguments.again)
        until = arguments.skip + arguments.sample if arguments.sample else total
        run(corpus, results, paths[arguments.skip : until], again, arguments.workers)
    print(table(read_results(results), total))


if __name__ == "__main__":
    main()
