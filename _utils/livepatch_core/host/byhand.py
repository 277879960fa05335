"""The verbs that go around levels: a module by its bytes, a patch by its name, and force.

Each needs an opt-in in the minion's own configuration: no pillar and no job argument can give it.
"""

from __future__ import annotations

import dataclasses

from livepatch_core.errors import LivepatchError
from livepatch_core.host import change, crash, move, preflight, quarantine, recovery, store
from livepatch_core.host.account import account, failure
from livepatch_core.host.approval import Source
from livepatch_core.host.context import Host
from livepatch_core.host.facts import gather
from livepatch_core.host.intent import Act
from livepatch_core.host.lock import exclusive
from livepatch_core.host.outcome import Outcome, changes
from livepatch_core.host.promise import promise
from livepatch_core.host.recognise import recognise
from livepatch_core.host.record import Forced, Record, new_record, read_record, write_record
from livepatch_core.host.situation import is_livepatch, observe
from livepatch_core.kernel.patches import Patch, in_transition
from livepatch_core.kernel.running import Kernel, read_kernel
from livepatch_core.kernel.stragglers import Scan, scan
from livepatch_core.modulefile.read import read_with_payload
from livepatch_core.words import Kind, OnStall

BY_HAND = {"source": str(Source.BY_HAND)}  # these verbs name no level


@dataclasses.dataclass(frozen=True)
class Order:
    """What the caller of a verb by hand says; reason is demanded, it goes into the journal."""

    reason: str | None
    on_stall: OnStall | None = None
    deadline: float | None = None
    override: tuple[str, ...] = ()
    test: bool = False


def load(host: Host, data: bytes, order: Order) -> Outcome:
    """Load one livepatch module whatever the catalog says; preflight and journal are those of apply."""
    _need_opt_in(host.settings.allow_load, "allow_load", "load")
    reason = need_reason(order, "load")
    with exclusive(host.settings.lock_file, "load", test=order.test):
        record = read_record(host.settings.record_file)
        record = record if order.test else move.recover(host, record)
        kernel = read_kernel(host.roots)
        if not order.test:
            crash.breaker(host, change.boot_of(kernel))
        record = recognise(host, kernel, record)
        module, image = read_with_payload(data)
        quarantine.refuse(host, module.sha256)
        facts = gather(host.roots, kernel, module, record)
        checks = preflight.examine(
            preflight.Subject(module, host.settings.require_signature), facts, order.override
        )
        preflight.refuse(checks, module.name)
        before = tuple(patch.name for patch in kernel.patches)
        if order.test:
            after = (module.name,) if module.replace else (*before, module.name)
            old = observe(host, kernel, record).level
            return Outcome(None, f"Would load {module.name}.", changes=changes(old, None, before, after))
        change.sweep(host, kernel, record, module.name)
        boot_id = change.boot_of(kernel)
        loaded = promise(host, module, boot_id, None)
        intent = change.new_intent(
            host, Act.LOAD, True, module.name, boot_id, loaded=loaded, reason=reason, authority=BY_HAND
        )
        limits = change.limits_for(host, kernel.environment, order.on_stall, order.deadline)
        done = change.load(host, record, loaded, intent, image, limits)
        return _reported(host, kernel, record, done, f"Module {module.name} is in force.")


