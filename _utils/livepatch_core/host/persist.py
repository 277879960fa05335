"""Keep the level in force over a boot, once it is proven; and the verbs of quarantine."""

from __future__ import annotations

import dataclasses
from typing import Any

from livepatch_core.catalog.read import SHA256
from livepatch_core.errors import LivepatchError
from livepatch_core.host import armed, crash, nextboot, preflight, publisher, quarantine, store
from livepatch_core.host.approval import Source, Target
from livepatch_core.host.armed import Armed
from livepatch_core.host.byhand import Order, need_reason
from livepatch_core.host.context import Host
from livepatch_core.host.lock import exclusive
from livepatch_core.host.offer import choose_level, fetch_catalog, fetch_offer, read_catalog
from livepatch_core.host.outcome import Outcome
from livepatch_core.host.quarantine import Ward, Warded
from livepatch_core.host.recognise import recognise
from livepatch_core.host.record import Loaded, Record, read_record
from livepatch_core.host.situation import observe
from livepatch_core.host.statefile import read_document
from livepatch_core.host.store import Kept
from livepatch_core.kernel.running import Kernel, read_kernel
from livepatch_core.words import Kind


def persist(host: Host, test: bool = False) -> Outcome:
    """Keep the level in force: now if it is proven, else as soon as its soak has ended well.

    At level 0 there is nothing to keep: that is well where the next boot loads nothing either.
    """
    with exclusive(host.settings.lock_file, "persist", test=test):
        kernel = read_kernel(host.roots)
        record = recognise(host, kernel, read_record(host.settings.record_file))
        if not kernel.patches:
            return _nothing_in_force(nextboot.read_choice(host, kernel.identity.build_id, record))
        top = _in_force(host, kernel, record)
        found = armed.read_armed(host)
        waiting = found if found is not None and found.sha256 == top.sha256 else None
        changed, said = _to_keep(host, kernel, record, top.level or 0, top.sha256)
        if not changed or (waiting is not None and waiting.persist):
            return Outcome(True, (said if not changed else _after_soak(top.level)) + _without_unit(host))
        if waiting is None and top.sha256 not in read_document(host.settings.proven_file):
            raise _unproven(top)
        if test:
            return Outcome(None, said, changes=changed)
        return _keep(host, kernel, record, top, waiting, changed)


def predict(host: Host, level: int) -> Outcome:
    """What ``persist`` will come to once the host has gone to ``level``, which is not in force yet: it is
    loaded anew then, and has its soak before it. For a dry run of both. Raises LivepatchError."""
    kernel = read_kernel(host.roots)
    if level == 0:
        return _nothing_in_force(nextboot.Choice(None, "the host was told to be at level 0"))
    target = Target(level, None, Source.BY_HAND)
    meant = choose_level(read_catalog(host, kernel.identity.release), kernel.identity, target)
    there = Record(bounds={kernel.identity.build_id or "": level})  # the move there is what it was told last
    changed, said = _to_keep(host, kernel, there, level, meant.sha256)
    return Outcome(None if changed else True, said, changes=changed)


def _to_keep(
    host: Host, kernel: Kernel, record: Record, level: int, sha256: str
) -> tuple[dict[str, Any], str]:
    """What keeping that module would change, {} if nothing, and a sentence. Raises LivepatchError, also where
    it is kept and the next boot does not load it for all that: keeping it again would mend nothing."""
    build_id = kernel.identity.build_id or ""
    quarantine.refuse(host, sha256)
    kept = store.read_store(host, build_id)
    sound = [one for one in kept if store.is_sound(host, build_id, one)]
    if sound and sound[0] == kept[0] and kept[0].sha256 == sha256:
        choice = nextboot.read_choice(host, build_id, record)
        if not _is(choice, sha256):
            raise _kept_in_vain(level, choice)
        return {}, f"Level {level} is kept over a boot already; nothing was changed."
    changed = {"persisted": {"old": sound[0].level if sound else 0, "new": level}}
    return changed, f"Would keep level {level} over a boot."


def _is(choice: nextboot.Choice, sha256: str) -> bool:
    return choice.kept is not None and choice.kept.sha256 == sha256


