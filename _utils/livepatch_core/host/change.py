"""The one place that changes the kernel: start it, watch it, deal with a stall, journal what became of it.

Order, so that a process that dies at any moment leaves a kernel and a journal that the next act can make
agree: record with the intent (durable) -> system call -> watch -> journal line (durable) -> record without
the intent. recovery.py is the way back in after such a death.
"""

from __future__ import annotations

import dataclasses
import errno
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from livepatch_core.errors import LivepatchError, cause
from livepatch_core.host import armed, journal
from livepatch_core.host.context import Host
from livepatch_core.host.intent import Act, Intent
from livepatch_core.host.outcome import changes
from livepatch_core.host.record import Forced, Loaded, Record, write_record
from livepatch_core.host.situation import is_livepatch
from livepatch_core.kernel import control, explain, kmsg, loading, modules, reasons, transition
from livepatch_core.kernel.environment import Environment, read_environment
from livepatch_core.kernel.patches import PatchState, in_transition, read_patches, read_transition
from livepatch_core.kernel.running import Kernel
from livepatch_core.kernel.stragglers import Scan, may_run_in, scan
from livepatch_core.kernel.transition import Outcome as Waited
from livepatch_core.words import Kind, OnStall, Word

UNLOAD_SECONDS = 15.0  # the reference is dropped by a work item; kpatch waits as long
MANY = 50  # stragglers: the kernel logs a line for each when it is asked for reasons
LOG_LINES = 40  # of the kernel's log kept in a journal line; an act writes fewer than ten


class Ending(Word):
    """What a change of the kernel came to."""

    COMPLETE = "complete"
    REVERSED = "reversed"  # back to what it was
    REVERSE_STALLED = "reverse-stalled"  # a reversal that does not end either: still in transition
    IN_TRANSITION = "in-transition"  # left so, as asked
    OVERSHOT = "overshot"  # it ended just before it was reversed, which then took out what was in force
    TAKEN_BACK = "taken-back"  # somebody else reversed it meanwhile
    CUT_OFF = "cut-off"  # the host was restarted in the act


# It is not there, or nobody can say whether it ever was: what was told with it does not hold.
UNDONE = (
    Ending.REVERSED,
    Ending.REVERSE_STALLED,
    Ending.OVERSHOT,
    Ending.TAKEN_BACK,
    Ending.CUT_OFF,
)


class EndedFirst(LivepatchError):
    """A transition that was to be reversed had ended: what is written then disables a patch in force."""


@dataclass(frozen=True)
class Limits:
    """What to do about a stall, and when it is one; seconds, already scaled to the size of the host."""

    on_stall: OnStall
    deadline: float
    reversal_deadline: float
    patience: float


@dataclass(frozen=True)
class Change:
    """seconds: from the system call to the end of watching. removed/left: modules taken out, or not."""

    intent: Intent
    ending: Ending
    seconds: float
    stall: Scan | None
    after: tuple[str, ...]
    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    log: tuple[str, ...] | None = ()
    record: Record = Record()

    @property
    def lost(self) -> tuple[str, ...]:
        """Patches that were there before and are not any more, that of the act aside."""
        return tuple(sorted({*self.intent.before} - {self.intent.patch, *self.after}))


def limits_for(
    host: Host, environment: Environment, on_stall: OnStall | None, deadline: float | None
) -> Limits:
    """The configuration's limits, or those given for this act, scaled with CPUs and threads."""
    settings = host.settings
    cpus, threads = environment.cpus, environment.threads or 0
    return Limits(
        on_stall or settings.on_stall,
        transition.deadline_for(cpus, threads, deadline or settings.deadline),
        transition.deadline_for(cpus, threads, settings.reversal_deadline),
        settings.patience,
    )


def boot_of(kernel: Kernel) -> str:
    """The boot this act belongs to; without it nothing could be told apart later, so nothing is begun."""
    if kernel.identity.boot_id is None:
        raise no_boot_id()
    return kernel.identity.boot_id


def no_boot_id() -> LivepatchError:
    return LivepatchError(
        Kind.UNSUPPORTED,
        "The boot id of this host could not be read; nothing was changed.",
        remedy="See whether /proc/sys/kernel/random/boot_id is readable.",
    )


def new_intent(
    host: Host,
    act: Act,
    target: bool,
    patch: str,
    boot_id: str,
    *,
    loaded: Loaded | None,
    reason: str,
    authority: Mapping[str, Any],
    evidence: tuple[str, ...] = (),
) -> Intent:
    before = _names(host)
    level, sha256 = (loaded.level, loaded.sha256) if loaded else (None, "")
    return Intent(
        uuid.uuid4().hex,
        act,
        target,
        patch,
        level,
        sha256,
        before,
        boot_id,
        host.timestamp(),
        dict(host.who),
        reason,
        evidence,
        authority=authority,
        clock=host.clock(),
    )


