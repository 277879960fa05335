"""Whether somebody has approved a host for something else since this rollout's last word about it. Pure.

The newest word wins: before a rollout approves a host, and before it tells it to move, it looks into the
ledger, and leaves alone whom somebody else has sent elsewhere. Its last word is its own last approval of the
host; before the first that is what the ledger said when the plan was made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Optional

from livepatch_core.catalog.read import BUILD_ID
from livepatch_core.rollout.state import Host, State

Said = Mapping[str, tuple[int, int]]  # by kernel build: a level, and the rev at which that was said
Meant = Mapping[str, Collection[int]]  # by kernel build: levels that are not somebody else's word


def found(state: State, names: Iterable[str], said: Mapping[str, Said], *, back: bool) -> dict[str, int]:
    """Who is to have another level, or another kernel, than this rollout would bring it to, and that level.

    back: it would take them back; whoever was approved for the level that it came from, or once more for the
    one that is taken back, goes with the others."""
    meant = _left if back else _meant
    levels = {
        name: _elsewhere(state, state.hosts[name], said.get(name, {}), meant(state, state.hosts[name]))
        for name in names
    }
    return {name: level for name, level in levels.items() if level is not None}


def approved(state: State, names: Iterable[str], said: Mapping[str, Said]) -> frozenset[str]:
    """Of whom the ledger has what this rollout would approve, and since its last word: an act whose outcome
    could not be recorded, mostly."""
    hosts = {name: state.hosts[name] for name in names}
    return frozenset(
        name
        for name, host in hosts.items()
        for key, grant in state.granted(host).items()
        if said.get(name, {}).get(key, (-1, 0))[0] == grant.level
        and said[name][key][1] > (host.rev or state.plan.rev or 0)
    )


def _meant(state: State, host: Host) -> Meant:
    return {key: (grant.level,) for key, grant in state.granted(host).items()}


def _left(state: State, host: Host) -> Meant:
    target = state.target(host)
    here = {host.build: (host.before, *([] if target is None else [target.level]))}
    return {host.kernel: (0,), **here} if host.restarts else here


def _elsewhere(state: State, host: Host, said: Said, meant: Meant) -> Optional[int]:
    """Of another kernel, which has its release among the approvals, the highest level that it can have there.
    Levels of other kernel builds alone say nothing: who approves by hand approves them for all hosts."""
    known = host.rev or state.plan.rev
    if known is None:
        return None
    newer = {key: level for key, (level, rev) in said.items() if rev > known}
    for key in (host.build, *meant):
        if key in newer and newer[key] not in meant.get(key, ()):
            return newer[key]
    kernels = {key for key in newer if not BUILD_ID.fullmatch(key)} - meant.keys()
    return max(newer.values()) if kernels else None
