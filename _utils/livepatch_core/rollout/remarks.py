"""What a plan points out beside its numbers: a sentence for each thing that an operator might not expect.
Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from livepatch_core.rollout.arithmetic import share
from livepatch_core.rollout.model import Group, HostFacts, Late, Method, Placing, Plan
from livepatch_core.words import Flag

MANY_CANARIES = 10  # percent of the eligible hosts: more are hardly a trial


def remarks(plan: Plan, facts: Mapping[str, HostFacts], version: str) -> tuple[str, ...]:
    """facts: by minion. version: the master's own."""
    moving = [one for one in plan.hosts if one.group is Group.ELIGIBLE]
    return (
        *_levels(plan, [one for one in moving if one.method is Method.LIVEPATCH], facts),
        *_restarts(plan, moving),
        *_versions(moving, version),
        *_canaries(plan, moving),
        *_waves(plan, len(moving)),
        *_domains(plan, moving),
        *_late(plan),
    )


def _levels(plan: Plan, moving: list[Placing], facts: Mapping[str, HostFacts]) -> Iterator[str]:
    testing = sum(one.build_id in plan.testing for one in moving)
    if testing:
        yield (
            f"The level of {testing} hosts is in testing: the canaries get it, every later wave waits "
            "until it is "
            "released (livepatch_catalog.promote)."
        )
    down = sum((facts[one.minion].level or 0) > plan.grants[one.build_id].level for one in moving)
    if down:
        yield f"{down} hosts are above the level asked for and go down: a planned downgrade."
    elsewhere = sum(one.before != facts[one.minion].level for one in moving)
    if elsewhere:
        yield (
            f"{elsewhere} hosts could not go back to the level they have (it cannot be approved any "
            "more), only to "
            "the next lower one."
        )
    live = [one for one in moving if one.method is Method.LIVEPATCH]
    held = sum(Flag.HELD in facts[one.minion].flags for one in live)
    if held:
        yield f"{held} hosts are held by hand or after a crash; this rollout's approval ends a hold by hand."
    drifted = sum(Flag.DRIFTED in facts[one.minion].flags for one in moving)
    if drifted:
        yield (
            f"{drifted} hosts have drifted: a patch is in force there that nobody approved; they may refuse."
        )


def _restarts(plan: Plan, moving: list[Placing]) -> Iterator[str]:
    options = plan.options
    number = sum(one.method is not Method.LIVEPATCH for one in moving)
    if not number:
        return
    drained = f"drained by {options.drain['fun']} before" if options.drain else "not drained before"
    yield (
        f"{number} hosts are started with another kernel, and {drained}: each is away for minutes. No "
        "rollback brings a kernel back that was left."
    )
    if options.bare:
        yield (
            "A host counts as done when the kernel asked for runs, at level 0 where the catalog has none "
            "for it."
        )


def _versions(moving: list[Placing], version: str) -> Iterator[str]:
    for theirs, count in sorted(Counter(one.version for one in moving).items()):
        if theirs != version:
            yield (
                f"{count} hosts have version {theirs} of the extension, accepted by name; the master "
                f"has {version}."
            )


def _canaries(plan: Plan, moving: list[Placing]) -> Iterator[str]:
    chosen = sum(one.wave == 0 for one in moving)
    if chosen > len(moving) * MANY_CANARIES / 100 and chosen > 1 and chosen < len(moving):
        yield (
            f"{chosen} of {len(moving)} eligible hosts are canaries, one at least for each kernel "
            "build and role."
        )
    first = {one.minion: one for one in plan.hosts if one.minion in plan.options.canaries}
    for name in plan.options.canaries:
        if first[name].group is not Group.ELIGIBLE:
            yield f"The canary {name} does not go first: it is {first[name].group} ({first[name].reason})."


def _waves(plan: Plan, eligible: int) -> Iterator[str]:
    reached = len(plan.waves[0]) if plan.waves else 0
    for amount in plan.options.waves:
        target = min(share(amount, eligible), eligible)
        if target <= reached and eligible:
            yield (
                f"There is no wave at {amount}: that is {target} hosts, and {reached} are reached before it."
            )
        reached = max(reached, target)


def _domains(plan: Plan, moving: list[Placing]) -> Iterator[str]:
    without = sum(not one.domain for one in moving)
    if without:
        yield (
            f"{without} hosts have no grain {plan.options.domain_grain}: they count as one domain, of "
            "which at most "
            f"{plan.domain_limits['']} are in flight."
        )


def _late(plan: Plan) -> Iterator[str]:
    away = plan.arithmetic["away"]
    if away and plan.options.late is Late.CATCH_UP:
        yield (
            f"{away} hosts do not answer now; those that come back within "
            f"{plan.options.late_for / 3600:g} h after "
            f"the last wave catch up, at most {plan.arithmetic['late_round']} between two soaks."
        )
    elif away:
        yield f"{away} hosts do not answer now and are only reported."
