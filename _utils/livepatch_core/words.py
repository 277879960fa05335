"""The project's words, each a fixed set (docs/architecture.md says what each means).

``str`` subclasses, so that they serialise as themselves through msgpack, JSON and YAML on every
Salt release; ``enum.StrEnum`` would need Python 3.11.
"""

from __future__ import annotations

from enum import Enum


class Word(str, Enum):
    """A closed set of words; prints, formats and compares as its text."""

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, spec: str) -> str:
        return format(str(self.value), spec)


class Verdict(Word):
    """One word for what the kernel of a host is."""

    PATCHED = "patched"  # the transition has ended and the functions in force are those promised
    PATCHING = "patching"
    STALLED = "stalled"  # a transition past its deadline
    REVERTING = "reverting"
    UNPATCHED = "unpatched"
    UNCOVERED = "uncovered"  # the catalog has no level for this kernel build
    UNSUPPORTED = "unsupported"  # this kernel cannot be live-patched
    UNKNOWN = "unknown"  # something that decides could not be read


class Flag(Word):
    """What is said beside the verdict."""

    HELD = "held"
    QUARANTINED = "quarantined"
    DRIFTED = "drifted"
    REBOOT_OWED = "reboot-owed"
    DOUBTFUL = "doubtful"


class Kind(Word):
    """Why an act was refused or failed: bounded, so that whoever reads events and answers can count by it."""

    ARGUMENT = "argument"  # the call itself is wrong
    PRIVILEGE = "privilege"
    SIGNATURE = "signature"
    LOCKDOWN = "lockdown"
    DIGEST = "digest"
    MODULE_FORMAT = "module-format"
    NOT_LIVEPATCH = "not-livepatch"
    KERNEL_MISMATCH = "kernel-mismatch"
    SYMBOL = "symbol"
    DEPENDENCY = "dependency"
    CONFLICT = "conflict"
    STATE = "state"  # incompatible livepatch system states
    BUSY = "busy"
    FTRACE = "ftrace"
    UNAPPROVED = "unapproved"
    FROZEN = "frozen"  # the ledger hands out no approval until somebody thaws this host
    SUPERSEDED = "superseded"
    FOREIGN_LEDGER = "foreign-ledger"
    CATALOG = "catalog"
    UNCOVERED = "uncovered"
    STALLED = "stalled"
    REVERSED = "reversed"
    REVERSE_STALLED = "reverse-stalled"
    UNSUPPORTED = "unsupported"
    QUARANTINED = "quarantined"
    BLOCKED = "blocked"
    FORBIDDEN = "forbidden"  # the minion's own configuration does not allow the verb
    JOURNAL = "journal"
    HEALTH = "health"
    DRIFT = "drift"
    REBOOT_OWED = "reboot-owed"
    INTERNAL = "internal"


class CheckVerdict(Word):
    """The answer of one preflight check or gate; what could not be read never passes."""

    PASS = "pass"
    FAIL = "fail"
    WARN = "warn"
    INCONCLUSIVE = "inconclusive"


class OnStall(Word):
    """What to do when a transition passes its deadline."""

    REVERSE = "reverse"
    WAIT = "wait"
    KEEP = "keep"
