"""The fleet behind Salt, with a stand-in for what of Salt it is given."""

from __future__ import annotations

import base64
import contextlib
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest

from livepatch_core.catalog.author import Author
from livepatch_core.catalog.settings import Master
from livepatch_core.catalog.standing import promote
from livepatch_core.errors import LivepatchError
from livepatch_core.ledger.acts import approve, freeze
from livepatch_core.ledger.handout import hand_out
from livepatch_core.ledger.model import Grant as LedgerGrant
from livepatch_core.ledger.show import show
from livepatch_core.rollout import saltfleet
from livepatch_core.rollout.fleet import FleetError, Verb
from livepatch_core.rollout.model import Gate, GateType, Grant, When
from livepatch_core.rollout.saltfleet import Salt, SaltFleet, normal, refuse_unusable
from livepatch_core.words import Kind
from tests.unit.catalog.modules import BUILD, RELEASE, master_in, published

BY = Author("alice", "CVE-2026-1", "2026-11-24T10:00:00Z")
GRANT = Grant(1, "ab" * 32)


class Refused(Exception):
    """What Salt raises."""


class Stand:
    """Client, bus and job cache. calls: jobs published. tags: what the bus says next, None for silence."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.cache: dict[str, Any] = {}
        self.tags: list[Optional[str]] = []
        self.fired: list[tuple[str, Mapping[str, Any]]] = []
        self.failing: Optional[Exception] = None
        self.reads = 0

    def run_job(self, hosts: list[str], fun: str, arg: list[Any], **given: Any) -> dict[str, Any]:
        if self.failing is not None:
            raise self.failing
        self.calls.append((hosts, fun, arg, given["kwarg"], given["jid"], given["tgt_type"]))
        return {}

    def get_event(self, wait: float, **_given: Any) -> Optional[dict[str, Any]]:
        if self.failing is not None:
            raise self.failing
        tag = self.tags.pop(0) if self.tags else None
        if tag is None:
            time.sleep(min(wait, 0.05))
            return None
        return {"tag": tag, "data": {}}

    def fire_event(self, data: Mapping[str, Any], tag: str) -> bool:
        if self.failing is not None:
            raise self.failing
        self.fired.append((tag, data))
        return True

    def cached(self, jid: str) -> Any:
        self.reads += 1
        if self.failing is not None:
            raise self.failing
        return self.cache.get(jid, {})


@pytest.fixture
def stand() -> Stand:
    return Stand()


@pytest.fixture
def master(tmp_path: Path) -> Master:
    return master_in(tmp_path)


def fleet_of(stand: Stand, master: Master, **given: Any) -> SaltFleet:
    return SaltFleet(
        Salt(stand, stand, stand.cached, lambda: "20261124", (Refused, OSError)), master, "r1", BY, **given
    )


class Package:
    """As much of the package ``salt`` as a master is reached by."""

    def __init__(self, stand: Stand) -> None:
        self.open: list[str] = []
        self.returners = {"mysql.get_jid": stand.cached, "local_cache.get_jid": lambda jid: {"local": {}}}
        self.connect_pub = lambda timeout: self.open.append("connected")
        self.client = SimpleNamespace(get_local_client=lambda mopts: self._opened("client"))
        jid = SimpleNamespace(gen_jid=lambda opts: opts["number"])
        event = SimpleNamespace(get_event=lambda node, opts, listen: self._opened("bus"))
        self.utils = SimpleNamespace(event=event, jid=jid)
        self.exceptions = SimpleNamespace(SaltException=Refused)

    @contextlib.contextmanager
    def _opened(self, what: str) -> Iterator[Any]:
        self.open.append(what)
        yield self
        self.open.remove(what)


@pytest.mark.parametrize("external", [None, "mysql"])
def test_what_a_master_is_made_of(stand: Stand, external: Optional[str]) -> None:
    """Returns are read where this master keeps them; its bus listens before anything is sent."""
    package = Package(stand)
    stand.cache["1"] = {"a": {"return": 1}}
    opts = {"number": 7, "master_job_cache": "local_cache", "ext_job_cache": external}
    with saltfleet.of_master(opts, package) as means:
        assert package.open == ["bus", "connected", "client"]
        assert set(means.cached("1")) == ({"a"} if external else {"local"})
        assert means.new_jid() == "7"
        assert means.errors == (Refused, OSError)
    assert package.open == ["connected"]


def test_jobs_go_to_lists_and_carry_what_hosts_understand(stand: Stand, master: Master) -> None:
    fleet = fleet_of(stand, master)
    approval = {"ledger_id": "l", "rev": 3, "builds": {}}
    fleet.publish("1", Verb.MOVE, ["a", "b"], {"approval": approval})
    fleet.publish("2", Verb.LOOK, ["a"], {})
    fleet.publish("3", Verb.ASK, ["a"], {"fun": "test.arg", "args": [1], "kwargs": {"x": 2}})
    assert stand.calls == [
        (["a", "b"], "livepatch.apply", [], {"approval": approval}, "1", "list"),
        (["a"], "livepatch.brief", [], {"health": True}, "2", "list"),
        (["a"], "test.arg", [1], {"x": 2}, "3", "list"),
    ]


def test_a_level_in_testing_travels_with_the_stage_job(stand: Stand, master: Master) -> None:
    done = published(master, 1)
    fleet = fleet_of(stand, master)
    assert "still in testing" in fleet.unreleased(BUILD, 1)
    builds = {BUILD: {"level": 1, "sha256": done["sha256"]}}
    fleet.publish("1", Verb.STAGE, ["a"], {"builds": builds, "spread": 5.0})
    payload = stand.calls[0][3]["payloads"][BUILD]
    data = zlib.decompress(base64.b64decode(payload["module"]))
    assert [data] == [path.read_bytes() for path in (master.withheld / RELEASE).glob("*.ko")]
    assert "status: testing" in payload["catalog"]
    promote(master, 1, None, None, BY)
    assert fleet.unreleased(BUILD, 1) == ""
    fleet.publish("2", Verb.STAGE, ["a"], {"builds": builds, "spread": 5.0})
    assert "payloads" not in stand.calls[1][3]


def test_what_salt_raises_is_said_as_a_fleet_error(stand: Stand, master: Master) -> None:
    fleet = fleet_of(stand, master)
    stand.failing = Refused("no master")
    with pytest.raises(FleetError, match=r"livepatch\.apply could not be sent to 1 hosts: no master"):
        fleet.publish("1", Verb.MOVE, ["a"], {"approval": {}})
    with pytest.raises(FleetError, match="job 1: no master"):
        fleet.returns("1")
    fleet.tell("started", {})  # nobody depends on it
    began = time.monotonic()
    fleet.wait(0.3)  # a bus that is gone answers at once: no reason to ask it as fast as possible
    assert 0.25 < time.monotonic() - began < 5


def test_five_hundred_is_the_most(stand: Stand, master: Master) -> None:
    fleet = fleet_of(stand, master)
    with pytest.raises(ValueError, match="501 hosts"):
        fleet.publish("1", Verb.LOOK, [str(one) for one in range(501)], {})


@pytest.mark.parametrize(
    ("cached", "wanted"),
    [
        ({"a": {"return": 1, "retcode": 0, "success": True}}, {"return": 1, "retcode": 0, "success": True}),
        ({"a": {"return": 1}}, {"return": 1, "retcode": 0, "success": True}),
        (
            {"a": {"return": "no", "retcode": 254, "success": False}},
            {"return": "no", "retcode": 254, "success": False},
        ),
        ({"a": "garbage"}, {"return": None, "retcode": 0, "success": False}),
        ({"a": {"return": 1, "retcode": "x"}}, {"return": 1, "retcode": 1, "success": True}),
    ],
)
def test_whatever_the_job_cache_holds(cached: Any, wanted: Any) -> None:
    assert normal(cached) == {"a": wanted}


@pytest.mark.parametrize("cached", [None, [], "garbage", 3])
def test_a_job_cache_that_is_none(cached: Any) -> None:
    assert normal(cached) == {}


def test_a_hint_ends_the_wait_and_is_only_a_hint(stand: Stand, master: Master) -> None:
    fleet = fleet_of(stand, master)
    fleet.publish("1", Verb.LOOK, ["a", "b"], {})
    stand.tags = ["salt/job/1/ret/a"]
    began = time.monotonic()
    fleet.wait(20)
    assert time.monotonic() - began < 10
    assert fleet.returns("1") == {}  # forged, or not kept yet: the job cache decides


def test_a_hint_that_was_early_is_looked_for_again(stand: Stand, master: Master) -> None:
    """The master tells of a return before it keeps it."""
    fleet = fleet_of(stand, master)
    fleet.publish("1", Verb.LOOK, ["a"], {})
    stand.tags = ["salt/job/1/ret/a"]
    fleet.wait(20)
    assert fleet.returns("1") == {}
    stand.cache["1"] = {"a": {"return": 1}}
    began = time.monotonic()
    fleet.wait(20)
    assert time.monotonic() - began < 10
    assert "a" in fleet.returns("1")


def test_who_has_started_is_asked_at_once(stand: Stand, master: Master) -> None:
    """It was away when it was asked; others are not disturbed, nor is it asked for ever."""
    fleet = fleet_of(stand, master)
    fleet.publish("1", Verb.LOOK, ["a", "b"], {})
    fleet.publish("2", Verb.MOVE, ["a"], {"approval": {}})
    for number in range(2 * saltfleet.WOKEN):
        stand.tags = ["salt/minion/a/start"]
        fleet.wait(20)
        assert fleet.returns("1") == {} and fleet.returns("2") == {}
        if number == 0:
            assert [(hosts, fun) for hosts, fun, *_ in stand.calls[2:]] == [(["a"], "livepatch.brief")]
    assert len(stand.calls) == 2 + saltfleet.WOKEN
    stand.cache["20261124"] = {"a": {"return": 1}}
    assert "a" in fleet.returns("1")


def test_what_hosts_are_told_that_restart(stand: Stand, master: Master) -> None:
    fleet = fleet_of(stand, master)
    given = {"method": "kexec", "kernel": "6.1", "drain": None, "undrain": None}
    for verb in (Verb.CHECK, Verb.LEAVE, Verb.FINISH):
        fleet.publish("1", verb, ["a"], given if verb is not Verb.FINISH else {})
    assert [(fun, kwarg) for _, fun, _, kwarg, *_ in stand.calls] == [
        ("livepatch_restart.check", given),
        ("livepatch_restart.leave", given),
        ("livepatch_restart.finish", {}),
    ]


def test_forged_hints_do_not_keep_it_busy(
    stand: Stand, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saltfleet, "BELIEVED", 0.2)
    fleet = fleet_of(stand, master)
    fleet.publish("1", Verb.LOOK, ["a"], {})
    stand.tags = ["salt/job/1/ret/a"] * 100 + ["salt/job/2/ret/a", "salt/job/1/ret/stranger"]
    fleet.wait(20)
    time.sleep(0.25)
    began = time.monotonic()
    fleet.wait(0.5)
    assert time.monotonic() - began >= 0.5


def test_events_of_others_do_not_end_the_wait(stand: Stand, master: Master) -> None:
    fleet = fleet_of(stand, master)
    stand.tags = [
        "salt/job/9/ret/a",
        "salt/auth",
        "salt/livepatch/rollout/other/command",
        "salt/minion/a/stop",
    ]
    began = time.monotonic()
    fleet.wait(0.4)
    assert time.monotonic() - began >= 0.4


@pytest.mark.parametrize("tag", ["salt/minion/a/start", "salt/livepatch/rollout/r1/command"])
def test_a_minion_that_starts_or_a_command_ends_the_wait(stand: Stand, master: Master, tag: str) -> None:
    fleet = fleet_of(stand, master)
    stand.tags = [tag]
    began = time.monotonic()
    fleet.wait(20)
    assert time.monotonic() - began < 10


def test_a_command_file_ends_the_wait_without_any_event(stand: Stand, master: Master, tmp_path: Path) -> None:
    inbox = tmp_path / "commands"
    inbox.mkdir()
    fleet = fleet_of(stand, master, inbox=inbox)
    heard = stand.get_event

    def hear(**given: Any) -> Any:
        (inbox / "1-pause.json").write_text("{}")
        return heard(**given)

    stand.get_event = hear  # type: ignore[method-assign]
    began = time.monotonic()
    fleet.wait(20)
    assert time.monotonic() - began < 10


def test_who_is_silent_is_asked_again(stand: Stand, master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only asks; who had answered is left in peace, and what answers the second job counts for the
    first."""
    monkeypatch.setattr(saltfleet, "AGAIN", 0.05)
    fleet = fleet_of(stand, master)
    numbers = iter(range(2, 100))
    monkeypatch.setattr(fleet, "new_jid", lambda: str(next(numbers)))
    fleet.publish("1", Verb.LOOK, ["a", "b"], {})
    fleet.publish("0", Verb.MOVE, ["a", "b"], {"approval": {}})
    stand.cache["1"] = {"a": {"return": 1}}
    for _ in range(5):
        time.sleep(0.25)
        monkeypatch.setattr(saltfleet, "STALE", 0.0)
        fleet.returns("0")
        fleet.returns("1")
    again = stand.calls[2:]
    assert [(hosts, fun, jid) for hosts, fun, _, _, jid, _ in again] == [
        (["b"], "livepatch.brief", str(2 + number)) for number in range(saltfleet.TIMES)
    ]
    stand.cache["3"] = {"b": {"return": 2}, "a": {"return": 3}}
    assert {host: one["return"] for host, one in fleet.returns("1").items()} == {"a": 1, "b": 2}


