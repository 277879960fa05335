"""Where each targeted host stands, and why. Pure: every host is in exactly one group."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from livepatch_core.rollout.model import Grant, Group, HostFacts, Method, Options
from livepatch_core.words import Flag, Verdict


@dataclass(frozen=True)
class Question:
    """What all hosts are judged by. version: of the master's own extension. testing: kernel builds whose
    level is in testing. closed: why no window opens while the rollout may run; empty where one does.
    arrivals: by release and kernel build, the levels of hosts that are started with that kernel."""

    options: Options
    grants: Mapping[str, Grant]
    blocked: Mapping[str, str]
    testing: Collection[str]
    version: str
    closed: str = ""
    arrivals: Mapping[str, Mapping[str, Grant]] = field(default_factory=dict)

    def wanted(self, build_id: str) -> int:
        """The level that hosts of this kernel build are to have."""
        return self.grants[build_id].level if build_id in self.grants else self.options.level


def place(host: HostFacts, question: Question) -> tuple[Group, str, Method]:
    """The first that applies, from what forbids even to ask the host to what only delays it; and how it moves
    if it does."""
    method, fallback = question.options.method, question.options.fallback
    if method is not Method.LIVEPATCH:
        return (*(_out_of_reach(host, True) or _restarted(host, question, method)), method)
    group, reason = (
        _out_of_reach(host) or _unfit(host) or _without_level(host, question) or _waiting(host, question)
    )
    if fallback is None or not _is_for_restart(host, group, question):
        return group, reason, method
    other, why = _restarted(host, question, fallback)
    if other in (Group.ELIGIBLE, Group.SKEWED, Group.DEFERRED):
        return other, f"{reason}; {why}", fallback
    return group, f"{reason}, and {why}", method


def _is_for_restart(host: HostFacts, group: Group, question: Question) -> bool:
    """Whether no level can be loaded there. One that is only in testing can; a block is somebody's word."""
    uncovered = group is Group.UNCOVERED and host.build_id not in question.grants
    return uncovered or group in (Group.UNSUPPORTED, Group.OWES_REBOOT)


def _restarted(host: HostFacts, question: Question, method: Method) -> tuple[Group, str]:
    """Where a host stands that would be started with another kernel."""
    options, there = question.options, question.arrivals.get(host.kernel or "", {})
    if host.verdict in (Verdict.PATCHING, Verdict.STALLED, Verdict.REVERTING):
        return Group.BUSY, f"a transition is not over there (verdict {host.verdict})"
    if host.kernel is None:
        return Group.UNSUPPORTED, f"it has no kernel ({options.kernel}) that it could be started with"
    if host.kernel == host.release and Flag.REBOOT_OWED not in host.flags:
        return Group.ALREADY, f"it runs kernel {host.kernel} already"
    if not there and not options.bare:
        return Group.UNCOVERED, f"the catalog has no level for kernel {host.kernel}: see without_level"
    levels = " or ".join(str(one) for one in sorted({grant.level for grant in there.values()} or {0}))
    reason = f"by {method} from kernel {host.release} to {host.kernel}, to level {levels} there"
    return _delayed(host, question) or (Group.ELIGIBLE, reason)


def _out_of_reach(host: HostFacts, restarts: bool = False) -> tuple[Group, str] | None:
    """restarts: what is in force need not be known, since all of it ends with this kernel: another live-patch
    system's, too."""
    if host.rollout:
        return Group.ELSEWHERE, f"rollout {host.rollout} holds it until that ends"
    if not host.seen:
        return Group.UNKNOWN, "its key is accepted, but it does not answer and nothing is known of it"
    if host.frozen:
        return Group.FROZEN, host.frozen
    if not host.online:
        return Group.OFFLINE, f"it does not answer now; {_last_known(host)}"
    if host.version is None:
        return (
            Group.SKEWED,
            "it answers, but does not say its extension's version: not synced there, or too old",
        )
    unknown = host.verdict is None or (host.verdict == Verdict.UNKNOWN and not restarts)
    if host.build_id is None or host.level is None or unknown:
        return Group.UNKNOWN, f"it answers, but its {_unread(host)} could not be read"
    return None


def _unfit(host: HostFacts) -> tuple[Group, str] | None:
    if host.verdict == Verdict.UNSUPPORTED:
        return Group.UNSUPPORTED, f"its kernel ({host.release}) cannot be live-patched"
    if Flag.REBOOT_OWED in host.flags:
        return Group.OWES_REBOOT, "a patch was forced there: it takes no other until it has booted"
    if host.verdict in (Verdict.PATCHING, Verdict.STALLED, Verdict.REVERTING):
        return Group.BUSY, f"a transition is not over there (verdict {host.verdict})"
    return None


def _without_level(host: HostFacts, question: Question) -> tuple[Group, str] | None:
    build_id = host.build_id or ""
    wanted = question.wanted(build_id)
    if host.level == wanted and host.approved in (None, wanted):
        return Group.ALREADY, f"it is at level {wanted}"
    if build_id in question.blocked:
        return (
            Group.BLOCKED,
            f"level {wanted} is blocked for kernel build {build_id}: {question.blocked[build_id]}",
        )
    if build_id not in question.grants:
        return (
            Group.UNCOVERED,
            f"the catalog has no level {wanted} for kernel build {build_id} ({host.release})",
        )
    if build_id in question.testing and not question.options.allow_testing:
        return Group.UNCOVERED, f"level {wanted} is in testing for kernel build {build_id}: see allow_testing"
    if wanted in host.quarantined:
        return Group.QUARANTINED, f"level {wanted} failed there, or may have: see livepatch.release"
    return None


def _delayed(host: HostFacts, question: Question) -> tuple[Group, str] | None:
    accepted = question.options.accept_versions
    if host.version != question.version and host.version not in accepted:
        reason = f"its extension has version {host.version}, the master's is {question.version}"
        return Group.SKEWED, f"{reason}: see accept_versions"
    if question.closed:
        return Group.DEFERRED, question.closed
    return None


def _waiting(host: HostFacts, question: Question) -> tuple[Group, str]:
    delayed = _delayed(host, question)
    if delayed is not None:
        return delayed
    wanted = question.wanted(host.build_id or "")
    if host.level == wanted:  # its own next look would move it, outside of all waves
        return Group.ELIGIBLE, f"it is at level {wanted}, and approved for {host.approved}"
    if host.level is not None and host.level > wanted:
        return Group.ELIGIBLE, f"from level {host.level} down to {wanted}: a planned downgrade"
    return Group.ELIGIBLE, f"from level {host.level} to {wanted}"


def _last_known(host: HostFacts) -> str:
    if host.build_id is None or host.level is None:
        return "what it runs is not known"
    return f"last known: level {host.level} on {host.release or host.build_id}"


def _unread(host: HostFacts) -> str:
    if host.build_id is None:
        return "kernel build"
    return "level" if host.level is None else "state"
