"""What this host remembers across restarts: whose approvals it obeys, and what it loaded."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livepatch_core.durable import write_atomically
from livepatch_core.errors import LivepatchError
from livepatch_core.host import journal
from livepatch_core.host.intent import Intent, parse_intent
from livepatch_core.host.journal import GENESIS, Head
from livepatch_core.host.statefile import Types, known, typed
from livepatch_core.words import Kind

SCHEMA = 1


@dataclass(frozen=True)
class ByHand:
    """A level set by hand; it holds against what was approved up to ``above_rev``. kernel: the build it is
    one of, where it is known. freed: builds that were approved a level since."""

    level: int
    reason: str
    above_rev: int
    kernel: str = ""
    freed: tuple[str, ...] = ()

    def binds(self, kernel: str) -> bool:
        """Whether it is meant for ``kernel``: level numbers of two builds have nothing in common, only level
        0 means the same to all."""
        return kernel not in self.freed and (self.level == 0 or self.kernel in ("", kernel))

    def without(self, builds: Iterable[str]) -> ByHand:
        return dataclasses.replace(self, freed=tuple(sorted({*self.freed, *filter(self.binds, builds)})))


@dataclass(frozen=True)
class Loaded:
    """A module this host loaded, and what it promised; true for one boot only.

    functions: (object, function, position) triples, positions counted from 1 as sysfs shows them.
    build_id is the module's own (what /sys/module/M/notes shows), the identity of what is loaded. built_for:
    (module it patches, build-id that this has to have); None in entries of before it was written.
    """

    name: str
    level: int | None  # None: loaded by hand with livepatch.load
    sha256: str
    build_id: str | None
    boot_id: str
    at: str
    functions: tuple[tuple[str, str, int], ...]
    replace: bool
    callbacks: bool = False
    shadow: bool = False
    states: tuple[tuple[int, int], ...] = ()
    fixes: tuple[str, ...] = ()
    package: str = ""  # name and version of the distribution's package it came with, "" if with none
    built_for: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True)
class Forced:
    """livepatch.force was used in this boot: the host owes a reboot and takes no more live patches."""

    patch: str
    reason: str
    boot_id: str
    at: str


@dataclass(frozen=True)
class Told:
    """What a host was told before an act told it something else: it goes on where that act is undone."""

    by_hand: ByHand | None
    bounds: Mapping[str, int]


@dataclass(frozen=True)
class Record:
    ledger_id: str = ""
    rev: int = 0
    approval_digest: str = ""
    approved: Mapping[str, int] = field(default_factory=dict)  # what that approval gives each kernel build
    bounds: Mapping[str, int] = field(default_factory=dict)  # by kernel build: the level it was last told
    by_hand: ByHand | None = None
    by_state: ByHand | None = None  # what a state said last, above the rev there was when that was new
    state_is_last: bool = False  # whether nothing was said by hand since then
    loaded: tuple[Loaded, ...] = ()
    forced: tuple[Forced, ...] = ()
    journal: Head = Head()  # of the journal when it was last written: shows a journal cut short
    intent: Intent | None = None  # the act under way, or the one that its process did not live to end
    instead: Told | None = None  # of that act, where its being undone changes what this host was told
    other: Mapping[str, Any] = field(default_factory=dict)  # keys of a newer version, kept as they are

    def begin(self, intent: Intent, undone: Record) -> Record:
        """The record with the act under way; ``undone``: that of a host on which it came to nothing."""
        told = Told(undone.by_hand, undone.bounds)
        same = told == Told(self.by_hand, self.bounds)
        return dataclasses.replace(self, intent=intent, instead=None if same else told)

    def end(self) -> Record:
        """The record of a host on which the act under way has ended as it should."""
        return dataclasses.replace(self, intent=None, instead=None)

    def undo(self) -> Record:
        """The record of a host on which the act under way came to nothing: what was loaded may have left its
        module, but what was told with it does not hold."""
        told = self.instead or self
        return dataclasses.replace(self.end(), by_hand=told.by_hand, bounds=told.bounds)

    def _also(self, say: Callable[[Record], Record]) -> Told | None:
        """What is said while an act is under way goes for the host on which it is undone as well."""
        if self.instead is None:
            return None
        undone = say(self.undo())
        return Told(undone.by_hand, undone.bounds)

    def accept(
        self,
        ledger_id: str,
        rev: int,
        digest: str,
        levels: Mapping[str, int],
        since: Mapping[str, int],
    ) -> Record:
        """The record of a host that obeys this approval from now on, whether it can be carried out or not.

        levels: for each kernel build that it names. For another one what the host was told last goes on: that
        is a level set by hand, if there is one. since: the rev at which each of them was said; one that is
        handed out once more beside a newer one is not newer than what was said by hand in between.
        """
        held, bounds = self.by_hand, {**self.bounds, **levels}
        if held is not None:
            held = held.without(build for build in levels if since[build] > held.above_rev)
            if not any(map(held.binds, (*bounds, held.kernel) if held.kernel else bounds)):
                held = None
        said = self.by_state
        return dataclasses.replace(
            self,
            ledger_id=ledger_id,
            rev=rev,
            approval_digest=digest,
            approved=dict(levels),
            bounds=bounds,
            by_hand=held,
            by_state=said and said.without(build for build in levels if since[build] > said.above_rev),
            instead=self._also(lambda undone: undone.accept(ledger_id, rev, digest, levels, since)),
        )

    def _held(self) -> dict[str, int]:
        """What the level set by hand says, by kernel build."""
        held = self.by_hand
        assert held is not None
        return {build: held.level for build in (*self.bounds, held.kernel) if held.binds(build)}

    def take_newest(self, kernel: str) -> Record:
        """The record of a host that goes to the newest level, as its site wants it: nothing bounds it any
        more, until somebody says something again."""
        bounds = {build: level for build, level in self.bounds.items() if build != kernel}
        return dataclasses.replace(self, bounds=bounds)

    def adopt(self, ledger_id: str, rev: int) -> Record:
        """The record of a host that obeys another ledger, from ``rev`` on.

        A level set by hand held against revs of the old ledger; now it holds until the new one speaks.
        """
        held, said = (
            one and dataclasses.replace(one, above_rev=max(rev - 1, 0))
            for one in (self.by_hand, self.by_state)
        )
        return dataclasses.replace(
            self,
            ledger_id=ledger_id,
            rev=rev,
            approval_digest="",
            approved={},
            by_hand=held,
            by_state=said,
            instead=self._also(lambda undone: undone.adopt(ledger_id, rev)),
        )

    def hold(self, by_hand: ByHand) -> Record:
        """The record of a host that was told so by hand. What was said by hand before goes on as a bound of
        the kernel builds that this one does not speak of."""
        old, said = self.by_hand, dict[str, int]()
        if old is not None and by_hand.level + old.level > 0:  # level 0 twice is one hold
            said = {build: level for build, level in self._held().items() if build != by_hand.kernel}
        bounds = {**self.bounds, **said}
        return dataclasses.replace(self, by_hand=by_hand, bounds=bounds, state_is_last=False)

    def unhold(self) -> Record:
        """The record of a host that approvals rule again; where none ever did, the hold stays its bound."""
        if self.by_hand is None:
            return self
        bounds = {self.by_hand.kernel: self.by_hand.level, **self.bounds}
        instead = self._also(lambda undone: undone.unhold())
        return dataclasses.replace(self, by_hand=None, bounds=bounds, instead=instead)

    def with_loaded(self, loaded: Loaded) -> Record:
        """``loaded`` added; entries of earlier boots and of the same name go."""
        kept = tuple(one for one in self.loaded if one.boot_id == loaded.boot_id and one.name != loaded.name)
        return dataclasses.replace(self, loaded=(*kept, loaded))

    def complete(self, known: Loaded) -> Record:
        """The entry of that module, in its place, with the builds that it was made for."""
        loaded = (
            dataclasses.replace(one, built_for=known.built_for)
            if (one.name, one.boot_id) == (known.name, known.boot_id)
            else one
            for one in self.loaded
        )
        return dataclasses.replace(self, loaded=tuple(loaded))

    def with_forced(self, forced: Forced) -> Record:
        kept = tuple(one for one in self.forced if one.boot_id == forced.boot_id)
        return dataclasses.replace(self, forced=(*kept, forced))

    def find_loaded(self, name: str, boot_id: str | None) -> Loaded | None:
        """What this host loaded under that name in this boot; None also when the boot is not known."""
        return next((one for one in self.loaded if one.name == name and one.boot_id == boot_id), None)

    def forced_in(self, boot_id: str | None) -> tuple[Forced, ...]:
        """Every force there was when the boot is not known: it may have been this one."""
        return tuple(one for one in self.forced if boot_id in (None, one.boot_id))


def read_record(path: Path) -> Record:
    """The record, or an empty one on a host that never acted.

    Raises LivepatchError (journal) when it is there but cannot be understood, or is gone although the
    journal or the levels kept beside it say that this host has acted: guessing 'never acted' would let a
    superseded approval win, or the boot load what was taken back.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        if journal.read_bytes(path.with_name(journal.FILE_NAME)):
            raise _unreadable(path, "it is gone, but the journal is there") from None
        if any(path.with_name("store").glob("*/index.json")):  # of store.py
            raise _unreadable(path, "it is gone, but levels are kept for the boot") from None
        return Record()
    except OSError as problem:
        raise _unreadable(path, str(problem)) from problem
    try:
        return _from_document(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise _unreadable(path, f"{type(problem).__name__}: {problem}") from problem


def new_record(path: Path, builds: Iterable[str]) -> Record:
    """Where the record was lost: an empty one that goes on with the journal there is.

    builds: those of which levels may be kept. Which level the host was told last is lost with the record, so
    none is loaded at boot until it is told again.
    Only for livepatch.adopt_ledger, which gives the lowest rev to be accepted by hand.
    """
    last = journal.last_entry(path.with_name(journal.FILE_NAME))
    return Record(bounds=dict.fromkeys(builds, 0), journal=last.head if last else Head())


def write_record(path: Path, record: Record) -> None:
    """Durable before it returns. Raises LivepatchError (journal); the file is then old or new, never between.

    The error says that nothing was changed: who writes after a change has to say otherwise.
    """
    document = {item.name: getattr(record, item.name) for item in dataclasses.fields(Record)}
    document.update(
        by_hand=dataclasses.asdict(record.by_hand) if record.by_hand else None,
        by_state=dataclasses.asdict(record.by_state) if record.by_state else None,
        loaded=[dataclasses.asdict(one) for one in record.loaded],
        forced=[dataclasses.asdict(one) for one in record.forced],
        journal=dataclasses.asdict(record.journal),
        intent=record.intent.document() if record.intent else None,
        instead=dataclasses.asdict(record.instead) if record.instead else None,
    )
    other = document.pop("other")
    try:
        write_atomically(
            path, json.dumps({**other, **document, "schema": SCHEMA}, sort_keys=True).encode() + b"\n"
        )
    except OSError as problem:
        raise LivepatchError(
            Kind.JOURNAL,
            f"The host's record {path} could not be written ({problem.strerror}); nothing was changed.",
            remedy="Make room, or make its directory writable; then ask again.",
            why=problem.strerror,
        ) from problem


def _from_document(document: Mapping[str, Any]) -> Record:
    names = {item.name for item in dataclasses.fields(Record)} - {"other"}
    other = {key: value for key, value in document.items() if key not in names and key != "schema"}
    values = {key: document[key] for key in names if key in document}
    intent, instead = values.get("intent"), values.get("instead")
    for key in ("by_hand", "by_state"):
        values[key] = _by_hand(values.get(key))
    values["instead"] = None if instead is None else _told(instead["by_hand"], instead["bounds"])
    values["loaded"] = tuple(_loaded(one) for one in values.get("loaded", ()))
    values["forced"] = tuple(typed(Forced(**known(Forced, one)), _FORCED) for one in values.get("forced", ()))
    for key in ("approved", "bounds"):
        values[key] = _levels(values.get(key, {}))
    values["journal"] = typed(Head(**values.get("journal", {"seq": 0, "hash": GENESIS})), _HEAD)
    values["intent"] = None if intent is None else typed(parse_intent(intent), _INTENT)
    return typed(Record(**values, other=other), _RECORD)


def _told(by_hand: Mapping[str, Any] | None, bounds: Mapping[str, Any]) -> Told:
    return Told(_by_hand(by_hand), _levels(bounds))


def _by_hand(document: Mapping[str, Any] | None) -> ByHand | None:
    if document is None:
        return None
    freed = document.get("freed", [])
    if not isinstance(freed, list) or not all(isinstance(build, str) for build in freed):
        raise ValueError(f"freed is {freed!r}")
    return typed(ByHand(**{**known(ByHand, document), "freed": tuple(freed)}), _BY_HAND)


def _levels(document: Mapping[str, Any]) -> dict[str, int]:
    if any(type(level) is not int or level < 0 for level in document.values()):
        raise ValueError(f"levels are {document!r}")
    return dict(document)


def _loaded(document: Mapping[str, Any]) -> Loaded:
    values = known(Loaded, document)
    values["functions"] = tuple((str(o), str(f), int(p)) for o, f, p in values["functions"])
    values["states"] = tuple((int(i), int(v)) for i, v in values.get("states", ()))
    values["fixes"] = tuple(values.get("fixes", ()))
    if values.get("built_for") is not None:
        values["built_for"] = tuple((str(target), str(build)) for target, build in values["built_for"])
    return typed(Loaded(**values), _LOADED)


# What decides who wins, or is compared with what the kernel shows; a damaged value must not decide anything.
_ABSENT = type(None)
_RECORD: Types = {"ledger_id": (str,), "rev": (int,), "approval_digest": (str,), "state_is_last": (bool,)}
_BY_HAND = {"level": (int,), "reason": (str,), "above_rev": (int,), "kernel": (str,), "freed": (tuple,)}
_FORCED = {"patch": (str,), "reason": (str,), "boot_id": (str,), "at": (str,)}
_HEAD = {"seq": (int,), "hash": (str,)}
_INTENT: Types = {
    "id": (str,),
    "patch": (str,),
    "boot_id": (str,),
    "began": (str,),
    "target": (bool,),
    "undone": (bool,),
    "clock": (float, int, _ABSENT),
}
_LOADED: Types = {
    "name": (str,),
    "level": (int, _ABSENT),
    "sha256": (str,),
    "build_id": (str, _ABSENT),
    "boot_id": (str,),
    "at": (str,),
    "replace": (bool,),
}


def _unreadable(path: Path, why: str) -> LivepatchError:
    return LivepatchError(
        Kind.JOURNAL,
        f"The host's record {path} cannot be understood ({why}); the host holds what it has, nothing was "
        "changed.",
        remedy=(
            "Look at livepatch.status and livepatch.verify; restore the file, or move it away and run "
            "livepatch.adopt_ledger."
        ),
    )
