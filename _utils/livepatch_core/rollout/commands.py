"""What operators may say to a rollout, and how it reaches its owner: as a file, written whole, with who
and why.

Any process may leave one, the owner obeys them in the order of their names. ``may`` is asked twice: when
the verb is given, so that its caller is told, and again by the owner, for whom things may have moved on.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from livepatch_core.durable import make_directory, write_atomically
from livepatch_core.errors import LivepatchError
from livepatch_core.rollout import returning, status
from livepatch_core.rollout.clock import Clock
from livepatch_core.rollout.model import GateType
from livepatch_core.rollout.obeyed import EDITION
from livepatch_core.rollout.phases import wave_name
from livepatch_core.rollout.state import State
from livepatch_core.rollout.states import ENDED, SKIPPABLE, Phase, Place, Standing
from livepatch_core.words import Kind, Word

FOLDER = "commands"
NUMBERS = itertools.count()  # of this process: two commands of one moment keep their order


class Order(Word):
    """The verbs."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    RETRY = "retry"
    SKIP = "skip"
    ABORT = "abort"
    ROLLBACK = "rollback"
    CONFIRM = "confirm"


RUNNING, PAUSED = Standing.RUNNING, Standing.PAUSED
# In which standings each verb makes sense. rollback also of what has ended: a bad level may show late.
LEGAL: Mapping[Order, frozenset[Standing]] = {
    Order.PAUSE: frozenset({RUNNING}),
    Order.RESUME: frozenset({PAUSED}),
    Order.PROMOTE: frozenset({RUNNING, PAUSED}),
    Order.RETRY: frozenset({RUNNING, PAUSED}),
    Order.SKIP: frozenset({RUNNING, PAUSED}),
    Order.CONFIRM: frozenset({RUNNING, PAUSED}),
    Order.ABORT: frozenset(Standing) - ENDED - {Standing.ABORTING},
    Order.ROLLBACK: frozenset(Standing) - {Standing.PLANNED, Standing.ROLLING_BACK},
}
ARGUMENTS: Mapping[Order, tuple[str, ...]] = {
    Order.PAUSE: (),
    Order.RESUME: ("acknowledge",),
    Order.PROMOTE: ("acknowledge", "full"),
    Order.RETRY: ("acknowledge",),
    Order.SKIP: ("host", "wave"),
    Order.CONFIRM: ("gate",),
    # keep: of verbs.taken_on(), nobody types it
    Order.ABORT: ("keep",),
    Order.ROLLBACK: ("scope", "block", "keep"),
}


@dataclass(frozen=True)
class Command:
    """id: the name of its file; a command is obeyed once, however often its file is met."""

    id: str
    verb: Order
    who: str
    why: str
    arguments: Mapping[str, Any]

    @property
    def given(self) -> float:
        """When, epoch: its name begins with the microseconds. Raises ValueError for another name."""
        return int(self.id.partition("-")[0]) / 1e6

    def document(self) -> dict[str, Any]:
        said = {"id": self.id, "verb": str(self.verb), "who": self.who, "why": self.why}
        return {**said, "arguments": dict(self.arguments), "edition": EDITION}


def may(verb: Order, state: State, arguments: Mapping[str, Any]) -> Optional[str]:
    """None, or why not: a sentence. Pure."""
    if state.standing not in LEGAL[verb]:
        words = ", ".join(sorted(LEGAL[verb]))
        return f"The rollout is {state.standing} ({state.reason}), and {verb} goes with: {words}."
    unknown = sorted(set(arguments) - set(ARGUMENTS[verb]))
    if unknown:
        return f"{verb} has no argument {unknown[0]}."
    check = CHECKS.get(verb)
    return check(state, arguments) if check is not None else None


def _acknowledged(state: State, arguments: Mapping[str, Any]) -> Optional[str]:
    if state.back_wanted is not None:
        return f"It is about to be rolled back: {state.back_wanted.why}."
    if state.trip is None:
        return None
    if arguments.get("acknowledge") == state.trip.counter:
        return None
    counter = state.trip.counter
    return f"It has stopped itself: {state.reason}. To go on all the same, say acknowledge={counter}."


def _promote(state: State, arguments: Mapping[str, Any]) -> Optional[str]:
    if (
        state.standing is Standing.RUNNING
        and state.phase not in (Phase.SOAK, Phase.GATE)
        and not arguments.get("full")
    ):
        return f"It soaks nothing now (phase {state.phase}), so there is nothing to pass over."
    return _acknowledged(state, arguments)


def _retry(state: State, arguments: Mapping[str, Any]) -> Optional[str]:
    if not state.retriable():
        return "No host has failed, stalled, been lost, unreachable or frozen."
    return _acknowledged(state, arguments)