def test_reading_is_not_repeated_without_a_reason(stand: Stand, master: Master) -> None:
    fleet = fleet_of(stand, master)
    fleet.publish("1", Verb.LOOK, ["a", "b"], {})
    stand.cache["1"] = {"a": {"return": 1}}
    for _ in range(10):
        fleet.returns("1")
    assert stand.reads == 1


def test_an_act_is_approved_once(stand: Stand, master: Master) -> None:
    fleet = fleet_of(stand, master)
    first = fleet.approve("r1/1", ["a", "b"], {BUILD: GRANT}, {})
    assert fleet.approve("r1/1", ["a", "b"], {BUILD: GRANT}, {}) == first
    second = fleet.approve("r1/11", ["a"], {BUILD: GRANT}, {})
    assert second["rev"] == first["rev"] + 1
    handed = hand_out(master.state_dir, "b")
    assert (handed["rev"], handed["ledger_id"]) == (first["rev"], first["ledger_id"])
    assert first["documents"] == [{"hosts": ["a", "b"], "builds": handed["builds"]}]


def test_documents_are_what_the_pillar_hands_out(stand: Stand, master: Master) -> None:
    """Hosts that had something for another kernel build keep it, so theirs are other documents."""
    fleet = fleet_of(stand, master)
    fleet.approve("r0/1", ["a"], {"ff" * 20: GRANT}, {})
    found = fleet.approve("r1/1", ["a", "b"], {BUILD: GRANT}, {})["documents"]
    by_host = {host: one["builds"] for one in found for host in one["hosts"]}
    assert by_host == {name: hand_out(master.state_dir, name)["builds"] for name in ("a", "b")}
    assert len(by_host["a"]) == 2


