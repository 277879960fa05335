"""The modules that build_corpus.py built, many at once in a guest of the lab, watched under a workload,
reverted and removed.

python -m benchmarks.build_corpus_load --cache DIR [--batch 40] [--results FILE] # resumable; prints the table

python -m benchmarks.build_corpus_load --cache DIR --under net security --parts network system

A module that patches kernel modules has those loaded first. A batch's modules are in force together while
corpus_workload/ runs; a kprobe at each new function counts how often it ran. "clean": the kernel
log holds no warning, bug or oops from the module's loading to its removal.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks import corpus_guest
from benchmarks.build_corpus import RELEASE, Result, read_results
from lab import kernels
from lab.errors import GuestError
from lab.guest import Guest
from lab.guest import Result as Ended
from lab.kernels import Kernel

PREFIX = "c_"  # of the modules' names, see build_corpus.attempt()
UNCLEAN = re.compile(
    r"WARNING:|BUG:|Oops|cut here|Call Trace|general protection|Skipping invalid|refusing to"
)
# The workload runs out of memory on purpose; the kernel says so with a backtrace.
PROVOKED = re.compile(r"invoked oom-killer")
PART_SECONDS = 1800.0
LOAD_SECONDS = 300.0
VERBS = "/root/workload/modules.sh"
PARTS = ("filesystems", "devices", "network", "system")  # of corpus_workload/run.py, or PART:STEP
OUTCOMES = {3: "missing", 4: "refused", 5: "stalled"}  # how modules.sh ends


@dataclass
class Loaded:
    """What became of one module in the guest. ``missing``: a kernel module that this guest cannot load;
    ``hits``: new function -> how often it ran.
    """

    module: str
    outcome: str  # clean, unclean, refused, stalled, panicked, missing
    hits: dict[str, int] = field(default_factory=dict)
    probes: int = 0
    detail: str = ""


def parse_counts(text: str) -> dict[str, dict[str, int]]:
    """module -> function -> hits, from kprobe_events and kprobe_profile."""
    events, _, profile = text.partition("\n=\n")
    where = {m[1]: (m[2], m[3]) for m in re.finditer(r"^p:corpus/(\S+) (\S+?):(\S+)$", events, re.MULTILINE)}
    found: dict[str, dict[str, int]] = {}
    for line in profile.splitlines():
        name, hits, _missed = line.split()
        module, function = where[name]
        found.setdefault(module, {})[function] = int(hits)
    return found


def fresh_lines(seen: Sequence[str], now: Sequence[str]) -> list[str]:
    """What the kernel log says that it did not say before; that it has lost lines is a complaint too.

    Its last line may have grown since: the kernel continues lines.
    """
    before, last = list(seen[:-1]), "".join(seen[-1:])
    rest = list(now[len(before) :])
    if list(now[: len(before)]) != before or not "".join(rest[:1]).startswith(last):
        return ["BUG: the kernel's log has dropped lines: what they said is not known", *now]
    return rest[1:] if rest[:1] == [last] else rest


def complaints(lines: Sequence[str]) -> list[str]:
    """What the kernel log says that it should not, each with the lines before it that explain it."""
    found: list[str] = []
    for number, line in enumerate(lines):
        before = lines[max(0, number - 6) : number]
        if UNCLEAN.search(line) and not any(PROVOKED.search(other) for other in before):
            found += [*before, line]
    return found


class Batch:
    """Modules in force together in one guest."""

    def __init__(self, guest: Guest, modules: Path, journal: Path) -> None:
        self.guest, self.modules, self.journal = guest, modules, journal
        self.rows: dict[str, Loaded] = {}
        self.active: list[str] = []
        self.handled = ""
        self._log = guest.dmesg().splitlines()

    def _complaints(self) -> list[str]:
        """Lines of the kernel log since the last look that say that something is wrong."""
        seen, self._log = self._log, self.guest.dmesg().splitlines()
        return complaints(fresh_lines(seen, self._log))

    def _blame(self, name: str, found: Sequence[str]) -> None:
        if found and self.rows[name].outcome == "clean":
            self.rows[name].outcome, self.rows[name].detail = "unclean", "\n".join(found)[:1500]

    def _do(self, *words: str, seconds: float = LOAD_SECONDS) -> Ended:
        return self.guest.exec(["sh", VERBS, *words], timeout=seconds)

    def load(self, result: Result) -> None:
        """Load one module and what it patches, and wait until it is in force."""
        name = self.handled = result.module.partition(".")[0]
        print(f"loading {name}", flush=True)
        row = self.rows[name] = Loaded(result.module, "clean")
        self.guest.put(f"/root/{name}.ko", (self.modules / result.module).read_bytes())
        owners = [owner for owner in result.objects if owner != "vmlinux"]
        done = self._do("load", name, f"/root/{name}.ko", *owners)
        if done.rc in (0, 5):
            self.active.append(name)
        if done.rc:
            row.outcome = OUTCOMES.get(done.rc, "refused")
            row.detail = done.error_text[-300:] + done.text[-600:] + self.guest.dmesg()[-300:]
        if row.outcome == "stalled":
            self.remove(name)
        self._blame(name, self._complaints())

    def work(self, parts: Sequence[str] = PARTS) -> None:
        """Run the workload and count which new functions ran."""
        print(self._do("watch", PREFIX, seconds=PART_SECONDS).error_text[-300:], flush=True)
        for part in parts:
            done = self.guest.exec(["python3", "/root/workload/run.py", part], timeout=PART_SECONDS)
            print(done.text, flush=True)
        counts = parse_counts(self._do("counts").text)
        for name, hits in counts.items():
            self.rows[name].probes = len(hits)
            self.rows[name].hits = {function: number for function, number in hits.items() if number}
        found = self._complaints()
        for name in self.active:
            self._blame(name, found)

    def remove(self, name: str) -> None:
        """Revert and remove one module."""
        self.active.remove(name)
        self.handled = name
        done = self._do("remove", name)
        if done.rc and self.rows[name].outcome == "clean":
            self.rows[name].outcome = "stalled"
            self.rows[name].detail = f"not removed: {done.error_text[-200:]} {done.text[-500:]}"
        self._blame(name, self._complaints())

    def finish(self) -> None:
        """Take all modules away, the youngest first, and write down what became of each as soon as it is
        known: a run that is stopped here loses only what is still in force.
        """
        self.write([name for name in self.rows if name not in self.active])
        for name in reversed(list(self.active)):
            self.remove(name)
            self.write([name])

    def write(self, names: Sequence[str]) -> None:
        with self.journal.open("a", encoding="utf-8") as file:
            for row in map(self.rows.pop, names):
                file.write(json.dumps(asdict(row)) + "\n")
                print(row.module, row.outcome, f"{len(row.hits)}/{row.probes}", row.detail[:200], flush=True)


def guest_kernel(release: str) -> Kernel:
    """The lab's kernel of this release: modules are built for exactly one."""
    for kernel in kernels.table():
        if kernel.release == release:
            return kernel
    known = ", ".join(kernel.release for kernel in kernels.table())
    raise SystemExit(f"The lab has no kernel {release}, only {known}; build the corpus for one of these.")


