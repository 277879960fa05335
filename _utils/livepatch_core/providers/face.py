"""The one face: which systems are at work here, what each has in force, and which must not be mixed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from livepatch_core.errors import LivepatchError, cause
from livepatch_core.host.outcome import Outcome
from livepatch_core.host.programs import ACT_SECONDS, QUESTION_SECONDS, Run, Said, run
from livepatch_core.host.status import Klp
from livepatch_core.kernel.attributes import read_text
from livepatch_core.kernel.environment import other_managers
from livepatch_core.kernel.identity import read_identity
from livepatch_core.kernel.patches import read_patches
from livepatch_core.kernel.roots import RUNNING, Roots
from livepatch_core.providers import canonical, kernelcare, kgraft, ksplice
from livepatch_core.providers.found import Found
from livepatch_core.words import Kind, Verdict, Word


class Provider(Word):
    KLP = "klp"  # the kernel's own livepatch, whatever tool made the module
    KGRAFT = "kgraft"
    KSPLICE = "ksplice"
    KERNELCARE = "kernelcare"
    CANONICAL = "canonical"


@dataclass(frozen=True)
class Site:
    """Where to look, and how vendors' programs are called."""

    roots: Roots = RUNNING
    run: Run = run


def statuses(site: Site) -> dict[str, Found]:
    """Every system but klp that is at work here, and what it has in force. Reads only.

    A program that fails or hangs makes its system ``unknown``; it is then at work all the same.
    """
    asked = {
        Provider.KGRAFT: _kgraft,
        Provider.KSPLICE: _ksplice,
        Provider.KERNELCARE: _kernelcare,
        Provider.CANONICAL: _canonical,
    }
    found: dict[str, Found] = {}
    for provider, ask in asked.items():
        try:
            answer = ask(site)
        except LivepatchError as problem:
            answer = Found(Verdict.UNKNOWN, problem.message)
        if answer is not None:
            found[str(provider)] = answer
    return found


def others(found: Mapping[str, Found]) -> list[dict[str, Any]]:
    """The same as plain data, each with its ``provider``. Pure."""
    return [{"provider": name, **one.document()} for name, one in found.items()]


_IN_FORCE = (Verdict.PATCHED, Verdict.PATCHING, Verdict.STALLED, Verdict.REVERTING)
_AT_WORK = (*_IN_FORCE, Verdict.UNKNOWN)


def conflicts(klp: Klp, found: Mapping[str, Found], managers: Iterable[str] = ()) -> list[str]:
    """Sentences about systems that must not be mixed. Pure. managers: of kernel/environment.py."""
    active = sorted(name for name, one in found.items() if one.verdict in _AT_WORK)
    # Canonical's patches are what klp shows as well: beside it klp is one more system only with ours there.
    # A client that cannot say has none in the kernel if all that klp shows is ours.
    client = found.get(Provider.CANONICAL)
    mixed = klp.ours and client is not None and (client.verdict in _IN_FORCE or bool(klp.foreign))
    ours = [str(Provider.KLP)] if klp.active and (mixed or Provider.CANONICAL not in active) else []
    said = []
    if Provider.KERNELCARE in found and len({*active, *ours} - {str(Provider.KERNELCARE)}):
        rest = ", ".join(sorted({*active, *ours} - {str(Provider.KERNELCARE)}))
        said.append(f"KernelCare must not be mixed with another live-patch system, and {rest} is at work too")
    if len(active + ours) > 1 and not said:
        said.append(f"more than one system patches this kernel: {', '.join(sorted(active + ours))}")
    if "kpatch.service" in managers and (active or ours):
        said.append("kpatch.service loads modules of its own at boot")
    return said


def refuse_mixing(site: Site, provider: str) -> None:
    """KernelCare and anything else must not be brought into one kernel. Raises LivepatchError (conflict)."""
    at_work = {name for name, one in statuses(site).items() if one.verdict in _AT_WORK}
    if provider == Provider.KERNELCARE:
        klp = {f"patch {one.name} of the kernel's own livepatch" for one in read_patches(site.roots)}
        others = at_work - {str(Provider.KERNELCARE)} | klp
    else:
        others = at_work & {str(Provider.KERNELCARE)}
    if others:
        names = ", ".join(sorted(others))
        raise LivepatchError(
            Kind.CONFLICT,
            f"KernelCare must not be mixed with another live-patch system, and {names} is at work here: "
            f"{provider} was not asked for anything; nothing was changed.",
            remedy="Take that out first (a level: livepatch.revert), then ask again.",
        )


def apply(site: Site, provider: str) -> Outcome:
    """Have a vendor's client bring in what it has; the outcome is what the system then says of itself.

    Raises LivepatchError (argument, unsupported, internal).
    """
    commands = {
        Provider.KSPLICE: _chosen(site, ksplice.APPLY),
        Provider.KERNELCARE: kernelcare.APPLY,
        Provider.CANONICAL: canonical.APPLY,
    }
    return _act(site, _known(provider), commands, "apply", _has_all)


def revert(site: Site, provider: str) -> Outcome:
    """Take everything of that system out, where it can. Raises LivepatchError (argument, unsupported ...)."""
    known = _known(provider)
    if known is Provider.KGRAFT:
        return _revert_kgraft(site)
    commands = {
        Provider.KSPLICE: _chosen(site, ksplice.REVERT),
        Provider.KERNELCARE: kernelcare.REVERT,
    }
    return _act(site, known, commands, "revert", _is_out)


def _has_all(found: Found | None) -> bool:
    """What applying shall lead to. Pure."""
    return found is not None and (found.verdict is Verdict.PATCHED or canonical.up_to_date(found))


