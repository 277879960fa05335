"""The way back in after a process died in an act: ask the kernel what became of it, finish the journal."""

from __future__ import annotations

import dataclasses

from livepatch_core.errors import LivepatchError
from livepatch_core.host import armed, change, journal
from livepatch_core.host.change import Change, Ending, Limits
from livepatch_core.host.context import Host
from livepatch_core.host.intent import Act, Intent
from livepatch_core.host.record import Record, read_record, write_record
from livepatch_core.kernel import modules
from livepatch_core.kernel.identity import read_identity
from livepatch_core.kernel.patches import PatchState, in_transition, read_patches
from livepatch_core.kernel.stragglers import Scan
from livepatch_core.kernel.transition import Outcome as Waited
from livepatch_core.words import Kind

FORCED_SECONDS = 5.0  # the kernel looks once a second whether a forced transition can end: five looks


def resume(host: Host, record: Record, limits: Limits) -> Change | None:
    """Finish what a process that died left open; None when there is nothing, or nothing had happened yet."""
    intent = record.intent
    if intent is None:
        return None
    last = journal.last_entry(host.settings.journal_file)
    if last is not None and last.body.get("id") == intent.id:  # died between journal and record
        undone = last.body.get("ending") in change.UNDONE
        record = record.undo() if undone else record.end()
        _settled(host, dataclasses.replace(record, journal=last.head))
        return None
    ending, stall = _what_became(host, record, intent, limits)
    if ending is None:
        _settled(host, record.undo())
        return None
    return change.conclude(host, record, intent, ending, 0.0, stall, None, recovered=True)


def _settled(host: Host, record: Record) -> None:
    write_record(host.settings.record_file, record)
    armed.disarm_gone(host, {one.name for one in read_patches(host.roots)})


def abandon(host: Host, record: Record, limits: Limits) -> Record:
    """Journal an act whose process died as left in transition: whoever calls now ends it another way.

    Where it is not what is in transition now, it is finished as ``resume`` does.
    """
    intent = record.intent
    if intent is None:
        return record
    patch = in_transition(read_patches(host.roots))
    last = journal.last_entry(host.settings.journal_file)
    running = (
        patch is not None
        and patch.name == intent.patch
        and intent.boot_id == read_identity(host.roots).boot_id
        and intent.act is not Act.FORCE
        and (intent.act is not Act.REVERSE or patch.enabled == intent.target)
        and (last is None or last.body.get("id") != intent.id)
    )
    if running:
        ending = Ending.IN_TRANSITION
        return change.conclude(host, record, intent, ending, 0.0, None, None, recovered=True).record
    resume(host, record, limits)
    return read_record(host.settings.record_file)


def _what_became(
    host: Host, record: Record, intent: Intent, limits: Limits
) -> tuple[Ending | None, Scan | None]:
    """Ask the kernel about an act whose process died; None: it had not begun, the kernel is as it was."""
    boot_id = read_identity(host.roots).boot_id
    if boot_id is None:
        raise change.no_boot_id()
    if intent.boot_id != boot_id:
        return Ending.CUT_OFF, None
    patch = next((one for one in read_patches(host.roots) if one.name == intent.patch), None)
    if patch is not None and patch.state is PatchState.UNKNOWN:
        raise LivepatchError(
            Kind.INTERNAL,
            f"An act on patch {intent.patch} was cut short, and the patch's state cannot be read now; "
            "nothing was changed.",
            remedy="See /sys/kernel/livepatch on the host.",
        )
    if patch is not None and (patch.state is PatchState.DISABLED or not _same(host, record, intent)):
        patch = None  # on its way out; or another of that name, which says nothing about ours
    if patch is not None and patch.transition:
        return _rejoin(host, record, intent, patch.enabled, limits)
    return (_at_rest(intent) if patch is not None else _gone(host, record, intent)), None


def _at_rest(intent: Intent) -> Ending | None:
    if intent.target:
        return Ending.COMPLETE
    if not intent.undone:
        return None
    return Ending.REVERSED if intent.act is Act.DISABLE else Ending.TAKEN_BACK


def _gone(host: Host, record: Record, intent: Intent) -> Ending | None:
    if intent.act is Act.LOAD:  # a refused module is gone again; a reversed one stays, without its patch
        left = modules.is_loaded(host.roots, intent.patch) and _same(host, record, intent)
        return Ending.REVERSED if intent.undone or left else None
    if not intent.target:
        return Ending.COMPLETE
    if intent.act is Act.REVERSE and not intent.undone:
        return None  # the disabling that was to be reversed has come to its end
    return Ending.TAKEN_BACK


def _same(host: Host, record: Record, intent: Intent) -> bool:
    """Whether the module of that name is the one of the intent, as far as build-ids are known."""
    loaded = record.find_loaded(intent.patch, intent.boot_id)
    if loaded is None or loaded.build_id is None:
        return True
    return loaded.build_id == modules.module_build_id(host.roots, intent.patch)


def _rejoin(
    host: Host, record: Record, intent: Intent, enabled: bool | None, limits: Limits
) -> tuple[Ending | None, Scan | None]:
    """The patch of the intent is still in transition: watch it on, in whichever direction it goes."""
    if intent.act is Act.FORCE:  # if it was forced it ends at once
        waited = change.wait_for(host, intent.patch, intent.target, FORCED_SECONDS)
        return (None if waited is Waited.DEADLINE else change.ending_of(waited)), None
    if intent.act is Act.REVERSE and enabled != intent.target:
        return None, None  # died before it wrote anything
    if enabled == intent.target:
        kept = change.for_reversing(limits) if intent.act is Act.REVERSE else limits
        return change.watch(host, record, intent, kept)
    return change.watch_back(host, intent, limits, None)