def unload(host: Host, name: str, order: Order) -> Outcome:
    """Disable the patch ``name``, whoever loaded it, and take its module out of the kernel."""
    _need_opt_in(host.settings.allow_load, "allow_load", "unload")
    reason = need_reason(order, "unload")
    with exclusive(host.settings.lock_file, "unload", test=order.test):
        record = read_record(host.settings.record_file)
        record = record if order.test else move.recover(host, record)
        kernel = read_kernel(host.roots)
        before = tuple(patch.name for patch in kernel.patches)
        situation = observe(host, kernel, record)
        move.refuse_unsettled(situation)
        if name not in before:
            return _remove_leftover(host, kernel, name, order.test)
        if order.test:
            after = tuple(one for one in before if one != name)
            return Outcome(
                None,
                f"Would disable and remove {name}.",
                changes=changes(situation.level, situation.level_with(after), before, after),
            )
        boot_id = change.boot_of(kernel)
        loaded = record.find_loaded(name, boot_id)
        intent = change.new_intent(
            host, Act.DISABLE, False, name, boot_id, loaded=loaded, reason=reason, authority=BY_HAND
        )
        limits = change.limits_for(host, kernel.environment, order.on_stall, order.deadline)
        done = change.switch(host, record, intent, limits)
        return _reported(host, kernel, record, done, f"Patch {name} is out of force and its module removed.")


def force(host: Host, patch: str, order: Order) -> Outcome:
    """End the transition of ``patch`` by declaring every task switched; the host then owes a reboot.

    Evidence (the stragglers and their stacks) is made durable before the kernel is told, in the intent, and
    goes into the journal with it.
    """
    _need_opt_in(host.settings.allow_force, "allow_force", "force")
    reason = need_reason(order, "force")
    with exclusive(host.settings.lock_file, "force", test=order.test):
        record = read_record(host.settings.record_file)
        kernel = read_kernel(host.roots)
        running = _the_running(kernel, patch)
        functions = frozenset(f.name for one in running.objects for f in one.functions)
        evidence = scan(host.roots, int(bool(running.enabled)), functions)
        if order.test:
            return Outcome(
                None,
                f"Would force the transition of {patch}; the host would owe a reboot.",
                changes={"forced": {"old": None, "new": patch}},
            )
        limits = change.limits_for(host, kernel.environment, OnStall.KEEP, order.deadline)
        record = recovery.abandon(host, record, limits)
        boot_id = change.boot_of(kernel)
        intent = change.new_intent(
            host,
            Act.FORCE,
            bool(running.enabled),
            patch,
            boot_id,
            loaded=record.find_loaded(patch, boot_id),
            reason=reason,
            authority=BY_HAND,
            evidence=_evidence(evidence),
        )
        forced = Forced(patch, reason, boot_id, host.timestamp())
        done = change.force(host, record, forced, intent, limits)
        outcome = _reported(
            host,
            kernel,
            record,
            done,
            f"The transition of {patch} was forced. This host owes a reboot and takes no more live patches "
            "until then.",
        )
        return dataclasses.replace(
            outcome, changes={**outcome.changes, "forced": {"old": None, "new": patch}}
        )


def adopt_ledger(host: Host, ledger_id: object, rev: object, order: Order) -> Outcome:
    """Obey another ledger from now on; the level in force stays what it is until that ledger's approval."""
    need_reason(order, "adopt_ledger")
    if not isinstance(ledger_id, str) or not ledger_id or type(rev) is not int or rev < 0:
        raise LivepatchError(
            Kind.ARGUMENT,
            f"The ledger is {ledger_id!r} and the rev {rev!r}; a text and an integer from 0 are needed; "
            "nothing was changed.",
            remedy="livepatch_ledger.show on the master shows both.",
        )
    with exclusive(host.settings.lock_file, "adopt_ledger"):
        path = host.settings.record_file
        record = read_record(path) if path.exists() else new_record(path, store.builds(host))
        if record.ledger_id == ledger_id and rev <= record.rev:  # a lower rev would let superseded ones win
            return Outcome(
                True,
                f"This host obeys ledger {ledger_id} from rev {record.rev} on already; nothing was changed.",
            )
        old = {"ledger_id": record.ledger_id or None, "rev": record.rev}
        write_record(path, record.adopt(ledger_id, rev))
    return Outcome(
        True,
        f"This host obeys ledger {ledger_id} from rev {rev} on; its level is what it was.",
        changes={"ledger": {"old": old, "new": {"ledger_id": ledger_id, "rev": rev}}},
    )