def test_hosts_that_had_the_same_at_different_revs_are_told_together(stand: Stand, master: Master) -> None:
    """The waves of an earlier rollout do not make a job each; the earliest rev is said of all."""
    fleet = fleet_of(stand, master)
    for number, host in enumerate("bca", 1):
        fleet.approve(f"r0/{number}", [host], {"ff" * 20: GRANT}, {})
    (found,) = fleet.approve("r1/1", ["a", "b", "c"], {BUILD: GRANT}, {})["documents"]
    assert found["hosts"] == ["a", "b", "c"]
    assert found["builds"]["ff" * 20]["since"] == 1
    assert "since" not in found["builds"][BUILD]


def test_frozen_hosts_are_said(stand: Stand, master: Master) -> None:
    fleet = fleet_of(stand, master)
    assert fleet.ledger(["a", "b"]).frozen == {}
    freeze(master, ["a"], BY)
    assert list(fleet.ledger(["a", "b"]).frozen) == ["a"]
    freeze(master, None, BY)
    assert set(fleet.ledger(["a", "b"]).frozen) == {"a", "b"}


def test_nothing_is_approved_over_a_word_that_nobody_has_seen(stand: Stand, master: Master) -> None:
    """The ledger is read at once, each level with the rev at which it was said."""
    fleet = fleet_of(stand, master)
    fleet.approve("r0/1", ["a"], {BUILD: GRANT, "ff" * 20: GRANT}, {}, fleet.ledger(["a"]).rev)
    seen = fleet.ledger(["a", "b"])
    approve(master, ["a"], {BUILD: LedgerGrant(0, None)}, BY)
    found = fleet.ledger(["a", "b"])
    assert found.approved == {"a": {BUILD: (0, 2), "ff" * 20: (1, 1)}} and found.rev == 2
    with pytest.raises(LivepatchError, match="rev 1 was the newest, now it is 2") as refused:
        fleet.approve("r1/1", ["a"], {BUILD: GRANT}, {}, seen.rev)
    assert refused.value.kind is Kind.BUSY
    first = fleet.approve("r1/1", ["a"], {BUILD: GRANT}, {}, found.rev)
    assert fleet.approve("r1/1", ["a"], {BUILD: GRANT}, {}, seen.rev) == first, "what was done is done"


