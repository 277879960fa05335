"""The modules that build_corpus.py built, each loaded in a guest of the lab, its functions watched, reverted
and removed.

python -m benchmarks.build_corpus_load --results CACHE/corpus/results.jsonl # resumable; prints the table

A module that patches kernel modules has those loaded first. "hit" counts a patch of which at least one new
function ran under a small workload; "clean" means that the kernel log holds no warning, bug or oops.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.build_corpus import RELEASE, Result, read_results
from lab import bare, kernels
from lab.errors import GuestError
from lab.guest import Guest
from lab.machine import Machine
from livepatch_core.build import debian
from livepatch_core.build.objectfile import read_object
from livepatch_core.build.target import module_paths, read_module_file
from livepatch_core.build.verify import modinfo

TRACING = "/sys/kernel/tracing"
UNCLEAN = re.compile(r"WARNING:|BUG:|Oops|cut here|Call Trace|general protection|Skipping invalid")
WORK = """ip link set lo up
find /etc /usr/lib -type f | head -500 | xargs cat > /dev/null 2>&1
dd if=/dev/zero of=/tmp/f bs=64k count=64 2>/dev/null; cat /tmp/f | cat > /dev/null; rm /tmp/f
mkdir -p /tmp/d; for i in 1 2 3 4 5; do echo $i > /tmp/d/$i; mv /tmp/d/$i /tmp/d/x$i; done; rm -r /tmp/d
busybox ping -c 1 127.0.0.1; ip addr; cat /proc/self/status /proc/meminfo /proc/net/dev; uname -a"""


@dataclass
class Loaded:
    """What became of one module in the guest. ``missing``: a module that this guest cannot load first."""

    module: str
    outcome: str  # clean, unclean, refused, stalled, panicked, missing
    hit: bool = False
    detail: str = ""


def needed(files: dict[str, Path], names: list[str]) -> list[Path]:
    """Module files in the order in which they load, by what each says that it depends on."""
    ordered: dict[Path, None] = {}

    def visit(name: str) -> None:
        fields = dict(modinfo(read_object(read_module_file(files[name]))))
        for other in filter(None, fields.get("depends", "").replace("-", "_").split(",")):
            visit(other)
        ordered[files[name]] = None

    for name in names:
        visit(name)
    return list(ordered)


def load(guest: Guest, result: Result, data: bytes, files: dict[str, Path]) -> Loaded:
    name = result.module.partition(".")[0]
    owners = [owner for owner in result.objects if owner != "vmlinux"]
    for path in needed(files, owners):
        guest.put(f"/root/{path.name}", path.read_bytes())
        loaded = f"grep -q '^{path.stem.replace('-', '_')} ' /proc/modules"
        done = guest.exec(f"{loaded} || insmod /root/{path.name}", timeout=60)
        if done.rc:
            return Loaded(result.module, "missing", detail=done.stderr.decode()[:200])
    before = len(guest.dmesg().splitlines())
    guest.put(f"/root/{name}.ko", data)
    if (done := guest.exec(f"insmod /root/{name}.ko", timeout=120)).rc:
        return Loaded(result.module, "refused", detail=done.stderr.decode()[:200] + guest.dmesg()[-400:])
    sysfs = f"/sys/kernel/livepatch/{name}"
    if not _until(guest, f'[ "$(cat {sysfs}/transition)" = 0 ]'):
        return Loaded(result.module, "stalled")
    hit = _watch(guest, name)
    guest.exec(f"echo 0 > {sysfs}/enabled", timeout=30)
    if not _until(guest, f"[ ! -e {sysfs} ]") or guest.exec(f"rmmod {name}", timeout=60).rc:
        return Loaded(result.module, "stalled", hit, "not removed")
    bad = [line for line in guest.dmesg().splitlines()[before:] if UNCLEAN.search(line)]
    return Loaded(result.module, "unclean" if bad else "clean", hit, "\n".join(bad)[:400])


def _until(guest: Guest, condition: str) -> bool:
    end = time.monotonic() + 60
    while guest.exec(condition, timeout=60).rc:
        if time.monotonic() > end:
            return False
        time.sleep(0.1)  # sysfs has no event for the end of a transition
    return True


def _watch(guest: Guest, name: str) -> bool:
    """Whether any function of the module runs under the workload, by the function tracer."""
    start = (
        f"cd {TRACING}; echo ':mod:{name}' > set_ftrace_filter; echo function > current_tracer; echo > trace"
    )
    guest.exec(start, timeout=60)
    guest.exec(WORK, timeout=120)
    seen = guest.exec(f"grep -c '<-' {TRACING}/trace", timeout=60).stdout.decode().strip()
    guest.exec(f"cd {TRACING}; echo nop > current_tracer; echo > set_ftrace_filter", timeout=60)
    return seen not in ("", "0")


def table(rows: list[Loaded]) -> str:
    count = {word: sum(row.outcome == word for row in rows) for word in sorted({row.outcome for row in rows})}
    loadable = [row for row in rows if row.outcome != "missing"]
    clean = sum(row.outcome == "clean" for row in loadable)
    lines = [f"{len(rows)} modules: " + ", ".join(f"{number} {word}" for word, number in count.items())]
    lines.append(
        f"{clean} of {len(loadable)} loadable ones loaded, transitioned, reverted and removed cleanly"
    )
    lines.append(f"in {sum(row.hit for row in rows)} of them a new function was executed")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, required=True)
    arguments = parser.parse_args()
    kernel = kernels.kernel("6.1")
    cache = arguments.results.resolve().parents[1]
    files = module_paths(debian.fetch(RELEASE, cache, print))
    journal = arguments.results.with_name("loaded.jsonl")
    rows = (
        [Loaded(**json.loads(line)) for line in journal.read_text().splitlines()] if journal.exists() else []
    )
    done = {row.module for row in rows}
    todo = [
        r for r in read_results(arguments.results).values() if r.outcome == "built" and r.module not in done
    ]
    while todo:
        with bare.start(kernel, Machine(memory=1024)) as guest:
            guest.exec("mount -t tracefs t /sys/kernel/tracing 2>/dev/null; true", timeout=30)
            for result in todo[:12]:
                try:
                    data = (arguments.results.parent / "modules" / result.module).read_bytes()
                    row = load(guest, result, data, files)
                except GuestError as error:
                    row = Loaded(result.module, "panicked", detail=str(error)[-600:])
                rows.append(row)
                with journal.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(row)) + "\n")
                print(row.module, row.outcome, "hit" if row.hit else "", flush=True)
                if row.outcome in ("panicked", "stalled"):  # the next one needs a fresh kernel
                    break
        todo = [r for r in todo if r.module not in {row.module for row in rows}]
    print(table(rows))


if __name__ == "__main__":
    main()
