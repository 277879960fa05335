"""The approval rule in every interleaving, with the real ledger, the real handout and the real host: only the
kernel is a stand-in. What is believed is what the hosts themselves wrote down: record and journal.

Two masters, two hosts. Approvals and rollbacks, freezes, highstates with fresh pillar, bare applies with
whatever pillar a minion still has, levels by hand, orderly boots and crashes, Salt's cache wiped, ledgers
lost and restored from old backups.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from livepatch_core.catalog.author import Author
from livepatch_core.catalog.settings import Master, parse_master
from livepatch_core.errors import LivepatchError
from livepatch_core.host import approval, armed, boot, byhand, move, persist, soak
from livepatch_core.host.apply import apply
from livepatch_core.host.byhand import Order
from livepatch_core.host.move import Wish
from livepatch_core.host.outcome import Outcome, refused
from livepatch_core.host.record import Record
from livepatch_core.ledger import acts
from livepatch_core.ledger.handout import hand_out
from livepatch_core.ledger.model import Grant
from livepatch_core.ledger.recover import backup, restore
from livepatch_core.words import Kind
from tests.unit.host.conftest import levels
from tests.unit.host.fakekernel import BUILD_ID, FakeKernel
from tests.unit.host.world import World, put_in_place

BY = Author("alice", "a test", "2026-11-24T10:00:00Z")
NAMES = ("hv1", "hv2")
MASTERS = st.sampled_from((0, 0, 0, 1))  # most of it happens where the hosts are
LEVELS = st.integers(0, 3)
ORDER = Order("a test")


WHAT = (
    *("approve", "highstate", "bare_apply") * 3,
    *("roll_back", "freeze", "thaw", "thaw", "back_up", "restore", "lose", "wipe_the_cache"),
    *("by_hand", "unhold", "release", "soak_and_keep", "reboot", "adopt"),
)


@dataclass(frozen=True)
class Step:
    """What is done, by which master or on which host; level, number and flag as it needs them."""

    what: str
    which: int
    name: str
    level: int
    number: int
    flag: bool


@dataclass
class Ledgers:
    """One master, and what it was told in words of this test: for each host its rev and level."""

    directory: Path
    told: dict[str, tuple[int, int]] = field(default_factory=dict)
    backups: list[tuple[Path, dict[str, tuple[int, int]]]] = field(default_factory=list)
    ledger_id: str = ""

    @property
    def cache(self) -> Path:
        return self.directory / "cache"

    @property
    def master(self) -> Master:
        self.cache.mkdir(parents=True, exist_ok=True)
        return parse_master({"state_dir": str(self.directory / "state")}, str(self.cache), "root")

    def lost(self) -> bool:
        return not list((self.directory / "state").glob("ledger.sqlite"))


@dataclass
class Watched:
    """A host, what its minion may still have in memory, and how far this test has followed its journal."""

    world: World
    pillars: list[dict[str, Any]] = field(default_factory=list)
    seen: int = 0
    record: Record = Record()
    proven: set[int] = field(default_factory=set)
    boots: int = 1
    approved: int = 0  # the level last approved, by whatever ledger it obeyed then


class Fleet:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.masters = [Ledgers(self.directory / f"master{number}") for number in (0, 1)]
        self.hosts = {name: Watched(self.new_world(name)) for name in NAMES}
        self.issued: dict[tuple[str, str, int], int] = {}  # ledger, host, rev -> level

    def new_world(self, name: str) -> World:
        world = levels(World(FakeKernel(self.directory / name / "kernel"), self.directory / name))
        world.enable_units()
        return world

    def step(self, step: Step) -> None:
        """One thing that somebody does, or that happens."""
        getattr(self, f"do_{step.what}")(step)
        for host in self.hosts.values():
            assert host.world.record.intent is None
            assert len(host.world.patches) <= 1

    def do_approve(self, step: Step) -> None:
        self.approve(step.which, set(NAMES) if step.flag else {step.name}, step.level)

    def do_roll_back(self, step: Step) -> None:
        """Written before it is dispatched, and the job brings the approval with it."""
        told = self.masters[step.which].told.get(step.name)
        if told is not None and told[1] > 0:
            self.approve(step.which, {step.name}, told[1] - 1)
            self.highstate(step.which, step.name)

    def do_freeze(self, step: Step) -> None:
        self.freeze(acts.freeze, step.which, None if step.flag else {step.name})

    def do_thaw(self, step: Step) -> None:
        self.freeze(acts.unfreeze, step.which, None if step.flag else {step.name})

    def do_back_up(self, step: Step) -> None:
        self.back_up(step.which)

    def do_restore(self, step: Step) -> None:
        self.restore(step.which, step.number, lose=False, known=step.flag)

    def do_lose(self, step: Step) -> None:
        self.restore(step.which, step.number, lose=True, known=step.flag)

    def do_wipe_the_cache(self, step: Step) -> None:
        shutil.rmtree(self.masters[step.which].cache, ignore_errors=True)

    def do_highstate(self, step: Step) -> None:
        self.highstate(step.which, step.name)

    def do_bare_apply(self, step: Step) -> None:
        """With a pillar that may be of yesterday, or of the other master."""
        pillars = self.hosts[step.name].pillars
        self.obey(step.name, pillars[step.number % len(pillars)] if pillars else None)

    def do_by_hand(self, step: Step) -> None:
        wish = Wish(level=step.level, reason="a test")
        self.act(step.name, {"by-hand"}, lambda host: apply(host.world.host, wish))

    def do_unhold(self, step: Step) -> None:
        self.act(step.name, set(), lambda host: byhand.unhold(host.world.host, ORDER))

    def do_release(self, step: Step) -> None:
        self.act(step.name, set(), lambda host: persist.release(host.world.host, max(step.level, 1), ORDER))

    def do_soak_and_keep(self, step: Step) -> None:
        self.soak_and_keep(step.name)

    def do_reboot(self, step: Step) -> None:
        self.reboot(step.name, orderly=step.flag)

    def do_adopt(self, step: Step) -> None:
        self.adopt(step.name, step.which)

    # -- the masters ------------------------------------------------------------------------------------

    def issue(self, ledgers: Ledgers, done: dict[str, Any], told: dict[str, int]) -> None:
        if ledgers.ledger_id != done["ledger_id"]:
            ledgers.ledger_id, ledgers.told = str(done["ledger_id"]), {}
        for name, level in told.items():
            ledgers.told[name] = (done["rev"], level)
            key = (ledgers.ledger_id, name, done["rev"])
            assert self.issued.setdefault(key, level) == level, "one rev, two contents"

    def approve(self, which: int, names: set[str], level: int) -> None:
        ledgers = self.masters[which]
        sha256 = self.hosts["hv1"].world.levels[level].sha256 if level else None
        with contextlib.suppress(LivepatchError):  # frozen
            done = acts.approve(ledgers.master, names, {BUILD_ID: Grant(level, sha256)}, BY)
            self.issue(ledgers, done, dict.fromkeys(names, level))

    def freeze(self, act: Callable[..., dict[str, Any]], which: int, names: set[str] | None) -> None:
        ledgers = self.masters[which]
        with contextlib.suppress(LivepatchError):  # it is not frozen
            self.issue(ledgers, act(ledgers.master, names, BY), {})

    def back_up(self, which: int) -> None:
        ledgers = self.masters[which]
        if not ledgers.lost():
            path = ledgers.directory / f"backup{len(ledgers.backups)}"
            backup(ledgers.master, path)
            ledgers.backups.append((path, dict(ledgers.told)))

    def restore(self, which: int, number: int, lose: bool, known: bool) -> None:
        """As docs/catalog-and-approvals.md says: with the highest rev of all hosts, or with a new id."""
        ledgers = self.masters[which]
        if not ledgers.backups:
            return
        if lose:
            for path in (ledgers.directory / "state").glob("ledger.sqlite*"):
                path.unlink()
        path, told = ledgers.backups[number % len(ledgers.backups)]
        highest = max(one.world.record.rev for one in self.hosts.values())
        with contextlib.suppress(LivepatchError):  # a backup of the ledger before this one
            done = restore(ledgers.master, path, BY, highest if known else None)
            ledgers.told = {}
            self.issue(ledgers, done, {name: level for name, (_, level) in told.items()})

    # -- the hosts --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def on(self, name: str) -> Iterator[Watched]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda descriptor: None)
            put_in_place(self.hosts[name].world, patch)
            yield self.hosts[name]

    def act(self, name: str, rights: set[str], act: Callable[[Watched], Outcome]) -> Outcome:
        """Whatever it is, the journal says by what right the host moved, and that has to be one of these."""
        with self.on(name) as host:
            try:
                outcome = act(host)
            except LivepatchError as error:
                outcome = refused(error)
            self.follow(name, host, rights)
        return outcome

    def follow(self, name: str, host: Watched, rights: set[str]) -> None:
        """The host's own words on what it did: each line since the last look, and its record now."""
        record, lines = host.world.record, host.world.journal
        assert record.ledger_id == host.record.ledger_id or not host.record.ledger_id, "changed masters"
        assert record.rev >= host.record.rev, "went back to an older rev"
        host.approved = self.issued.get((record.ledger_id, name, record.rev), host.approved)
        for line in lines[host.seen :]:
            right = line["authority"]
            assert right["source"] in rights, line
            if right["source"] != "by-hand":
                assert (right["ledger_id"], right["rev"]) == (record.ledger_id, record.rev), line
            if right["source"] == "approval":
                assert self.issued[(record.ledger_id, name, record.rev)] == right["level"], line
            if right["source"] == "boot":
                bound = record.by_hand.level if record.by_hand else host.approved
                assert right["level"] <= bound, line
                assert right["level"] in host.proven, line
        host.seen, host.record = len(lines), record

    def pillar(self, which: int, name: str) -> dict[str, Any]:
        document = hand_out(self.masters[which].master.state_dir, name)
        self.hosts[name].pillars.append(document)
        return document

    def highstate(self, which: int, name: str) -> None:
        """With fresh pillar; with nothing in the way the host is where its ledger wants it: the rule is not
        kept by never moving."""
        host, told = self.hosts[name], self.masters[which].told.get(name)
        obeys = host.record.ledger_id in ("", self.masters[which].ledger_id) and host.record.by_hand is None
        document = self.pillar(which, name)
        newest = told is not None and told[0] >= host.record.rev
        outcome = self.obey(name, document)
        if told is not None and obeys and newest and "error" not in document:
            assert outcome.result is True or outcome.kind is Kind.QUARANTINED, outcome.comment
            if outcome.result is True:
                assert host.world.patches == ([f"lp_{told[1]}"] if told[1] else [])

    def obey(self, name: str, document: dict[str, Any] | None) -> Outcome:
        before = self.hosts[name].record
        changes = len(self.hosts[name].world.kernel.changed)
        wish = Wish(approval=document)
        outcome = self.act(name, {"approval"}, lambda host: apply(host.world.host, wish))
        moved = len(self.hosts[name].world.kernel.changed) > changes
        if document is None or "error" in document:
            assert outcome.kind in (Kind.UNAPPROVED, Kind.FROZEN)
            assert not moved
        elif before.ledger_id and document["ledger_id"] != before.ledger_id:
            assert outcome.kind is Kind.FOREIGN_LEDGER
            assert not moved
        elif document["rev"] < before.rev:
            assert outcome.kind is Kind.SUPERSEDED
            assert not moved
        return outcome

    def soak_and_keep(self, name: str) -> None:
        def keep(host: Watched) -> Outcome:
            done = persist.persist(host.world.host)
            found = armed.read_armed(host.world.host)
            if found is not None and found.level is not None:
                soak._prove(host.world.host, found)
                host.proven.add(found.level)
            return done

        self.act(name, set(), keep)

    def reboot(self, name: str, orderly: bool) -> None:
        def start(host: Watched) -> Outcome:
            if orderly:
                boot.stop(host.world.host)
            host.boots += 1
            host.world.kernel.boot(f"boot-{host.boots}")
            return boot.start(host.world.host)

        self.act(name, {"boot"}, start)

    def adopt(self, name: str, which: int) -> None:
        """The one way to another master, and it moves nothing by itself."""
        chosen = self.masters[which].ledger_id
        if not chosen or chosen == self.hosts[name].record.ledger_id:
            return
        host = self.hosts[name]
        changed = len(host.world.kernel.changed)
        host.record = Record()
        self.act(name, set(), lambda one: byhand.adopt_ledger(one.world.host, chosen, 0, ORDER))
        assert len(host.world.kernel.changed) == changed


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(WHAT),
        MASTERS,
        st.sampled_from(NAMES),
        LEVELS,
        st.integers(0, 99),
        st.booleans(),
    ),
    min_size=10,
    max_size=30,
)


def run(steps: list[Step]) -> None:
    """From a fleet at its first approved level on."""
    with tempfile.TemporaryDirectory() as directory:
        fleet = Fleet(Path(directory))
        fleet.approve(0, set(NAMES), 1)
        for name in NAMES:
            fleet.highstate(0, name)
        for step in steps:
            fleet.step(step)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_no_host_moves_by_a_superseded_approval_or_without_one(steps: list[Step]) -> None:
    run(steps)


BROKEN: dict[str, Callable[[Record], Record]] = {
    "forgets the highest rev": lambda record: replace(record, rev=0, approval_digest=""),
    "obeys any ledger": lambda record: replace(record, ledger_id="", rev=0, approval_digest=""),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_rule_is_seen(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the test above is known to be able to fail: the first run that meets the defect ends it."""
    real = approval.accept

    def broken(given: approval.Approval, record: Record) -> Record:
        return real(given, BROKEN[how](record))

    monkeypatch.setattr(approval, "accept", broken)
    monkeypatch.setattr(move, "accept", broken)
    search = settings(
        max_examples=60, deadline=None, derandomize=True, database=None, phases=[Phase.generate]
    )
    with pytest.raises(AssertionError):
        search(given(STEPS)(run))()
