"""What the kernel of this host is, as one document; reads only, and works without pyelftools.

Truth before comfort: *patched* is said only when the transition has ended and every function that was
promised is in force; whatever decides and could not be read makes the verdict *unknown*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import livepatch_core
from livepatch_core.errors import LivepatchError
from livepatch_core.host import journal
from livepatch_core.host.armed import read_armed
from livepatch_core.host.change import Ending
from livepatch_core.host.context import Host
from livepatch_core.host.lastact import read_last
from livepatch_core.host.lock import held
from livepatch_core.host.nextboot import next_boot
from livepatch_core.host.quarantine import Ward, Warded, read_warded
from livepatch_core.host.record import ByHand, Record, read_record
from livepatch_core.host.situation import Situation, observe
from livepatch_core.host.stall import straggler_documents
from livepatch_core.host.statefile import read_document
from livepatch_core.kernel.environment import taint_flags
from livepatch_core.kernel.patches import Patch, PatchState, functions_in_force
from livepatch_core.kernel.running import Kernel, read_kernel
from livepatch_core.kernel.stragglers import scan
from livepatch_core.kernel.transition import deadline_for
from livepatch_core.words import Flag, Verdict

# Systems that leave a trace in the kernel itself, whose patches klp does not see (kernel/environment.py).
TRACES = frozenset({"kernelcare", "ksplice", "kgraft", "kpatch-core"})


@dataclass(frozen=True)
class Seen:
    """Everything the verdict is drawn from. age: seconds the transition has lasted, None if not known.

    covered: whether the catalog has a released level for this kernel build; None when it was not asked or
    could not be read. record_error: why the host's record could not be read, "" if it could.
    """

    kernel: Kernel
    record: Record
    situation: Situation
    age: float | None
    deadline: float
    covered: bool | None
    record_error: str = ""
    origins: Mapping[str, str] = field(default_factory=dict)  # packages that foreign patches came with
    warded: tuple[Warded, ...] = ()
    armed: dict[str, Any] | None = None


Recognise = Callable[[Host, Kernel, Record], Record]
Origin = Callable[[Host, Kernel, str], str]


def status(host: Host, covered: bool | None = None, recognise: Recognise | None = None) -> dict[str, Any]:
    """``document`` of a host that is looked at now."""
    return document(host, look(host, covered, recognise))


def document(host: Host, seen: Seen) -> dict[str, Any]:
    """What livepatch.status returns, as far as the kernel's own livepatch goes (providers/whole.py adds the
    other systems)."""
    verdict, reason = judge(seen)
    situation, identity = seen.situation, seen.kernel.identity
    return {
        "verdict": str(verdict),
        "reason": reason,
        "flags": [str(flag) for flag in flags(seen)],
        "level": situation.level,
        "approved": _approved(seen.record, seen.kernel.identity.build_id),
        "provider": "klp" if seen.kernel.environment.livepatch else None,
        "kernel": {
            "release": identity.release,
            "version": identity.version,
            "build_id": identity.build_id,
            "boot_id": identity.boot_id,
            "machine": identity.machine,
        },
        "patches": [_patch(patch, seen) for patch in seen.kernel.patches],
        "in_force": _in_force(seen),
        "transition_age": seen.age,
        "waiting": list(situation.waiting),
        "stragglers": _stragglers(host, seen),
        "fixes": fixes(seen, verdict),
        "doubts": list(map(str, situation.doubts)),
        "next_boot": next_boot(host, identity.build_id, seen.record, situation.level),
        "armed": seen.armed,
        "quarantine": [one.document() for one in seen.warded],
        "last_boot": _last_boot(host, identity.boot_id),
        "reboot": _reboot(seen),
        "safeguards": _safeguards(seen.kernel),
        "journal": {"seq": seen.record.journal.seq, "hash": seen.record.journal.hash},
        "record_error": seen.record_error or None,
    }


def grain(seen: Seen) -> dict[str, Any]:
    """The few words that hosts are targeted by. Levels loaded before the record was lost are not found."""
    identity = seen.kernel.identity
    return {
        "verdict": str(judge(seen)[0]),
        "flags": [str(flag) for flag in flags(seen)],
        "level": seen.situation.level,
        "provider": "klp" if seen.kernel.environment.livepatch else None,
        "release": identity.release,
        "build_id": identity.build_id,
    }


def brief(host: Host) -> dict[str, Any]:
    """What the beacon compares: reads the kernel and this host's own files, no catalog.

    drift: patches that are not ours, promised functions that are not in force, and target modules that are
    not the build ours was proven against. boot_is_news: whether the boot unit warded a level off in this very
    boot. last: how the last act under an approval ended. acting: somebody is at it, so that the kernel may be
    ahead of the record. unasked: as ``unasked``, why alone the verdict is unknown.
    """
    locks = host.roots.proc / "locks"
    acting = held(host.settings.lock_file, locks)
    seen = look(host)
    acting = acting or held(host.settings.lock_file, locks)  # one that began during the look
    verdict, reason = glance(seen)
    boot_id = seen.kernel.identity.boot_id
    last = _last_boot(host, boot_id) or {}
    missing = [f"{obj}:{function},{position}" for obj, function, position in seen.situation.missing]
    return {
        "verdict": str(verdict),
        "comment": reason,
        "unasked": list(unasked(seen)),
        "flags": [str(flag) for flag in flags(seen)],
        "level": seen.situation.level,
        "boot_id": boot_id,
        "drift": sorted([*seen.situation.foreign, *missing, *map(str, seen.situation.unproven)]),
        "warded": [
            {"level": one.level, "kernel": one.kernel, "ward": str(one.ward)}
            for one in sorted(seen.warded, key=lambda one: (one.kernel, one.level or 0, one.sha256))
        ],
        "acting": acting,
        "boot_is_news": last.get("boot_id") == boot_id and "warded" in last,
        "release": seen.kernel.identity.release,
        "build_id": seen.kernel.identity.build_id,
        "ledger_id": seen.record.ledger_id,
        "rev": seen.record.rev,
        "last": read_last(host),
        "version": livepatch_core.__version__,
    }


def look(
    host: Host,
    covered: bool | None = None,
    recognise: Recognise | None = None,
    origin: Origin | None = None,
) -> Seen:
    """Read everything once. An unreadable record is said, not raised: then above all status is asked.

    recognise: finds levels the record does not know; origin: the package of a patch that is still foreign
    (a pair of host/recognise.py); handed in, as they need pyelftools.
    """
    kernel = read_kernel(host.roots)
    try:
        record, error = read_record(host.settings.record_file), ""
    except LivepatchError as problem:
        record, error = Record(), str(problem)
    record = recognise(host, kernel, record) if recognise else record
    situation = observe(host, kernel, record)
    environment = kernel.environment
    deadline = deadline_for(environment.cpus, environment.threads or 0, host.settings.deadline)
    age = _age(host, record, situation, kernel.identity.boot_id)
    try:
        warded, armed = read_warded(host), _armed(host)
    except LivepatchError as problem:
        warded, armed, error = (), None, error or str(problem)
    origins = {name: origin(host, kernel, name) for name in situation.foreign} if origin else {}
    return Seen(kernel, record, situation, age, deadline, covered, error, origins, warded, armed)


def judge(seen: Seen) -> tuple[Verdict, str]:
    """The verdict and the sentence that says why. Pure."""
    situation, environment = seen.situation, seen.kernel.environment
    if environment.livepatch is None:
        return Verdict.UNKNOWN, "/sys/kernel could not be read"
    if situation.unreadable:
        return Verdict.UNKNOWN, f"the state of patch {', '.join(situation.unreadable)} could not be read"
    if situation.transition is not None:
        return _moving(seen, situation.transition)
    if not situation.ours and not situation.foreign:
        return _bare(seen)
    if situation.top is None:
        return Verdict.UNKNOWN, _foreign(seen)
    if situation.missing:
        names = ", ".join(f"{function} of {obj}" for obj, function, _ in situation.missing)
        return Verdict.UNKNOWN, f"{situation.top.name} is enabled, but not in force in {names}"
    if situation.unproven:
        return Verdict.UNKNOWN, "; ".join(map(str, situation.unproven))
    if not situation.waiting:
        return (
            Verdict.PATCHED,
            f"{situation.top.name} is in force in all {len(situation.top.functions)} functions it promised",
        )
    return (
        Verdict.PATCHED,
        f"{situation.top.name} is in force in every function it promised of what is loaded; it waits for "
        f"{', '.join(situation.waiting)}",
    )


def glance(seen: Seen) -> tuple[Verdict, str]:
    """``judge`` where no vendor's program is asked: what another system has in force is not known. Pure."""
    names = ", ".join(unasked(seen))
    if not names:
        return judge(seen)
    return Verdict.UNKNOWN, f"{names} is in this kernel; what it has in force livepatch.status asks it"


