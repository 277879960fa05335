"""A host that is restarted under an approval, over files that stand for the kernel: in order, once, and
undone in reverse. Stand-ins: the system calls and systemd (tests/unit/kexec), the boot, and what applies a
level."""

from __future__ import annotations

import dataclasses
import errno
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.host import programs
from livepatch_core.host.lock import exclusive
from livepatch_core.host.outcome import Outcome
from livepatch_core.host.programs import Said
from livepatch_core.host.record import ByHand, Record, read_record, write_record
from livepatch_core.kernel.identity import read_identity
from livepatch_core.kexec import boot, load, status
from livepatch_core.kexec import record as kexec_record
from livepatch_core.restart import arriving, byhand, hooks, kernel, leaving, record
from livepatch_core.restart.hooks import Hook, Hooks
from livepatch_core.restart.leaving import Order
from livepatch_core.restart.record import Method, Restart, Stage
from livepatch_core.words import Kind
from tests.unit.kexec.test_acts import NEW, ODD, OLD, World

LEDGER = "ledger-1"
DRAIN, UNDRAIN = Hook("drain.all", ("x",)), Hook("undrain.all")


class Site:
    """A host, and what was done to it, in order. fails: hooks that fail, and what they answer."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = World(place, monkeypatch)
        self.host = dataclasses.replace(self.world.host, clock=self.clock, pause=self.pause)
        self.done: list[str] = []
        self.fails: dict[str, Any] = {}
        self.during: Callable[[], None] = lambda: None
        self.hooks = Hooks(lambda fun: fun in ("drain.all", "undrain.all"), self.hook)
        self.elapsed = 0.0
        self.applied: list[Any] = []
        self.level: Outcome | LivepatchError = Outcome(True, "The kernel is at level 1.")
        monkeypatch.setattr(programs, "run", self.systemd)
        monkeypatch.setattr(arriving.apply, "apply", self.apply)
        monkeypatch.setattr("livepatch_core.host.health.sample", self.sample)
        self.services = {"libvirtd": "active"}

    def clock(self) -> float:
        return self.elapsed + self.world.host.clock()

    def pause(self, seconds: float) -> None:
        self.elapsed += seconds

    def hook(self, hook: Hook) -> tuple[object, int]:
        self.done.append(hook.fun)
        if hook.fun == "drain.all":
            self.during()
        answer = self.fails.get(hook.fun, {"result": True})
        return answer, 0

    def systemd(self, command: Sequence[str], timeout: float = 60.0) -> Said | None:
        if "is-system-running" not in command:
            self.done.append(" ".join(command[-2:]))
        return self.world.systemd(command, timeout)

    def sample(self, host: Any, log: Any = None) -> Any:
        from livepatch_core.host.probes import Sample

        return Sample(self.boot_id(), 0, 7, (), dict(self.services), {})

    def boot_id(self) -> str:
        return (self.world.place / "proc/sys/kernel/random/boot_id").read_text()

    def apply(self, host: Any, wish: Any) -> Outcome:
        self.applied.append(wish.approval["rev"])
        if isinstance(self.level, LivepatchError):
            raise self.level
        return self.level

    def order(self, rev: int = 3, builds: dict[str, Any] | None = None, **changes: Any) -> Order:
        given: dict[str, Any] = {
            "approval": approval(rev, builds), "method": Method.KEXEC, "kernel": NEW, "drain": DRAIN,
            "undrain": UNDRAIN, "reason": "a test", **changes,
        }  # fmt: skip
        return Order(**given)

    def leave(self, rev: int = 3, **changes: Any) -> Outcome:
        return leaving.restart(self.host, self.order(rev, **changes), self.hooks)

    def finish(self) -> Outcome:
        return arriving.finish(self.host, self.hooks)

    def arrive(self, release: str = NEW, how: str = "kexec") -> None:
        line = self.world.lines[-1] if how == "kexec" else "root=/dev/vda quiet"
        self.world.arrive(release, line)

    def record(self) -> Restart:
        found = record.read_restart(self.host)
        assert found is not None
        return found

    def loaded(self) -> Any:
        return status.status(self.host)["loaded"]


def approval(rev: int, builds: dict[str, Any] | None = None) -> dict[str, Any]:
    level = {"level": 0, "sha256": None}
    return {"ledger_id": LEDGER, "rev": rev, "builds": {NEW: level} if builds is None else builds}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def test_there_and_back(site: Site) -> None:
    done = site.leave()
    assert done.result is True and done.changes == {"boot": {"old": OLD, "new": NEW}}
    assert site.done == ["drain.all", "systemctl kexec"]
    assert read_record(site.host.settings.record_file).rev == 3
    assert (site.record().stage, site.record().owed) == (Stage.LEAVING, True)
    site.arrive()
    ended = site.finish()
    assert ended.result is True, ended.comment
    assert site.done[-1] == "undrain.all"
    evidence = ended.details["restart"]["evidence"]
    assert (evidence["release"], evidence["as_asked"], evidence["ended"]) == (NEW, True, "kexec")
    assert evidence["away"] == pytest.approx(100 - leaving.DELAY)
    assert (site.record().stage, site.record().owed, site.record().open) == (Stage.DONE, False, False)


def test_asked_again_it_says_the_same_and_boots_once(site: Site) -> None:
    first = site.leave()
    again = site.leave()
    assert (again.result, again.comment) == (True, first.comment)
    site.arrive()
    there = site.leave()
    assert there.result is True and "booted since" in there.comment
    ended = site.finish()
    assert site.finish().comment == ended.comment and site.leave().comment == ended.comment
    assert site.done == ["drain.all", "systemctl kexec", "undrain.all"]


def test_a_kernel_that_is_not_taken_drains_nobody(site: Site) -> None:
    site.world.refuses = errno.EKEYREJECTED
    done = site.leave()
    assert done.result is False and done.kind is not None
    assert site.done == [] and site.record().stage is Stage.DONE
    assert site.leave().comment == done.comment, "the same approval again changes nothing"
    site.world.refuses = 0
    assert site.leave().result is False
    assert site.leave(4).result is True, "a newer approval does"


def test_a_drain_that_fails(site: Site) -> None:
    site.fails["drain.all"] = {"result": False, "comment": "vm7 cannot be saved"}
    done = site.leave()
    assert (done.result, done.kind) == (False, Kind.HEALTH)
    assert "vm7 cannot be saved" in done.comment and "Nothing was booted" in done.comment
    assert site.done == ["drain.all", "undrain.all"]
    assert site.loaded() is None and site.world.journal() == []


def test_an_undrain_that_fails_is_owed(site: Site) -> None:
    site.fails = {"drain.all": False, "undrain.all": {"result": False, "comment": "no disk"}}
    done = site.leave()
    assert done.result is False and "not back" in done.comment and site.record().owed
    with pytest.raises(LivepatchError) as caught:
        site.leave(4)
    assert caught.value.kind is Kind.CONFLICT
    for _ in range(2):
        assert site.finish().comment == done.comment, "it does not grow with each try"
    site.fails = {}
    ended = site.finish()
    assert ended.result is False and not site.record().owed
    assert "not back" not in ended.comment and "is back" in ended.comment
    assert ended.comment.count("Nothing was booted") == 1 and "it answered False" in ended.comment
    del site.done[2:4]
    assert site.done == ["drain.all", "undrain.all", "undrain.all"]
    assert site.leave(4).result is True


def test_after_a_boot_an_undrain_that_fails_is_tried_again(site: Site) -> None:
    site.leave()
    site.arrive()
    site.fails = {"undrain.all": {"result": False, "comment": "no disk"}}
    failed = site.finish()
    assert (failed.result, failed.kind) == (False, Kind.HEALTH) and site.record().owed
    assert "no disk" in failed.comment and "livepatch_restart.finish" in failed.comment
    assert failed.details["restart"]["comment"] == failed.comment, "a look says it too"
    assert site.finish().comment == failed.comment
    site.fails = {}
    ended = site.finish()
    assert (ended.result, ended.kind) == (True, None), "kernel, level and health were well all the time"
    assert ended.details["restart"]["result"] is True and ended.details["restart"]["kind"] == ""
    assert "is back" in ended.comment and "not back" not in ended.comment and not site.record().owed
    assert len(site.applied) == 0, "no level of this build is named"


def test_a_newer_approval_during_the_drain_wins(site: Site) -> None:
    def newer() -> None:
        found = read_record(site.host.settings.record_file)
        write_record(site.host.settings.record_file, found.accept(LEDGER, 4, "x", {}, {}))

    site.during = newer
    done = site.leave()
    assert (done.result, done.kind) == (False, Kind.SUPERSEDED)
    assert site.done == ["drain.all", "undrain.all"] and site.loaded() is None
    with pytest.raises(LivepatchError) as caught:
        site.leave(2)
    assert caught.value.kind is Kind.SUPERSEDED


@pytest.mark.parametrize(("above", "leaves"), [(2, True), (3, False)])
def test_a_level_held_by_hand_here_holds_no_host_in_this_kernel(
    site: Site, monkeypatch: pytest.MonkeyPatch, above: int, leaves: bool
) -> None:
    """What its kernel was approved for before the hold is handed out with the newer approval to leave it. One
    who said by hand that it stays at its level after that approval is the newest."""
    here, real = "bb" * 20, read_identity
    monkeypatch.setattr(
        leaving, "read_identity", lambda roots: dataclasses.replace(real(roots), build_id=here)
    )
    held = ByHand(0, "unhealthy", above, here)
    write_record(site.host.settings.record_file, Record(ledger_id=LEDGER, rev=2, by_hand=held))
    old = {"level": 1, "sha256": "1" * 64, "since": 1}
    order = {"builds": {NEW: {"level": 0, "sha256": None}, here: old}}
    if leaves:
        assert site.leave(3, **order).result is True
        kept = read_record(site.host.settings.record_file).by_hand
        assert kept is not None and kept.binds(here)
    else:
        with pytest.raises(LivepatchError) as caught:
            site.leave(3, **order)
        assert caught.value.kind is Kind.SUPERSEDED


def test_no_approval_no_boot(site: Site) -> None:
    for wrong, kind in (
        (None, Kind.UNAPPROVED),
        (approval(3, {"0" * 40: {"level": 0, "sha256": None}}), Kind.UNAPPROVED),
        ({**approval(3), "ledger_id": "other"}, Kind.FOREIGN_LEDGER),
    ):
        write_record(site.host.settings.record_file, Record(ledger_id=LEDGER, rev=1))
        with pytest.raises(LivepatchError) as caught:
            leaving.restart(site.host, dataclasses.replace(site.order(), approval=wrong), site.hooks)
        assert caught.value.kind is kind
    held = Record(ledger_id=LEDGER, rev=3, by_hand=ByHand(0, "mine", 3))
    write_record(site.host.settings.record_file, held)
    with pytest.raises(LivepatchError, match="by hand"):
        site.leave()
    assert site.done == [] and site.world.lines == [] and record.read_restart(site.host) is None


def test_a_level_by_hand_of_another_kernel_keeps_no_host_here(site: Site) -> None:
    held = Record(ledger_id=LEDGER, rev=3, by_hand=ByHand(1, "mine", 3, "cc" * 20))
    write_record(site.host.settings.record_file, held)
    assert site.leave().result is True
    assert read_record(site.host.settings.record_file).by_hand == held.by_hand


def test_a_drain_that_takes_too_long(site: Site) -> None:
    site.during = lambda: site.pause(50)
    done = site.leave(deadline=40)
    assert (done.result, done.kind) == (False, Kind.STALLED)
    assert site.done == ["drain.all", "undrain.all"]


def test_another_act_is_waited_for(site: Site) -> None:
    held = exclusive(site.host.settings.lock_file, "apply")
    site.during = lambda: held.__enter__() and None

    def pause(seconds: float) -> None:
        site.elapsed += seconds
        if site.elapsed == 3:
            held.__exit__(None, None, None)

    site.host = dataclasses.replace(site.host, pause=pause)
    assert site.leave().result is True and site.elapsed == 3


def test_a_process_that_died_while_it_drained(site: Site) -> None:
    def die() -> None:
        raise KeyboardInterrupt

    site.during = die
    with pytest.raises(KeyboardInterrupt):
        site.leave()
    assert site.record().stage is Stage.DRAINING
    site.during = lambda: None
    done = site.leave()
    assert (done.result, done.kind) == (False, Kind.INTERNAL)
    assert site.done == ["drain.all", "undrain.all"] and site.loaded() is None


def test_a_host_that_never_left_is_taken_back(site: Site) -> None:
    site.leave()
    for running in ("running", "stopping"):  # its time has not come; it has, and services are being stopped
        site.world.systemd_is = running
        with pytest.raises(LivepatchError, match="is leaving"):
            site.finish()
        site.world.seconds += leaving.DELAY + arriving.SLACK
    site.world.systemd_is = "running"
    done = site.finish()
    assert (done.result, done.kind) == (False, Kind.STALLED)
    assert site.done == ["drain.all", "systemctl kexec", "stop livepatch-kexec.timer", "undrain.all"]
    assert site.loaded() is None and not site.record().open
    assert "taken back from" not in done.comment
    again = site.leave(4)
    assert again.result is True and len(site.world.lines) == 4, "it is loaded and ordered anew"


def test_a_clock_that_is_set_back_keeps_nobody_leaving(site: Site) -> None:
    site.leave()
    left = site.host
    site.world.seconds += leaving.DELAY + arriving.SLACK
    site.host = dataclasses.replace(left, now=lambda: left.now() - 86_400)
    assert site.finish().kind is Kind.STALLED and not site.record().open


def test_an_order_that_cannot_be_taken_back_keeps_away_what_was_drained(site: Site) -> None:
    """The host may leave under it yet."""
    site.leave(method=Method.REBOOT)
    site.world.seconds += leaving.DELAY + arriving.SLACK
    site.world.deaf = True
    done = site.finish()
    assert (done.result, done.kind) == (False, Kind.STALLED)
    assert "may still be carried out" in done.comment and "What was drained stays away." in done.comment
    assert "undrain.all" not in site.done and site.record().owed
    assert site.leave(method=Method.REBOOT).result is False, "asked again it says the same"
    site.world.deaf = False
    assert site.finish().result is False and site.done[-1] == "undrain.all"


def test_a_load_that_somebody_made_by_another_program_is_replaced(site: Site) -> None:
    """Our notes and the kernel's word do not tell it: both say that an image is loaded."""
    loads: list[int] = []
    site.during = lambda: loads.append(len(site.world.lines))
    assert site.leave().result is True
    departure = kexec_record.read_notes(site.host).departure
    assert departure is not None
    assert loads == [1] and len(site.world.lines) == 2 and departure.token in site.world.lines[-1]


