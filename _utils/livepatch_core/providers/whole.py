"""livepatch.status and the grain, true whichever system is underneath."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from livepatch_core.host import status as klp_status
from livepatch_core.host.context import Host
from livepatch_core.host.programs import Said
from livepatch_core.host.status import Klp, Origin, Recognise, Seen
from livepatch_core.providers import canonical
from livepatch_core.providers.face import Provider, Site, conflicts, others, statuses
from livepatch_core.providers.found import Found
from livepatch_core.words import Flag, Verdict

# A grain is read while the minion starts: a program that takes longer makes its system unknown there.
GRAIN_SECONDS = 10.0

_NOT_IN_FORCE = (Verdict.UNPATCHED, Verdict.UNCOVERED, Verdict.UNSUPPORTED)


def status(
    host: Host,
    site: Site,
    covered: bool | None = None,
    recognise: Recognise | None = None,
    origin: Origin | None = None,
) -> dict[str, Any]:
    """The document of livepatch.status. covered, recognise, origin: see host/status.py."""
    seen = klp_status.look(host, covered, recognise, origin)
    return _whole(klp_status.document(host, seen), seen, site)


def grain(host: Host, site: Site) -> dict[str, Any]:
    """The few words that hosts are targeted by."""

    def soon(command: Sequence[str], seconds: float) -> Said | None:
        return site.run(command, min(seconds, GRAIN_SECONDS))

    seen = klp_status.look(host)
    own = klp_status.grain(seen)
    whole = _whole({**own, "reason": "", "fixes": []}, seen, replace(site, run=soon))
    return {key: whole[key] for key in own}


def _whole(document: Mapping[str, Any], seen: Seen, site: Site) -> dict[str, Any]:
    managers = seen.kernel.environment.other_managers
    return merged(document, klp_status.klp(seen), statuses(site), managers)


def merged(
    document: Mapping[str, Any], klp: Klp, found: Mapping[str, Found], managers: Iterable[str] = ()
) -> dict[str, Any]:
    """``document``, which knows of klp alone, with what the other systems say. Pure.

    Where klp has nothing in force and one other system has, the verdict, fixes and provider are that one's.
    ``providers`` lists every other system; ``conflicts`` says what must not be mixed, ``doubts`` why else
    something here is not to be relied upon, and the flag ``doubtful`` goes with either.
    """
    managers = tuple(managers)
    said = conflicts(klp, found, managers)
    doubts = [*document.get("doubts", ())]
    doubts += [f"{name}: {one.doubtful}" for name, one in found.items() if one.doubtful]
    doubts += _against_the_kernel(klp, found)
    flags = list(document["flags"])
    if (said or doubts) and Flag.DOUBTFUL not in flags:
        flags.append(str(Flag.DOUBTFUL))
    return {
        **document,
        **_verdict(klp, found, managers, said),
        "flags": flags,
        "providers": others(found),
        "conflicts": said,
        "doubts": doubts,
    }


def _verdict(
    klp: Klp, found: Mapping[str, Found], managers: Iterable[str], mixed: list[str]
) -> dict[str, Any]:
    """What replaces klp's own verdict; nothing where that one stands. mixed: the conflicts."""
    client = found.get(Provider.CANONICAL)
    # Canonical's patches are livepatch modules, which the kernel shows: its word counts if all are its own.
    canonicals = klp.resting and not klp.ours and klp.foreign and not _strangers(klp)
    if client is not None and client.verdict is Verdict.PATCHED and canonicals:
        return _of(str(Provider.CANONICAL), client)
    hidden = {
        name: one
        for name, one in found.items()
        if name != Provider.CANONICAL and one.verdict not in _NOT_IN_FORCE
    }
    if not klp.idle:
        return {}
    if "kpatch-core" in managers:
        text = "kpatch's own core, of before the kernel had livepatch, is loaded, and nothing here can ask it"
        return {"verdict": str(Verdict.UNKNOWN), "reason": text}
    if len(hidden) == 1:
        ((name, one),) = hidden.items()
        return _of(name, one)
    return {"verdict": str(Verdict.UNKNOWN), "reason": mixed[0]} if hidden else {}


def _of(name: str, one: Found) -> dict[str, Any]:
    return {
        "verdict": str(one.verdict),
        "reason": one.reason,
        "provider": name,
        "fixes": sorted(one.fixes),
        "effective": one.effective,
    }


def _against_the_kernel(klp: Klp, found: Mapping[str, Found]) -> list[str]:
    """What Canonical's client says is in force and the kernel does not show; the kernel is believed."""
    client = found.get(Provider.CANONICAL)
    if client is None or client.verdict is not Verdict.PATCHED:
        return []
    said = "canonical says that its patches are in force, and"
    if not klp.idle and not klp.active:
        return [f"{said} what the kernel has could not be read"]
    if not klp.foreign:
        return [f"{said} the kernel shows none"]
    strangers = _strangers(klp)
    return [f"{said} nothing shows that {', '.join(strangers)} is one of them"] if strangers else []


def _strangers(klp: Klp) -> list[str]:
    """Patches that neither this host nor, by their name, Canonical's client loaded."""
    return [name for name in klp.foreign if not name.startswith(canonical.MODULES)]