def _is_out(found: Found | None) -> bool:
    """What reverting shall lead to. Pure."""
    return found is None or found.verdict is Verdict.UNPATCHED


_CANNOT = {
    (Provider.KLP, "apply"): "Use livepatch.apply.",
    (Provider.KLP, "revert"): "Use livepatch.revert.",
    (
        Provider.KGRAFT,
        "apply",
    ): "Its patches come as packages (kgraft-patch-*), which load them when installed.",
    (Provider.CANONICAL, "revert"): "Only a boot takes its patches out: use method kexec or reboot.",
}


def _act(
    site: Site,
    provider: Provider,
    commands: Mapping[Provider, tuple[str, ...] | None],
    what: str,
    good: Callable[[Found | None], bool],
) -> Outcome:
    command = commands.get(provider)
    if command is None:
        remedy = _CANNOT.get((provider, what), "Its client is not installed here.")
        raise LivepatchError(
            Kind.UNSUPPORTED, f"{provider} cannot {what} here; nothing was changed.", remedy=remedy
        )
    before = statuses(site).get(str(provider))
    try:
        said = site.run(command, ACT_SECONDS)
    except LivepatchError as problem:  # it hung: what it did meanwhile its system says
        said = Said(-1, "", str(problem))
    if said is None:
        raise LivepatchError(
            Kind.UNSUPPORTED,
            f"{command[0]} is not installed; nothing was changed.",
            remedy="Install the client.",
        )
    return _outcome(
        provider, what, before, statuses(site).get(str(provider)), said.status, said.complaint, good
    )


def _outcome(
    provider: Provider,
    what: str,
    before: Found | None,
    after: Found | None,
    status: int,
    complaint: str,
    good: Callable[[Found | None], bool],
) -> Outcome:
    """What the system says of itself decides, not the exit status of its program. Pure."""
    verdict = after.verdict if after else Verdict.UNPATCHED
    old, new = _core(before), _core(after)
    changes = {"provider": {"old": old, "new": new}} if old != new else {}
    reason = after.reason if after else "nothing of it is at work any more"
    if good(after):
        return Outcome(True, f"{provider}: {reason}.", changes=changes)
    said = f"its client: {complaint}, status {status}"
    text = f"{provider} was asked to {what} and is {verdict}: {reason} ({said})."
    return Outcome(False, text, Kind.INTERNAL, changes)


def _core(found: Found | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"verdict": str(found.verdict), "effective": found.effective, "fixes": sorted(found.fixes)}


def _revert_kgraft(site: Site) -> Outcome:
    before = kgraft.status(site.roots)
    if before.verdict is Verdict.UNPATCHED:
        return Outcome(True, "No kGraft patch is in force.")
    if before.verdict is not Verdict.PATCHED:
        raise LivepatchError(Kind.BUSY, f"{before.reason}; nothing was changed.", remedy="Wait for it.")
    begun: list[str] = []
    stopped: LivepatchError | None = None
    try:
        for patch in reversed(before.patches):
            kgraft.revert(site.roots, patch)
            begun.append(patch)
    except LivepatchError as problem:  # it takes one at a time: the next waits until no task is left to move
        if not begun:
            raise
        stopped = problem
    after = kgraft.status(site.roots)
    changes = {"provider": {"old": _core(before), "new": _core(after)}}
    if stopped is None:
        return Outcome(True, f"kGraft: {after.reason}.", changes=changes)
    text = (
        f"kGraft began to revert {', '.join(begun)}. Then: {cause(stopped)}; nothing more was changed. "
        f"{after.reason}. {stopped.remedy}"
    )
    return Outcome(False, text, stopped.kind, changes)


def _known(provider: str) -> Provider:
    try:
        return Provider(provider)
    except ValueError:
        names = ", ".join(Provider)
        raise LivepatchError(
            Kind.ARGUMENT, f"There is no provider {provider}; nothing was changed.", remedy=f"One of {names}."
        ) from None


def _chosen(site: Site, commands: Mapping[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    """The command of the Ksplice client that is installed."""
    found = ksplice.client_of(site.run, QUESTION_SECONDS)
    return commands[found[0]] if found else None


def _kgraft(site: Site) -> Found | None:
    return kgraft.status(site.roots) if kgraft.present(site.roots) else None


def _ksplice(site: Site) -> Found | None:
    in_kernel = ksplice.kernel_shows(site.roots)
    client = ksplice.client_of(site.run, QUESTION_SECONDS)
    if client is None:
        reason = "the kernel has Ksplice updates, and no client is installed that could say which"
        return Found(Verdict.UNKNOWN, reason, evidence="kernel") if in_kernel else None
    uname = site.run(ksplice.UPTRACK, QUESTION_SECONDS)
    return ksplice.judge(client[1], uname, in_kernel)


def _kernelcare(site: Site) -> Found | None:
    in_kernel = "kernelcare" in other_managers(site.roots)
    status, info = (site.run(one, QUESTION_SECONDS) for one in (kernelcare.STATUS, kernelcare.INFO))
    if status is None or info is None:
        reason = "KernelCare's module is in the kernel, and kcarectl is not installed"
        return Found(Verdict.UNKNOWN, reason, evidence="kernel") if in_kernel else None
    effective = read_text(site.roots.proc / "kcare/effective_version")
    if not effective:
        said = site.run(kernelcare.UNAME, QUESTION_SECONDS)
        effective = said.out.strip() if said and said.status == 0 else None
    return kernelcare.judge(
        status, info, site.run(kernelcare.PATCHES, QUESTION_SECONDS), effective, in_kernel
    )


def _canonical(site: Site) -> Found | None:
    said = site.run(canonical.STATUS, QUESTION_SECONDS)
    return None if said is None else canonical.judge(said, read_identity(site.roots).release)