def test_the_approved_kernel_starts_whatever_was_loaded_during_the_drain(site: Site) -> None:
    site.during = lambda: load.load(site.host, load.Wish(ODD)) and None
    assert site.leave().result is True
    departure = kexec_record.read_notes(site.host).departure
    assert departure is not None and departure.to == NEW
    assert departure.token in site.world.lines[-1] and len(site.world.lines) == 3, "and is what is loaded"


def by_hand(site: Site, release: str, delay: float = 600) -> Callable[[], None]:
    order = boot.Order(load.Wish(release), "by hand", delay=delay)
    return lambda: boot.boot(site.host, order) and None


@pytest.mark.parametrize(("method", "release"), [*((method, ODD) for method in Method), (Method.KEXEC, NEW)])
def test_a_kernel_ordered_during_the_drain(site: Site, method: Method, release: str) -> None:
    """Be it the approved one: how it is started is somebody else's."""
    site.during = by_hand(site, release)
    done = site.leave(method=method)
    assert (done.result, done.kind) == (False, Kind.CONFLICT)
    assert site.done == ["drain.all", "systemctl kexec", "stop livepatch-kexec.timer", "undrain.all"]
    assert site.loaded() is None and site.world.last() is None and site.elapsed == 0
    assert not site.record().open and site.world.timers == {}


