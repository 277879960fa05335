"""TuxCare KernelCare, by ``kcarectl`` and what its kernel module shows in procfs.

``kcarectl --status`` ends with 0: newest patch set, 1: none applied, 2: a newer one is there, 3: kernel not
supported (vendor's documentation; not to be taken for ``--check``, whose 0 means that an update is there).
"""

from __future__ import annotations

import re

from livepatch_core.host.programs import Said
from livepatch_core.providers.found import Found, cves_in
from livepatch_core.words import Verdict

STATUS, INFO, PATCHES = ("kcarectl", "--status"), ("kcarectl", "--info"), ("kcarectl", "--patch-info")
UNAME = ("kcarectl", "--uname")
APPLY, REVERT = ("kcarectl", "--update"), ("kcarectl", "--unload")
_APPLIED = "patch is applied"
_FIELD = re.compile(r"^(kpatch-[a-z-]+): *(.*)$", re.MULTILINE)


def fields(text: str) -> dict[str, str]:
    """``kpatch-state`` and the others that ``kcarectl --info`` prints; the first of each. Pure."""
    found: dict[str, str] = {}
    for key, value in _FIELD.findall(text):
        found.setdefault(key, value.strip())
    return found


def names(text: str) -> tuple[str, ...]:
    """The patches that ``kcarectl --patch-info`` lists. Pure."""
    return tuple(dict.fromkeys(value.strip() for key, value in _FIELD.findall(text) if key == "kpatch-name"))


def judge(status: Said, info: Said, patches: Said | None, uname: str | None, in_kernel: bool) -> Found:
    """The verdict; status and info must agree. Pure. in_kernel: its kernel module is loaded."""
    applied = fields(info.out).get("kpatch-state") == _APPLIED
    effective = uname or None
    if status.status == 3:
        return Found(Verdict.UNSUPPORTED, "KernelCare does not support this kernel", effective=effective)
    if status.status not in (0, 1, 2):
        return Found(Verdict.UNKNOWN, f"kcarectl --status failed: {status.complaint}", effective=effective)
    if applied != (status.status != 1):
        word = "applied" if applied else "not applied"
        said = f"kcarectl --status ended with {status.status}, --info says {word}"
        return Found(Verdict.UNKNOWN, f"KernelCare contradicts itself: {said}", effective=effective)
    if not applied:
        return Found(Verdict.UNPATCHED, "KernelCare has applied no patch set", effective=effective)
    newer = "; a newer patch set is there" if status.status == 2 else ""
    listed = patches.out if patches and patches.status == 0 else ""
    return Found(
        Verdict.PATCHED,
        f"KernelCare says that its patch set is applied{newer}",
        effective=effective,
        fixes=cves_in(listed),
        patches=names(listed),
        doubtful="" if in_kernel else "its kernel module is not loaded",
        details={"newer": bool(newer)},
    )