def run(batch: Sequence[Result], modules: Path, journal: Path, parts: Sequence[str]) -> None:
    """One guest for one batch. A guest that dies takes the blame for the module that was being handled."""
    with corpus_guest.start(guest_kernel(RELEASE)) as guest:
        work = Batch(guest, modules, journal)
        try:
            for result in batch:
                work.load(result)
            work.work(parts)
            work.finish()
        except GuestError as error:
            work.rows[work.handled] = Loaded(f"{work.handled}.ko", "panicked", detail=str(error)[-1500:])
            for name in [name for name, row in work.rows.items() if row.outcome == "clean"]:
                del work.rows[name]  # they are tried again
            work.write(list(work.rows))


def read_rows(journal: Path) -> dict[str, Loaded]:
    """The last word on each module."""
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    rows = [Loaded(**json.loads(line)) for line in lines]
    return {row.module: row for row in rows}


def table(rows: Sequence[Loaded]) -> str:
    count = {word: sum(row.outcome == word for row in rows) for word in sorted({row.outcome for row in rows})}
    loadable = [row for row in rows if row.outcome != "missing"]
    clean = sum(row.outcome == "clean" for row in loadable)
    functions, ran = sum(row.probes for row in loadable), sum(len(row.hits) for row in loadable)
    return "\n".join([
        f"{len(rows)} modules: " + ", ".join(f"{number} {word}" for word, number in count.items()),
        f"{clean} of {len(loadable)} loadable ones loaded, transitioned, reverted and removed cleanly",
        f"in {sum(bool(row.hits) for row in rows)} of them a new function was executed "
        f"({ran} of {functions} functions)",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--batch", type=int, default=40)
    parser.add_argument("--batches", type=int, default=sys.maxsize, help="stop after so many")
    parser.add_argument("--under", nargs="+", default=[""], help="only files below these directories")
    parser.add_argument("--parts", nargs="+", default=PARTS, help="PART or PART:STEP of the workload")
    arguments = parser.parse_args()
    results = arguments.results or arguments.cache / "corpus" / "results.jsonl"
    journal = results.with_name("loaded.jsonl")
    for _ in range(arguments.batches):
        done = read_rows(journal)
        chosen = [r for r in read_results(results).values() if r.path.startswith(tuple(arguments.under))]
        built = {r.module: r for r in chosen if r.outcome == "built"}
        todo = [result for module, result in built.items() if module not in done]
        if not todo:
            break
        run(todo[: arguments.batch], results.parent / "modules", journal, arguments.parts)
    print(table(list(read_rows(journal).values())))


if __name__ == "__main__":
    main()