def test_no_order_by_hand_beside_a_drain(site: Site) -> None:
    order = boot.Order(load.Wish(NEW), "a highstate", delay=5)
    refused: list[Kind] = []

    def meanwhile() -> None:
        with pytest.raises(LivepatchError) as caught:
            byhand.boot(site.host, order)
        refused.append(caught.value.kind)

    site.during = meanwhile
    assert site.leave().result is True and refused == [Kind.BUSY]
    assert byhand.boot(site.host, order).comment.startswith(f"Kernel {NEW} was ordered to start at")
    record.write_restart(site.host, dataclasses.replace(site.record(), stage=Stage.DRAINING))
    with pytest.raises(LivepatchError, match="never finished: it is draining") as caught:
        byhand.boot(site.host, order)
    assert caught.value.kind is Kind.CONFLICT
    site.finish()
    assert byhand.boot(site.host, order).result is True


def test_an_order_to_be_taken_back_waits_for_another_act(site: Site) -> None:
    by_hand(site, ODD)()
    held = exclusive(site.host.settings.lock_file, "apply")

    def pause(seconds: float) -> None:
        site.elapsed += seconds
        held.__exit__(None, None, None)

    site.host = dataclasses.replace(site.host, pause=pause)
    begun = Restart(LEDGER, 3, Method.KEXEC, NEW, "this-boot", "now")
    held.__enter__()
    done = leaving.undo(site.host, begun, LivepatchError(Kind.STALLED, "it stays"), site.hooks)
    assert "And:" not in done.comment and site.loaded() is None


