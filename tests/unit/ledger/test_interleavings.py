"""The ledger's half of the approval rule, over random interleavings of everything that is done to it.

A host here obeys like a real one (host/approval.py): it takes what it is handed, at any later time, in any
order, and never an older rev.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from livepatch_core.catalog.settings import Master
from livepatch_core.errors import LivepatchError
from livepatch_core.host.approval import parse_approval
from livepatch_core.ledger.acts import approve, freeze, unfreeze
from livepatch_core.ledger.handout import hand_out
from livepatch_core.ledger.recover import backup, restore
from livepatch_core.ledger.show import show
from livepatch_core.ledger.store import ledger_file
from tests.unit.ledger.grants import BUILD, BY, grants

HOSTS = ("hv1", "hv2", "hv3")
NAMES = st.sets(st.sampled_from(HOSTS), min_size=1)
STEPS = st.one_of(
    st.tuples(st.just("approve"), NAMES, st.integers(0, 5)),
    st.tuples(st.just("freeze"), st.none() | NAMES),
    st.tuples(st.just("unfreeze"), st.none() | NAMES),
    st.tuples(st.just("backup")),
    st.tuples(st.just("restore"), st.integers(0, 9)),
    st.tuples(st.just("lose")),
)


class Ledger:
    """A ledger in use, its backups, and the highest rev that hosts were handed of each ledger."""

    def __init__(self, directory: Path) -> None:
        self.master = Master(directory / "state", "root")
        self.directory = directory
        self.backups: list[Path] = []
        self.revs: dict[str, int] = {}
        self.handed: dict[tuple[str, str, int], object] = {}

    def step(self, act: str, *arguments: object) -> None:
        try:
            getattr(self, f"do_{act}")(*arguments)
        except LivepatchError:
            assert act != "backup" or not ledger_file(self.master.state_dir).exists()

    def do_approve(self, names: set[str], level: int) -> None:
        before = self.frozen()
        self.written(approve(self.master, names, grants(level), BY))
        assert not before & {"the fleet", *names}
        for name in names:
            assert parse_approval(hand_out(self.master.state_dir, name)).builds[BUILD].level == level

    def do_freeze(self, names: set[str] | None) -> None:
        self.written(freeze(self.master, names, BY))
        for name in names or HOSTS:
            assert "error" in hand_out(self.master.state_dir, name)

    def do_unfreeze(self, names: set[str] | None) -> None:
        self.written(unfreeze(self.master, names, BY))

    def do_backup(self) -> None:
        path = self.directory / f"backup-{len(self.backups)}"
        backup(self.master, path)
        self.backups.append(path)

    def do_restore(self, which: int) -> None:
        if self.backups:
            seen = max(self.revs.values(), default=0)
            path = self.backups[which % len(self.backups)]
            self.written(restore(self.master, path, BY, seen if which % 2 else None))
            assert all("error" in hand_out(self.master.state_dir, name) for name in HOSTS)

    def do_lose(self) -> None:
        for path in self.master.state_dir.glob("ledger.sqlite*"):
            path.unlink()

    def written(self, done: dict[str, object]) -> None:
        """Every write raises the rev, for as long as the ledger has its id."""
        name, rev = str(done["ledger_id"]), int(str(done["rev"]))
        assert rev > self.revs.get(name, 0)
        self.revs[name] = rev

    def frozen(self) -> set[str]:
        return set(show(self.master.state_dir)["frozen"])

    def check_hosts(self) -> None:
        """One rev never stands for two contents."""
        for host in HOSTS:
            document = hand_out(self.master.state_dir, host)
            if "error" not in document:
                approval = parse_approval(document)
                key = (host, approval.ledger_id, approval.rev)
                assert self.handed.setdefault(key, approval) == approval
                assert approval.rev <= self.revs[approval.ledger_id]


@settings(max_examples=60)
@given(st.lists(STEPS, min_size=3, max_size=15))
def test_rev_grows_and_names_one_content(steps: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        ledger = Ledger(Path(directory))
        for act, *arguments in steps:
            ledger.step(str(act), *arguments)
            ledger.check_hosts()
