"""What the verbs that people type do, but for what is Salt's: find a rollout, leave it a command, say what
came of it."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

from livepatch_core.catalog import files
from livepatch_core.catalog.settings import Master
from livepatch_core.durable import make_directory, write_atomically
from livepatch_core.errors import LivepatchError
from livepatch_core.ledger import rollouts
from livepatch_core.rollout import (
    adoption,
    commands,
    driver,
    journal,
    options,
    overruled,
    owner,
    plandoc,
    returning,
    status,
)
from livepatch_core.rollout.clock import Clock, iso
from livepatch_core.rollout.fleet import Fleet
from livepatch_core.rollout.model import Group, Method, Plan
from livepatch_core.rollout.obeyed import named
from livepatch_core.rollout.owner import OwnerKind
from livepatch_core.rollout.records import Type
from livepatch_core.rollout.state import State
from livepatch_core.rollout.states import TROUBLED, Phase, Place, Standing
from livepatch_core.words import Kind

ROLLOUTS, PLANS, COMMANDS = "rollouts", "plans", commands.FOLDER
PLANS_KEPT = 20
NAMED = 3  # hosts in trouble that a sentence names; status has them all
HASH_SHOWN = 12  # digits of a plan's hash that name it; as many as anybody will compare by eye
PLAN_AGAIN = "Plan again: livepatch.plan."
NONE_ACTIVE = "livepatch.list shows those that have ended; livepatch.rollback takes one back (rollout_id=)."
GOOD = frozenset({Standing.COMPLETED, Standing.EXCEPTIONS})
WANTED = {"abort": frozenset({Standing.ABORTED}), "rollback": frozenset({Standing.ROLLED_BACK})}


def root(master: Master) -> Path:
    return master.state_dir / ROLLOUTS


def find(folder: Path, rollout: object, ended: bool = False) -> Path:
    """The directory of a rollout by its id; None means the one that is active, or where none is and ``ended``
    ones are of interest the newest. Raises LivepatchError."""
    if rollout is None:
        names = sorted(status.active(folder))
        if not names and ended:
            names = [one.name for one in status.rollouts(folder)[-1:]]
        if len(names) == 1:
            return folder / names[0]
        if names:
            which = f"{len(names)} rollouts are active ({', '.join(names)})"
            raise _refused(f"{which}, so it has to be named", "Give rollout_id=, one of them.")
        if ended:
            raise _refused("There is no rollout yet", "Plan one: livepatch.plan.")
        raise _refused("No rollout is active", NONE_ACTIVE)
    name = str(rollout)
    found = folder / name
    if "/" in name or name.startswith(".") or not (found / journal.FILE_NAME).exists():
        raise _refused(f"There is no rollout {name}", "livepatch.list shows all.")
    return found


def keep_plan(master: Master, plan: Plan) -> str:
    """Keep a plan for ``rollout plan=HASH``; the newest PLANS_KEPT stay. Its name. Raises LivepatchError."""
    folder, name = master.state_dir / PLANS, plandoc.plan_hash(plan)[:HASH_SHOWN]
    lock = master.state_dir / "plans.lock"
    with files.exclusive(master, lock), files.writable(master, "nothing was changed"):
        make_directory(folder, owner=master.owner)
        write_atomically(folder / f"{name}.json", plandoc.encode(plan), owner=master.owner)
        kept = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[PLANS_KEPT:]:
            path.unlink()
    return name


def read_plan(master: Master, name: object, beside: Mapping[str, object]) -> Plan:
    """A plan that was kept, by the beginning of its hash. Raises LivepatchError, also where a target, a level
    or options are given beside it: the plan's own would be in force."""
    text = str(name)
    given = [key for key in ("tgt", "level", *options.KEYS) if beside.get(key) is not None]
    if given:
        raise _refused(
            f"The plan {text} is rolled out as it is and takes no other {', '.join(given)}", PLAN_AGAIN
        )
    found = sorted((master.state_dir / PLANS).glob(f"{text[:HASH_SHOWN]}.json")) if text.isalnum() else []
    if len(text) < HASH_SHOWN or not found:
        raise _refused(f"No plan {text} is kept (the newest {PLANS_KEPT} are)", PLAN_AGAIN)
    plan = plandoc.decode(found[0].read_bytes())
    if not plandoc.plan_hash(plan).startswith(text):
        raise _refused(f"The plan that is kept is not {text}", PLAN_AGAIN)
    return plan


