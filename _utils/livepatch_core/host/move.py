"""Bring a host to a level: the use case behind apply, revert, highstate and the boot unit.

``plan`` decides and changes nothing (``test=True`` ends there); ``carry_out`` does what was planned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.host import blocks, change, crash, preflight, publisher, quarantine, recovery
from livepatch_core.host.account import UNPROVEN_REMEDY, account, failure, shown
from livepatch_core.host.approval import (
    Source,
    Target,
    accept,
    authority,
    by_hand,
    by_state,
    hear_state,
    held_by_hand,
    judge,
    parse_approval,
)
from livepatch_core.host.change import Change, Ending, Limits
from livepatch_core.host.checks.check import Check
from livepatch_core.host.context import Host
from livepatch_core.host.facts import gather
from livepatch_core.host.intent import Act
from livepatch_core.host.lock import exclusive
from livepatch_core.host.offer import Offer, choose_level, covered, fetch_catalog, fetch_offer
from livepatch_core.host.outcome import Outcome, changes, refused
from livepatch_core.host.promise import promise
from livepatch_core.host.recognise import recognise
from livepatch_core.host.record import Record, read_record, write_record
from livepatch_core.host.route import Route, StepKind, choose
from livepatch_core.host.settings import Policy
from livepatch_core.host.situation import Situation, observe
from livepatch_core.kernel.patches import read_patches
from livepatch_core.kernel.running import Kernel, read_kernel
from livepatch_core.words import Kind, OnStall


@dataclass(frozen=True)
class Wish:
    """What the caller asks for. approval: as it came, unparsed. level and reason: by hand."""

    approval: object = None
    level: int | None = None
    reason: str | None = None
    on_stall: OnStall | None = None
    deadline: float | None = None
    override: tuple[str, ...] = ()
    test: bool = False
    by_state: bool = False  # the level is one that a state says at each run


@dataclass(frozen=True)
class Plan:
    """What would be done: the record that accepts the target, the route, and what preflight said."""

    kernel: Kernel
    record: Record
    situation: Situation
    target: Target
    offer: Offer | None
    route: Route
    checks: tuple[Check, ...]

    @property
    def level(self) -> int:
        return self.offer.level.number if self.offer else 0

    @property
    def authority(self) -> dict[str, Any]:
        return authority(self.target.source, self.level, self.record)


def move(host: Host, wish: Wish) -> Outcome:
    """Go to the level that ``wish`` means. Raises LivepatchError for whatever is refused or fails."""
    with exclusive(host.settings.lock_file, "apply", test=wish.test):
        return locked(host, wish)


def locked(host: Host, wish: Wish) -> Outcome:
    """``move`` for a caller that holds the host's lock, and keeps it for what comes after."""
    record = read_record(host.settings.record_file)
    if not wish.test:
        record = recover(host, record)
    kernel = read_kernel(host.roots)
    if not wish.test:
        crash.breaker(host, change.boot_of(kernel))
    record = recognise(host, kernel, record)
    try:
        record = _note(host, wish, record)
        target, accepted = _aim(host, wish, record, kernel)
    except LivepatchError:
        if not wish.test:
            blocks.look(host, kernel.identity)
        raise
    plan = make_plan(host, wish, kernel, target, accepted)
    if wish.test:
        return predicted(plan)
    change.sweep(host, kernel, accepted, plan.offer.module.name if plan.offer else None)
    if plan.route.steps:
        outcome = carry_out(host, plan, wish, record)
    else:
        if accepted != record:
            write_record(host.settings.record_file, accepted)
        outcome = _nothing_to_do(plan)
    # Level 0 asks no catalog, and the next boot goes by the last list. Not for who brings it down by hand:
    # his patch may have cut it off, and his answer would wait for the file server.
    if plan.offer is None and outcome.result is True and not (plan.route.steps and wish.level is not None):
        blocks.look(host, kernel.identity)
    return outcome


