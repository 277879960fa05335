"""In which order hosts are reached, and who is first. Pure, and the same for any order of the input."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from livepatch_core.errors import LivepatchError
from livepatch_core.rollout.model import Method, Options, Placing
from livepatch_core.words import Kind

SPREAD = 1 << 32  # positions on the line along which each domain's hosts are laid out


def stratum_of(build_id: str, role: str, method: Method = Method.LIVEPATCH) -> str:
    """Hosts of one kernel build, role and method: what fails on one is likely to fail on all."""
    return f"{build_id}/{role}" + ("" if method is Method.LIVEPATCH else f" by {method}")


def lot(seed: int, name: str) -> int:
    """A number below SPREAD that only seed and name decide: a shuffle which a new host does not disturb."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4], "big")


def in_order(hosts: Iterable[Placing], seed: int) -> list[Placing]:
    """Shuffled by the seed, domains evenly mixed: every stretch has of each domain its share, give or take
    one.

    The hosts of a domain are laid out at equal distances along one line, each domain with an offset of its
    own.
    """
    domains: dict[str, list[Placing]] = defaultdict(list)
    for host in hosts:
        domains[host.domain].append(host)
    places = []
    for domain, members in domains.items():
        offset = lot(seed, f"domain {domain}")
        shuffled = sorted(members, key=lambda one: (lot(seed, one.minion), one.minion))
        for number, host in enumerate(shuffled):
            places.append(((number * SPREAD + offset) // len(members), host.minion, host))
    return [host for _, _, host in sorted(places, key=lambda one: one[:2])]


def choose(ordered: Sequence[Placing], options: Options) -> list[Placing]:
    """The canaries among eligible hosts that are in order: those named, or of each stratum the first few,
    from domains that have the fewest canaries so far."""
    if options.canaries:
        named = set(options.canaries)
        return [host for host in ordered if host.minion in named]
    strata: dict[str, list[Placing]] = defaultdict(list)
    for host in ordered:
        strata[host.stratum].append(host)
    used: Counter[str] = Counter()
    chosen = set()
    for _, members in sorted(strata.items(), key=lambda one: (len(one[1]), one[0])):  # the least choice first
        for _ in range(min(options.canaries_per_stratum, len(members))):
            free = (host for host in members if host.minion not in chosen)
            host = min(free, key=lambda one: used[one.domain])  # the first of the least used
            used[host.domain] += 1
            chosen.add(host.minion)
    return [host for host in ordered if host.minion in chosen]


def check_named(options: Options, hosts: Iterable[Placing], eligible: Sequence[Placing]) -> None:
    """Refuse canaries that are not targeted, and a plan in which none of those named would be first.

    Raises LivepatchError (argument).
    """
    standing = {host.minion: host for host in hosts}
    strangers = [name for name in options.canaries if name not in standing]
    if strangers:
        raise _refused(f"The canaries {', '.join(strangers)} are not among the targeted hosts")
    if options.canaries and eligible and not {one.minion for one in eligible} & set(options.canaries):
        first = standing[options.canaries[0]]
        raise _refused(
            f"None of the canaries named can be moved ({first.minion} is {first.group}: {first.reason}), "
            f"and {len(eligible)} other hosts would go first"
        )


def _refused(what: str) -> LivepatchError:
    return LivepatchError(
        Kind.ARGUMENT,
        f"{what}; there is no plan, nothing was changed.",
        remedy="Name others, or leave canaries out: then one for each kernel build and role is chosen.",
    )
