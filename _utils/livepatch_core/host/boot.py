"""What the boot unit does: judge the last boot, then load the highest proven level. No master, no network."""

from __future__ import annotations

import dataclasses
from typing import Any

from livepatch_core.catalog.model import Fix, Level, LevelStatus
from livepatch_core.errors import LivepatchError
from livepatch_core.host import (
    armed,
    change,
    crash,
    health,
    move,
    nextboot,
    preflight,
    quarantine,
    soak,
    store,
)
from livepatch_core.host.approval import Source, authority
from livepatch_core.host.change import Ending
from livepatch_core.host.context import Host
from livepatch_core.host.facts import gather
from livepatch_core.host.intent import Act
from livepatch_core.host.lock import exclusive
from livepatch_core.host.outcome import Outcome, changes, refused
from livepatch_core.host.promise import promise
from livepatch_core.host.quarantine import Warded
from livepatch_core.host.record import Record, read_record
from livepatch_core.host.situation import observe
from livepatch_core.host.statefile import write_document
from livepatch_core.host.store import Kept
from livepatch_core.kernel.running import Kernel, read_kernel
from livepatch_core.modulefile.read import read_with_payload
from livepatch_core.words import Kind

_CAPTURE = Outcome(
    True,
    "This kernel was started to save the dump of one that crashed (/proc/vmcore is there): nothing was "
    "judged, loaded or disarmed. The next boot of a usual kernel judges the crash.",
)


def start(host: Host) -> Outcome:
    """Everything at boot; what came of it is left for the minion in ``boot.json``. Raises nothing that a
    LivepatchError says: a boot must go on."""
    if crash.saves_dump(host):
        return _CAPTURE
    kernel = read_kernel(host.roots)
    warded: Warded | None = None
    try:
        with exclusive(host.settings.lock_file, "boot"):
            boot_id = change.boot_of(kernel)
            warded = crash.breaker(host, boot_id)
            outcome = _load_proven(host, kernel)
    except LivepatchError as error:
        outcome = refused(error)
    return _reported(host, kernel, outcome, warded)


def stop(host: Host) -> Outcome:
    """An orderly shutdown: whatever happens from here on is not the level's doing."""
    if crash.saves_dump(host):
        return _CAPTURE
    armed.disarm(host)
    return Outcome(True, "Disarmed for an orderly shutdown.")


def _load_proven(host: Host, kernel: Kernel) -> Outcome:
    record = move.recover(host, read_record(host.settings.record_file))
    choice = nextboot.read_choice(host, kernel.identity.build_id, record)
    if choice.kept is None:
        return Outcome(True, f"No level was loaded at boot: {choice.why}.")
    situation = observe(host, kernel, record)
    move.refuse_unsettled(situation)
    if kernel.patches:
        return Outcome(True, "A patch is in force already; the boot unit changed nothing.")
    before = health.sample(host)
    done = _load(host, kernel, record, choice.kept)
    details: dict[str, Any] = {}
    try:
        found = armed.read_armed(host)
        if found is not None:
            soak.begin(host, found, before)
    except LivepatchError as problem:  # as after an apply: the level is in force, this is said beside it
        details = {"health_error": problem.message}
    changed = changes(0, choice.level if done.ending is Ending.COMPLETE else None, (), done.after)
    if done.ending is not Ending.COMPLETE:
        said = f"Loading level {choice.level} at boot ended {done.ending}."
        return Outcome(False, said, Kind.STALLED, changed, details)
    return Outcome(True, f"Level {choice.level} was loaded at boot: {choice.why}.", None, changed, details)


def _load(host: Host, kernel: Kernel, record: Record, kept: Kept) -> change.Change:
    data = store.read_module(host, kernel.identity.build_id or "", kept)
    quarantine.refuse(host, kept.sha256)
    module, image = read_with_payload(data)
    subject = preflight.Subject(module, host.settings.require_signature)
    preflight.refuse(preflight.examine(subject, gather(host.roots, kernel, module, record)), module.name)
    boot_id = change.boot_of(kernel)
    loaded = promise(host, module, boot_id, _level(kept))
    intent = change.new_intent(
        host,
        Act.LOAD,
        True,
        module.name,
        boot_id,
        loaded=loaded,
        reason="proven level, at boot",
        authority=authority(Source.BOOT, kept.level, record),
    )
    limits = change.limits_for(host, kernel.environment, None, None)
    return change.load(host, record, loaded, intent, image, limits)


def _level(kept: Kept) -> Level:
    return Level(
        number=kept.level,
        status=LevelStatus.RELEASED,
        module=f"{kept.sha256}.ko",
        name=kept.name,
        sha256=kept.sha256,
        fixes=tuple(Fix(cve) for cve in kept.fixes),
    )


def _reported(host: Host, kernel: Kernel, outcome: Outcome, warded: Warded | None) -> Outcome:
    """The outcome, which says so where no report of it could be left."""
    document = outcome.document()
    document.update(boot_id=kernel.identity.boot_id, at=host.timestamp())
    if warded is not None:
        document["warded"] = {"level": warded.level, "ward": str(warded.ward), "reason": warded.reason}
    try:
        write_document(host.settings.boot_file, document)
    except LivepatchError as problem:
        unseen = f"{outcome.comment} The minion will not know: {problem.evidence['why']}."
        return dataclasses.replace(outcome, comment=unseen)
    return outcome