def _aim(host: Host, wish: Wish, record: Record, kernel: Kernel) -> tuple[Target, Record]:
    """``aim``; where the approval that this host has accepted names no level for its kernel build, the
    refusal says why it could not. A ledger names only builds that the catalog has levels for, and what is no
    failure there is the caller's to say, by the kind."""
    try:
        return aim(host, wish, record, kernel)
    except LivepatchError as error:
        if wish.level is not None or error.kind is not Kind.UNAPPROVED:
            raise
        build = f"this kernel build ({kernel.identity.build_id})"
        named = f"This host holds its level, because approval rev {record.rev} names no level for {build}"
        if kernel.environment.livepatch is False:
            raise _unsupported(f"{named}, which was built without livepatch support") from error
        if covered(host, kernel.identity) is False:
            raise LivepatchError(
                Kind.UNCOVERED,
                f"{named}, and the catalog has released none for it; nothing was changed.",
                remedy="Publish and promote a level for it, then approve that.",
            ) from error
        raise


def _unsupported(why: str) -> LivepatchError:
    return LivepatchError(
        Kind.UNSUPPORTED,
        f"{why} (there is no /sys/kernel/livepatch); nothing was changed.",
        remedy="Boot a kernel built with CONFIG_LIVEPATCH=y.",
    )


def recover(host: Host, record: Record) -> Record:
    """Finish an act whose process died, so that this one begins from what the kernel is."""
    if record.intent is None:
        return record
    limits = change.limits_for(host, read_kernel(host.roots).environment, None, None)
    recovery.resume(host, record, limits)
    return read_record(host.settings.record_file)


def _note(host: Host, wish: Wish, record: Record) -> Record:
    """The record of a host that heard the approval, or the state, that was presented; if one was."""
    if wish.level is None:
        return note_approval(host, wish, record)
    heard = hear_state(wish.level, wish.reason, record) if wish.by_state else record
    return _noted(host, wish, record, heard)


def note_approval(host: Host, wish: Wish, record: Record) -> Record:
    """The record of a host that obeys the approval presented, if one is."""
    if wish.level is not None or (wish.approval is None and host.settings.policy is Policy.NEWEST):
        return record
    return _noted(host, wish, record, accept(parse_approval(wish.approval), record))


def _noted(host: Host, wish: Wish, record: Record, accepted: Record) -> Record:
    """Written before anything that can refuse: what cannot be carried out still outranks what is older, and
    is no newer when it is said again."""
    if accepted != record and not wish.test:
        write_record(host.settings.record_file, accepted)
    return accepted


def make_plan(host: Host, wish: Wish, kernel: Kernel, target: Target, record: Record) -> Plan:
    """Decide; reads only. Raises LivepatchError for every refusal, preflight's included."""
    situation = observe(host, kernel, record)
    refuse_unsettled(situation)
    if target.level == 0:
        route = choose(situation.ours, 0, None)
        return Plan(kernel, record, situation, target, None, route, ())
    if target.level is None and kernel.environment.livepatch is False:
        raise _unsupported("This kernel was built without livepatch support")  # no catalog would have a level
    fetched = fetch_catalog(host, kernel.identity.release)
    if not wish.test:
        blocks.note(host, fetched.catalog)
    level = choose_level(fetched.catalog, kernel.identity, target)
    quarantine.refuse(host, level.sha256)
    signed = publisher.examine(host, fetched.data, kernel.identity.build_id or "", level)
    preflight.refuse(signed, level.name)
    offer = fetch_offer(host, kernel.identity.release, level, target.sha256)
    if _already_there(situation, level.number, level.sha256):
        return Plan(kernel, record, situation, target, offer, Route((), "Nothing to do."), ())
    route = choose(situation.ours, level.number, offer.module, situation.foreign)
    checks = _preflight(host, kernel, record, offer, route, wish.override)
    return Plan(kernel, record, situation, target, offer, route, (*signed, *checks))


def aim(host: Host, wish: Wish, record: Record, kernel: Kernel) -> tuple[Target, Record]:
    """Where to go, and the record that accepts it: by hand, by approval, or newest where the site says so."""
    if wish.level is not None:
        say = by_state if wish.by_state else by_hand
        return say(wish.level, wish.reason, record, kernel.identity.build_id or "")
    if wish.approval is None and host.settings.policy is Policy.NEWEST:
        build_id = kernel.identity.build_id or ""
        if record.by_hand is not None and record.by_hand.binds(build_id):
            raise held_by_hand(record.by_hand, "this site takes the newest level without approvals")
        return Target(None, None, Source.NEWEST), record.take_newest(build_id)
    return judge(parse_approval(wish.approval), record, kernel.identity.build_id or "")