def test_a_level_is_blocked_once(stand: Stand, master: Master) -> None:
    published(master, 1)
    fleet = fleet_of(stand, master)
    for _ in range(2):
        fleet.block("r1/block", 1, [BUILD], {"why": "it crashes hosts"})
    assert saltfleet.payloads.is_blocked(master, BUILD, 1)


def test_an_approval_is_of_who_ordered_it_and_when(stand: Stand, master: Master) -> None:
    """Whoever drives has started it, days ago perhaps."""
    published(master, 1)
    fleet = fleet_of(stand, master)
    fleet.approve("r1/1", ["a"], {BUILD: GRANT}, {})
    fleet.approve("r1/2", ["a"], {BUILD: Grant(0, None)}, {"who": "bob", "why": "rolled back by bob: stalls"})
    fleet.approve("r1/3", ["a"], {BUILD: GRANT}, {"why": "2 hosts failed"})
    fleet.block("r1/block", 1, [BUILD], {"who": "bob", "why": "rolled back by bob: stalls"})
    entries = show(master.state_dir)["history"][::-1]
    assert [(one["who"], one["why"]) for one in entries] == [
        ("alice", "rollout r1: CVE-2026-1"),
        ("bob", "rollout r1: rolled back by bob: stalls"),
        ("alice", "rollout r1: 2 hosts failed"),
    ]
    assert all(one["at"] > BY.at for one in entries)


def test_what_is_told_is_small_and_has_its_tag(stand: Stand, master: Master) -> None:
    told: list[str] = []
    fleet = fleet_of(stand, master, told=lambda what, data: told.append(what))
    fleet.tell("host/a/failed", {"text": "x" * 10_000, "hosts": list(range(1000))})
    tag, data = stand.fired[0]
    assert tag == "salt/livepatch/rollout/r1/host/a/failed"
    assert len(str(data)) < 1000
    assert told == ["host/a/failed"]


@pytest.mark.parametrize("setting", [{"job_cache": False}, {"minion_data_cache": False}])
def test_masters_that_a_rollout_cannot_work_with(setting: dict[str, bool]) -> None:
    with pytest.raises(LivepatchError, match=next(iter(setting))):
        refuse_unusable(setting)
    refuse_unusable({"job_cache": True, "minion_data_cache": True})


def test_gates_that_ask_no_host(stand: Stand, master: Master) -> None:
    gate = Gate("web", GateType.HTTP, When.WAVE, {"url": "http://127.0.0.1:1/", "timeout": 2})
    said = fleet_of(stand, master).measure(gate, ["a"])
    assert "did not answer" in said["no_data"]
