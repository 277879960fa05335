"""How the last act under an approval ended: what a rollout asks for when a job's return was lost.

It stands in run_dir and is gone after a boot, as the act's effect on the kernel is. It is an answer for
whoever missed the return, and decides nothing on this host: so it need not be durable.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from livepatch_core.durable import make_directory
from livepatch_core.errors import LivepatchError
from livepatch_core.host.approval import parse_approval
from livepatch_core.host.context import Host
from livepatch_core.host.outcome import Outcome, refused
from livepatch_core.words import Kind

if TYPE_CHECKING:  # status needs this file, and shall work where move's imports do not
    from livepatch_core.host.move import Wish

FILE_NAME = "last.json"
COMMENT = 400  # characters; the whole sentence is in the job's return or the host's journal
NOT_ITS_END = (Kind.BUSY, Kind.SUPERSEDED)  # another act is under way, or was later: that one's end counts


def noted(host: Host, wish: Wish, perform: Callable[[Host, Wish], Outcome]) -> Outcome:
    """``perform``, and what came of it kept where it was an act under an approval."""
    try:
        outcome = perform(host, wish)
    except LivepatchError as error:
        _note(host, wish, refused(error))
        raise
    _note(host, wish, outcome)
    return outcome


def read_last(host: Host) -> dict[str, Any]:
    """``rev``, ``result``, ``kind``, ``comment``, ``level``; {} where there was no such act in this boot."""
    try:
        found = json.loads((host.settings.run_dir / FILE_NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _note(host: Host, wish: Wish, outcome: Outcome) -> None:
    if wish.test or wish.level is not None or wish.approval is None or outcome.kind in NOT_ITS_END:
        return
    try:
        rev = parse_approval(wish.approval).rev
    except LivepatchError:
        return
    last = {
        "rev": rev,
        "result": outcome.result is not False,
        "kind": "" if outcome.kind is None else str(outcome.kind),
        "comment": outcome.comment[:COMMENT],
        "level": dict(outcome.changes.get("level", {})),
    }
    before = read_last(host)
    repeated = before.get("rev") == rev and before.get("result") is True and not outcome.changes
    if before.get("rev", 0) <= rev and not (repeated and last["result"]):
        _write(host, last)


def _write(host: Host, last: dict[str, Any]) -> None:
    """Highstate and a job may both be here: each has a name of its own until it is whole."""
    temporary = host.settings.run_dir / f".{FILE_NAME}.{os.getpid()}"
    try:
        make_directory(host.settings.run_dir)
        temporary.write_text(json.dumps(last))
        os.replace(temporary, host.settings.run_dir / FILE_NAME)
    except OSError:  # a full /run: whoever missed the return is told what the kernel is, not how it came so
        temporary.unlink(missing_ok=True)
