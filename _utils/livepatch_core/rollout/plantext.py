"""A plan for people, in plain text. Pure: the same plan, width and zone give the same text."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Optional
from zoneinfo import ZoneInfo

from livepatch_core.rollout.arithmetic import COUNTERS, soak_after
from livepatch_core.rollout.fleet import MOST_HOSTS
from livepatch_core.rollout.model import CANARY, Group, Method, OnFail, Options, Placing, Plan
from livepatch_core.rollout.plandoc import plan_hash, rollout_id
from livepatch_core.rollout.windows import describe, describe_blackout

NAMES = 12  # of one group with one reason are named; the plan's document has all
ACTS = {
    OnFail.PAUSE: "it pauses",
    OnFail.ROLLBACK_WAVE: "the wave is rolled back",
    OnFail.ROLLBACK_ALL: "all waves are rolled back",
}


def as_text(plan: Plan, width: int = 100, zone: Optional[str] = None) -> str:
    """zone: in which times are shown; that of the first window where none is given, else UTC."""
    clock = _Clock(zone or (plan.options.windows[0].zone if plan.options.windows else "UTC"))
    sections = (
        _head(plan, clock),
        _hosts(plan),
        _waves(plan, clock),
        _limits(plan),
        _domains(plan),
        _times(plan, clock),
        _exposure(plan),
        _uncovered(plan),
        (f"* {note}" for note in plan.notes),
    )
    written = [[line for piece in section for line in _wrap(piece, width)] for section in sections]
    return "\n\n".join("\n".join(lines) for lines in written if lines) + "\n"


def duration(seconds: float) -> str:
    """The two greatest units: ``1 h 30 min``, ``45 s``."""
    rest, parts = int(seconds), []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if rest >= length:
            parts.append(f"{rest // length} {unit}")
            rest %= length
    return " ".join(parts[:2]) or "0 s"


class _Row(str):
    """A line that stays whole."""


class _Clock:
    """Moments of the plan on the wall clock of one zone."""

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)

    def show(self, moment: Optional[str]) -> str:
        if moment is None:
            return "never"
        return f"{datetime.fromisoformat(moment).astimezone(self._zone):%a %Y-%m-%d %H:%M %Z}"


def _head(plan: Plan, clock: _Clock) -> Iterator[str]:
    options = plan.options
    yield f"Rollout {rollout_id(plan)}: level {options.level} for {plan.target}{_by(options)}"
    yield f"planned {clock.show(plan.at)}, profile {options.profile}, seed {options.seed}"
    yield f"sha256 {plan_hash(plan)}"


def _by(options: Options) -> str:
    if options.method is not Method.LIVEPATCH:
        return f", by {options.method} to kernel {options.kernel}"
    if options.fallback is None:
        return ""
    return f"; what cannot be patched live, by {options.fallback} to kernel {options.kernel}"


def _hosts(plan: Plan) -> Iterator[str]:
    groups: dict[Group, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    other = set()
    for host in plan.hosts:
        groups[host.group][host.reason].append(host.minion)
        if host.method is not plan.options.method:
            other.add(host.reason)
    yield "HOSTS"
    for group in (one for one in Group if one in groups):
        reasons = groups[group]
        yield f"{sum(map(len, reasons.values())):7}  {group}"
        for reason, names in sorted(reasons.items(), key=lambda one: (-len(one[1]), one[0])):
            listed = "" if group is Group.ELIGIBLE and reason not in other else f": {_some(names)}"
            yield f"           {len(names)}: {reason}{listed}"
    yield f"{len(plan.hosts):7}  targeted"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return ", ".join(names[:NAMES]) + more


def _waves(plan: Plan, clock: _Clock) -> Iterator[str]:
    if not plan.waves:
        yield "WAVES: none, no host is eligible"
        return
    yield "WAVES"
    rows = [["", "hosts", "in all", "", "rounds", "starts at the earliest", "soak"]]
    for one in plan.arithmetic["waves"]:
        rows.append(
            [
                _name(one["wave"]),
                str(one["hosts"]),
                str(one["cumulative"]),
                _percent(one["cumulative"], plan),
                str(one["rounds"]),
                clock.show(one["starts"]),
                duration(soak_after(plan.options, one["wave"])),
            ]
        )
    yield from _table(rows)
    yield f"canaries: {_some(plan.waves[CANARY])}"


def _name(wave: int) -> str:
    return "canaries" if wave == CANARY else f"wave {wave}"


def _limits(plan: Plan) -> Iterator[str]:
    if not plan.waves:
        return
    options, limits = plan.options, plan.limits
    after = "; a level that is rolled back is blocked" if options.block_on_rollback else ""
    yield "LIMITS: the rollout stops as soon as one of these numbers exceeds"
    rows = [["", "failed", "stalled", "unreachable", "lost after patch"]]
    for number in range(len(plan.waves)):
        rows.append([_name(number), *(str(limits[name]["wave"][number]) for name in COUNTERS)])
    rows.append(["in all", *(str(limits[name]["total"]) for name in COUNTERS)])
    yield from _table(rows)
    canary, other = ACTS[options.on_fail_canary], ACTS[options.on_fail]
    yield f"Then {canary} where that is the canaries', else {other}{after}."
    for one in options.gates:
        tried = f", {one.needed} of {one.attempts}" if one.attempts > 1 else ""
        dry = ", recorded only" if one.dry_run else ""
        yield f"gate {one.name} ({one.type}, {one.when}{tried}{dry}); without data: {one.on_no_data}"


def _domains(plan: Plan) -> Iterator[str]:
    limits: dict[int, list[str]] = defaultdict(list)
    for name, limit in plan.domain_limits.items():
        limits[limit].append(name or "(none)")
    if limits:
        yield f"DOMAINS ({plan.options.domain_grain}), hosts that may be in flight or have failed in each"
        yield from (f"{limit:7}  {_some(names)}" for limit, names in sorted(limits.items()))
        yield f"{plan.options.parallel or 'any':>7}  in all, at most {MOST_HOSTS} in one job"


def _times(plan: Plan, clock: _Clock) -> Iterator[str]:
    found = plan.arithmetic
    options = plan.options
    if options.windows or options.blackouts:
        yield (
            "TIMES: waves begin only in " + " or ".join(map(describe, options.windows))
            if options.windows
            else "TIMES"
        )
        yield from (f"never in {describe_blackout(one)}" for one in options.blackouts)
    if not plan.waves:
        return
    yield (
        f"At the earliest half of the {found['eligible']} eligible hosts are patched "
        f"{_when(plan, clock, 'half')}, "
        f"all {_when(plan, clock, 'all')}; the last soak ends {_when(plan, clock, 'ends')}. "
        f"That is with {found['move_seconds']:g} s for a move, {options.stage_spread:g} s to stage a "
        "round, and "
        "nobody to wait for."
    )


def _when(plan: Plan, clock: _Clock, key: str) -> str:
    moment = plan.arithmetic[key]
    if moment is None:
        return "never (no window opens)"
    passed = (datetime.fromisoformat(moment) - datetime.fromisoformat(plan.at)).total_seconds()
    return f"{clock.show(moment)} (in {duration(passed)})"


def _exposure(plan: Plan) -> Iterator[str]:
    if not plan.waves:
        return
    yield (
        "EXPOSURE: how many hosts a fault reaches at most before it stops the rollout, unless a soak "
        "is cut short"
    )
    for one in plan.arithmetic["exposures"]:
        yield (
            f"{one['hosts']:7}  {_percent(one['hosts'], plan, away=True)} if it shows "
            f"{duration(one['detection'])} "
            f"after its first host ({_which(one['waves'], plan)})"
        )
    if plan.options.exposure is not None:
        yield _proof(plan.options, plan)


def _which(waves: Sequence[int], plan: Plan) -> str:
    names = [
        "canaries" if one == CANARY else f"wave {one}" if one < len(plan.waves) else "late hosts"
        for one in waves
    ]
    return names[0] if names[0] == names[1] else f"{names[0]} to {names[1]}"


def _proof(options: Options, plan: Plan) -> str:
    accepted = options.exposure
    assert accepted is not None
    most = next(one for one in plan.arithmetic["exposures"] if one["detection"] == accepted.detection)
    largest = max(len(wave) for wave in plan.waves)
    shortest = min(options.canary_soak, options.soak)
    how = (
        f"every soak ({duration(shortest)} or more) is as long, so no two waves fall into that time, "
        "and the largest "
        f"has {largest} hosts (late hosts: at most {plan.arithmetic['late_round']} at a time)"
        if shortest >= accepted.detection
        else f"the worst case is {_which(most['waves'], plan)}"
    )
    return (
        f"Accepted: {accepted.hosts} hosts for a fault that shows within {duration(accepted.detection)}. "
        f"Kept: {how}: {most['hosts']} <= {accepted.hosts}."
    )


def _uncovered(plan: Plan) -> Iterator[str]:
    for stratum in plan.uncovered_strata:
        build, _, role = stratum.partition("/")
        members = [one for one in plan.hosts if one.stratum == stratum]
        yield f"NO CANARY for kernel build {build}, role {role or '(none)'}: {_counts(members)}"


def _counts(members: Iterable[Placing]) -> str:
    found: dict[Group, int] = defaultdict(int)
    for one in members:
        found[one.group] += 1
    return ", ".join(f"{found[group]} {group}" for group in Group if group in found)


def _percent(hosts: int, plan: Plan, away: bool = False) -> str:
    whole = plan.arithmetic["eligible"] + (plan.arithmetic["away"] if away else 0)
    return f"{100 * hosts / whole:.0f} %" if whole else "0 %"


def _table(rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield _Row("  ".join(cell.rjust(size) for cell, size in zip(row, widths)).rstrip())


def _wrap(line: str, width: int) -> list[str]:
    """A long line goes on under its text; a table's row stays whole."""
    indent = len(line) - len(line.lstrip())
    if len(line) <= width or isinstance(line, _Row):
        return [line]
    return textwrap.wrap(
        line,
        max(width, 40),
        subsequent_indent=" " * (indent + 3),
        break_long_words=False,
        drop_whitespace=True,
    )