@pytest.mark.parametrize(
    ("release", "how", "kind"),
    [
        (OLD, "firmware", Kind.KERNEL_MISMATCH),
        (NEW, "firmware", Kind.HEALTH),
        (OLD, "kexec", Kind.KERNEL_MISMATCH),
    ],
)
def test_another_boot_than_the_one_ordered(site: Site, release: str, how: str, kind: Kind) -> None:
    site.leave()
    site.arrive(release, how)
    done = site.finish()
    assert (done.result, done.kind) == (False, kind)
    assert site.done[-1] == "undrain.all", "who was drained is back all the same"
    assert site.applied == []


def with_build(site: Site) -> dict[str, Any]:
    """The new kernel has a build-id, and the approval a level for it."""
    build = "ab" * 20
    notes = (4).to_bytes(4, "little") + (20).to_bytes(4, "little") + (3).to_bytes(4, "little") + b"GNU\0"
    (site.world.place / "sys/kernel/notes").write_bytes(notes + bytes.fromhex(build))
    return {NEW: {"level": 0, "sha256": None}, build: {"level": 1, "sha256": "0" * 64}}


@pytest.mark.parametrize(
    ("level", "kind"),
    [
        (Outcome(True, "at level 1"), None),
        (Outcome(False, "it stalled", Kind.STALLED), Kind.STALLED),
        (LivepatchError(Kind.SUPERSEDED, "a newer approval"), Kind.SUPERSEDED),
    ],
)
def test_the_level_of_the_new_kernel(site: Site, level: Any, kind: Kind | None) -> None:
    builds = with_build(site)
    site.leave(builds=builds)
    site.arrive()
    site.level = level
    done = site.finish()
    assert (done.result, done.kind, site.applied) == (kind is None, kind, [3])
    assert site.done[-1] == "undrain.all"


