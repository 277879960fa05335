"""Many writers at once, from the first write on: each gets a rev of its own, none is lost."""

from __future__ import annotations

import os

from livepatch_core.catalog.settings import Master
from livepatch_core.ledger.acts import approve
from livepatch_core.ledger.handout import hand_out
from livepatch_core.ledger.show import show
from tests.unit.ledger.grants import BUILD, BY, grants

WRITERS, WRITES = 6, 15


def test_many_writers_and_readers(master: Master) -> None:
    children = []
    for writer in range(WRITERS):
        child = os.fork()
        if child == 0:
            for write in range(1, WRITES + 1):
                approve(master, [f"hv{writer}"], grants(write), BY)
                told = hand_out(master.state_dir, f"hv{writer}")
                if told.get("builds", {}).get(BUILD, {}).get("level") != write:
                    os._exit(1)
            os._exit(0)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    shown = show(master.state_dir, history=1000)
    assert codes == [0] * WRITERS
    assert shown["rev"] == WRITERS * WRITES
    assert [one["rev"] for one in shown["history"]] == list(range(WRITERS * WRITES, 0, -1))
    assert {host["levels"][BUILD] for host in shown["hosts"].values()} == {WRITES}