def carry_out(host: Host, plan: Plan, wish: Wish, before: Record) -> Outcome:
    """Do the steps of the route, each journaled; stop at the first that does not end as it should.

    before: the record without what a level by hand, or the newest, changes in it.
    """
    limits = change.limits_for(host, plan.kernel.environment, wish.on_stall, wish.deadline)
    record, done = plan.record, list[Change]()
    for step in plan.route.steps:
        there = replace(record, by_hand=plan.record.by_hand, bounds=plan.record.bounds)
        undone = _undone(plan, before, there)
        # Of the way up by way of 0 the first step does not bring what is held: the host may go down there.
        held = there if step is plan.route.steps[-1] else undone
        try:
            if step.kind is StepKind.DISABLE:
                last = _disable(host, undone, held, plan, step.patch, limits)
            else:
                last = _load(host, undone, held, plan, limits)
        except LivepatchError as error:
            if not done:
                raise
            return _broken_off(host, plan, done, error)
        done.append(last)
        record = last.record
        if last.ending is not Ending.COMPLETE:
            break
    return _concluded(host, plan, done)


def _undone(plan: Plan, before: Record, record: Record) -> Record:
    """The record of a host whose kernel did not do it.

    A level above what was in force is then not held, as if preflight had refused it: the next boot might load
    what this one could not. A lower one is, so that the next boot does not load again what somebody wanted to
    be rid of.
    """
    situation = plan.situation
    if plan.level <= (situation.level or max((one.level or 0 for one in situation.ours), default=0)):
        return record
    return replace(record, by_hand=before.by_hand, bounds=before.bounds)


def _load(host: Host, undone: Record, record: Record, plan: Plan, limits: Limits) -> Change:
    offer, boot_id = plan.offer, change.boot_of(plan.kernel)
    assert offer is not None  # a route has a load step only for a level above 0
    loaded = promise(host, offer.module, boot_id, offer.level)
    intent = change.new_intent(
        host,
        Act.LOAD,
        True,
        offer.module.name,
        boot_id,
        loaded=loaded,
        reason=plan.target.reason,
        authority=plan.authority,
    )
    return change.load(host, undone, loaded, intent, offer.image, limits, record)


def _disable(host: Host, undone: Record, record: Record, plan: Plan, patch: str, limits: Limits) -> Change:
    boot_id = change.boot_of(plan.kernel)
    loaded = record.find_loaded(patch, boot_id)
    intent = change.new_intent(
        host,
        Act.DISABLE,
        False,
        patch,
        boot_id,
        loaded=loaded,
        reason=plan.target.reason,
        authority=plan.authority,
    )
    return change.switch(host, undone, intent, limits, record)


def _already_there(situation: Situation, level: int, sha256: str) -> bool:
    top = situation.top
    if top is None or situation.level != level:
        return False
    if top.sha256 != sha256:
        if top.package:  # its patch only amounts to that level: ours replaces it
            return False
        raise LivepatchError(
            Kind.DRIFT,
            f"Level {level} is in force, but from another module (SHA-256 {top.sha256}) than the one asked "
            f"for ({sha256}); nothing was changed.",
            remedy="Go to another level first (livepatch.revert), then apply again.",
        )
    if situation.unproven:
        raise LivepatchError(
            Kind.KERNEL_MISMATCH,
            f"Level {level} is in force, but {'; '.join(map(str, situation.unproven))}; nothing was changed.",
            remedy=UNPROVEN_REMEDY,
        )
    return not situation.missing


def refuse_unsettled(situation: Situation) -> None:
    if situation.transition is not None:
        patch = situation.transition
        raise LivepatchError(
            Kind.BUSY,
            f"Patch {patch.name} is in transition ({patch.state}) and the kernel allows one at a time; "
            "nothing was changed.",
            remedy=(
                "Wait for it (livepatch.wait), see what holds it up (livepatch.transition), or reverse it "
                "(livepatch.revert)."
            ),
            holder=patch.name,
        )
    refuse_unreadable(situation)


def refuse_unreadable(situation: Situation) -> None:
    if situation.unreadable:
        raise LivepatchError(
            Kind.INTERNAL,
            f"The state of patch {', '.join(situation.unreadable)} could not be read; nothing was changed.",
            remedy="See /sys/kernel/livepatch on the host.",
        )