def shown(state: State, now: float, hosts: bool = False) -> dict[str, Any]:
    """The status document; of the hosts only those that did not do well, unless all are wanted."""
    document = status.document(state, now)
    if not hosts:
        bad = {str(one) for one in TROUBLED}
        document["hosts"] = {name: one for name, one in document["hosts"].items() if one["state"] in bad}
    return document


def listing(folder: Path) -> list[dict[str, Any]]:
    """Every rollout, the newest first, in a line each; of one that cannot be read, why."""
    return [_line(directory) for directory in reversed(status.rollouts(folder))]


def _line(directory: Path) -> dict[str, Any]:
    try:
        state = status.read(directory)
    except LivepatchError as problem:
        unknown = dict.fromkeys(("level", "target", "hosts", "since", "by", "driven_by"))
        return {"id": directory.name, "state": "unknown", "reason": str(problem), **unknown}
    holder = owner.holder(directory) if not state.ended else None
    return {
        "id": state.id,
        "state": str(state.standing),
        "level": state.plan.options.level,
        "target": state.plan.target,
        "hosts": len(state.hosts),
        "since": iso(state.since),
        "reason": state.reason,
        "by": state.by.get("who", ""),
        "driven_by": holder.sentence() if holder is not None else None,
    }


def command(
    directory: Path, fleet: Fleet, clock: Clock, verb: str, who: str, why: str, arguments: Mapping[str, Any]
) -> tuple[commands.Command, State]:
    """Leave a command; where nobody drives the rollout, journal it here. With the state as far as known.

    Raises LivepatchError where it makes no sense now; nothing is left then that could come later.
    """
    given = commands.submit(directory, verb, who, why, arguments, clock)
    fleet.tell("command", {"verb": verb, "who": who})
    with owner.if_free(directory, OwnerKind.COMMAND, who, clock) as mine:
        if mine is None:
            return given, status.read(directory)
        return given, driver.settle(directory, fleet, clock, owner=mine)


def taken_on(master: Master, directory: Path, verb: str, scope: str) -> dict[str, int]:
    """Hosts of a rollout that has ended which somebody has approved for another level or kernel since, and
    that level: a rollback leaves them there. Of one that goes on its driver sees to that. Raises
    LivepatchError (superseded) where a rollback would be left with nobody, journal where the ledger cannot be
    read."""
    state = status.read(directory)
    if verb != commands.Order.ROLLBACK or not state.ended:
        return {}
    names = [one for one in returning.concerned(state, scope) if not returning.has_landed(state, one)]
    since = overruled.found(state, names, rollouts.words(master.state_dir, names).approved, back=True)
    if since and len(since) == len(names):
        raise LivepatchError(
            Kind.SUPERSEDED,
            f"All {len(names)} hosts of rollout {state.id} that could go back are approved for another level "
            f"or kernel since ({named(since)}); nothing was changed.",
            remedy="Roll back what took them there first, or approve a level (livepatch_ledger.approve).",
        )
    return since


def pause(directory: Path, who: str, clock: Clock) -> None:
    """Leave the command; where the rollout cannot be paused now there is nothing to leave."""
    with contextlib.suppress(LivepatchError):
        commands.submit(directory, "pause", who, "Ctrl-C", {}, clock)


def obeyed(
    directory: Path, fleet: Fleet, clock: Clock, given: commands.Command, seconds: float
) -> Optional[dict[str, Any]]:
    """The record of what the owner did with a command: ``type`` command or refused; None if it has not
    yet. Raises LivepatchError where nothing came of it: after the end of a rollout no refusal is journaled.
    """
    deadline = clock.monotonic() + seconds
    file = directory / commands.FOLDER / f"{given.id}.json"  # the owner removes it once it is journaled
    while True:
        if not file.exists():
            for record in reversed(status.history(directory)):
                if record["type"] in (Type.COMMAND, Type.REFUSED) and record.get("id") == given.id:
                    return dict(record)
            raise _came_to_nothing(directory, given, clock)
        left = deadline - clock.monotonic()
        if left <= 0:
            return None
        fleet.wait(min(left, 0.5))


