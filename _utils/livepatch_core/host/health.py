"""Is the host as well as before? Two samples compared (pure), and what a baseline is kept for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from livepatch_core.host.armed import Armed
from livepatch_core.host.context import Host
from livepatch_core.host.probes import FAULTS_KEPT, Sample, parse_sample, sample
from livepatch_core.host.statefile import MISFITS, read_document, unreadable, write_document
from livepatch_core.kernel.environment import taint_flags
from livepatch_core.words import CheckVerdict

__all__ = ["Finding", "Health", "baseline", "judge", "lacks", "on_their_way", "remember", "sample"]

# D: died before (oops or BUG), W: warned, L: soft lockup, B: bad page, M: machine check
# (Documentation/admin-guide/tainted-kernels.rst). Loading a module sets others; those are no harm.
HARM = frozenset("DWLBM")
# systemd's words for a unit that does its work (for which `systemctl is-active` exits with 0), and for one on
# its way from one state to the other: a restart shows them, and so does what systemd starts again and again.
ACTIVE = frozenset({"active", "reloading", "refreshing"})
ON_ITS_WAY = frozenset({"activating", "deactivating"})


@dataclass(frozen=True)
class Finding:
    """The answer of one probe. evidence: what it rests on, lines."""

    name: str
    verdict: CheckVerdict
    reason: str
    evidence: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        said = {"name": self.name, "verdict": str(self.verdict), "reason": self.reason}
        return {**said, "evidence": list(self.evidence)} if self.evidence else said


@dataclass(frozen=True)
class Health:
    """fail if one probe failed; else inconclusive if one could not be asked; else pass."""

    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> CheckVerdict:
        said = {one.verdict for one in self.findings}
        for word in (CheckVerdict.FAIL, CheckVerdict.INCONCLUSIVE):
            if word in said:
                return word
        return CheckVerdict.PASS

    @property
    def reason(self) -> str:
        """The first finding that decides, as half a sentence."""
        return next((one.reason for one in self.findings if one.verdict is self.verdict), "nothing was asked")

    def document(self) -> dict[str, Any]:
        return {"verdict": str(self.verdict), "findings": [one.document() for one in self.findings]}


def judge(before: Sample, after: Sample, late: Collection[str] = ()) -> Health:
    """Pure. What was ill before the move is not the move's doing: only what got worse fails. late: services
    of which a restart that was met by chance would be over by now."""
    findings = [_boot(before, after), _log(before, after), _taint(before, after)]
    findings += [_service(name, before, after, name in late) for name in after.services]
    findings += [_function(name, before, after) for name in after.functions]
    return Health(tuple(findings))


def on_their_way(sample: Sample) -> tuple[str, ...]:
    """Services that are being started or stopped. Pure."""
    return tuple(name for name, state in sample.services.items() if state in ON_ITS_WAY)


def remember(host: Host, before: Sample, load: Armed | None) -> None:
    """Keep the sample that later ones are compared with. load: what was loaded after it, for the checks
    during its soak. Raises LivepatchError (journal)."""
    of = list(load.load) if load else None
    write_document(host.settings.health_file, {"load": of, "before": before.document()})


def baseline(host: Host, load: Armed | None) -> Sample | None:
    """The sample from before ``load``, whichever is kept if that is None; None when there is none: its
    process died, or the disk was full."""
    path = host.settings.health_file
    document = read_document(path)
    if "before" not in document:
        return None
    try:
        before = parse_sample(document["before"])
    except MISFITS as problem:
        raise unreadable(path, problem) from problem
    return before if load is None or _is_of(document, before, load) else None


def _is_of(document: Mapping[str, Any], before: Sample, load: Armed) -> bool:
    """A version before this one kept only which module was loaded after the sample."""
    if "load" in document:
        return bool(document["load"] == list(load.load))
    return document.get("sha256") == load.sha256 and before.boot_id == load.boot_id


def lacks(before: Sample) -> str:
    """Why no later sample can be judged by this one, "" if they can."""
    kernel = (_boot(before, before), _log(before, before), _taint(before, before))
    return next((one.reason for one in kernel if one.verdict is CheckVerdict.INCONCLUSIVE), "")


def _boot(before: Sample, after: Sample) -> Finding:
    if before.boot_id is None or after.boot_id is None:
        return Finding("boot", CheckVerdict.INCONCLUSIVE, "the boot id could not be read")
    if before.boot_id != after.boot_id:
        return Finding("boot", CheckVerdict.FAIL, "the host was restarted meanwhile")
    return Finding("boot", CheckVerdict.PASS, "the host has not been restarted")


def _log(before: Sample, after: Sample) -> Finding:
    if before.last is None or after.last is None:
        return Finding("kernel-log", CheckVerdict.INCONCLUSIVE, "the kernel's log could not be read")
    new = [line for number, line in after.faults if number > before.last]
    if new:
        reason = f"the kernel has reported {len(new)} new fault(s), first: {new[0]}"
        return Finding("kernel-log", CheckVerdict.FAIL, reason, tuple(new[:FAULTS_KEPT]))
    return Finding("kernel-log", CheckVerdict.PASS, "the kernel has reported no new fault")


def _taint(before: Sample, after: Sample) -> Finding:
    if before.taint is None or after.taint is None:
        return Finding("taint", CheckVerdict.INCONCLUSIVE, "the kernel's taint could not be read")
    new = HARM & (set(taint_flags(after.taint)) - set(taint_flags(before.taint)))
    if new:
        return Finding("taint", CheckVerdict.FAIL, f"the kernel got taint {', '.join(sorted(new))}")
    return Finding("taint", CheckVerdict.PASS, "the kernel got no taint that tells of harm")


def _service(name: str, before: Sample, after: Sample, late: bool) -> Finding:
    now, then = after.services.get(name), before.services.get(name)
    asked = f"service {name}"
    if now is None:
        return Finding(asked, CheckVerdict.INCONCLUSIVE, f"{name} could not be asked for")
    if now in ACTIVE:
        return Finding(asked, CheckVerdict.PASS, f"{name} is {now}")
    if now in ON_ITS_WAY and not late:
        return Finding(asked, CheckVerdict.INCONCLUSIVE, f"{name} is {now}")
    if then in ACTIVE:
        return Finding(asked, CheckVerdict.FAIL, f"{name} was {then} and is {now} now")
    return Finding(asked, CheckVerdict.INCONCLUSIVE, f"{name} is {now}, and was {then} before the move")


def _function(name: str, before: Sample, after: Sample) -> Finding:
    good, answer = after.functions[name]
    if good is None:
        return Finding(name, CheckVerdict.INCONCLUSIVE, f"{name} could not be asked: {answer}")
    if good:
        return Finding(name, CheckVerdict.PASS, f"{name} answered as demanded")
    was_good, then = before.functions.get(name, (None, "it was not asked"))
    if was_good:
        return Finding(name, CheckVerdict.FAIL, f"{name} answered {answer}", (answer,))
    said = f"{name} answered {answer}, and before the move: {then}"
    return Finding(name, CheckVerdict.INCONCLUSIVE, said, (answer,))
