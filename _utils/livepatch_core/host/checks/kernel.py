"""Is this kernel, as it is now, one that a live patch may be loaded into?"""

from __future__ import annotations

from livepatch_core.host.checks.check import Check, Question
from livepatch_core.host.facts import Facts
from livepatch_core.kernel.patches import PatchState, in_transition
from livepatch_core.words import Kind

ROOT = Question("root", Kind.PRIVILEGE)
SUPPORT = Question("support", Kind.UNSUPPORTED)
MANAGERS = Question("managers", Kind.CONFLICT)
FORCED = Question("forced", Kind.REBOOT_OWED)
TRANSITION = Question("transition-free", Kind.BUSY)
FTRACE = Question("ftrace", Kind.FTRACE)
STACKS = Question("reliable-stacks", Kind.UNSUPPORTED)
PANIC = Question("panic-timeout", Kind.HEALTH)


def examine(facts: Facts) -> list[Check]:
    answers = (_root, _support, _managers, _forced, _transition_free, _ftrace, _stacks, _panic)
    return [answer(facts) for answer in answers]


def _root(facts: Facts) -> Check:
    if facts.kernel.root:
        return ROOT.passed("runs as root")
    return ROOT.failed("only root may load a kernel module", "Run the minion or salt-call as root.")


def _support(facts: Facts) -> Check:
    environment = facts.kernel.environment
    if environment.livepatch is None:
        return SUPPORT.undecided("/sys/kernel could not be read", "Mount sysfs.")
    if not environment.livepatch:
        return SUPPORT.failed(
            "this kernel was built without livepatch support (there is no /sys/kernel/livepatch)",
            "Boot a kernel built with CONFIG_LIVEPATCH=y.",
        )
    if environment.modules_disabled is None:
        return SUPPORT.unread("kernel.modules_disabled could not be read; the kernel will judge")
    if environment.modules_disabled:
        return SUPPORT.failed("kernel.modules_disabled is 1: no module can be loaded", "Reboot this host.")
    return SUPPORT.passed("the kernel supports livepatch")


def _managers(facts: Facts) -> Check:
    others = facts.kernel.environment.other_managers
    if others:
        return MANAGERS.failed(
            f"another live-patch manager is at work: {', '.join(others)}",
            "Let one system patch this host: stop the other, or take the host out of this one.",
        )
    return MANAGERS.passed("no other live-patch manager was found")


def _forced(facts: Facts) -> Check:
    forced = facts.record.forced_in(facts.kernel.identity.boot_id)
    if forced:
        return FORCED.failed(
            f"patch {forced[0].patch} was forced in this boot ({forced[0].reason}): no more live patches",
            "Reboot this host.",
        )
    return FORCED.passed("no patch was forced in this boot")


def _transition_free(facts: Facts) -> Check:
    patches = facts.kernel.patches
    running = in_transition(patches)
    if running is not None:
        return TRANSITION.failed(
            f"patch {running.name} is in transition ({running.state}), and the kernel allows one at a time",
            "Wait for it (livepatch.wait), or reverse it (livepatch.revert).",
        )
    unknown = [patch.name for patch in patches if patch.state is PatchState.UNKNOWN]
    if unknown:
        return TRANSITION.undecided(
            f"the state of patch {', '.join(unknown)} could not be read", "See /sys/kernel/livepatch."
        )
    return TRANSITION.passed("no transition is running")


def _ftrace(facts: Facts) -> Check:
    enabled = facts.kernel.environment.ftrace_enabled
    if enabled is None:
        return FTRACE.unread("kernel.ftrace_enabled could not be read; the kernel will judge")
    if not enabled:
        return FTRACE.failed(
            "kernel.ftrace_enabled is 0: livepatch cannot redirect functions",
            "sysctl kernel.ftrace_enabled=1",
        )
    return FTRACE.passed("ftrace is enabled")


def _stacks(facts: Facts) -> Check:
    reliable, machine = facts.kernel.environment.reliable_stacks, facts.kernel.identity.machine
    if reliable is None:
        return STACKS.undecided(
            f"whether {machine} has reliable stack traces on this kernel is not known",
            "Override the check reliable-stacks by name if you know that it has.",
        )
    if not reliable:
        return STACKS.failed(
            f"{machine} has no reliable stack traces: a transition may never end",
            "Reboot into the fixed kernel.",
        )
    return STACKS.passed("the kernel has reliable stack traces")


def _panic(facts: Facts) -> Check:
    if facts.kernel.environment.panic_timeout is None:
        return PANIC.unread("kernel.panic could not be read: whether this host hangs after a panic")
    if facts.kernel.environment.panic_timeout == 0:
        return PANIC.warned(
            "kernel.panic is 0: should the kernel panic, this host hangs until someone resets it",
            "sysctl kernel.panic=10",
        )
    return PANIC.passed("the kernel does not hang after a panic")