def load(
    host: Host,
    record: Record,
    loaded: Loaded,
    intent: Intent,
    image: bytes,
    limits: Limits,
    held: Record | None = None,
) -> Change:
    """Insert ``image``, which promises ``loaded``, and bring its patch into force.

    held: as for ``switch``. Raises LivepatchError when the kernel refused it.
    """
    after = (held or record).with_loaded(loaded)
    armed.arm(host, loaded)
    try:
        return _act(host, record, after, intent, lambda: loading.init_module(image), limits)
    except LivepatchError:
        armed.disarm_gone(host, _present(host))
        raise


def switch(host: Host, record: Record, intent: Intent, limits: Limits, held: Record | None = None) -> Change:
    """Write the intent's target to the patch's ``enabled``: disable it, or reverse its transition.

    held: the record that goes with it, where the act changes that too; kept only if the kernel does it.
    """

    def start() -> None:
        control.write_enabled(host.roots, intent.patch, intent.target)

    return _act(host, record, held or record, intent, start, limits)


def reverse(host: Host, record: Record, intent: Intent, limits: Limits, held: Record) -> Change:
    """Reverse the transition that is running; one that stalls is left so: there is no third direction.

    Raises EndedFirst when it runs no more.
    """

    def start() -> None:
        if not read_transition(host.roots, intent.patch):
            raise EndedFirst(
                Kind.ARGUMENT,
                f"The transition of {intent.patch} ended before it could be reversed; nothing was changed. "
                f"In the kernel now: {_listed(host)}.",
                remedy="Name the level to go to (livepatch.revert level=N).",
            )
        control.write_enabled(host.roots, intent.patch, intent.target)

    return _act(host, record, held, intent, start, for_reversing(limits))


def force(host: Host, record: Record, forced: Forced, intent: Intent, limits: Limits) -> Change:
    """Declare every task switched. The caller has the opt-in, the reason, and the evidence in the intent."""
    after = record.with_forced(forced)
    return _act(host, record, after, intent, lambda: control.write_force(host.roots, intent.patch), limits)


def for_reversing(limits: Limits) -> Limits:
    return dataclasses.replace(limits, on_stall=OnStall.KEEP, deadline=limits.reversal_deadline)


def _act(
    host: Host, record: Record, after: Record, intent: Intent, start: Callable[[], None], limits: Limits
) -> Change:
    """``after``: the record once the kernel has taken the act; ``record``: when it has refused.

    Taken and then undone, it is ``after`` (what was loaded may have left its module), but what was told by
    hand and what bounds the next boot are those of ``record``. A reversal that somebody else turned round is
    held all the same: its operator wants to be down there.
    """
    begun = after.begin(intent, after if intent.act is Act.REVERSE else record)
    journal.last_entry(host.settings.journal_file)  # one that cannot be continued refuses the act now
    with _Tail(host) as tail:
        write_record(host.settings.record_file, begun)
        began = host.clock()
        try:
            start()
        except OSError as error:
            raise _refused(host, record, _explained(host, intent, error, tail.drain())) from error
        except EndedFirst as error:
            raise _refused(host, record, error) from error
        try:
            ending, stall = watch(host, begun, intent, limits)
        except OSError as problem:
            raise _unwatched(host, intent, problem) from problem
        return conclude(host, begun, intent, ending, host.clock() - began, stall, tail)


def _refused(host: Host, record: Record, refusal: LivepatchError) -> LivepatchError:
    """The kernel's refusal; a record that cannot be put back keeps the intent, which the next act clears."""
    try:
        write_record(host.settings.record_file, record.end())
    except LivepatchError as problem:
        refusal.evidence["record"] = problem.message
    return refusal


def _unwatched(host: Host, intent: Intent, problem: OSError) -> LivepatchError:
    return LivepatchError(
        Kind.INTERNAL,
        f"The {intent.act} of patch {intent.patch} began, but its transition could not be watched "
        f"({problem}). In the kernel now: {_listed(host)}.",
        remedy="See livepatch.status; the next act finishes the journal.",
        changes=changes(None, None, intent.before, tuple(_present(host))),
    )


def watch(host: Host, record: Record, intent: Intent, limits: Limits) -> tuple[Ending, Scan | None]:
    """record: that which was written when the act began."""
    target = intent.target
    waited = wait_for(host, intent.patch, target, limits.deadline)
    if waited is not Waited.DEADLINE:
        return ending_of(waited), None
    stall = _scan(host, intent.patch, target)
    if limits.on_stall is OnStall.REVERSE:
        _note_undone(host, record, intent)
    # Seconds have passed in which it may have ended: then the opposite value would take out what is in force.
    waited = wait_for(host, intent.patch, target, limits.patience if limits.on_stall is OnStall.WAIT else 0.0)
    if waited is not Waited.DEADLINE:
        return ending_of(waited), stall
    if limits.on_stall is not OnStall.REVERSE:
        return Ending.IN_TRANSITION, stall
    return _reverse(host, intent, limits, stall)


