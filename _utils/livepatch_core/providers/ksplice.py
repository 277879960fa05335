"""Oracle Ksplice, by its clients: Uptrack (``uptrack-*``, online and offline) and the Enhanced Client
(``ksplice``). What they print has no machine-readable form: only names of CVEs, identifiers in brackets and
the effective version are taken from it, and what the client says is all there is (evidence ``client``).

The version tells nothing of what is in force: it is printed where no update is too, and as the package has it
(3.8.13-55.el6uek, Ubuntu's 5.15.0-89.99), not as ``uname -r``.
"""

from __future__ import annotations

import re

from livepatch_core.host.programs import Run, Said
from livepatch_core.kernel.environment import other_managers
from livepatch_core.kernel.roots import Roots
from livepatch_core.providers.found import Found, cves_in
from livepatch_core.words import Verdict

UPTRACK = ("uptrack-uname", "-r")
SHOW = {"uptrack": ("uptrack-show",), "enhanced": ("ksplice", "kernel", "show")}
APPLY = {"uptrack": ("uptrack-upgrade", "-y"), "enhanced": ("ksplice", "-y", "kernel", "upgrade")}
REVERT = {
    "uptrack": ("uptrack-remove", "--all", "-y"),
    "enhanced": ("ksplice", "-y", "kernel", "remove", "--all"),
}
_IDENTIFIER = re.compile(r"^\[([0-9a-z]{6,12})\]", re.MULTILINE)
_EFFECTIVE = re.compile(r"^Effective kernel version(?: is)?:? (\S+)", re.MULTILINE | re.IGNORECASE)


def kernel_shows(roots: Roots) -> bool:
    """Whether an update's module, or Ksplice's own directory, is in the kernel."""
    return "ksplice" in other_managers(roots)


def identifiers(shown: str) -> tuple[str, ...]:
    """The updates in a listing. Pure."""
    return tuple(dict.fromkeys(_IDENTIFIER.findall(shown)))


def effective_in(shown: str) -> str | None:
    """The effective version that a listing names. Pure."""
    found = _EFFECTIVE.search(shown)
    return found.group(1) if found else None


def judge(shown: Said, uname: Said | None, in_kernel: bool) -> Found:
    """The verdict. Pure. uname: what uptrack-uname said, None where there is none. in_kernel: the kernel
    shows a trace of Ksplice, which must agree with the client."""
    if shown.status != 0:
        return Found(Verdict.UNKNOWN, f"the Ksplice client failed: {shown.complaint}")
    effective = uname.out.strip() if uname and uname.status == 0 else effective_in(shown.out)
    updates = identifiers(shown.out)
    if not updates and in_kernel:
        reason = "the kernel has Ksplice updates that the client does not list"
        return Found(Verdict.UNKNOWN, reason, effective=effective)
    if not updates:
        return Found(Verdict.UNPATCHED, "the client lists no update", effective=effective)
    return Found(
        Verdict.PATCHED,
        f"the client says that {len(updates)} updates are in force",
        effective=effective,
        fixes=cves_in(shown.out),
        patches=updates,
        doubtful="" if in_kernel else "the kernel shows no trace of what the client says is in force",
    )


def client_of(run: Run, seconds: float) -> tuple[str, Said] | None:
    """Which client is installed, and what it shows; None where there is none."""
    for client, command in SHOW.items():
        said = run(command, seconds)
        if said is not None:
            return client, said
    return None