def unasked(seen: Seen) -> tuple[str, ...]:
    """Other systems that have left a trace in a kernel in which klp has nothing. Pure."""
    traces = tuple(name for name in seen.kernel.environment.other_managers if name in TRACES)
    return traces if klp(seen).idle else ()


@dataclass(frozen=True)
class Klp:
    """What the kernel's own livepatch has in it. idle: no patch, and that is known. ours: patches that this
    host loaded. foreign: names of those that nothing on this host knows. resting: the state of each was read,
    and none is on its way."""

    idle: bool
    ours: bool = False
    foreign: tuple[str, ...] = ()
    resting: bool = True

    @property
    def active(self) -> bool:
        return self.ours or bool(self.foreign)


def klp(seen: Seen) -> Klp:
    """Pure."""
    situation = seen.situation
    known = seen.kernel.environment.livepatch is not None
    return Klp(
        idle=known and not situation.ours and not situation.foreign,
        ours=bool(situation.ours),
        foreign=situation.foreign,
        resting=situation.transition is None and not situation.unreadable,
    )


def flags(seen: Seen) -> tuple[Flag, ...]:
    """What is true beside the verdict. Pure."""
    raised = []
    record, situation, build_id = seen.record, seen.situation, seen.kernel.identity.build_id
    if seen.record_error or (record.by_hand is not None and _binds(record.by_hand, build_id)):
        raised.append(Flag.HELD)
    wards = {one.ward for one in seen.warded if one.kernel == build_id}
    if Ward.QUARANTINED in wards:
        raised.append(Flag.QUARANTINED)
    if Ward.INCONCLUSIVE in wards and Flag.HELD not in raised:
        raised.append(Flag.HELD)
    # During a transition nothing of it counts as in force yet: that is no drift.
    if situation.foreign or (situation.missing and situation.transition is None):
        raised.append(Flag.DRIFTED)
    if record.forced_in(seen.kernel.identity.boot_id):
        raised.append(Flag.REBOOT_OWED)
    if situation.doubts:
        raised.append(Flag.DOUBTFUL)
    return tuple(raised)


