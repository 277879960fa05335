"""The changed functions of the corpus's files, as the builder finds them and as kpatch's create-diff-object
does.

python -m benchmarks.build_crosscheck --cache DIR [--sample 40] [--seed 1] # resumable; prints disagreements

For development only. kpatch's source package comes from Debian 13 and is compiled here (make, gcc and
libelf-dev); only the program is kept, in the lab's cache. Both sides see the same two source trees, with the
builder's ``#line`` directives; create-diff-object gets objects that an untouched assembler made. It wants the
symbol table of a kernel with debug information: the original object's own symbols, in readelf's words, do for
what is asked of it here.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks import kpatch_package
from benchmarks.build_corpus import Corpus
from lab import cache as lab_cache
from lab import host
from livepatch_core.build import compile as compiling
from livepatch_core.build import patchset, tree
from livepatch_core.build.builder import FAN_OUT, Options, build
from livepatch_core.build.case import Difference
from livepatch_core.build.compile import Compiled
from livepatch_core.build.objectfile import (
    SHN_UNDEF,
    STB_GLOBAL,
    STB_LOCAL,
    STT_FUNC,
    STT_OBJECT,
    read_object,
)
from livepatch_core.build.refusals import Refused
from livepatch_core.build.series import apply_series, find_units

SECTIONS = "-g0 -ffunction-sections -fdata-sections"
# sizeof() of the records of 6.1's special sections; kpatch-build reads it from the debug information.
RECORDS = {"ALT": 12, "BUG": 12, "EX": 12, "JUMP": 16, "ORC": 6, "PARA": 16, "STATIC_CALL": 8}
KEYED = (".static_call_sites", ".rela.static_call_sites", "__jump_table", ".rela__jump_table")
_SAID = re.compile(r"\b(changed|new) function: (\S+)")


@dataclass
class Compared:
    """One file: the functions that only one side calls changed or new. ``oracle``: what kpatch complained
    of.
    """

    path: str
    same: list[str] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    theirs: list[str] = field(default_factory=list)
    promoted: list[str] = field(default_factory=list)
    refused: str = ""
    oracle: str = ""


def create_diff_object() -> Path:
    """The program, compiled once."""
    place = lab_cache.artefact("crosscheck", {"suite": kpatch_package.SUITE, "layout": 1}, _make, "kpatch")
    return place / "create-diff-object"


def _make(into: Path) -> None:
    environment = kpatch_package.lay_out(into / "apt")
    listed = into / "apt/etc/sources.list.d/suite.sources"
    listed.write_text(listed.read_text().replace("Types: deb\n", "Types: deb-src\n"))
    host.run(["apt-get", "-q", "update", "--error-on=any"], env=environment)
    host.run(
        ["apt-get", "-q", "source", "--download-only", "--tar-only", "kpatch"], env=environment, cwd=into
    )
    with tarfile.open(next(into.glob("kpatch_*.orig.tar.*"))) as archive:
        archive.extractall(into / "source", filter="data")
    top = next((into / "source").iterdir())
    host.run(["make", "-s", "-C", top / "kpatch-build", "create-diff-object"])
    shutil.copy2(top / "kpatch-build/create-diff-object", into / "create-diff-object")
    for rest in ("apt", "source"):
        shutil.rmtree(into / rest)


def plain_objects(corpus: Corpus, path: str, scratch: Path) -> tuple[str, bytes, bytes]:
    """The unit that a file is compiled as (the file itself, or what includes it), and both its sides,
    compiled by the untouched tools.
    """
    sources = apply_series(corpus.target.source, [corpus.diff(path)])
    target = corpus.target.absolute()
    unit = find_units(target, sources, FAN_OUT, corpus.cache).paths[0]
    before = compiling.make_bench(target, target.source, scratch, "original")
    after = compiling.make_bench(target, scratch / "source", scratch, "patched")
    texts = {file: patchset.render(lines, directives=True) for file, lines in sources.files.items()}
    tree.source_view(target.source, after.source, texts, [os.path.dirname(path)])
    sides = [
        compiling.compile_units(bench, [unit], split=False, plain=SECTIONS)[0] for bench in (before, after)
    ]
    one, other = (side.object if isinstance(side, Compiled) else b"" for side in sides)
    return unit, one, other


def symbol_table(path: str, content: bytes) -> str:
    """``readelf -sW`` of a kernel that holds this object and nothing else."""
    rows = [f"   0: 0000000000000000     0 FILE    LOCAL  DEFAULT  ABS {os.path.basename(path)}"]
    kinds, binds = {STT_FUNC: "FUNC", STT_OBJECT: "OBJECT"}, {STB_LOCAL: "LOCAL", STB_GLOBAL: "GLOBAL"}
    symbols = sorted(read_object(content).symbols, key=lambda s: s.binding != STB_LOCAL)
    for number, symbol in enumerate(symbols, 1):
        undefined = symbol.section == SHN_UNDEF
        kind = "FUNC" if undefined else kinds.get(symbol.kind)
        if symbol.name and kind is not None:
            bind = binds.get(symbol.binding, "WEAK")
            rows.append(
                f"{number:4}: {number * 16:016x} {symbol.size:5} {kind:7} {bind:6} DEFAULT    1 {symbol.name}"
            )
    return "\nSymbol table '.symtab' contains entries:\n" + "\n".join(rows) + "\n"


def oracle(corpus: Corpus, path: str, scratch: Path) -> tuple[set[str], str]:
    """The functions that create-diff-object calls changed or new, and its complaint if it had one.

    It stops at a static call or jump label whose key it does not know before it says what changed: then it is
    asked again without those records.
    """
    unit, one, other = plain_objects(corpus, path, scratch)
    if not one or not other:
        return set(), "does not compile"
    for side, content in (("original", one), ("patched", other)):
        (scratch / f"{side}.o").write_bytes(content)
    (scratch / "symtab").write_text(symbol_table(unit, one), encoding="utf-8")
    said, complaint = ask(corpus, unit, scratch)
    if "unsupported" in complaint and not said:
        removed = [f"--remove-section={name}" for name in KEYED]
        for side in ("original.o", "patched.o"):
            subprocess.run(["objcopy", *removed, side], cwd=scratch, check=True)
        said, _ = ask(corpus, unit, scratch)
    return said, complaint


def ask(corpus: Corpus, path: str, scratch: Path) -> tuple[set[str], str]:
    """One run over ``original.o`` and ``patched.o``."""
    name = os.path.basename(path)[:-2]
    exports = str((corpus.target.headers / "Module.symvers").absolute())
    done = subprocess.run(
        [create_diff_object(), "original.o", "patched.o", name, "symtab", exports, name, "out.o"],
        cwd=scratch,
        env={f"{kind}_STRUCT_SIZE": str(size) for kind, size in RECORDS.items()},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    said = {function.removesuffix(".cold") for _, function in _SAID.findall(done.stdout)}
    complaint = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
    return said, "; ".join(complaint)[:300]


def compare(corpus: Corpus, path: str, scratch: Path) -> Compared:
    """One file, both ways."""
    theirs, complaint = oracle(corpus, path, scratch)
    result = Compared(path, theirs=sorted(theirs), oracle=complaint)
    options = Options("crosscheck", cache=corpus.cache)
    try:
        built = build(
            corpus.target, [corpus.diff(path)], options, scratch=scratch, emit=False, kernel=corpus.kernel
        )
    except Refused as refused:
        result.refused = f"{refused.refusal}: {refused}"[:300]
        return result
    ours = {function for change in built.changes for function in change.changed}
    new = {name for unit in built.units for name in unit.new if _is_function(built.changes, name)}
    result.promoted = sorted(name for change in built.changes for name in change.promoted)
    ours = {name.removesuffix(".cold") for name in ours | new} - (set(result.promoted) - theirs)
    result.same, result.ours = sorted(ours & theirs), sorted(ours - theirs)
    result.theirs = sorted(theirs - ours)
    return result


def _is_function(changes: list[Difference], name: str) -> bool:
    return any(name in c.patched.pieces and c.patched.pieces[name].function for c in changes)


def read_rows(journal: Path) -> dict[str, Compared]:
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    return {row["path"]: Compared(**row) for row in map(json.loads, lines)}


def table(rows: list[Compared]) -> str:
    judged = [row for row in rows if not row.refused]
    both = [row for row in judged if not row.oracle or row.same + row.theirs]
    agreed = [row for row in both if not row.ours and not row.theirs]
    lines = [f"{len(rows)} files, {len(both)} judged by both, {len(agreed)} with the same functions"]
    lines += [f"{row.path}: refused by kpatch: {row.oracle}" for row in judged if row not in both]
    lines += [
        f"{row.path}: ours alone {row.ours}, theirs alone {row.theirs}; {row.oracle or 'no complaint'}"
        for row in both
        if row not in agreed
    ]
    lines += [
        f"{row.path}: refused by the builder: {row.refused}; theirs {row.theirs[:5]}"
        for row in rows
        if row.refused
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--sample", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    journal = arguments.results or arguments.cache / "corpus" / "crosscheck.jsonl"
    corpus, done = Corpus(arguments.cache), read_rows(journal)
    for path in corpus.ordered(arguments.seed)[: arguments.sample]:
        if path in done:
            continue
        with tempfile.TemporaryDirectory(dir=corpus.cache / "scratch") as scratch:
            row = compare(corpus, path, Path(scratch))
        with journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        print(path, len(row.same), row.ours, row.theirs, row.refused[:60], row.oracle[:100], flush=True)
    print(table(list(read_rows(journal).values())))


if __name__ == "__main__":
    main()
