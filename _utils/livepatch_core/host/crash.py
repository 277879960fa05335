"""What became of a boot that ended with a level armed: did the kernel crash, or was there no trace?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from livepatch_core.host import armed as armed_record
from livepatch_core.host import quarantine
from livepatch_core.host.armed import Armed
from livepatch_core.host.context import Host
from livepatch_core.host.quarantine import Ward, Warded
from livepatch_core.kernel.attributes import read_text

# Where a crashing kernel leaves its last words: pstore itself; where systemd-pstore.service moves them to
# (systemd-pstore(8)); where kdump-tools and kexec-tools put vmcores and their dmesg.
ARCHIVES = (Path("/var/lib/systemd/pstore"), Path("/var/crash"))
LINES = 12
SLACK = 120.0  # seconds: the time stamps of crash logs and of this host need not agree to the second
TELLING = ("Kernel panic", "BUG:", "Oops", "RIP:", "Call Trace", "general protection", "panic")
READ_MAX = 1 << 20


def saves_dump(host: Host) -> bool:
    """Whether this is kdump's capture kernel (admin-guide/kdump/kdump.rst), which may have booted the host's
    own root: the evidence is not written yet, and what this kernel goes down with is a reset on purpose."""
    return (host.roots.proc / "vmcore").exists()


def breaker(host: Host, boot_id: str) -> Warded | None:
    """Ward off what was armed in another boot; None when nothing was. Disarms only once that is durable.

    Where nothing disarms at an orderly shutdown only a crash within the soak counts.
    """
    found = armed_record.read_armed(host)
    if found is None or found.boot_id == boot_id:
        return None
    told_apart = tells_a_shutdown(host)
    until = host.now() if told_apart else found.since + host.settings.soak + SLACK
    evidence = find_evidence(host, found.since, until, ARCHIVES)
    warded = None
    if evidence or told_apart:
        warded = judge(found, evidence, host.timestamp())
        quarantine.add(host, warded)
    armed_record.disarm(host)
    return warded


def tells_a_shutdown(host: Host) -> bool:
    """Whether an orderly shutdown disarms, and each boot looks. The file of a boot unit from before
    livepatch-disarm.service had an ExecStop of its own: a host may have it still, beside this library."""
    unit = host.settings.boot_unit
    return unit.exists() and (host.settings.disarm_unit.exists() or "ExecStop=" in (read_text(unit) or ""))


def judge(armed: Armed, evidence: tuple[str, ...], at: str) -> Warded:
    """Pure: quarantined with evidence of a crash, held as inconclusive without."""
    if evidence:
        ward, reason = Ward.QUARANTINED, "the kernel crashed before the level had proved healthy"
    else:
        ward = Ward.INCONCLUSIVE
        reason = "the host went down before the level had proved healthy, and no crash was recorded"
    return Warded(armed.sha256, armed.level, armed.kernel, ward, reason, at, evidence)


def find_evidence(host: Host, since: float, until: float, archives: Iterable[Path]) -> tuple[str, ...]:
    """Telling lines of whatever a crashing kernel left between these (seconds since the epoch)."""
    for directory in (host.roots.sys / "fs/pstore", *archives):
        for path in sorted(directory.rglob("*dmesg*")) if directory.is_dir() else ():
            try:
                fresh = path.is_file() and since - 1 <= path.stat().st_mtime <= until
                lines = telling(path.read_bytes()[:READ_MAX]) if fresh else ()
            except OSError:
                continue  # systemd-pstore moves them at the same time: the archive has it then
            if lines:
                return (str(path), *lines)
    return ()


def telling(data: bytes) -> tuple[str, ...]:
    """The lines of a kernel log that say that it crashed, the last of them."""
    lines = data.decode("ascii", "backslashreplace").splitlines()
    return tuple(line for line in lines if any(word in line for word in TELLING))[-LINES:]