def fixes(seen: Seen, verdict: Verdict) -> list[str]:
    """CVEs fixed in the running kernel: module loaded, transition ended, functions in force.

    An object that waits for its module takes nothing away: code that is not loaded cannot be attacked, and
    it is patched when it comes.
    """
    top = seen.situation.top
    return sorted(top.fixes) if verdict is Verdict.PATCHED and top is not None else []


def _moving(seen: Seen, patch: Patch) -> tuple[Verdict, str]:
    since = "for a time that is not known" if seen.age is None else f"for {seen.age:.0f} s"
    if seen.age is not None and seen.age > seen.deadline:
        return (
            Verdict.STALLED,
            f"{patch.name} has been {patch.state} {since}, its deadline was {seen.deadline:.0f} s",
        )
    verdict = Verdict.PATCHING if patch.state is PatchState.PATCHING else Verdict.REVERTING
    return verdict, f"{patch.name} has been {patch.state} {since}"


def _foreign(seen: Seen) -> str:
    named = [
        f"{name} of package {seen.origins[name]}" if seen.origins.get(name) else name
        for name in seen.situation.foreign
    ]
    if all(seen.origins.get(name) for name in seen.situation.foreign):
        return (
            f"{', '.join(named)} is in force, and no level is known for that package: the catalog gives it "
            "none, could not be read, or is not shown to be the publisher's"
        )
    return f"{', '.join(named)} is in force, and nothing on this host knows what it promises"


def _bare(seen: Seen) -> tuple[Verdict, str]:
    if not seen.kernel.environment.livepatch:
        return Verdict.UNSUPPORTED, "this kernel was built without livepatch support"
    if seen.covered is False:
        return (
            Verdict.UNCOVERED,
            "no patch is in force, and the catalog has released no level for this kernel build",
        )
    return Verdict.UNPATCHED, "no patch is in force"


def _age(host: Host, record: Record, situation: Situation, boot_id: str | None) -> float | None:
    """Seconds since the running transition began, from the act under way or the last one journaled."""
    patch = situation.transition
    if patch is None:
        return None
    intent = record.intent
    if intent is not None and intent.patch == patch.name and intent.boot_id == boot_id:
        return _since(host, intent.clock, intent.began)
    return _age_of_last(host, patch.name, boot_id)