def _preflight(
    host: Host, kernel: Kernel, record: Record, offer: Offer, route: Route, override: Iterable[str]
) -> tuple[Check, ...]:
    """Judge the module against the kernel as it will be when the load step comes."""
    leaving = frozenset(step.patch for step in route.steps if step.kind is StepKind.DISABLE)
    facts = gather(host.roots, kernel, offer.module, record, leaving)
    subject = preflight.Subject(offer.module, host.settings.require_signature)
    checks = preflight.examine(subject, facts, override)
    preflight.refuse(checks, offer.module.name)
    return checks


def predicted(plan: Plan) -> Outcome:
    """What carrying the plan out would come to."""
    if not plan.route.steps:
        return _nothing_to_do(plan)
    disabled = {step.patch for step in plan.route.steps if step.kind is StepKind.DISABLE}
    new = {patch.name for patch in plan.kernel.patches} - disabled
    level = plan.situation.level_with(new)
    if plan.offer is not None:
        new = {plan.offer.module.name} | (set() if plan.offer.module.replace else new)
        level = plan.level
    return Outcome(
        None,
        f"Would go from level {shown(plan.situation.level)} to {plan.level}. {plan.route.why}",
        changes=_changes(plan, level, new, ()),
        details=_warnings(plan),
    )


def _changes(
    plan: Plan, level: int | None, names: Iterable[str], missing: tuple[tuple[str, str, int], ...]
) -> dict[str, Any]:
    """From what the plan found to what there is (or would be) now."""
    old = tuple(patch.name for patch in plan.kernel.patches)
    changed = changes(plan.situation.level, level, old, tuple(names))
    if plan.situation.missing != missing:
        changed["missing"] = {"old": _functions(plan.situation.missing), "new": _functions(missing)}
    return changed


def _functions(missing: tuple[tuple[str, str, int], ...]) -> list[str]:
    return [f"{obj}:{function},{position}" for obj, function, position in missing]


def _nothing_to_do(plan: Plan) -> Outcome:
    if plan.situation.foreign and plan.level == 0:
        names = ", ".join(plan.situation.foreign)
        return Outcome(
            True, f"No level is in force; {names} was not loaded by this project and was left alone."
        )
    waiting = (
        f" It waits for {', '.join(plan.situation.waiting)} to be loaded." if plan.situation.waiting else ""
    )
    return Outcome(True, f"The kernel is at level {plan.level} already; nothing was changed.{waiting}")


def _concluded(host: Host, plan: Plan, done: list[Change]) -> Outcome:
    last = done[-1]
    # Of what was read before the act only the patches can be others now: it is the same boot.
    kernel = replace(plan.kernel, patches=read_patches(host.roots))
    after = observe(host, kernel, last.record)
    changed = _changes(plan, after.level, (patch.name for patch in kernel.patches), after.missing)
    details = {**_warnings(plan), **account(done)}
    # Level 0 leaves patches of others alone: the host is at no level then.
    proved = after.whole and (after.level == plan.level or plan.offer is None)
    if last.ending is Ending.COMPLETE and proved:
        seconds = sum(one.seconds for one in done)
        waiting = f" It waits for {', '.join(after.waiting)} to be loaded." if after.waiting else ""
        comment = (
            f"The kernel went from level {shown(plan.situation.level)} to {plan.level} in {seconds:.2f} s. "
            f"{plan.route.why}{waiting}"
        )
        return Outcome(True, comment, changes=changed, details=details)
    kind, comment = failure(last, after)
    return Outcome(False, comment, kind, changed, details)


def _broken_off(host: Host, plan: Plan, done: list[Change], error: LivepatchError) -> Outcome:
    """A later step failed: the error speaks of that step only, the kernel is not what it was before."""
    kernel = read_kernel(host.roots)
    after = observe(host, kernel, read_record(host.settings.record_file))
    why = error.message.replace("nothing was changed", "nothing more was changed")
    steps = ", then ".join(f"{one.intent.act} {one.intent.patch} ({one.ending})" for one in done)
    return Outcome(
        False,
        f"On the way from level {shown(plan.situation.level)} to {plan.level} this was done: {steps}. Then: "
        f"{why} The kernel is at level {shown(after.level)} now. {error.remedy}".rstrip(),
        error.kind,
        _changes(plan, after.level, (patch.name for patch in kernel.patches), after.missing),
        {**_warnings(plan), **refused(error).details, **account(done)},
    )


def _warnings(plan: Plan) -> dict[str, Any]:
    said = preflight.concerns(plan.checks)
    return {"warnings": said} if said else {}