@pytest.mark.parametrize("word", ["failed", "activating"])
def test_a_service_that_is_not_there_any_more(site: Site, word: str) -> None:
    """Nor on its way still: the boot has ended."""
    site.leave()
    site.arrive()
    site.services = {"libvirtd": word}
    done = site.finish()
    assert (done.result, done.kind) == (False, Kind.HEALTH) and "libvirtd" in done.comment
    assert site.done[-1] == "undrain.all"


def test_health_is_measured_by_this_boot_from_then_on(site: Site) -> None:
    site.host.settings.state_dir.mkdir(parents=True, exist_ok=True)
    site.host.settings.health_file.write_text(
        json.dumps({"load": ["1" * 64, "boot", 1.0], "before": site.sample(None).document()})
    )
    site.leave()
    site.arrive()
    assert site.finish().result is True
    kept = json.loads(site.host.settings.health_file.read_text())
    assert (kept["load"], kept["before"]["boot_id"]) == (None, "next-boot")


def test_by_a_reboot(site: Site) -> None:
    assert site.leave(method=Method.REBOOT).result is True
    assert site.done == ["drain.all", "systemctl reboot"] and site.world.lines == []
    (line,) = site.world.journal()
    assert (line["act"], line["from"], line["to"]) == ("reboot", OLD, NEW)
    site.arrive(how="firmware")
    done = site.finish()
    assert done.result is True and done.details["restart"]["evidence"]["ended"] == "reboot"


