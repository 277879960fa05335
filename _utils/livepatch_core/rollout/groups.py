"""Where each targeted host stands, and why. Pure: every host is in exactly one group."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from livepatch_core.rollout.model import Grant, Group, HostFacts, Options
from livepatch_core.words import Flag, Verdict


@dataclass(frozen=True)
class Question:
    """What all hosts are judged by. version: of the master's own extension. testing: kernel builds whose
    level is in testing. closed: why no window opens while the rollout may run; empty where one does."""

    options: Options
    grants: Mapping[str, Grant]
    blocked: Mapping[str, str]
    testing: Collection[str]
    version: str
    closed: str = ""

    def wanted(self, build_id: str) -> int:
        """The level that hosts of this kernel build are to have."""
        return self.grants[build_id].level if build_id in self.grants else self.options.level


def place(host: HostFacts, question: Question) -> tuple[Group, str]:
    """The first that applies, from what forbids even to ask the host to what only delays it."""
    return _out_of_reach(host) or _unfit(host) or _without_level(host, question) or _waiting(host, question)


def _out_of_reach(host: HostFacts) -> tuple[Group, str] | None:
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
    if host.build_id is None or host.level is None or host.verdict in (None, Verdict.UNKNOWN):
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
    if host.level == wanted:
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
        return Group.QUARANTINED, f"level {wanted} is quarantined there: it failed on this very host"
    return None


def _waiting(host: HostFacts, question: Question) -> tuple[Group, str]:
    accepted = question.options.accept_versions
    if host.version != question.version and host.version not in accepted:
        reason = f"its extension has version {host.version}, the master's is {question.version}"
        return Group.SKEWED, f"{reason}: see accept_versions"
    if question.closed:
        return Group.DEFERRED, question.closed
    wanted = question.wanted(host.build_id or "")
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