def _reverse(host: Host, intent: Intent, limits: Limits, stall: Scan | None) -> tuple[Ending, Scan | None]:
    """The documented safe cancel: write the opposite value during the transition."""
    try:
        control.write_enabled(host.roots, intent.patch, not intent.target)
    except OSError as error:
        # ENOENT, ENODEV, EINVAL: a disable ended, or somebody else turned it round, in the instant before.
        if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EINVAL):
            return Ending.IN_TRANSITION, stall
    return watch_back(host, intent, limits, stall)


def watch_back(host: Host, intent: Intent, limits: Limits, stall: Scan | None) -> tuple[Ending, Scan | None]:
    """Watch a reversal. *Vanished* is said of a patch that was to stay: its disabling has come to its end."""
    waited = wait_for(host, intent.patch, not intent.target, limits.reversal_deadline)
    if waited is Waited.DEADLINE:
        return Ending.REVERSE_STALLED, _scan(host, intent.patch, not intent.target)
    return (Ending.REVERSED if waited is Waited.COMPLETE else Ending.COMPLETE), stall


def _note_undone(host: Host, record: Record, intent: Intent) -> None:
    """Durable, because the kernel will not show it: a load then leaves nothing, a disable all as it was."""
    try:
        write_record(
            host.settings.record_file,
            dataclasses.replace(record, intent=dataclasses.replace(intent, undone=True)),
        )
    except LivepatchError:
        pass  # a full disk must not stop a reversal; the journal line that follows says it all the same


def conclude(
    host: Host,
    record: Record,
    intent: Intent,
    ending: Ending,
    seconds: float,
    stall: Scan | None,
    tail: _Tail | None,
    *,
    recovered: bool = False,
) -> Change:
    present = _present(host)
    if _overshot(intent, ending, present):
        ending = Ending.OVERSHOT
    if ending in (Ending.REVERSED, Ending.OVERSHOT, Ending.TAKEN_BACK):
        _note_undone(host, record, intent)
    # The names of an earlier boot say nothing about the modules of this one.
    gone = set() if ending is Ending.CUT_OFF else {*intent.before, intent.patch} - present
    removed, left = remove_modules(host, gone)
    log = None if tail is None else tail.lines()
    change = Change(intent, ending, round(seconds, 3), stall, tuple(sorted(present)), removed, left, log)
    try:
        head = journal.append(
            host.settings.journal_file, journal_body(host, change, recovered), record.journal
        )
        record = record.undo() if ending in UNDONE else record.end()
        record = dataclasses.replace(record, journal=head)
        write_record(host.settings.record_file, record)
    except (OSError, LivepatchError) as problem:
        raise _unwritten(host, change, problem) from problem
    armed.disarm_gone(host, present)
    return dataclasses.replace(change, record=record)


def _overshot(intent: Intent, ending: Ending, present: set[str]) -> bool:
    """Whether the reversal of a load took out more than what was being loaded: between the last look and the
    write that load had ended, and what it replaced was gone."""
    if intent.act is Act.LOAD:
        reversed_ = ending is Ending.REVERSED
    else:
        reversed_ = intent.act is Act.REVERSE and not intent.target and ending is Ending.COMPLETE
    return reversed_ and not present >= {*intent.before} - {intent.patch}


def _unwritten(host: Host, change: Change, problem: OSError | LivepatchError) -> LivepatchError:
    intent = change.intent
    missing = "The next act writes what is missing."
    if change.ending in (Ending.REVERSED, Ending.TAKEN_BACK):
        missing = (
            "The kernel is as it was and shows no trace of this act, so its line may be missing for good."
        )
    return LivepatchError(
        Kind.JOURNAL,
        f"The {intent.act} of patch {intent.patch} ended ({change.ending}), but the host's journal or record "
        f"could not be written ({cause(problem)}). In the kernel now: {_listed(host)}.",
        remedy=f"Make room, or see livepatch.verify. {missing}",
        changes=changes(None, None, intent.before, change.after),
    )


def _names(host: Host) -> tuple[str, ...]:
    """The patches that are there; a disabled one is not: its directory goes in an instant, and before 5.1
    when its module does."""
    return tuple(one.name for one in read_patches(host.roots) if one.state is not PatchState.DISABLED)


def _present(host: Host) -> set[str]:
    return set(_names(host))


def _listed(host: Host) -> str:
    said = [f"{one.name} ({one.state})" for one in read_patches(host.roots)]
    return ", ".join(said) or "no patch"


