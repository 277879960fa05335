"""kGraft, SUSE's out-of-tree predecessor of livepatch (SLE 12), by its own files in sysfs.

Layout: ``/sys/kernel/kgraft/in_progress`` (0 or 1) and for each patch a directory with ``state``, ``refs``,
``revert`` (write-only) and on later kernels ``replace_all``. ``state`` is a table with a heading, one line
for each function; its columns differ between kernels, ``State`` is one of them and is a number.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from livepatch_core.errors import LivepatchError
from livepatch_core.kernel.attributes import read_flag, read_text
from livepatch_core.kernel.roots import Roots
from livepatch_core.providers.found import Found
from livepatch_core.words import Kind, Verdict

# enum kgr_patch_state of its include/linux/kgraft.h
INIT, SLOW, APPLIED, REVERT_SLOW, REVERTED, SKIPPED = range(6)


def directory(roots: Roots) -> Path:
    return roots.sys / "kernel/kgraft"


def present(roots: Roots) -> bool:
    """Whether this kernel has kGraft at all."""
    return os.path.isdir(directory(roots))


def parse_state(text: str) -> dict[str, int] | None:
    """Function -> state; None for a table that is not understood. Pure."""
    heading, *rows = [line.split() for line in text.splitlines() if line.strip()] or [[]]
    if "Function" not in heading or "State" not in heading:
        return None
    name, state = heading.index("Function"), heading.index("State")
    found: dict[str, int] = {}
    for row in rows:
        if len(row) != len(heading) or not row[state].isdecimal():
            return None
        found[row[name]] = int(row[state])
    return found


def judge(in_progress: bool | None, patches: Mapping[str, Mapping[str, int] | None]) -> Found:
    """The verdict. Pure. kGraft shows no time, so a transition is never called stalled here."""
    unread = sorted(name for name, states in patches.items() if states is None)
    if in_progress is None or unread:
        what = f"the state of {', '.join(unread)}" if unread else "/sys/kernel/kgraft/in_progress"
        return Found(Verdict.UNKNOWN, f"{what} could not be read", evidence="kernel")
    states = {name: set((functions or {}).values()) for name, functions in patches.items()}
    if in_progress:
        moving = sorted(name for name, seen in states.items() if seen & {SLOW, REVERT_SLOW}) or ["a patch"]
        back = any(REVERT_SLOW in seen for seen in states.values())
        verdict = Verdict.REVERTING if back else Verdict.PATCHING
        return Found(verdict, f"kGraft is moving tasks for {', '.join(moving)}", evidence="kernel")
    active = tuple(sorted(name for name, seen in states.items() if seen and seen <= {APPLIED, SKIPPED}))
    mixed = sorted(
        name for name, seen in states.items() if APPLIED in seen and not seen <= {APPLIED, SKIPPED}
    )
    if mixed:
        return Found(
            Verdict.UNKNOWN,
            f"{', '.join(mixed)} is in force in some of its functions only",
            evidence="kernel",
        )
    if not active:
        return Found(Verdict.UNPATCHED, "no kGraft patch is in force", evidence="kernel")
    reason = f"{', '.join(active)} is in force in every function that is loaded; no task is left to move"
    return Found(Verdict.PATCHED, reason, patches=active, evidence="kernel")


def status(roots: Roots) -> Found:
    base = directory(roots)
    found = judge(read_flag(base / "in_progress"), {name: _state(base / name) for name in _patches(base)})
    if found.verdict in (Verdict.PATCHING, Verdict.REVERTING):
        return replace(found, details={"stragglers": stragglers(roots)})
    return found


def stragglers(roots: Roots) -> list[int]:
    """Processes that are still in the old world (``/proc/<pid>/kgr_in_progress``)."""
    pids = (int(name) for name in _names(roots.proc) if name.isdecimal())
    return sorted(pid for pid in pids if read_flag(roots.proc / str(pid) / "kgr_in_progress"))


def revert(roots: Roots, patch: str) -> None:
    """Start reverting one patch; the kernel then taints itself as not supported by SUSE.

    Raises LivepatchError (busy, argument, internal): nothing has then changed.
    """
    base = directory(roots)
    if patch not in _patches(base):
        why = f"There is no kGraft patch {patch}"
        raise LivepatchError(Kind.ARGUMENT, f"{why}; nothing was changed.", why=why)
    try:
        (base / patch / "revert").write_text("1")
    except OSError as problem:
        busy = read_flag(base / "in_progress")
        why = f"kGraft did not revert {patch} ({problem.strerror})"
        raise LivepatchError(
            Kind.BUSY if busy else Kind.INTERNAL,
            f"{why}; nothing was changed.",
            remedy="Wait until no task is left to move (kgr status).",
            why=why,
        ) from problem


def _state(patch: Path) -> dict[str, int] | None:
    text = read_text(patch / "state")
    return None if text is None else parse_state(text)


def _patches(base: Path) -> list[str]:
    return sorted(name for name in _names(base) if os.path.isdir(base / name))


def _names(path: Path) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