def _keep(
    host: Host,
    kernel: Kernel,
    record: Record,
    top: Loaded,
    waiting: Armed | None,
    changed: dict[str, Any],
) -> Outcome:
    build_id = kernel.identity.build_id or ""
    store.keep_module(host, build_id, top.sha256, _fetch(host, kernel, top))
    if waiting is None:
        store.keep(host, build_id, _kept(host, top))
        said = f"Level {top.level} is kept over a boot from now on."
        choice = nextboot.read_choice(host, build_id, record)
        if not _is(choice, top.sha256):
            said += f" But the next boot does not load it: {choice.why}."
    else:
        armed.write_armed(host, dataclasses.replace(waiting, persist=True))
        said = (
            f"Level {top.level} is kept over a boot as soon as it has been healthy for "
            f"{host.settings.soak:.0f} s."
        )
    return Outcome(True, said + _without_unit(host), changes=changed)


def _without_unit(host: Host) -> str:
    """To be added to what is said; "" where the units are enabled."""
    unit = host.settings.boot_unit
    if not unit.exists():
        return f" But the boot unit is not enabled ({unit}): nothing will load it."
    if not crash.tells_a_shutdown(host):
        return (
            f" But livepatch-disarm.service is not enabled ({host.settings.disarm_unit}): a crash that "
            "leaves no log is not told from an orderly shutdown."
        )
    return ""


def _after_soak(level: int | None) -> str:
    return f"Level {level} will be kept after its soak; nothing was changed."


def _kept_in_vain(level: int, choice: nextboot.Choice) -> LivepatchError:
    return LivepatchError(
        Kind.ARGUMENT,
        f"Level {level} is kept over a boot, but the next boot loads level {choice.level} ({choice.why}); "
        "nothing was changed.",
        remedy="Lift what stands in its way, or run livepatch.not_persisted.",
    )


def _nothing_in_force(choice: nextboot.Choice) -> Outcome:
    if choice.kept is None:
        return Outcome(True, "Level 0 is in force, and nothing is loaded at boot; nothing was changed.")
    raise LivepatchError(
        Kind.ARGUMENT,
        f"Level 0 is in force, and level {choice.level} is loaded at the next boot; nothing was changed.",
        remedy="Apply that level first (livepatch.apply), or run livepatch.not_persisted.",
    )


def finish(host: Host, found: Armed) -> None:
    """The soak ended well, and the level was to be kept: its bytes are in the store already."""
    record = read_record(host.settings.record_file)
    top = record.find_loaded(found.name, found.boot_id)
    if top is not None and found.level is not None:
        store.keep(host, found.kernel, _kept(host, top))


def not_persisted(host: Host, test: bool = False, moved: bool = False) -> Outcome:
    """Load nothing at boot any more; what is in force stays until then.

    moved: of a dry run, the host will have gone to another level by then: what is armed now is not any more.
    """
    with exclusive(host.settings.lock_file, "not_persisted", test=test):
        build_id = read_kernel(host.roots).identity.build_id or ""
        kept = store.read_store(host, build_id)
        found = None if test and moved else armed.read_armed(host)
        if not kept and not (found and found != armed.unkept(found)):
            return Outcome(True, "Nothing is kept over a boot; nothing was changed.")
        changed = {"persisted": {"old": kept[0].level if kept else None, "new": 0}}
        if test:
            return Outcome(None, "Would keep nothing over a boot.", changes=changed)
        store.forget(host, build_id)
        if found is not None and found != armed.unkept(found):
            armed.write_armed(host, armed.unkept(found))
    return Outcome(True, "Nothing is loaded at boot into this kernel any more.", changes=changed)


def put_in_quarantine(host: Host, level: object, order: Order) -> Outcome:
    """Refuse a level on this host until it is released, whatever is approved; what is in force stays."""
    reason = need_reason(order, "quarantine")
    if type(level) is not int or level < 1:
        raise _no_level(level)
    with exclusive(host.settings.lock_file, "quarantine", test=order.test):
        kernel = read_kernel(host.roots)
        digest = _digest_of(host, kernel, level)
        if any(one.sha256 == digest for one in quarantine.read_warded(host)):
            return Outcome(True, f"Level {level} is refused on this host already; nothing was changed.")
        changed = {"quarantine": {"old": None, "new": level}}
        if order.test:
            return Outcome(None, f"Would quarantine level {level}.", changes=changed)
        build_id = kernel.identity.build_id or ""
        quarantine.add(host, Warded(digest, level, build_id, Ward.QUARANTINED, reason, host.timestamp()))
    return Outcome(True, f"Level {level} is quarantined on this host.", changes=changed)


