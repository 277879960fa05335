"""Loading a live patch: this library against ``kpatch load``, what each takes beyond what the kernel needs.

    python -m benchmarks.apply [--kernel ROLE] [--pairs N]

In one guest the same module is loaded by both in turn, once with nothing in the way and once with a task
asleep in a patched function, which makes the transition take about a second. The library runs as in a minion:
in a process that is there already, with a full preflight every time. benchmarks/README.md says what the
figures are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import kpatch_package
from benchmarks.spread import Spread, difference, spread, table
from lab import bare, kbuild, kernels
from lab.guest import Guest
from lab.kernels import Kernel
from lab.machine import Machine

HERE = Path(__file__).resolve().parent
LIBRARY = HERE.parent / "_utils"
CATALOG = "/srv/livepatch"
LEAST_PAIRS = 10
WANTED = 0.6
# A pair takes 1 to 5 s, the imports and the baseline 30 s; a machine under load may be ten times as slow.
SECONDS_FOR_A_CASE = 900.0
IDENTIFY = """
import json, sys
sys.path[:0] = ["/root/lib", "/opt/salt/lib"]
from livepatch_core.kernel import identity, modules
from livepatch_core.kernel.roots import RUNNING
print(json.dumps([identity.read_identity(RUNNING).build_id, modules.module_build_id(RUNNING, "lab_hold")]))
"""


@dataclass(frozen=True)
class Order:
    """What the guest is to do; ``held``: with a task asleep in a patched function."""

    name: str
    module: str
    sha256: str
    build_id: str
    catalog: str
    pairs: int
    held: bool


@dataclass(frozen=True)
class Baseline:
    """Measured apart from the pairs: the system calls beyond the transition, and the fork of a job."""

    init_module: Spread
    finit_module: Spread
    fork: Spread

    @property
    def insertion(self) -> float:
        """The two calls differ by less than they vary, so both tools are charged the same."""
        return spread([*self.init_module.seconds, *self.finit_module.seconds]).median

    def rows(self) -> Iterator[tuple[str, Spread]]:
        yield "insertion by init_module", self.init_module
        yield "insertion by finit_module", self.finit_module
        yield "a minion's fork for each job", self.fork


@dataclass(frozen=True)
class Tool:
    """Seconds of one tool, run by run: all, the kernel's part, and the rest."""

    wall: Spread
    kernel: Spread
    overhead: Spread


@dataclass(frozen=True)
class Case:
    """One situation: the two tools, and the ratio of their median overheads."""

    title: str
    library: Tool
    kpatch: Tool

    @property
    def ratio(self) -> float:
        return self.library.overhead.median / self.kpatch.overhead.median


def prepare(guest: Guest, kernel: Kernel) -> Order:
    """Library, kpatch, the module to be patched, and a catalog with one level, in the guest."""
    guest.put_tree(LIBRARY, "/root/lib")
    kpatch_package.install(guest)
    sources = {path.stem: path.read_text() for path in (HERE / "modules").glob("*.c")}
    hold = kbuild.build_module(kernel, {"lab_hold.c": sources["lab_hold"]})
    guest.put("/root/lab_hold.ko", hold.read_bytes())
    guest.exec(["insmod", "/root/lab_hold.ko"], check=True)
    kernel_build, target_build = json.loads(guest.python(IDENTIFY).stdout)
    macros = {"RELEASE": kernel.release, "BUILD_ID": kernel_build, "TARGET_BUILD_ID": target_build}
    # Without debugging information, as modules are published.
    flags = " ".join(["-g0", *(f"-DBENCH_{name}={value}" for name, value in macros.items())])
    image = kbuild.build_module(kernel, {"lp_bench.c": sources["lp_bench"]}, flags).read_bytes()
    order = Order(
        "lp_bench",
        f"{kernel.release}/lp_bench.ko",
        hashlib.sha256(image).hexdigest(),
        kernel_build,
        CATALOG,
        0,
        False,
    )
    guest.put(f"{CATALOG}/{order.module}", image)
    guest.put(f"{CATALOG}/{kernel.release}/catalog.yaml", catalog(kernel, order))
    return order


def catalog(kernel: Kernel, order: Order) -> str:
    """JSON is YAML."""
    file = Path(order.module).name
    level = {"status": "released", "module": file, "name": order.name, "sha256": order.sha256}
    builds = {order.build_id: {"levels": {1: level}}}
    return json.dumps({"schema": 1, "release": kernel.release, "builds": builds})


def measure(guest: Guest, order: Order) -> dict[str, Any]:
    """What apply_in_guest.py prints."""
    source = (HERE / "apply_in_guest.py").read_text()
    printed = guest.python(source, json.dumps(asdict(order)), timeout=SECONDS_FOR_A_CASE).stdout
    found: dict[str, Any] = json.loads(printed)
    return found


def case(title: str, pairs: list[dict[str, dict[str, float]]], baseline: Baseline) -> Case:
    runs = {name: [pair[name] for pair in pairs] for name in ("library", "kpatch")}
    return Case(title, _tool(runs["library"], baseline.insertion), _tool(runs["kpatch"], baseline.insertion))


def _tool(runs: list[dict[str, float]], insertion: float) -> Tool:
    """The kernel's part is the insertion, measured by itself, and the transition of this very run."""
    wall = spread(run["wall"] for run in runs)
    kernel = spread(insertion + run["transition"] for run in runs)
    return Tool(wall, kernel, difference(wall, kernel))


def report(found: Case) -> str:
    rows = [
        (f"{name}: {part}", getattr(values, part))
        for part in ("wall", "kernel", "overhead")
        for name, values in (("this library", found.library), ("kpatch load", found.kpatch))
    ]
    verdict = "as wanted" if found.ratio <= WANTED else "MORE THAN WANTED"
    count = len(found.library.wall.seconds)
    return (
        f"{table(f'{found.title}, {count} pairs, ms', rows)}\n"
        f"overhead, median: {found.ratio:.2f} of kpatch's (wanted: at most {WANTED}): {verdict}\n"
    )


def run(kernel: Kernel, machine: Machine, pairs: int) -> list[Case]:
    """Both cases in one guest; prints each when it is done."""
    with bare.start(kernel, machine, "benchmark") as guest:
        order = replace(prepare(guest, kernel), pairs=pairs)
        idle = measure(guest, order)
        baseline = Baseline(*(spread(idle[name]) for name in ("init_module", "finit_module", "fork")))
        clock = "guest time counts instructions" if machine.icount else "guest time is this machine's"
        print(f"kernel {kernel.release}, {machine.smp} CPU, emulated, {clock}")
        print(table("apart, ms", list(baseline.rows())) + "\n")
        cases = [case("nothing in the way", idle["pairs"], baseline)]
        print(report(cases[0]), flush=True)
        held = measure(guest, replace(order, held=True))
        cases.append(case("a task asleep in a patched function", held["pairs"], baseline))
        print(report(cases[1]), flush=True)
    return cases


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--kernel", default=kernels.Role.STABLE.value, help="the kernel's role in the lab")
    parser.add_argument("--pairs", type=int, default=12, help=f"in each case, at least {LEAST_PAIRS}")
    parser.add_argument(
        "--icount",
        action="store_true",
        help="guest time counts instructions, whatever this machine's load is",
    )
    arguments = parser.parse_args()
    machine = Machine(icount=arguments.icount)
    cases = run(kernels.kernel(arguments.kernel), machine, max(arguments.pairs, LEAST_PAIRS))
    return 0 if all(one.ratio <= WANTED for one in cases) else 1


if __name__ == "__main__":
    sys.exit(main())
