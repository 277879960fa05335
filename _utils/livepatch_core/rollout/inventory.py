"""What the master knows of the hosts and levels that a plan is made from.

A host's facts come from the host where it answers, from cached grains where it does not; who is targeted is
never dropped: without either it is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from livepatch_core.catalog.model import LevelStatus
from livepatch_core.catalog.shelf import Standing
from livepatch_core.errors import LivepatchError
from livepatch_core.ledger.grants import check_level
from livepatch_core.rollout.clock import Clock
from livepatch_core.rollout.fleet import MOST_HOSTS, Fleet, FleetError, Verb
from livepatch_core.rollout.model import Grant, HostFacts
from livepatch_core.words import Kind

NOTHING: Mapping[str, int] = {}
GRAIN = "livepatch"  # what this project's own grain is called


@dataclass(frozen=True)
class Offers:
    """What the catalog has for the level that is asked for. level: that of the highest grant, where newest
    was asked. The others as in planning.make_plan."""

    level: int
    grants: Mapping[str, Grant]
    back: Mapping[str, Mapping[int, Grant]]
    blocked: Mapping[str, str]
    testing: tuple[str, ...]
    arrivals: Mapping[str, Mapping[str, Grant]]


def ask(
    fleet: Fleet,
    clock: Clock,
    hosts: Sequence[str],
    grains: Sequence[str],
    seconds: float,
    kernel: Optional[str] = None,
) -> dict[str, Mapping[str, Any]]:
    """A look at each host that answers within ``seconds``, its ``grains`` of those names beside it, and which
    installed kernel ``kernel`` means there, where that is of interest.

    Raises LivepatchError (internal) when they could not be asked.
    """
    try:
        wanted = {"grains": list(grains), **({} if kernel is None else {"kernel": kernel})}
        return gather(fleet, clock, hosts, Verb.LOOK, wanted, seconds)
    except FleetError as problem:
        raise unasked(problem) from problem


def unasked(problem: FleetError) -> LivepatchError:
    return LivepatchError(
        Kind.INTERNAL,
        f"The hosts could not be asked how they are: {problem}; nothing was changed.",
        remedy="See whether the master runs, and its log; then ask again.",
    )


def gather(
    fleet: Fleet, clock: Clock, hosts: Sequence[str], verb: Verb, wanted: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """What each host that answers within ``seconds`` returns. Raises FleetError."""
    deadline = clock.monotonic() + seconds
    jobs: dict[str, frozenset[str]] = {}
    for start in range(0, len(hosts), MOST_HOSTS):
        chunk = hosts[start : start + MOST_HOSTS]
        jid = fleet.new_jid()
        fleet.publish(jid, verb, chunk, wanted)
        jobs[jid] = frozenset(chunk)
    found: dict[str, Any] = {}
    while True:
        for jid, asked in jobs.items():
            answers = fleet.returns(jid)
            found.update({name: one["return"] for name, one in answers.items() if name in asked})
        left = deadline - clock.monotonic()
        if len(found) == len(hosts) or left <= 0:
            return found
        fleet.wait(left)


def facts_of(
    minion: str,
    answer: object,
    cached: Callable[[str], Mapping[str, Any]],
    grains: tuple[str, str],
    frozen: str = "",
    rollout: str = "",
    approved: Mapping[str, int] = NOTHING,
) -> HostFacts:
    """What is known of one host. answer: its look, None where it did not answer. cached: its grains as the
    master keeps them. grains: the names of those for domain and role. approved: by kernel build, what the
    ledger has for it.
    """
    if isinstance(answer, Mapping) and "verdict" in answer:
        own, seen = answer, answer.get("grains", {})
    else:  # what answers, but not as our extension does, is none of what the master remembers
        seen = cached(minion)
        own = seen.get(GRAIN, {}) if answer is None else {}
    own = own if isinstance(own, Mapping) else {}
    seen = seen if isinstance(seen, Mapping) else {}
    domain, role = (_word(seen, name) for name in grains)
    kernel, build_id = own.get("kernel"), _text(own.get("build_id"))
    return HostFacts(
        minion=minion,
        seen=bool(own or seen) or answer is not None,
        online=answer is not None,
        release=_text(own.get("release") or seen.get("kernelrelease")),
        build_id=build_id,
        verdict=_text(own.get("verdict")),
        level=own["level"] if type(own.get("level")) is int else None,
        flags=tuple(str(one) for one in _listed(own.get("flags"))),
        quarantined=_quarantined(_listed(own.get("warded")), build_id),
        domain=domain,
        role=role,
        version=_text(own.get("version")),
        frozen=frozen,
        rollout=rollout,
        kernel=_text(kernel.get("release")) if isinstance(kernel, Mapping) else None,
        approved=approved.get(build_id or ""),
    )


def offers(standings: Iterable[Standing], level: object, builds: Collection[str]) -> Offers:
    """The grants that ``level`` (an integer from 0, or ``newest``) means. builds: what the hosts run; level 0
    needs no catalog. Raises LivepatchError (argument, catalog).
    """
    check_level(level)
    by_build: dict[str, list[Standing]] = {}
    for one in standings:
        by_build.setdefault(one.build_id, []).append(one)
    if level == 0:
        zero = {build: Grant(0, None) for build in {*by_build, *builds}}
        return Offers(0, zero, _back(by_build), {}, (), _arrivals(by_build, zero))
    chosen = {build: _chosen(there, level) for build, there in by_build.items()}
    meant = {build: one for build, one in chosen.items() if one is not None}
    if not meant:
        name = "released level" if level == "newest" else f"level {level}"
        raise LivepatchError(
            Kind.CATALOG,
            f"The catalog has no {name} for any kernel build; nothing was changed.",
            remedy="See livepatch_catalog.list.",
        )
    open_ = {build: one for build, one in meant.items() if one.status is not LevelStatus.BLOCKED}
    return Offers(
        level=max(one.level.number for one in meant.values()),
        grants={build: Grant(one.level.number, one.level.sha256) for build, one in open_.items()},
        back=_back(by_build),
        blocked={
            build: one.level.reason or "no reason was given"
            for build, one in meant.items()
            if build not in open_
        },
        testing=tuple(sorted(build for build, one in open_.items() if one.status is LevelStatus.TESTING)),
        arrivals=_arrivals(
            by_build,
            {
                build: Grant(one.level.number, one.level.sha256)
                for build, one in open_.items()
                if one.status is LevelStatus.RELEASED
            },
        ),
    )


def _arrivals(
    by_build: Mapping[str, list[Standing]], asked: Mapping[str, Grant]
) -> dict[str, dict[str, Grant]]:
    """The level asked for where a kernel build has it, released; else its newest that is."""
    found: dict[str, dict[str, Grant]] = {}
    for build, there in by_build.items():
        newest = _chosen(there, "newest")
        own = None if newest is None else Grant(newest.level.number, newest.level.sha256)
        grant = asked.get(build, own)
        if grant is not None:
            found.setdefault(there[0].release, {})[build] = grant
    return found


def _chosen(there: list[Standing], level: object) -> Optional[Standing]:
    if level != "newest":
        return next((one for one in there if one.level.number == level), None)
    released = [one for one in there if one.status is LevelStatus.RELEASED]
    return max(released, key=lambda one: one.level.number, default=None)


def _back(by_build: Mapping[str, list[Standing]]) -> dict[str, dict[int, Grant]]:
    return {
        build: {
            one.level.number: Grant(one.level.number, one.level.sha256)
            for one in there
            if one.status is LevelStatus.RELEASED
        }
        for build, there in by_build.items()
    }


def _word(grains: object, name: str) -> str:
    """The grain ``a:b`` of nested ones as text; empty where there is none or it is no single value."""
    value = grains.get(name) if isinstance(grains, Mapping) else None
    if value is None and ":" in name:
        value = grains
        for part in name.split(":"):
            value = value.get(part) if isinstance(value, Mapping) else None
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def _text(value: object) -> Optional[str]:
    return value if isinstance(value, str) and value else None


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _quarantined(warded: Iterable[object], build_id: Optional[str]) -> tuple[int, ...]:
    """The levels of the kernel that runs; what is inconclusive is refused as well."""
    levels = (
        one.get("level") for one in warded if isinstance(one, Mapping) and one.get("kernel") == build_id
    )
    return tuple(sorted(level for level in levels if type(level) is int))
