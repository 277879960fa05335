"""The last restart of this host under an approval: ``restart.json`` in its state directory.

Written before each step, so that whoever comes after a death knows what is owed: an image to be unloaded, a
drain to be undone. The approval's rev is its name: asked twice for one, a host answers twice and boots once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.host.approval import Approval
from livepatch_core.host.context import Host
from livepatch_core.host.outcome import Outcome
from livepatch_core.host.statefile import read_document, unreadable, write_document
from livepatch_core.words import Kind, Word

FILE_NAME = "restart.json"
LOCK_NAME = "restart.lock"


class Method(Word):
    """How the other kernel is started."""

    KEXEC = "kexec"  # from the running one
    REBOOT = "reboot"  # through the firmware and its boot loader, which choose the kernel


class Stage(Word):
    """How far it has come."""

    BEGUN = "begun"  # the kernel may be loaded; nothing else was touched
    DRAINING = "draining"  # the drain was called
    LEAVING = "leaving"  # the boot was ordered
    FINISHING = "finishing"  # back; what runs here is being verified
    DONE = "done"  # ``result`` says how it ended


@dataclass(frozen=True)
class Restart:
    """approval: under which it is restarted, whose level is applied afterwards; ledger_id, rev: its name.
    kernel: the release to be started. boot_id: of the boot to be left.

    undrain: the function that brings back what the drain took away (hooks.py), None for none. owed: it is
    still to be called. back: it was called, and did it. away: why not, when it was last called. left: seconds
    since the epoch at which the host was to leave, 0 before; due: the same by the host's clock that never
    goes back, which only the boot that is left has. sample: the health before. evidence: what was found
    afterwards. result, kind, comment: how the restart itself ended; what came of the undrain is added
    where they are shown.
    """

    ledger_id: str
    rev: int
    method: Method
    kernel: str
    boot_id: str
    at: str
    approval: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    stage: Stage = Stage.BEGUN
    undrain: Mapping[str, Any] | None = None
    owed: bool = False
    back: bool = False
    away: str = ""
    left: float = 0.0
    due: float = 0.0
    sample: Mapping[str, Any] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    result: bool | None = None
    kind: str = ""
    comment: str = ""

    def is_of(self, approval: Approval) -> bool:
        return (self.ledger_id, self.rev) == (approval.ledger_id, approval.rev)

    @property
    def open(self) -> bool:
        """Whether something is still to be done about it."""
        return self.stage is not Stage.DONE or self.owed

    def document(self) -> dict[str, Any]:
        """What others see of it."""
        names = ("ledger_id", "rev", "kernel", "boot_id", "at", "owed")
        said: dict[str, Any] = {name: getattr(self, name) for name in names}
        said.update(method=str(self.method), stage=str(self.stage))
        said.update(result=self._result(), kind=self._kind(), comment=self.told())
        return {**said, "evidence": dict(self.evidence)}

    def outcome(self) -> Outcome:
        """What one that is done came to."""
        kind = Kind(self._kind()) if self._kind() else None
        old, new = self.evidence.get("from"), self.evidence.get("release")
        changes = {"boot": {"old": old, "new": new}} if new else {}
        return Outcome(self._result(), self.told(), kind, changes, {"restart": self.document()})

    def told(self) -> str:
        """The comment, and where what was drained is."""
        if self.back:
            return f"{self.comment} What was drained is back."
        if self._left_away():
            why = f" ({self.away.rstrip('.')})" if self.away else ""
            return f"{self.comment} What was drained is not back{why}: try again, livepatch_restart.finish."
        return self.comment

    def _left_away(self) -> bool:
        return self.stage is Stage.DONE and self.owed

    def _result(self) -> bool | None:
        return False if self._left_away() else self.result

    def _kind(self) -> str:
        return self.kind or (str(Kind.HEALTH) if self._left_away() else "")


def path_of(host: Host) -> Path:
    return host.settings.state_dir / FILE_NAME


def lock_of(host: Host) -> Path:
    """Held by whoever is at it. Not the host's own lock: drain and undrain may take that."""
    return host.settings.run_dir / LOCK_NAME


def read_restart(host: Host) -> Restart | None:
    """Raises LivepatchError (journal) when the file is there and cannot be understood."""
    document = read_document(path_of(host))
    document.pop("schema", None)
    if not document:
        return None
    try:
        words = {"method": Method(document["method"]), "stage": Stage(document["stage"])}
        found = Restart(**{**document, **words})
        if type(found.rev) is not int or not found.boot_id:
            raise ValueError("rev or boot_id is none")
        return found
    except (KeyError, TypeError, ValueError) as problem:
        raise unreadable(path_of(host), problem) from problem


def shown(host: Host) -> dict[str, Any] | None:
    """For whoever looks at the host: an unreadable one is said, and keeps nothing else from being told."""
    try:
        found = read_restart(host)
    except LivepatchError as problem:
        return {"error": problem.message}
    return None if found is None else found.document()


def write_restart(host: Host, restart: Restart) -> Restart:
    """Durable before it returns; raises LivepatchError (journal)."""
    words = {"method": str(restart.method), "stage": str(restart.stage)}
    write_document(path_of(host), {**asdict(restart), **words})
    return restart