def _came_to_nothing(directory: Path, given: commands.Command, clock: Clock) -> LivepatchError:
    """Why, as far as it can still be seen."""
    state = status.read(directory)
    refusal = commands.may(given.verb, state, given.arguments)
    if refusal is not None:
        return _refused(refusal.rstrip("."), "See livepatch.status.")
    try:
        driver.refuse_reopening(directory, state, given, clock.now())
    except LivepatchError as problem:
        return problem
    return LivepatchError(
        Kind.BUSY,
        f"The {given.verb} of rollout {state.id} was not taken up; it is {state.standing}, and nothing was "
        "changed.",
        remedy="What stood in its way is over: give it again.",
    )


def leaves(folder: Path, asked: Callable[[], bool]) -> Callable[[State], bool]:
    """When a process in the foreground lets go: it was asked to, the rollout waits for a person, or only
    hosts that are late are left and an engine lives that waits for them."""

    def leave(state: State) -> bool:
        if asked() or adoption.waits(state):
            return True
        return state.phase is Phase.LATE and adoption.alive(folder)

    return leave


def concluded(state: State, now: float, verb: str = "rollout") -> dict[str, Any]:
    """What a verb that drove returns: ``result`` is False for every end that is not the one it is for."""
    document = shown(state, now)
    wanted = WANTED.get(verb, GOOD)
    detached = not state.ended and not adoption.waits(state)
    return {"result": state.standing in wanted or detached, "comment": sentence(document), **document}


def refuse_idle(plan: Plan) -> Optional[str]:
    """None where hosts move, now or late; a sentence where all are at their level already. Raises
    LivepatchError (argument) where nobody would move, and somebody should have."""
    if status.claims(plan):
        return None
    groups = Counter(str(one.group) for one in plan.hosts)
    if set(groups) == {str(Group.ALREADY)}:
        live = plan.options.method is Method.LIVEPATCH
        what = f"are at level {plan.options.level}" if live else "run the kernel asked for"
        return f"All {len(plan.hosts)} hosts {what} already; nothing was started."
    said = ", ".join(f"{count} {group}" for group, count in sorted(groups.items()))
    example = next(one for one in plan.hosts if one.group is not Group.ALREADY)
    raise LivepatchError(
        Kind.ARGUMENT,
        f"No host would move ({said}; {example.minion}: {example.reason}); nothing was started.",
        remedy="See livepatch.plan.",
    )


def sentence(document: Mapping[str, Any]) -> str:
    """One line: what it is, why, where its hosts stand, what is next."""
    left_out = ", ".join(f"{count} {group}" for group, count in document["left_out"].items())
    why = {str(Place.INELIGIBLE): f" ({left_out})"}
    counts = ", ".join(f"{count} {place}{why.get(place, '')}" for place, count in document["counts"].items())
    said = f"Rollout {document['id']} is {document['state']}"
    if document["reason"]:
        said += f": {document['reason']}"
    said = f"{said.rstrip('.')}. Of {document['targeted']} hosts: {counts}."
    said += "".join(f" {one}" for one in _troubles(document["hosts"]))
    if document["next"] and document["state"] in ("running", "rolling_back", "aborting"):
        said += f" Next: {document['next']}" + (f" at {document['next_at']}." if document["next_at"] else ".")
    return said


def _troubles(hosts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The first hosts that are in trouble, one sentence each: a count tells no cause."""
    told = {name: one for name, one in hosts.items() if one["state"] in TROUBLED and one.get("text")}
    for name in list(told)[:NAMED]:
        yield f"{name} ({told[name]['state']}): {told[name]['text'].rstrip('.')}."
    if len(told) > NAMED:
        yield f"And {len(told) - NAMED} others: livepatch.status."


def arguments_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a command that were given: plain data, as the file keeps it."""
    there = {key: one for key, one in given.items() if one is not None}
    plain: dict[str, Any] = json.loads(json.dumps(there))
    return plain


def _refused(text: str, remedy: str) -> LivepatchError:
    return LivepatchError(Kind.ARGUMENT, f"{text}; nothing was changed.", remedy=remedy)
