"""What preflight judges, read once from the kernel: values only, so that judging stays pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from livepatch_core.host import installed
from livepatch_core.host.record import Record
from livepatch_core.host.situation import read_build_ids, situate
from livepatch_core.kernel import keyring, modules
from livepatch_core.kernel.conflicts import Conflicts, read_conflicts
from livepatch_core.kernel.roots import Roots
from livepatch_core.kernel.running import Kernel
from livepatch_core.kernel.symbols import read_kallsyms
from livepatch_core.modulefile.model import ModuleFile

VMLINUX = "vmlinux"


@dataclass(frozen=True)
class TargetModule:
    """A kernel module that the livepatch changes.

    build_id: of the loaded module, or of the file modprobe would pick. error: why that could not be read.
    """

    name: str
    loaded: bool
    build_id: str | None
    file: Path | None
    error: str = ""


@dataclass(frozen=True)
class Facts:
    """What the kernel says about one livepatch module.

    proven: objects whose functions need no counting: the builder verified their positions in this very build.
    positions: for each other (object, function), how many symbols of that name the object has; an object that
    is not loaded is counted in its file; absent = could not be counted. patched: functions that a livepatch
    holds now, whichever: its own IPMODIFY is no conflict. loaded_build_id: of a module that is loaded under
    the livepatch's own name. kernel_flags: in the vermagic of the kernel's own modules. foreign: patches in
    force that this host did not load, and that are no known level.
    """

    kernel: Kernel
    targets: dict[str, TargetModule]
    proven: frozenset[str]
    positions: dict[tuple[str, str], int]
    patched: frozenset[tuple[str, str]]
    conflicts: Conflicts
    loaded_build_id: str | None
    kernel_flags: str | None
    trusted: bool | None
    record: Record
    foreign: tuple[str, ...] = ()


def gather(
    roots: Roots, kernel: Kernel, module: ModuleFile, record: Record, leaving: frozenset[str] = frozenset()
) -> Facts:
    """Read what preflight needs to know about ``module`` on this kernel; changes nothing.

    leaving: patches that will be out of force before the module is loaded.
    """
    wanted = [(one.name, function.name) for one in module.objects for function in one.functions]
    targets = _find_targets(roots, kernel, module)
    proven = _proven(kernel, module, targets)
    patched = ((one.name, f.name) for patch in kernel.patches for one in patch.objects for f in one.functions)
    left = replace(kernel, patches=tuple(one for one in kernel.patches if one.name not in leaving))
    return Facts(
        kernel=left,
        targets=targets,
        proven=proven,
        positions=_count(roots, kernel, [one for one in wanted if one[0] not in proven]),
        patched=frozenset(patched),
        conflicts=read_conflicts(roots, wanted),
        loaded_build_id=modules.module_build_id(roots, module.name)
        if module.name in kernel.modules
        else None,
        kernel_flags=installed.vermagic_flags(roots, kernel.identity.release),
        trusted=_trusted(roots, module),
        record=record,
        foreign=situate(
            left.patches, record, kernel.identity.boot_id, read_build_ids(roots, left.patches)
        ).foreign,
    )


def _find_targets(roots: Roots, kernel: Kernel, module: ModuleFile) -> dict[str, TargetModule]:
    return {one.name: _target(roots, kernel, one.name) for one in module.objects if one.name != VMLINUX}


def _target(roots: Roots, kernel: Kernel, name: str) -> TargetModule:
    if name in kernel.modules:
        return TargetModule(name, True, modules.module_build_id(roots, name), None)
    found = installed.find(roots, kernel.identity.release, name, [])
    if found is None:
        return TargetModule(name, False, None, None)
    return TargetModule(name, False, found.build_id, found.path, found.error)


def _proven(kernel: Kernel, module: ModuleFile, targets: dict[str, TargetModule]) -> frozenset[str]:
    """Objects whose running build is the one in which the builder verified every position.

    A build-id names one image, and an image has one symbol table: what was counted in it then needs no
    counting now. That matters: /proc/kallsyms takes the kernel longer to print than everything else here
    together (benchmarks/apply.py).
    """
    running = {VMLINUX: kernel.identity.build_id, **{name: one.build_id for name, one in targets.items()}}
    recorded = module.built_for
    return frozenset(
        obj for obj in module.proven if running.get(obj) is not None and running[obj] == recorded[obj]
    )


def _count(roots: Roots, kernel: Kernel, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Each function counted where the kernel will look for it."""
    by_object: dict[str, list[str]] = {}
    for obj, function in wanted:
        by_object.setdefault(obj, []).append(function)
    counts: dict[tuple[str, str], int] = {}
    kallsyms = None
    for obj, functions in by_object.items():
        if obj == VMLINUX or obj in kernel.modules:
            kallsyms = kallsyms or read_kallsyms(roots)
            counts.update({(obj, one): kallsyms.positions(obj, one) for one in functions})
        else:
            found = installed.find(roots, kernel.identity.release, obj, functions)
            counts.update({(obj, one): count for one, count in found.counts.items()} if found else {})
    return counts


def _trusted(roots: Roots, module: ModuleFile) -> bool | None:
    if module.signature is None:
        return False
    return keyring.finds(roots, module.signature.identifier) if module.signature.identifier else None
