"""The fleet behind a Salt master: jobs on explicit lists, returns from the job cache, events as hints.

What Salt is made of is given in (``Salt``): this file imports nothing of it. Jobs go out with ``run_job`` and
are never waited for by it; whether a host answered is read from the master's job cache alone, since any
minion can fire any event.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from livepatch_core.catalog.author import Author
from livepatch_core.catalog.settings import Master
from livepatch_core.catalog.standing import block as block_level
from livepatch_core.errors import LivepatchError
from livepatch_core.ledger import model as ledger_model
from livepatch_core.ledger import rollouts as ledger_rollouts
from livepatch_core.rollout import events, measuring, payloads
from livepatch_core.rollout.clock import iso
from livepatch_core.rollout.fleet import MOST_HOSTS, FleetError, Verb
from livepatch_core.rollout.model import Gate, Grant
from livepatch_core.words import Kind

PUBLISH_SECONDS = 30  # for the master to take a job; it answers in milliseconds unless it is overloaded
FUNCTIONS = {
    Verb.STAGE: "livepatch.stage",
    Verb.MOVE: "livepatch.apply",
    Verb.LOOK: "livepatch.brief",
    Verb.CHECK: "livepatch_restart.check",
    Verb.LEAVE: "livepatch_restart.leave",
    Verb.FINISH: "livepatch_restart.finish",
}
ALWAYS = {Verb.LOOK: {"health": True}}

# Hints are gathered so that the job cache is not read anew for each of hundreds of returns: so long after the
# first, unless all that are awaited have come, and longer where reading takes more than this share of the
# time.
GATHER, GATHER_MOST = 0.5, 2.0
READING_SHARE = 0.1
SETTLE = 0.02  # after the last hint
# The master tells of a return before it keeps it (salt/utils/job.py, store_job): what was told of is looked
# for again so long. A forged hint costs no more than that.
BELIEVED = 2.0
PROGRESS = 2.0  # seconds between two events that only count hosts
STALE = 1.0  # seconds after which a read without any hint is worth repeating: hints can be lost
# Verbs that change nothing and may be asked again, after so many seconds, and twice as many, and so on.
HARMLESS = frozenset({Verb.STAGE, Verb.LOOK, Verb.CHECK})
AGAIN, TIMES = 10.0, 3
WOKEN = 20  # times at most that one job is asked again because of minions that have started
NO_SPREAD: Mapping[Verb, Mapping[str, Any]] = {Verb.STAGE: {"spread": 0}}
STARTED = "salt/minion/"  # ID/start
JOBS = 64  # whose hints are listened to; what a host says about older ones is read all the same
CONNECT = 5.0  # seconds for the master's bus to be there; later it is connected anew by itself
DEAF = 0.25  # pause while the master's bus is gone: there is no event to wait for
LISTEN = 1.0  # at most so long at a time on the bus, then files are looked at


@dataclass(frozen=True)
class Salt:
    """client: LocalClient. bus: SaltEvent that listens. cached: the job cache's ``get_jid``. errors: what
    client, bus and cache raise when the master cannot be reached or something is wrong with it."""

    client: Any
    bus: Any
    cached: Callable[[str], Any]
    new_jid: Callable[[], str]
    errors: tuple[type[Exception], ...]


@contextlib.contextmanager
def of_master(opts: Mapping[str, Any], salt: Any) -> Iterator[Salt]:
    """The master of these options, for as long as it is used; its bus listens from the beginning. salt: the
    package, of which the caller has imported ``client``, ``exceptions``, ``utils.event`` and ``utils.jid``.
    """
    cache = f"{opts.get('ext_job_cache') or opts['master_job_cache']}.get_jid"
    errors = (salt.exceptions.SaltException, OSError)
    with contextlib.ExitStack() as stack:
        bus = stack.enter_context(salt.utils.event.get_event("master", opts=opts, listen=True))
        bus.connect_pub(timeout=CONNECT)
        client = stack.enter_context(salt.client.get_local_client(mopts=opts))
        yield Salt(
            client,
            bus,
            lambda jid: client.returners[cache](jid),
            lambda: str(salt.utils.jid.gen_jid(opts)),
            errors,
        )


@dataclass
class Asked:
    """A job that may be asked again. next: not before. again: the jobs that repeat it. woken: how many of
    those went to hosts that had started."""

    verb: Verb
    hosts: Sequence[str]
    arguments: Mapping[str, Any]
    next: float
    again: list[str] = field(default_factory=list)
    woken: int = 0


class SaltFleet:
    """A ``Fleet`` (rollout/fleet.py). inbox: the folder of the rollout's commands, looked at while waiting.
    told: is called with everything that is told, for a terminal. follows: everything that is told of this
    rollout ends a wait. presses: how often somebody has asked to be heard; more of them end a wait."""

    def __init__(
        self,
        salt: Salt,
        master: Master,
        rollout: str,
        by: Author,
        inbox: Optional[Path] = None,
        told: Optional[Callable[[str, Mapping[str, Any]], None]] = None,
        follows: bool = False,
    ) -> None:
        self._salt, self._master, self._rollout, self._by = salt, master, rollout, by
        self._inbox, self._told, self._follows = inbox, told, follows
        self.presses: Callable[[], int] = lambda: 0
        self._awaited: dict[str, set[str]] = {}  # by job: who has given no hint yet
        self._asked: dict[str, Asked] = {}
        self._began: set[str] = set()  # minions that have started since they were asked
        self._hinted: dict[str, dict[str, float]] = {}  # by job and host: when it came, until it is read
        self._read: dict[str, tuple[float, Mapping[str, Any]]] = {}
        self._counted = 0.0  # when hosts were last counted in an event
        self._cost = 0.0  # seconds that reading a job's returns took last

    # -- jobs

    def new_jid(self) -> str:
        return str(self._salt.new_jid())

    def publish(self, jid: str, verb: Verb, hosts: Sequence[str], arguments: Mapping[str, Any]) -> None:
        if len(hosts) > MOST_HOSTS:
            raise ValueError(f"{len(hosts)} hosts in one job, {MOST_HOSTS} is the most")
        self._send(jid, verb, hosts, arguments)
        if verb in HARMLESS:
            first = time.monotonic() + AGAIN + float(arguments.get("spread", 0))
            self._asked = {
                **dict(list(self._asked.items())[-JOBS:]),
                jid: Asked(verb, hosts, arguments, first),
            }

    def _send(self, jid: str, verb: Verb, hosts: Sequence[str], arguments: Mapping[str, Any]) -> None:
        function, positional, keywords = self._call(verb, arguments)
        self._awaited = {**dict(list(self._awaited.items())[-JOBS:]), jid: set(hosts)}
        given: dict[str, Any] = {"tgt_type": "list", "kwarg": keywords, "timeout": PUBLISH_SECONDS}
        try:
            self._salt.client.run_job(list(hosts), function, positional, jid=jid, **given)
        except self._salt.errors as problem:
            what = f"{function} could not be sent to {len(hosts)} hosts"
            raise FleetError(f"{what}: {_said(problem)}") from problem

    def returns(self, jid: str) -> Mapping[str, Any]:
        at, before = self._read.get(jid, (0.0, {}))
        asked, now = self._asked.get(jid), time.monotonic()
        jobs = [jid, *(asked.again if asked is not None else ())]
        if before and not any(self._hinted.get(one) for one in jobs) and now - at < STALE:
            return before
        found: dict[str, Any] = {}
        for one in reversed(jobs):
            found.update(self._returned(one))
        self._cost = time.monotonic() - now
        self._read = {**{key: one for key, one in self._read.items() if now - one[0] < 60}, jid: (now, found)}
        if asked is not None:
            self._ask_again(asked, [host for host in asked.hosts if host not in found])
        return found

    def _returned(self, jid: str) -> Mapping[str, Any]:
        """What the job cache has of one job; hints that have come true are forgotten."""
        try:
            found = normal(self._salt.cached(jid))
        except self._salt.errors as problem:
            raise FleetError(f"the job cache could not be read for job {jid}: {_said(problem)}") from problem
        self._awaited.get(jid, set()).difference_update(found)
        hints = {host: at for host, at in self._hinted.pop(jid, {}).items() if host not in found}
        if hints:
            self._hinted[jid] = hints
        elif not self._awaited.get(jid):
            self._awaited.pop(jid, None)
        return found

    def _ask_again(self, asked: Asked, silent: Sequence[str]) -> None:
        """A minion that was connecting anew when the job went out, after a restart of the master above all,
        has not heard it, and nobody tells: who is silent is asked once more, and again. One that has started
        meanwhile, after a boot of its host above all, is asked at once: that is a hint, and costs a job."""
        now = time.monotonic()
        began = [host for host in silent if host in self._began]
        self._began.difference_update(began)
        if began and asked.woken < WOKEN:
            asked.woken += 1
            asked.again.append(self.new_jid())
            self._send(asked.again[-1], asked.verb, began, asked.arguments)
            return
        times = len(asked.again) - asked.woken
        if not silent or now < asked.next or times >= TIMES:
            return
        asked.next = now + AGAIN * 2 ** (times + 1)
        asked.again.append(self.new_jid())
        self._send(asked.again[-1], asked.verb, silent, {**asked.arguments, **NO_SPREAD.get(asked.verb, {})})

    def _call(self, verb: Verb, arguments: Mapping[str, Any]) -> tuple[str, list[Any], dict[str, Any]]:
        if verb is Verb.ASK:
            return str(arguments["fun"]), list(arguments.get("args", ())), dict(arguments.get("kwargs", {}))
        keywords = {**ALWAYS.get(verb, {}), **arguments}
        if verb is Verb.STAGE:
            levels = {build: one["level"] for build, one in arguments["builds"].items()}
            given = payloads.carried(self._master, levels)
            keywords.update({"payloads": given} if given else {})
        return FUNCTIONS[verb], [], keywords

    # -- waiting

    def wait(self, seconds: float) -> None:
        """Until a host has answered (or all that are awaited, or a moment after the first), a minion has
        started, a command came, or so long. Hints only: whoever waits looks for himself."""
        deadline = time.monotonic() + seconds
        commands, presses = self._commands(), self.presses()
        while (left := deadline - time.monotonic()) > 0:
            if self._told_of():
                return self._settle(deadline)
            began = time.monotonic()
            heard = self._hear(min(left, LISTEN))
            if self._commands() != commands or self.presses() != presses:
                return
            if heard is None:
                if time.monotonic() - began < min(left, DEAF) / 2:
                    time.sleep(min(left, DEAF))
            elif not self._answered(heard) and self._concerns(heard):
                return

    def _settle(self, deadline: float) -> None:
        """Let hints that come close together come, and the master keep what it told of."""
        until = time.monotonic() + min(max(GATHER, self._cost / READING_SHARE), GATHER_MOST)
        all_said = False
        while (left := min(until, deadline) - time.monotonic()) > 0:
            if not all_said and not any(self._awaited.get(jid) for jid in self._hinted):
                all_said, until = True, min(until, time.monotonic() + SETTLE)
                continue
            heard = self._hear(left)
            if heard is not None:
                self._answered(heard)

    def _told_of(self) -> bool:
        """Whether there is a hint that was not found true yet; old ones are forgotten."""
        now = time.monotonic()
        self._hinted = {
            jid: fresh
            for jid, hints in self._hinted.items()
            if (fresh := {host: at for host, at in hints.items() if now - at < BELIEVED})
        }
        return bool(self._hinted)

    def _hear(self, seconds: float) -> Optional[str]:
        """The tag of the next event that may concern us."""
        try:
            event = self._salt.bus.get_event(
                wait=max(seconds, 0.01), tag="salt/", full=True, auto_reconnect=True
            )
        except self._salt.errors:
            return None
        return str(event.get("tag", "")) if isinstance(event, Mapping) else None

    def _answered(self, tag: str) -> bool:
        """Note the hint where the tag is ``salt/job/<jid>/ret/<minion>`` of one that is awaited."""
        parts = tag.split("/", 4)
        if len(parts) != 5 or parts[1] != "job" or parts[3] != "ret":
            return False
        jid, host = parts[2], parts[4]
        if host in self._awaited.get(jid, ()):
            self._awaited[jid].discard(host)
            self._hinted.setdefault(jid, {})[host] = time.monotonic()
        return True

    def _concerns(self, tag: str) -> bool:
        if self._follows and tag.startswith(events.tag(self._rollout, "")):
            return True
        if tag.startswith(STARTED) and tag.endswith("/start"):
            if len(self._began) >= MOST_HOSTS:  # any minion can say that others have started
                self._began.clear()
            self._began.add(tag[len(STARTED) : -len("/start")])
            return True
        return tag == events.tag(self._rollout, events.WAKE)

    def _commands(self) -> frozenset[str]:
        if self._inbox is None or not self._inbox.is_dir():
            return frozenset()
        return frozenset(path.name for path in self._inbox.iterdir() if not path.name.startswith("."))

    # -- ledger and catalog

    def approve(
        self,
        act: str,
        hosts: Sequence[str],
        grants: Mapping[str, Grant],
        by: Mapping[str, str],
        seen: Optional[int] = None,
    ) -> Mapping[str, Any]:
        wanted = {build: ledger_model.Grant(one.level, one.sha256) for build, one in grants.items()}
        author = self._author(by)
        author = replace(author, why=f"rollout {self._rollout}: {author.why}")
        return ledger_rollouts.approve_once(self._master, act, hosts, wanted, author, seen)

    def ledger(self, hosts: Sequence[str]) -> ledger_rollouts.Words:
        return ledger_rollouts.words(self._master.state_dir, hosts)

    def block(self, act: str, level: int, builds: Sequence[str], by: Mapping[str, str]) -> None:
        """What is blocked already stays so: that is what was asked for."""
        for build in builds:
            if not payloads.is_blocked(self._master, build, level):
                block_level(self._master, level, build, None, self._author(by))

    def unreleased(self, build_id: str, level: int) -> str:
        return payloads.unreleased(self._master, build_id, level)

    def _author(self, by: Mapping[str, str]) -> Author:
        """Of what is written now, which may be days after the order to begin."""
        return replace(self._by, **by, at=iso(time.time()))

    # -- the rest

    def measure(self, gate: Gate, hosts: Sequence[str]) -> Mapping[str, Any]:
        return measuring.measure(gate)

    def tell(self, tag: str, data: Mapping[str, Any]) -> None:
        if tag.endswith("/progress"):
            if time.monotonic() - self._counted < PROGRESS:
                return
            self._counted = time.monotonic()
        small = events.small(data)
        if self._told is not None:
            self._told(tag, small)
        try:
            self._salt.bus.fire_event({"rollout": self._rollout, **small}, events.tag(self._rollout, tag))
        except self._salt.errors:
            return  # the master is gone; what happened stands in the journal


def normal(returned: object) -> Mapping[str, Any]:
    """minion -> {"return", "retcode", "success"}, whatever the job cache holds. Pure."""
    if not isinstance(returned, Mapping):
        return {}
    found: dict[str, Any] = {}
    for minion, one in returned.items():
        given = one if isinstance(one, Mapping) else {}
        retcode = given.get("retcode", 0)
        found[str(minion)] = {
            "return": given.get("return"),
            "retcode": retcode if isinstance(retcode, int) else 1,
            "success": given.get("success") is not False and isinstance(one, Mapping),
        }
    return found


def refuse_unusable(opts: Mapping[str, Any]) -> None:
    """Settings of the master that a rollout cannot work with. Raises LivepatchError (argument)."""
    if not opts.get("job_cache", True):
        why = "keeps no job cache (job_cache: False), so no return could be believed"
    elif opts.get("minion_data_cache") is False:
        why = "keeps no data of its minions (minion_data_cache: False), so none that is off is known"
    else:
        return
    raise LivepatchError(
        Kind.ARGUMENT,
        f"This master {why}; nothing was changed.",
        remedy="Change that setting in the master's configuration and restart the master.",
    )


def _said(problem: Exception) -> str:
    return str(problem) or type(problem).__name__