def journal_body(host: Host, change: Change, recovered: bool) -> dict[str, Any]:
    """One journal line's content: who, what, digest, before, after, duration, stragglers, kernel log."""
    body = {
        **change.intent.document(),
        "ending": str(change.ending),
        "ended": host.timestamp(),
        "seconds": change.seconds,
        "after": list(change.after),
        "removed": list(change.removed),
        "left": list(change.left),
        "log": None if change.log is None else list(change.log),
    }
    if change.stall is not None:
        body["stragglers"] = [
            f"{one.tid} {one.comm} {one.function or one.reason}" for one in change.stall.stragglers
        ]
    if recovered:
        body["recovered"] = True
    del body["undone"]  # of the record only: the ending says it here
    return body


def remove_modules(host: Host, names: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Take out the modules whose patches are gone: one that stays would refuse a later load of its name. One
    that a thread may sleep in stays nevertheless: it would wake up in freed memory."""
    removed: list[str] = []
    left: list[str] = []
    for name in sorted(names):
        if not modules.is_loaded(host.roots, name):
            continue
        free = transition.wait_unloadable(host.roots, name, UNLOAD_SECONDS, clock=host.clock, poll=host.pause)
        free = free and not may_run_in(host.roots, name, clock=host.clock)
        (removed if free and _delete(name) else left).append(name)
    return tuple(removed), tuple(left)


def sweep(host: Host, kernel: Kernel, record: Record, coming: str | None) -> None:
    """Take out livepatch modules without a patch, left by a transition that ended unwatched: what this host
    loaded in this boot, and one that has the name of the module to be loaded."""
    boot_id = kernel.identity.boot_id
    names = {one.name for one in record.loaded if one.boot_id == boot_id} | {coming or ""}
    present = {patch.name for patch in kernel.patches}
    marked = {name for name, module in kernel.modules.items() if is_livepatch(module)}
    remove_modules(host, (names & marked) - present)


def _delete(name: str) -> bool:
    try:
        loading.delete_module(name)
    except OSError as error:
        # EBUSY, EWOULDBLOCK: pinned (by force, another user) or raced; the caller reports it as left.
        return error.errno == errno.ENOENT
    return True


def wait_for(host: Host, patch: str, target: bool, seconds: float) -> Waited:
    return transition.wait(
        host.roots, patch, target=target, deadline=seconds, clock=host.clock, poll=host.pause
    ).outcome


def ending_of(waited: Waited) -> Ending:
    return Ending.COMPLETE if waited is Waited.COMPLETE else Ending.TAKEN_BACK


def _scan(host: Host, patch: str, target: bool) -> Scan:
    """Who holds the transition up. It takes seconds on a large host."""
    functions = {
        function.name
        for one in read_patches(host.roots)
        if one.name == patch
        for target_object in one.objects
        for function in target_object.functions
    }
    seen = scan(host.roots, int(target), frozenset(functions), modules=frozenset({patch}))
    if len(seen.stragglers) > MANY:
        return seen
    return reasons.explained(seen, reasons.ask(host.roots, clock=host.clock) or ())


def _explained(host: Host, intent: Intent, error: OSError, records: Sequence[kmsg.Record]) -> LivepatchError:
    patch = in_transition(read_patches(host.roots))
    # The refused patch itself can still be on its way out here: it is not what stood in the way.
    running = patch.name if patch is not None and patch.name != intent.patch else None
    if intent.act is Act.LOAD:
        environment = read_environment(host.roots)
        kind, sentence = explain.explain_load(
            error,
            records,
            transition=running,
            already_loaded=modules.is_loaded(host.roots, intent.patch),
            ftrace_enabled=environment.ftrace_enabled,
            lockdown=environment.lockdown,
        )
    elif intent.act is Act.FORCE:
        kind, sentence = explain.explain_force(error, records, patch=intent.patch, transition=running)
    else:
        kind, sentence = explain.explain_disable(error, records, patch=intent.patch, transition=running)
    log = [record.text for record in records][-LOG_LINES:]
    return LivepatchError(
        kind, sentence, log=log, errno=errno.errorcode.get(error.errno or 0, str(error.errno))
    )


class _Tail:
    """The kernel log of this act; where the log cannot be opened, ``lines`` is None: not known, not empty."""

    def __init__(self, host: Host) -> None:
        self._records: list[kmsg.Record] = []
        try:
            self._tail: kmsg.Tail | None = kmsg.Tail(host.roots)
        except OSError:
            self._tail = None

    def drain(self) -> tuple[kmsg.Record, ...]:
        try:
            if self._tail is not None:
                self._records.extend(self._tail.drain())
        except OSError:
            pass  # the log is evidence, no more: an act that is done must not fail for it
        return tuple(self._records)

    def lines(self) -> tuple[str, ...] | None:
        if self._tail is None:
            return None
        return tuple(record.text for record in self.drain())[-LOG_LINES:]

    def __enter__(self) -> _Tail:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tail is not None:
            self._tail.close()