@pytest.mark.parametrize("method", list(Method))
def test_a_crash_during_the_drain_is_not_asked_for(site: Site, method: Method) -> None:
    """Nothing was ordered yet: whatever kernel the boot loader has chosen, this is not that boot."""

    def crash() -> None:
        raise KeyboardInterrupt

    site.during = crash
    with pytest.raises(KeyboardInterrupt):
        site.leave(method=method)
    site.arrive(how="firmware")
    done = site.finish()
    assert (done.result, done.kind) == (False, Kind.HEALTH)
    evidence = done.details["restart"]["evidence"]
    assert (evidence["ended"], evidence["as_asked"], evidence["away"]) == ("otherwise", False, None)
    assert site.done == ["drain.all", "undrain.all"]


def test_no_reboot_where_an_image_is_loaded(site: Site) -> None:
    """systemd may start it instead: refused before the drain, and after it."""
    site.world.put("sys/kernel/kexec_loaded", "1")
    for act in (lambda: site.leave(method=Method.REBOOT), lambda: check(site, Method.REBOOT)):
        with pytest.raises(LivepatchError, match="image is loaded") as caught:
            act()
        assert caught.value.kind is Kind.CONFLICT
    assert site.done == [] and record.read_restart(site.host) is None
    site.world.put("sys/kernel/kexec_loaded", "0")
    site.during = lambda: site.world.put("sys/kernel/kexec_loaded", "1")
    done = site.leave(method=Method.REBOOT)
    assert (done.result, done.kind) == (False, Kind.CONFLICT)
    assert site.done == ["drain.all", "undrain.all"]


def test_without_systemd_no_reboot(site: Site) -> None:
    site.world.put("proc/1/comm", "init")
    for act in (lambda: site.leave(method=Method.REBOOT), lambda: check(site, Method.REBOOT)):
        with pytest.raises(LivepatchError) as caught:
            act()
        assert caught.value.kind is Kind.UNSUPPORTED
    assert site.done == []


def check(site: Site, method: Method = Method.KEXEC, wanted: str = "newest", drain: Hook = DRAIN) -> Any:
    return kernel.check(site.host, method, wanted, site.hooks, drain, UNDRAIN)


