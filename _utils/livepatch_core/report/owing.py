"""Asking a fleet who owes a reboot, and the answer from which a rollout by kexec can be planned."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Optional

from livepatch_core.catalog import builds
from livepatch_core.catalog.model import Build
from livepatch_core.catalog.settings import Master
from livepatch_core.errors import LivepatchError
from livepatch_core.report.debt import Told, Why, reboot_debt
from livepatch_core.rollout import inventory
from livepatch_core.rollout.clock import Clock
from livepatch_core.rollout.fleet import Fleet, FleetError, Verb

STATUS, CANDIDATES = "livepatch.status", "kexec.candidates"
SHOWN = 200  # characters of what a host says instead of an answer
# What report/debt.py reads of a status. What is missing is no error: an older version says less.
SHAPES: dict[str, type] = {
    "verdict": str,
    "kernel": dict,
    "patches": list,
    "fixes": list,
    "providers": list,
    "reboot": dict,
}
OfCatalog = Callable[[str, str], Optional[Build]]


def of_catalog(master: Master) -> OfCatalog:
    """What the catalog says of a release's kernel build; each that can be read is read once."""
    return functools.cache(lambda release, build_id: builds.find(master, release, build_id))


def ask(
    fleet: Fleet, clock: Clock, hosts: Sequence[str], seconds: float, catalog: OfCatalog
) -> dict[str, Told | None]:
    """What each host says, None for one that does not answer. Raises LivepatchError (internal)."""
    try:
        said = inventory.gather(fleet, clock, hosts, Verb.ASK, {"fun": STATUS}, seconds)
        there = [name for name in hosts if name in said]
        kernels = inventory.gather(fleet, clock, there, Verb.ASK, {"fun": CANDIDATES}, seconds)
    except FleetError as problem:
        raise inventory.unasked(problem) from problem
    return {name: told(said[name], kernels.get(name), catalog) if name in said else None for name in hosts}


def told(status: object, candidates: object, catalog: OfCatalog) -> Told:
    """What two answers come to. A status that is none is said as such: it leaves everything open. Of a
    catalog that cannot be read the same is said beside what the host itself says.
    """
    if not isinstance(status, Mapping) or "verdict" not in status:
        return _nothing(f"livepatch.status answers {_shown(status)}")
    wrong = _misshapen(status)
    if wrong:
        return _nothing(f"livepatch.status answers what is no status: {wrong}")
    kernel = status.get("kernel", {})
    release, build_id = kernel.get("release"), kernel.get("build_id")
    build, unread = None, ""
    if isinstance(release, str) and isinstance(build_id, str):
        try:
            build = catalog(release, build_id)
        except LivepatchError as problem:
            unread = f"what the catalog says of its kernel could not be read: {problem.message}"
    return Told(status, _kernels(candidates), build, unread)


def _nothing(why: str) -> Told:
    return Told({"reboot": {"owed": None, "why": [why]}})


def _misshapen(status: Mapping[str, Any]) -> str:
    """What of a status has another shape than SHAPES, "" if nothing."""
    wrong = [name for name, shape in SHAPES.items() if not isinstance(status.get(name, shape()), shape)]
    if wrong:
        return f"{wrong[0]} is {_shown(status[wrong[0]])}"
    for one in status.get("providers", []):
        if not isinstance(one, Mapping):
            return f"a provider is {_shown(one)}"
    why = status.get("reboot", {}).get("why", [])
    return "" if isinstance(why, list) else f"why a reboot is owed is {_shown(why)}"


def _kernels(candidates: object) -> Mapping[str, Any] | None:
    """None for what does not say whether a newer kernel is installed, and which."""
    if not isinstance(candidates, Mapping) or not isinstance(candidates.get("newer"), bool):
        return None
    incomplete = candidates.get("incomplete_newer", [])  # an older version does not say it
    if not isinstance(incomplete, list) or not all(_lacks(one) for one in incomplete):
        return None
    return candidates if not candidates["newer"] or isinstance(candidates.get("newest"), str) else None


def _lacks(one: object) -> bool:
    return isinstance(one, Mapping) and "release" in one and isinstance(one.get("missing"), list)


def _shown(value: object) -> str:
    return repr(str(value)[:SHOWN])


def answer(asked: Mapping[str, Told | None], now: datetime, unmatched: Sequence[str] = ()) -> dict[str, Any]:
    """The runner's answer. Pure. unmatched: hosts of which it is not known whether they were meant."""
    rows = reboot_debt(asked, now)
    owing = [row["minion"] for row in rows if row["why"] != [str(Why.UNKNOWN)]]
    open_ = [row["minion"] for row in rows if str(Why.UNKNOWN) in row["why"]]
    unread = sorted(name for name, one in asked.items() if one is not None and one.candidates is None)
    said = [f"{len(owing)} of {len(asked)} hosts owe a reboot, of {len(open_)} it is not known."]
    if unread:
        said.append(f"Whether a newer kernel is installed is not known of {', '.join(unread)}.")
    if unmatched:
        said.append(f"Whether they were meant is not known of {', '.join(unmatched)} (no grains).")
    target = ",".join(owing)
    plan = f"salt-run livepatch.plan {shlex.quote(target)} newest tgt_type=list method=kexec"
    return {
        "result": True,
        "comment": " ".join(said),
        "owing": len(owing),
        "unknown": len(open_),
        "hosts": rows,
        "target": target,
        "plan": plan if owing else None,
        "unread": unread,
        "unmatched": list(unmatched),
    }