def unhold(host: Host, order: Order) -> Outcome:
    """Let approvals (or the newest level) rule again over a level set by hand; the level itself stays."""
    need_reason(order, "unhold")
    with exclusive(host.settings.lock_file, "unhold", test=order.test):
        record = read_record(host.settings.record_file)
        held = record.by_hand
        if held is None:
            return Outcome(True, "No level was set by hand on this host; nothing was changed.")
        changed = {"by_hand": {"old": {"level": held.level, "reason": held.reason}, "new": None}}
        if order.test:
            return Outcome(
                None, f"Would lift the hold at level {held.level} ({held.reason}).", changes=changed
            )
        write_record(host.settings.record_file, record.unhold())
    return Outcome(
        True,
        f"The hold at level {held.level} ({held.reason}) is lifted; the next apply decides.",
        changes=changed,
    )


def _evidence(seen: Scan) -> tuple[str, ...]:
    """One line for each straggler: who, why, and its stack, innermost function first."""
    return tuple(
        f"{one.tid} {one.comm} {one.kind} {one.reason}: {' < '.join(one.stack)}" for one in seen.stragglers
    )


def _the_running(kernel: Kernel, patch: str) -> Patch:
    running = in_transition(kernel.patches)
    if running is None or running.name != patch:
        what = f"patch {running.name} is" if running else "no patch is"
        raise LivepatchError(
            Kind.ARGUMENT,
            f"Patch {patch} cannot be forced: {what} in transition; nothing was changed.",
            remedy="See livepatch.transition.",
        )
    return running


def _remove_leftover(host: Host, kernel: Kernel, name: str, test: bool) -> Outcome:
    """A module whose patch is out of force already: only the module is taken out."""
    if name not in kernel.modules:
        return Outcome(True, f"There is neither a patch nor a module {name}; nothing was changed.")
    if not is_livepatch(kernel.modules[name]):
        raise LivepatchError(
            Kind.NOT_LIVEPATCH,
            f"The module {name} is no live patch; nothing was changed.",
            remedy="Remove it with rmmod if that is what you want.",
        )
    if test:
        return Outcome(
            None, f"Would remove the module {name}.", changes={"module": {"old": name, "new": None}}
        )
    removed, _ = change.remove_modules(host, {name})
    if not removed:
        raise LivepatchError(
            Kind.BUSY,
            f"Module {name} is in use and stays loaded; nothing was changed.",
            remedy="See its holders in /sys/module.",
        )
    return Outcome(
        True,
        f"The module {name}, which had no patch in force, was removed.",
        changes={"module": {"old": name, "new": None}},
    )


def _reported(host: Host, kernel: Kernel, record: Record, done: change.Change, success: str) -> Outcome:
    now = read_kernel(host.roots)
    after = observe(host, now, done.record)
    changed = changes(
        observe(host, kernel, record).level,
        after.level,
        tuple(patch.name for patch in kernel.patches),
        tuple(patch.name for patch in now.patches),
    )
    disproved = done.intent.act is Act.LOAD and (not after.whole or done.intent.patch in after.foreign)
    if done.ending is change.Ending.COMPLETE and not disproved:
        return Outcome(True, success, changes=changed, details=account([done]))
    kind, comment = failure(done, after)
    return Outcome(False, comment, kind, changed, account([done]))


def _need_opt_in(allowed: bool, key: str, verb: str) -> None:
    if not allowed:
        raise LivepatchError(
            Kind.FORBIDDEN,
            f"This host does not allow livepatch.{verb}; nothing was changed.",
            remedy=f"Set livepatch:{key} to true in the minion's own configuration if it shall.",
        )


def need_reason(order: Order, verb: str) -> str:
    if not isinstance(order.reason, str) or not order.reason.strip():
        raise LivepatchError(
            Kind.ARGUMENT,
            f"livepatch.{verb} needs a reason; nothing was changed.",
            remedy="Give reason='...'; it is kept with the act.",
        )
    return order.reason.strip()