def test_what_is_checked_before(site: Site) -> None:
    assert check(site)["kernel"] == NEW and kernel.meant(site.host, "newest") == {"release": NEW}
    assert kernel.meant(site.host, "5.0") == {"release": None}
    site.world.put("proc/sys/kernel/osrelease", "6.1.0-58-amd64")
    assert kernel.meant(site.host, "newest") == {"release": None}, "none that is not older"
    assert kernel.meant(site.host, NEW) == {"release": NEW}
    site.world.put("proc/sys/kernel/osrelease", OLD)
    with pytest.raises(LivepatchError, match="no function"):
        check(site, drain=Hook("no.such"))
    with pytest.raises(LivepatchError, match="no kernel 5.0"):
        check(site, wanted="5.0")
    site.world.put("sys/kernel/kexec_loaded", "1")
    with pytest.raises(LivepatchError) as caught:
        check(site)
    assert caught.value.kind is Kind.CONFLICT
    assert site.leave().result is False
    assert site.loaded() == {"by": "other"}, "what somebody else has loaded stays"
    site.world.put("sys/kernel/kexec_loaded", "0")
    site.leave(4)
    with pytest.raises(LivepatchError) as caught:
        check(site)
    assert caught.value.kind is Kind.BUSY


def test_a_prediction_changes_nothing(site: Site) -> None:
    assert site.leave(test=True).result is None
    assert site.done == [] and record.read_restart(site.host) is None
    assert read_record(site.host.settings.record_file).rev == 0


def test_nothing_to_finish(site: Site) -> None:
    with pytest.raises(LivepatchError, match="was not restarted under an approval"):
        site.finish()


def test_two_at_once(site: Site) -> None:
    def other() -> None:
        with pytest.raises(LivepatchError) as caught:
            site.leave()
        assert caught.value.kind is Kind.BUSY
        with pytest.raises(LivepatchError) as caught:
            site.finish()
        assert caught.value.kind is Kind.BUSY

    site.during = other
    assert site.leave().result is True
    assert site.done == ["drain.all", "systemctl kexec"]


@pytest.mark.parametrize(
    ("answer", "retcode", "complaint"),
    [
        (None, 0, ""), (True, 0, ""), ("moved", 0, ""), ({"result": True}, 0, ""), ({}, 0, ""),
        ({"result": False, "comment": "no room"}, 1, "no room"), (False, 0, "it answered False"),
        ("sh: not found", 127, "return code 127: sh: not found"), ("", 1, "return code 1"),
        ({"a_|-b": {"result": True}, "c_|-d": {"result": False, "__id__": "d", "comment": "x"}}, 2, "d: x"),
        ({"a_|-b": {"result": True}}, 0, ""), (["No matching sls found"], 1, "return code 1"),
    ],
)  # fmt: skip
def test_what_a_hook_says(answer: object, retcode: int, complaint: str) -> None:
    said = hooks.complaint_of(answer, retcode)
    assert said.startswith(complaint) and bool(said) == bool(complaint)


@pytest.mark.parametrize(
    "wrong", ["x", {}, {"fun": 3}, {"fun": "a.b", "args": "x"}, {"fun": "a.b", "kwargs": []}]
)
def test_hooks_that_are_none(wrong: object) -> None:
    with pytest.raises(LivepatchError) as caught:
        hooks.parse_hook("drain", wrong)
    assert caught.value.kind is Kind.ARGUMENT


def test_a_record_that_cannot_be_understood(site: Site) -> None:
    for text in ('{"rev": 1}', "["):
        site.world.put("state/restart.json", text)
        with pytest.raises(LivepatchError) as caught:
            site.leave()
        assert caught.value.kind is Kind.JOURNAL
        shown = record.shown(site.host)
        assert shown is not None and "cannot be understood" in shown["error"]
    assert site.done == []
