"""Questions about catalog, module files and journal that change nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from livepatch_core.catalog.model import Level
from livepatch_core.errors import LivepatchError
from livepatch_core.host import journal, move, offer, preflight, publisher, quarantine
from livepatch_core.host.approval import Source
from livepatch_core.host.checks.check import Check
from livepatch_core.host.context import Host
from livepatch_core.host.facts import gather
from livepatch_core.host.move import Wish
from livepatch_core.host.offer import choose_level, fetch_catalog, fetch_offer, read_catalog
from livepatch_core.host.recognise import recognise
from livepatch_core.host.record import Record, read_record
from livepatch_core.kernel.identity import read_identity
from livepatch_core.kernel.running import Kernel, read_kernel
from livepatch_core.modulefile.model import ModuleFile
from livepatch_core.modulefile.read import read_module
from livepatch_core.words import CheckVerdict, Kind


def available(host: Host) -> dict[str, Any]:
    """The catalog's levels for the running kernel build."""
    identity = read_identity(host.roots)
    catalog = read_catalog(host, identity.release)
    build = catalog.builds.get(identity.build_id or "")
    levels = build.levels if build else {}
    return {
        "release": identity.release,
        "build_id": identity.build_id,
        "levels": {number: _level(level) for number, level in sorted(levels.items())},
    }


def covered(host: Host) -> bool | None:
    """Whether the catalog has released a level for this kernel build; None when that cannot be told."""
    return offer.covered(host, read_identity(host.roots))


def info(data: bytes) -> dict[str, Any]:
    """Everything a module file says about itself, as plain data."""
    module = read_module(data)
    document = {
        key: value for key, value in dataclasses.asdict(module).items() if key not in ("modinfo", "versions")
    }
    document["modinfo"] = [f"{key}={value}" for key, value in module.modinfo]
    document["objects"] = {
        one.name: {
            "functions": [f"{f.name},{f.sympos}" for f in one.functions],
            "callbacks": list(one.callbacks),
        }
        for one in module.objects
    }
    document["klp_symbols"] = [f"{s.object}.{s.name},{s.sympos}" for s in module.klp_symbols]
    document["states"] = {state.id: state.version for state in module.states}
    document["maker"] = str(module.maker) if module.maker else None
    return {key: _plain(value) for key, value in document.items()}


def preflight_level(host: Host, wish: Wish) -> dict[str, Any]:
    """Preflight of the module that ``wish`` would load, and what it would take to load it."""
    kernel = read_kernel(host.roots)
    record = recognise(host, kernel, read_record(host.settings.record_file))
    target, _ = move.aim(host, wish, record, kernel)
    if target.source is not Source.NEWEST and target.level == 0:
        return {"result": True, "comment": "Level 0 loads nothing: there is nothing to check.", "checks": []}
    release = kernel.identity.release
    fetched = fetch_catalog(host, release)
    level = choose_level(fetched.catalog, kernel.identity, target)
    quarantine.refuse(host, level.sha256)
    signed = publisher.examine(host, fetched.data, kernel.identity.build_id or "", level)
    module = fetch_offer(host, release, level, target.sha256).module
    return _preflight(host, kernel, record, module, wish.override, signed)


def preflight_file(host: Host, data: bytes, override: Iterable[str]) -> dict[str, Any]:
    """Preflight of a module file that no catalog need know."""
    kernel = read_kernel(host.roots)
    record = recognise(host, kernel, read_record(host.settings.record_file))
    return _preflight(host, kernel, record, read_module(data), override)


def _preflight(
    host: Host,
    kernel: Kernel,
    record: Record,
    module: ModuleFile,
    override: Iterable[str],
    before: tuple[Check, ...] = (),
) -> dict[str, Any]:
    """Every check of one module against this kernel, and those made ``before``; ``result`` says whether apply
    would load it."""
    facts = gather(host.roots, kernel, module, record)
    subject = preflight.Subject(module, host.settings.require_signature)
    checks = (*before, *preflight.examine(subject, facts, override))
    first = preflight.refusal(checks)
    passed = sum(check.verdict is CheckVerdict.PASS for check in checks)
    comment = f"{passed} of {len(checks)} checks pass; "
    comment += (
        "the module can be loaded."
        if first is None
        else f"it would be refused: {first.reason}. {first.remedy}".rstrip()
    )
    document = {
        "result": first is None,
        "comment": comment,
        "module": module.name,
        "checks": [check.document() for check in checks],
    }
    return document if first is None else {**document, "kind": str(first.kind)}


def history(host: Host, limit: int) -> list[dict[str, Any]]:
    """The last ``limit`` acts that changed the kernel, oldest first."""
    data = journal.read_bytes(host.settings.journal_file)
    found = [{"seq": entry.seq, "hash": entry.hash, **entry.body} for entry in journal.entries(data)]
    return found[-limit:]


def verify(host: Host, head: journal.Head | None) -> dict[str, Any]:
    """Whether the journal is whole, against ``head`` (as the master knows it) or the host's own record."""
    if head is not None and (type(head.seq) is not int or head.seq < 0 or not isinstance(head.hash, str)):
        raise LivepatchError(
            Kind.ARGUMENT,
            f"The head is {head.seq!r}, {head.hash!r}; it has to be an integer and a text.",
            remedy="Give seq and hash as an act returned them (journal), or neither.",
        )
    recorded, unknown = head, ""
    if head is None:
        try:
            recorded = read_record(host.settings.record_file).journal
        except LivepatchError as problem:  # then above all the journal is asked
            unknown = f" Whether lines are missing at its end is not known. {problem.message}"
    seen = journal.verify(journal.read_bytes(host.settings.journal_file), recorded)
    return {
        "result": seen.state is journal.JournalState.WHOLE and not unknown,
        "state": str(seen.state),
        "entries": seen.entries,
        "head": {"seq": seen.head.seq, "hash": seen.head.hash},
        "comment": f"The journal is {seen.state}: {seen.detail}.{unknown}",
    }


def _level(level: Level) -> dict[str, Any]:
    shown = {
        "status": str(level.status),
        "module": level.name,
        "sha256": level.sha256,
        "fixes": [fix.cve or fix.summary for fix in level.fixes],
    }
    return {**shown, "reason": level.reason} if level.reason else shown


def _plain(value: Any) -> Any:
    """msgpack and YAML know no tuples, sets or subclasses of str: such a return never reaches the master."""
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, frozenset):
        return sorted(_plain(one) for one in value)
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, str) else value