def release(host: Host, level: object, order: Order) -> Outcome:
    """Let a level of the running kernel build that was quarantined or held be loaded again; or a module,
    given as ``level`` by its SHA-256, whichever build it is for."""
    need_reason(order, "release")
    by_digest = isinstance(level, str) and SHA256.fullmatch(level) is not None
    if not by_digest and (type(level) is not int or level < 1):
        raise _no_level(level)
    named = f"The module {level}" if by_digest else f"Level {level}"
    with exclusive(host.settings.lock_file, "release", test=order.test):
        gone = _warded_as(host, level)
        if not gone:
            return Outcome(True, f"{named} is not refused on this host; nothing was changed.")
        changed = {"quarantine": {"old": level, "new": None}}
        if order.test:
            return Outcome(None, f"Would release {named.lower()}.", changes=changed)
        quarantine.remove(host, gone)
    return Outcome(True, f"{named} may be loaded on this host again.", changes=changed)


def _warded_as(host: Host, level: object) -> tuple[Warded, ...]:
    """What is refused as that level of the running kernel build, or by that digest. What was loaded by hand
    was noted without a level: that it is this one the catalog can tell, if it can be had."""
    warded, kernel = quarantine.read_warded(host), read_kernel(host.roots)
    if not isinstance(level, int):
        return tuple(one for one in warded if one.sha256 == level)
    try:
        digest = _digest_of(host, kernel, level) if any(one.level != level for one in warded) else ""
    except LivepatchError:
        digest = ""
    return tuple(
        one
        for one in warded
        if one.sha256 == digest or (one.kernel == kernel.identity.build_id and one.level == level)
    )


def _in_force(host: Host, kernel: Kernel, record: Record) -> Loaded:
    situation = observe(host, kernel, record)
    top = situation.top
    if top is None or top.level is None or situation.level is None or not situation.whole:
        raise LivepatchError(
            Kind.ARGUMENT,
            "No level is wholly in force on this host, so none can be kept over a boot; nothing was changed.",
            remedy="Apply a level first (livepatch.apply).",
        )
    return top


def _fetch(host: Host, kernel: Kernel, top: Loaded) -> bytes:
    """The stored bytes of the level in force, from the catalog: those that were loaded, by their digest."""
    release = kernel.identity.release
    target = Target(top.level, top.sha256, Source.APPROVAL)
    fetched = fetch_catalog(host, release)
    level = choose_level(fetched.catalog, kernel.identity, target)
    signed = publisher.examine(host, fetched.data, kernel.identity.build_id or "", level)
    preflight.refuse(signed, level.name)
    return fetch_offer(host, release, level, top.sha256).stored


def _kept(host: Host, top: Loaded) -> Kept:
    return Kept(top.level or 0, top.sha256, top.name, top.fixes, host.timestamp())


def _digest_of(host: Host, kernel: Kernel, level: int) -> str:
    """Of what is loaded as that level in this boot, or else of what the catalog offers."""
    record = read_record(host.settings.record_file)
    for one in record.loaded:
        if one.level == level and one.boot_id == kernel.identity.boot_id:
            return one.sha256
    catalog = read_catalog(host, kernel.identity.release)
    return choose_level(catalog, kernel.identity, Target(level, None, Source.BY_HAND)).sha256


def _unproven(top: Loaded) -> LivepatchError:
    return LivepatchError(
        Kind.HEALTH,
        f"Level {top.level} has not proved healthy on this host; nothing was changed.",
        remedy="Load it again (livepatch.revert, livepatch.apply) and let its soak end.",
    )


def _no_level(level: object) -> LivepatchError:
    return LivepatchError(
        Kind.ARGUMENT,
        f"The level is {level!r}, not a positive integer; nothing was changed.",
        remedy="livepatch.available shows the levels.",
    )
