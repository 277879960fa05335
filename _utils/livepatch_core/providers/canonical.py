"""Canonical Livepatch, by ``canonical-livepatch status --format json``.

Its patches are ordinary livepatch modules: what is in force stands in /sys/kernel/livepatch as well, and is
shown as foreign patches there. It cannot revert: only a boot takes a patch out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from livepatch_core.host.programs import Said
from livepatch_core.providers.found import Found
from livepatch_core.words import Verdict

# How the modules that its client loads are named: lkp_Ubuntu_<kernel>_<flavour>_<version>, as Canonical's
# own security notices say (module_name_regex of an LSN in Ubuntu's OSV data), and as hosts show them
# (lkp_Ubuntu_5_4_0_26_30_generic_69). Not known: whether every client's are, past and to come; others count
# as somebody else's. The kernel does not say who made a module: whoever wants to may take such a name.
MODULES = "lkp_Ubuntu_"

STATUS = ("canonical-livepatch", "status", "--format", "json")
APPLY = ("canonical-livepatch", "refresh")

# Supported -> why a reboot is owed, whatever is in force meanwhile.
_ENDS = {
    "kernel-upgrade-required": "this kernel has a vulnerability that cannot be patched live",
    "kernel-end-of-life": "no more live patches are made for this kernel",
}
_NOT_COVERED = ("unsupported", *_ENDS)
# State -> verdict and sentence; the words are those of the vendor's server documentation.
_STATES = {
    "applied": (Verdict.PATCHED, "all applicable patches are in force"),
    "applied-with-bug": (Verdict.PATCHED, "patches are in force, and the kernel has reported a bug since"),
    "applying": (Verdict.PATCHING, "patches are being applied"),
    "nothing-to-apply": (Verdict.UNPATCHED, "there is nothing to apply"),
    "unapplied": (Verdict.UNPATCHED, "a patch is there and is not applied yet"),
    "apply-failed": (Verdict.UNPATCHED, "a patch could not be applied"),
    "needs-check": (Verdict.UNKNOWN, "the client has not asked its server yet"),
    "check-failed": (Verdict.UNKNOWN, "the client could not ask its server"),
    "kernel-upgrade-required": (Verdict.UNCOVERED, _ENDS["kernel-upgrade-required"]),
}


def judge(said: Said, release: str) -> Found:
    """The verdict on the running kernel. Pure."""
    if said.status != 0:
        return Found(Verdict.UNKNOWN, f"canonical-livepatch failed: {said.complaint}")
    try:
        entry = _running(json.loads(said.out), release)
    except (ValueError, RecursionError):
        return Found(Verdict.UNKNOWN, "canonical-livepatch printed no JSON")
    if entry is None:
        return Found(Verdict.UNKNOWN, f"canonical-livepatch says nothing about the running kernel {release}")
    patch = entry.get("Livepatch")
    patch = patch if isinstance(patch, Mapping) else {}
    state, supported = str(patch.get("State") or "").lower(), str(entry.get("Supported") or "").lower()
    verdict, reason = _STATES.get(state, (Verdict.UNKNOWN, f"the client says {state or 'nothing'!r}"))
    owed = _ENDS.get(supported) or _ENDS.get(state, "")
    if supported in _NOT_COVERED and (verdict is Verdict.UNPATCHED or not state):
        verdict, reason = Verdict.UNCOVERED, owed or f"this kernel is not covered ({supported})"
    elif owed and owed != reason:
        reason = f"{reason}; {owed}"
    version = str(patch.get("Version") or "")
    return Found(
        verdict,
        reason,
        fixes=_fixes(patch.get("Fixes")) if verdict is Verdict.PATCHED else (),
        patches=(version,) if version and verdict is Verdict.PATCHED else (),
        doubtful="the kernel has reported a bug since" if state == "applied-with-bug" else "",
        reboot=owed,
        details={"state": state, "supported": supported, "check": str(patch.get("CheckState") or "")},
    )


def up_to_date(found: Found) -> bool:
    """Whether its server was asked, and has nothing for a kernel that it covers. Pure."""
    said = (found.details.get("state"), found.details.get("check"))
    return found.verdict is Verdict.UNPATCHED and said == ("nothing-to-apply", "checked")


def _running(document: Any, release: str) -> Mapping[str, Any] | None:
    """The entry of the running kernel: the one that says so, else the only one, else the one of that name
    (5.15.0-100.110-generic is the package version of the release 5.15.0-100-generic)."""
    listed = document.get("Status") if isinstance(document, Mapping) else None
    entries = [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
    for chosen in (
        [one for one in entries if one.get("Running") is True],
        entries if len(entries) == 1 and "Running" not in entries[0] else [],
        [one for one in entries if "Running" not in one and _same(str(one.get("Kernel")), release)],
    ):
        if len(chosen) == 1:
            return chosen[0]
    return None


def _same(kernel: str, release: str) -> bool:
    version, _, flavour = kernel.rpartition("-")
    return f"{version.rpartition('.')[0]}-{flavour}" == release


def _fixes(value: Any) -> tuple[str, ...]:
    """Old clients have a text here, which tells no fix apart."""
    entries = [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
    return tuple(sorted(str(one.get("Name")).upper() for one in entries if one.get("Patched") is True))