def _skip(state: State, arguments: Mapping[str, Any]) -> Optional[str]:
    if len(arguments) != 1:
        return "skip needs a host, or a wave."
    if "wave" in arguments:
        wave = arguments["wave"]
        if type(wave) is not int or not 0 <= wave < len(state.plan.waves):
            last = len(state.plan.waves) - 1
            return f"There is no wave {wave!r}; waves count from 0, the canaries, to {last}."
        waiting = sum(state.hosts[name].place is Place.PENDING for name in state.plan.waves[wave])
        return None if waiting else f"No host of wave {wave} waits any more."
    host = state.hosts.get(str(arguments["host"]))
    if host is None:
        return f"{arguments['host']} is not in this rollout."
    if state.is_stray(arguments["host"]):
        return f"{arguments['host']} may be between two kernels; it is waited for."
    words = ", ".join(sorted(SKIPPABLE))
    return (
        None if host.place in SKIPPABLE else f"{arguments['host']} is {host.place}; skip goes with: {words}."
    )


def _confirm(state: State, arguments: Mapping[str, Any]) -> Optional[str]:
    """Only while it is asked for: said before, it would pass a gate that nobody has looked at."""
    name = arguments.get("gate")
    names = [gate.name for gate in state.plan.options.gates if gate.type is GateType.CONFIRM]
    if name not in names:
        return f"No gate {name!r} waits for a person; those that do: {', '.join(names) or 'none'}."
    if state.inquiry is not None and state.inquiry.gate == name:
        return None
    where = f"phase {state.phase} of {wave_name(state)}" if state.phase is not None else "no wave has begun"
    return f"Gate {name} is not asked now ({where}); each wave asks for a word of its own, after its soak."


def _rollback(state: State, arguments: Mapping[str, Any]) -> Optional[str]:
    if arguments.get("scope", "all") not in ("wave", "all"):
        return f"The scope is wave or all, not {arguments['scope']!r}."
    if wrong := _keep(state, arguments):
        return wrong
    if state.acts or returning.concerned(state, arguments.get("scope", "all")):
        return None
    if returning.concerned(state, "all"):
        return "Every host of the newest wave is back already; scope=all takes the others back."
    if any(host.forward_rev for host in state.hosts.values()):
        return "Every host that was approved for anything is back already."
    return "No host was approved for anything, so there is nothing to roll back; abort ends it."


def _keep(_state: State, arguments: Mapping[str, Any]) -> Optional[str]:
    keep = arguments.get("keep", {})
    if not isinstance(keep, Mapping) or not all(type(level) is int for level in keep.values()):
        return f"keep names hosts and their levels, and is {keep!r}."
    return None


CHECKS: Mapping[Order, Callable[[State, Mapping[str, Any]], Optional[str]]] = {
    Order.RESUME: _acknowledged,
    Order.PROMOTE: _promote,
    Order.RETRY: _retry,
    Order.SKIP: _skip,
    Order.CONFIRM: _confirm,
    Order.ABORT: _keep,
    Order.ROLLBACK: _rollback,
}


def submit(
    directory: Path, verb: str, who: str, why: str, arguments: Mapping[str, Any], clock: Clock
) -> Command:
    """Leave a command for the owner. Raises LivepatchError: argument for one that makes no sense now
    (nothing is left then), journal or catalog where it cannot be read or written."""
    if verb not in [str(one) for one in Order]:
        raise _refused(f"There is no verb {verb}", directory)
    state = status.read(directory)
    refusal = may(Order(verb), state, arguments)
    if refusal is not None:
        raise _refused(refusal.rstrip("."), directory)
    name = f"{int(clock.now() * 1e6):017d}-{os.getpid()}-{next(NUMBERS):06d}-{verb}"
    command = Command(name, Order(verb), who, why, arguments)
    folder = directory / FOLDER
    make_directory(folder)
    try:
        write_atomically(folder / f"{name}.json", json.dumps(command.document()).encode())
    except OSError as problem:
        raise LivepatchError(
            Kind.JOURNAL,
            f"The command could not be left in {folder} ({problem.strerror}); nothing was changed.",
            remedy="Make room or mend the file system, then repeat it.",
        ) from problem
    return command


def waiting(directory: Path) -> list[Path]:
    """The files of commands, oldest first."""
    try:
        names = os.listdir(directory / FOLDER)
    except FileNotFoundError:
        return []
    return [directory / FOLDER / name for name in sorted(names) if name.endswith(".json") and name[0] != "."]


def read(path: Path) -> Optional[Command]:
    """None for a file that is no command: nobody but this program writes there, so nothing obeys it."""
    try:
        said = json.loads(path.read_bytes())
        command = Command(
            path.stem, Order(said["verb"]), str(said["who"]), str(said["why"]), dict(said["arguments"])
        )
        return command if command.given else None
    except (ValueError, KeyError, TypeError):
        return None


def _refused(text: str, directory: Path) -> LivepatchError:
    return LivepatchError(
        Kind.ARGUMENT, f"{text}; nothing was changed.", remedy=f"See the status of rollout {directory.name}."
    )
