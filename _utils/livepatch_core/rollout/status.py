"""A rollout as its files tell it, for anybody, without a lock; and the document that ``status`` shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

from livepatch_core.errors import LivepatchError
from livepatch_core.rollout import journal, plandoc
from livepatch_core.rollout.clock import Now, iso
from livepatch_core.rollout.decide import decide
from livepatch_core.rollout.fold import fold, fold_all
from livepatch_core.rollout.model import Plan
from livepatch_core.rollout.phases import wave_name
from livepatch_core.rollout.records import Record, Type
from livepatch_core.rollout.state import LATECOMERS, Host, State, begin
from livepatch_core.rollout.states import TROUBLED, Place
from livepatch_core.rollout.steps import Rest, Write
from livepatch_core.words import Kind

PLAN = "plan.json"


def read(directory: Path) -> State:
    """Where it stands. Raises LivepatchError (journal)."""
    return fold_all(directory.name, read_plan(directory), journal.read(directory / journal.FILE_NAME))


def read_plan(directory: Path) -> Plan:
    path = directory / PLAN
    if not path.exists():
        raise LivepatchError(
            Kind.ARGUMENT,
            f"There is no rollout {directory.name}; nothing was changed.",
            remedy="livepatch.list names those that there are.",
        )
    return plandoc.decode(journal.read_bytes(path))


def history(directory: Path) -> list[dict[str, Any]]:
    """Every record, oldest first, as plain data."""
    return [shown(record) for record in journal.read(directory / journal.FILE_NAME)]


def story(directory: Path) -> list[dict[str, Any]]:
    """The history; became: the hosts to which a record gave a place among the troubled ones. What a deadline
    or a gate makes of a host is in no record, but follows from all that came before."""
    state, said = begin(directory.name, read_plan(directory)), []
    for record in journal.read(directory / journal.FILE_NAME):
        fold(state, record)
        hosts = {name: state.hosts[name] for name in state.moved}
        became = {name: _became(host) for name, host in hosts.items() if host.place in TROUBLED}
        said.append({**shown(record), **({"became": became} if became else {})})
    return said


def _became(host: Host) -> dict[str, str]:
    return {"to": str(host.place), "kind": str(host.kind), "text": host.text}


def shown(record: Record) -> dict[str, Any]:
    return {"seq": record.seq, "at": iso(record.epoch), "type": record.type, **record.body}


def rollouts(root: Path) -> list[Path]:
    """The directories of all rollouts, oldest first."""
    if not root.is_dir():
        return []
    return sorted(one for one in root.iterdir() if (one / journal.FILE_NAME).exists())


def active(root: Path) -> dict[str, State]:
    """Those that have not ended, by id. Of the others only the last line is read."""
    return {one.name: read(one) for one in _active(root)}


def _active(root: Path) -> Iterator[Path]:
    for one in rollouts(root):
        last = journal.last(one / journal.FILE_NAME)
        if last is None or last.type != Type.ENDED:
            yield one


def held(root: Path) -> dict[str, str]:
    """Minion -> the active rollout that it belongs to, moved already or not."""
    found: dict[str, str] = {}
    for directory in _active(root):
        for name in claims(read_plan(directory)):
            found.setdefault(name, directory.name)
    return found


def claims(plan: Plan) -> list[str]:
    """The hosts that a rollout may move, now or late."""
    return [one.minion for one in plan.hosts if one.wave is not None or one.group in LATECOMERS]


def document(state: State, now: float) -> dict[str, Any]:
    """What is known, for people and programs. now: epoch. The counts sum up to the hosts targeted."""
    what, when = _next(state, now)
    waves = len(state.plan.waves)
    return {
        "id": state.id,
        "state": str(state.standing),
        "reason": state.reason or what,
        "since": iso(state.since),
        "phase": str(state.phase) if state.phase is not None else None,
        "wave": {
            "number": min(state.lap + 1, waves),
            "of": waves,
            "name": wave_name(state) if state.lap >= 0 else "",
        },
        "next": what,
        "next_at": iso(when) if when is not None else None,
        "targeted": len(state.hosts),
        "counts": {str(place): state.counts[place] for place in Place if state.counts[place]},
        "left_out": _left_out(state),
        "level": state.plan.options.level,
        "plan": state.digest,
        "by": dict(state.by),
        "tripped": [_trip(one) for one in state.trips],
        "trouble": state.trouble or None,
        "verdicts": [dict(one) for one in state.verdicts],
        "waves": [_wave(state, number) for number in range(waves)],
        "domains": _domains(state),
        "hosts": {name: _host(host) for name, host in state.hosts.items() if _notable(host)},
        "records": state.seq,
        "at": iso(state.epoch),
    }


def _next(state: State, now: float) -> tuple[str, Optional[float]]:
    """What comes next and when (epoch)."""
    t = state.t + max(0.0, now - state.epoch)
    found = decide(state, Now(now, t))
    if not isinstance(found, Rest):
        name = str(found.type) if isinstance(found, Write) else type(found).__name__.lower()
        return f"{name}, as soon as somebody drives it", now
    times = [one for one in (found.epoch, None if found.t is None else now + found.t - t) if one is not None]
    return found.what, min(times, default=None)


def _trip(trip: Any) -> dict[str, Any]:
    said = {"counter": trip.counter, "scope": trip.scope, "number": trip.number, "limit": trip.limit}
    return {**said, "action": trip.action, "gate": trip.gate or None}


def _wave(state: State, number: int) -> dict[str, Any]:
    """Of the hosts planned for it, wherever they have got to."""
    counts: dict[str, int] = {}
    for name in state.plan.waves[number]:
        place = str(state.hosts[name].place)
        counts[place] = counts.get(place, 0) + 1
    return {"wave": number, "size": len(state.plan.waves[number]), "counts": counts}


def _left_out(state: State) -> dict[str, int]:
    """Why the plan had no turn for the hosts that are ineligible: how many of each group."""
    groups = Counter(str(one.placing.group) for one in state.hosts.values() if one.place is Place.INELIGIBLE)
    return dict(sorted(groups.items()))


def _domains(state: State) -> dict[str, Any]:
    limits: Mapping[str, int] = state.plan.domain_limits
    return {
        name: {"occupied": state.occupied[name], "limit": limit} for name, limit in sorted(limits.items())
    }


def _notable(host: Host) -> bool:
    return host.rev > 0 or host.place in TROUBLED or host.place is Place.ABSENT


def _host(host: Host) -> dict[str, Any]:
    """approved: the rev of its newest approval, 0 for none. kernel, away (seconds): where it is started with
    another kernel."""
    said: dict[str, Any] = {"state": str(host.place), "approved": host.rev, "before": host.before}
    if host.restarts:
        said.update(method=str(host.placing.method), kernel=host.kernel or None, away=host.away)
    return {**said, **{key: value for key, value in (("kind", host.kind), ("text", host.text)) if value}}