def _age_of_last(host: Host, patch: str, boot_id: str | None) -> float | None:
    try:
        last = journal.last_entry(host.settings.journal_file)
    except LivepatchError:
        return None  # a damaged journal is livepatch.verify's to report; here it only means: not known
    if last is None or last.body.get("patch") != patch or last.body.get("boot_id") != boot_id:
        return None
    # One that had ended says nothing of this transition: somebody else began it.
    left_open = last.body.get("ending") in (Ending.IN_TRANSITION, Ending.REVERSE_STALLED)
    return _since(host, last.body.get("clock"), str(last.body.get("began"))) if left_open else None


def _since(host: Host, clock: float | None, began: str) -> float | None:
    """By the clock of that boot: that of the day may be set meanwhile. An older version wrote no other."""
    if clock is not None:
        return host.clock() - clock
    try:
        moment = datetime.fromisoformat(began.replace("Z", "+00:00"))
    except ValueError:
        return None
    return max(host.now() - moment.timestamp(), 0.0)


def _armed(host: Host) -> dict[str, Any] | None:
    found = read_armed(host)
    if found is None:
        return None
    return {"level": found.level, "sha256": found.sha256, "since": found.since, "marks": list(found.marks)}


def _last_boot(host: Host, boot_id: str | None) -> dict[str, Any] | None:
    """What the boot unit reported; None where it never ran. What it said of an earlier boot is no result of
    this one."""
    try:
        found = read_document(host.settings.boot_file)
    except LivepatchError as problem:
        return {"result": None, "comment": problem.message}
    if not found or found.get("boot_id") == boot_id:
        return found or None
    text = f"The boot unit has not reported in this boot. Of an earlier one it said: {found.get('comment')}"
    return {**found, "result": None, "comment": text}


def _approved(record: Record, kernel: str | None) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "ledger_id": record.ledger_id or None,
        "rev": record.rev,
        "level": record.approved.get(kernel or ""),
    }
    held = record.by_hand
    if held is not None and _binds(held, kernel):
        shown["by_hand"] = {"level": held.level, "reason": held.reason}
    return shown


def _binds(held: ByHand, kernel: str | None) -> bool:
    """One of another kernel build than the one that runs says nothing of it."""
    return kernel is None or held.binds(kernel)


def _patch(patch: Patch, seen: Seen) -> dict[str, Any]:
    ours = next((one for one in seen.situation.ours if one.name == patch.name), None)
    return {
        "name": patch.name,
        "state": str(patch.state),
        "enabled": patch.enabled,
        "transition": patch.transition,
        "replace": patch.replace,
        "stack_order": patch.stack_order,
        "level": ours.level if ours else None,
        "ours": ours is not None,
        "package": (ours.package if ours else seen.origins.get(patch.name)) or None,
        "since": (ours.at if ours else None) or None,
        "objects": {
            one.name: {"patched": one.patched, "functions": [f"{f.name},{f.sympos}" for f in one.functions]}
            for one in patch.objects
        },
    }


def _in_force(seen: Seen) -> dict[str, dict[str, str]]:
    shown: dict[str, dict[str, str]] = {}
    for (obj, function, position), patch in sorted(functions_in_force(seen.kernel.patches).items()):
        shown.setdefault(obj, {})[f"{function},{position}"] = patch
    return shown


def _stragglers(host: Host, seen: Seen) -> list[Mapping[str, Any]]:
    patch = seen.situation.transition
    if patch is None or patch.enabled is None:
        return []
    functions = frozenset(f.name for one in patch.objects for f in one.functions)
    return straggler_documents(scan(host.roots, int(patch.enabled), functions))


def _reboot(seen: Seen) -> dict[str, Any]:
    forced = seen.record.forced_in(seen.kernel.identity.boot_id)
    if seen.record_error:  # whether a patch was forced stands in the record only
        return {"owed": None, "why": [seen.record_error], "since": None}
    return {
        "owed": bool(forced),
        "why": [f"patch {one.patch} was forced: {one.reason}" for one in forced],
        "since": min((one.at for one in forced), default=None),
    }


def _safeguards(kernel: Kernel) -> dict[str, Any]:
    environment = kernel.environment
    return {
        "lockdown": environment.lockdown,
        "sig_enforce": environment.sig_enforce,
        "ftrace_enabled": environment.ftrace_enabled,
        "reliable_stacks": environment.reliable_stacks,
        "panic_timeout": environment.panic_timeout,
        "taint": None if environment.taint is None else list(taint_flags(environment.taint)),
        "other_managers": list(environment.other_managers),
    }
