"""All virtual machines leave or none does: over a libvirt that can be told to fail anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livepatch_core.drain import drain as subject
from livepatch_core.drain import record
from livepatch_core.drain.drain import Order
from livepatch_core.drain.record import Means, Stage, read_drained
from livepatch_core.drain.virsh import Virsh, agent_in, names_in, saving_in, time_in
from livepatch_core.errors import LivepatchError
from livepatch_core.host.context import Host
from livepatch_core.host.programs import Said
from livepatch_core.host.settings import Settings
from livepatch_core.words import Kind

AGENT = "<domain><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></domain>"
NOW = 1_000_000.0


@dataclass
class Libvirt:
    """What runs, what is saved; refuses: (verb, machine) that fail; deaf: machines that ignore a shutdown;
    slow: whose save outlives virsh, as ``stubborn`` even an abort; then: what else happens right after a
    (verb, machine)."""

    active: list[str] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    refuses: set[tuple[str, str]] = field(default_factory=set)
    deaf: set[str] = field(default_factory=set)
    agentless: set[str] = field(default_factory=set)
    paused: set[str] = field(default_factory=set)
    transient: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)
    stubborn: set[str] = field(default_factory=set)
    saving: set[str] = field(default_factory=set)
    then: dict[tuple[str, str], Callable[[], None]] = field(default_factory=dict)
    dead: bool = False
    calls: list[tuple[str, str]] = field(default_factory=list)

    def run(self, command: Sequence[str], seconds: float) -> Said | None:
        if command[0] != "virsh":
            return self.evacuate(command, seconds)
        assert list(command[:4]) == ["virsh", "--quiet", "--connect", "test:///"]
        verb, *rest = command[4:]
        if self.dead:
            return Said(1, "", "error: failed to connect to the hypervisor")
        if verb == "list":
            return Said(0, "\n".join(self.listed(rest)) + "\n\n")
        name = rest[rest.index("--domain") + 1]
        self.calls.append((verb, name))
        if (verb, name) in self.refuses or (verb == "domjobinfo" and name not in self.active):
            return Said(1, "", f"error: {verb} of {name} does not work")
        try:
            return Said(0, self.perform(verb, name, rest))
        finally:
            self.then.pop((verb, name), lambda: None)()

    def listed(self, rest: Sequence[str]) -> list[str]:
        if "--with-managed-save" in rest:
            return self.saved
        if "--transient" in rest:
            return [one for one in self.active if one in self.transient]
        stopped = self.paused | self.saving if "--state-running" in rest else set()
        return [one for one in self.active if one not in stopped]

    def perform(self, verb: str, name: str, rest: Sequence[str]) -> str:
        if verb == "managedsave" and name in self.slow:
            self.saving.add(name)
            raise LivepatchError(Kind.INTERNAL, "virsh managedsave did not end within 600 s.")
        if verb == "managedsave" or (verb == "shutdown" and name not in self.deaf):
            self.end(name, saved=verb == "managedsave")
        if verb == "start":
            self.active.append(name)
            self.saved = [one for one in self.saved if one != name]
        if verb == "domjobabort":
            self.saving -= {name} - self.stubborn
        if verb == "domjobinfo":
            return (
                "Job type: Unbounded\nOperation:        Save        \n"
                if name in self.saving
                else "Job type: None\n"
            )
        if verb == "resume":
            self.paused.discard(name)
        if verb == "dumpxml":
            return "<domain/>" if name in self.agentless else AGENT
        return f"Time: {int(NOW)}\n" if verb == "domtime" and "--now" not in rest else ""

    def end(self, name: str, *, saved: bool = False) -> None:
        """It runs no more: its owner powered it off, or libvirtd has ended what it was told."""
        self.active.remove(name)
        self.saving.discard(name)
        self.saved += [name] * saved

    def evacuate(self, command: Sequence[str], seconds: float) -> Said | None:
        self.calls.append((f"{seconds:.0f} s", command[0]))
        if command == ("nothing",):
            return Said(3, "", "no other host")
        self.active = list(command[1:])
        if command[0] == "hangs":
            raise LivepatchError(Kind.INTERNAL, "hangs did not end within 600 s.")
        return Said(0, "")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return host_at(tmp_path)


def host_at(place: Path) -> Host:
    seconds = iter(range(10_000_000))
    settings = Settings(state_dir=place / "state", run_dir=place / "run")
    return Host(
        settings, lambda name: None, now=lambda: NOW, clock=lambda: float(next(seconds)), pause=lambda s: None
    )


def virsh(libvirt: Libvirt) -> Virsh:
    return Virsh("test:///", libvirt.run)


def stages(host: Host) -> dict[str, Stage]:
    drained = read_drained(host)
    return {one.name: one.stage for one in drained.guests} if drained else {}


def test_saved_and_brought_back(host: Host) -> None:
    libvirt = Libvirt(["a b", "c"])
    predicted = subject.drain(host, virsh(libvirt), Order(test=True))
    assert (predicted.result, libvirt.calls) == (None, [])
    done = subject.drain(host, virsh(libvirt), Order())
    assert (done.result, done.changes) == (True, predicted.changes)
    assert (libvirt.active, libvirt.saved) == ([], ["a b", "c"])
    again = subject.drain(host, virsh(libvirt), Order())
    assert (again.result, again.changes) == (True, {})
    back = subject.undrain(host, virsh(libvirt), Order()).document()
    assert (back["result"], sorted(libvirt.active)) == (True, ["a b", "c"])
    assert {one["clock"] for one in back["drained"]["guests"]} == {"set"}
    assert read_drained(host) is None
    assert subject.undrain(host, virsh(libvirt), Order()).changes == {}


def test_nothing_is_lost_when_one_cannot_be_saved(host: Host) -> None:
    libvirt = Libvirt(["a", "b", "c"], refuses={("managedsave", "b")})
    with pytest.raises(LivepatchError) as caught:
        subject.drain(host, virsh(libvirt), Order())
    assert caught.value.kind is Kind.HEALTH
    assert (
        "b could not leave" in caught.value.message and "every virtual machine runs" in caught.value.message
    )
    assert (sorted(libvirt.active), libvirt.saved) == (["a", "b", "c"], [])
    assert ("managedsave", "c") not in libvirt.calls, "it stopped at once"
    assert {name for verb, name in libvirt.calls if verb == "domtime"} == {"a", "b"}, "their clocks were late"
    assert read_drained(host) is None


def test_what_does_not_come_back_is_named_and_kept(host: Host) -> None:
    libvirt = Libvirt(["a", "b"], refuses={("managedsave", "b"), ("start", "a")})
    with pytest.raises(LivepatchError, match=r"not back: a \(virsh start failed"):
        subject.drain(host, virsh(libvirt), Order())
    assert libvirt.saved == ["a"]
    libvirt.refuses.clear()
    assert subject.undrain(host, virsh(libvirt), Order()).result is True
    assert sorted(libvirt.active) == ["a", "b"]


def test_a_save_that_outlives_its_time_is_called_off(host: Host) -> None:
    libvirt = Libvirt(["a", "b"], slow={"b"})
    with pytest.raises(LivepatchError, match="b could not leave.*every virtual machine runs"):
        subject.drain(host, virsh(libvirt), Order())
    assert (sorted(libvirt.active), libvirt.saving, read_drained(host)) == (["a", "b"], set(), None)


def test_a_save_that_cannot_be_called_off_is_not_forgotten(host: Host) -> None:
    libvirt = Libvirt(["a", "b"], slow={"b"}, stubborn={"b"})
    with pytest.raises(LivepatchError, match="not back: b .its memory is still being saved"):
        subject.drain(host, virsh(libvirt), Order())
    assert stages(host) == {"a": Stage.BACK, "b": Stage.LEAVING}
    libvirt.end("b", saved=True)
    assert subject.undrain(host, virsh(libvirt), Order()).result is True
    assert (sorted(libvirt.active), libvirt.saved, read_drained(host)) == (["a", "b"], [], None)


def test_a_job_of_somebody_else_is_left_alone(host: Host) -> None:
    libvirt = Libvirt(["a"], refuses={("managedsave", "a")})
    with pytest.raises(LivepatchError, match="every virtual machine runs"):
        subject.drain(host, virsh(libvirt), Order())
    assert ("domjobabort", "a") not in libvirt.calls, "a backup or a migration may be under way"


def test_what_a_save_left_paused_runs_again_and_what_was_paused_stays_so(host: Host) -> None:
    libvirt = Libvirt(["a", "b"], paused={"a"}, slow={"b"})
    libvirt.then["domjobabort", "b"] = lambda: libvirt.paused.add("b")
    with pytest.raises(LivepatchError, match="every virtual machine runs"):
        subject.drain(host, virsh(libvirt), Order())
    assert libvirt.paused == {"a"}
    libvirt.refuses = {("resume", "b")}
    libvirt.then["domjobabort", "b"] = lambda: libvirt.paused.add("b")
    with pytest.raises(LivepatchError, match="not back: b .virsh resume failed"):
        subject.drain(host, virsh(libvirt), Order())
    assert stages(host)["b"] is Stage.LEAVING


@pytest.mark.parametrize("told", [True, False])
def test_a_drain_that_died_goes_on(host: Host, told: bool) -> None:
    """told: libvirtd has ended the save of which nobody could write any more that it has."""
    libvirt = Libvirt(["a", "b", "c"])

    def die() -> None:
        raise KeyboardInterrupt

    libvirt.then["managedsave", "b"] = die
    with pytest.raises(KeyboardInterrupt):
        subject.drain(host, virsh(libvirt), Order())
    assert stages(host) == {"a": Stage.AWAY, "b": Stage.LEAVING, "c": Stage.PLANNED}
    if not told:
        libvirt.saved.remove("b")
        libvirt.active.append("b")
    assert subject.drain(host, virsh(libvirt), Order()).result is True
    assert stages(host) == dict.fromkeys("abc", Stage.AWAY)
    assert subject.undrain(host, virsh(libvirt), Order()).result is True
    assert (sorted(libvirt.active), read_drained(host)) == (["a", "b", "c"], None)


def test_what_had_not_left_when_the_drain_died_is_not_started(host: Host) -> None:
    """It may have been moved to another host since: two running copies would write one disk."""
    libvirt = Libvirt(["a", "b"])

    def die() -> None:
        raise KeyboardInterrupt

    libvirt.then["managedsave", "a"] = die
    with pytest.raises(KeyboardInterrupt):
        subject.drain(host, virsh(libvirt), Order())
    libvirt.end("b")
    back = subject.undrain(host, virsh(libvirt), Order())
    assert (back.result, libvirt.active) == (True, ["a"])
    assert "Not started, as the drain had not come to them: b." in back.comment


def test_another_means_waits_until_the_first_is_undone(host: Host) -> None:
    libvirt = Libvirt(["a", "b"], refuses={("managedsave", "b"), ("start", "a")})
    with pytest.raises(LivepatchError):
        subject.drain(host, virsh(libvirt), Order())
    order = Order(Means.COMMAND, command=("move",))
    for again in (order, replace(order, test=True)):
        with pytest.raises(LivepatchError, match="a left by save") as caught:
            subject.drain(host, virsh(libvirt), again)
        assert caught.value.kind is Kind.CONFLICT
    assert (libvirt.active, libvirt.saved) == (["b"], ["a"])
    libvirt.refuses.clear()
    libvirt.active.append("a")  # somebody else brought it back: nothing is open any more
    assert subject.drain(host, virsh(libvirt), order).result is True


def test_libvirt_that_dies_during_the_drain(host: Host) -> None:
    libvirt = Libvirt(["a", "b", "c"])

    def die() -> None:
        libvirt.dead = True

    libvirt.then["managedsave", "b"] = die
    with pytest.raises(LivepatchError, match=r"not back: a \(.*connect.*, b \(") as caught:
        subject.drain(host, virsh(libvirt), Order())
    assert "livepatch_drain.undrain" in caught.value.remedy
    libvirt.dead = False
    assert subject.undrain(host, virsh(libvirt), Order()).result is True
    assert sorted(libvirt.active) == ["a", "b", "c"]


def test_a_machine_that_appears_during_the_drain_stops_it(host: Host) -> None:
    libvirt = Libvirt(["a", "b"])
    libvirt.then["managedsave", "b"] = lambda: libvirt.active.append("new")
    with pytest.raises(LivepatchError, match="Started during the drain: new.*every virtual machine runs"):
        subject.drain(host, virsh(libvirt), Order())
    assert (sorted(libvirt.active), read_drained(host)) == (["a", "b", "new"], None)


def test_a_machine_that_its_owner_ends_before_its_turn(host: Host) -> None:
    libvirt = Libvirt(["a", "b"])
    libvirt.then["managedsave", "a"] = lambda: libvirt.end("b")
    done = subject.drain(host, virsh(libvirt), Order())
    assert (done.result, done.changes["machines"]["old"]) == (True, ["a"])
    assert subject.undrain(host, virsh(libvirt), Order()).result is True
    assert libvirt.active == ["a"]


@pytest.mark.parametrize("means", [Means.SAVE, Means.SHUTDOWN])
def test_a_transient_machine_is_refused_before_anything_is_touched(host: Host, means: Means) -> None:
    libvirt = Libvirt(["a", "t"], transient={"t"})
    for test in (True, False):
        with pytest.raises(LivepatchError, match="they end: t. Nothing was changed") as caught:
            subject.drain(host, virsh(libvirt), Order(means, test=test))
        assert caught.value.kind is Kind.UNSUPPORTED
    assert (libvirt.calls, read_drained(host)) == ([], None)


def test_a_disk_that_fills_up_during_the_drain(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    libvirt = Libvirt(["a", "b"])

    def full(path: Path, document: object) -> None:
        raise LivepatchError(Kind.JOURNAL, "; nothing was changed.", why="drain.json could not be written")

    libvirt.then["managedsave", "b"] = lambda: monkeypatch.setattr(record, "write_document", full)
    with pytest.raises(LivepatchError, match="b could not leave: drain.json could not be written. The drain"):
        subject.drain(host, virsh(libvirt), Order())
    assert (sorted(libvirt.active), libvirt.saved, read_drained(host)) == (["a", "b"], [], None)


def test_a_record_that_cannot_be_removed_is_said(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    libvirt = Libvirt(["a"])
    subject.drain(host, virsh(libvirt), Order())

    def fixed(path: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(record, "remove_durably", fixed)
    with pytest.raises(LivepatchError, match="Read-only file system.; the virtual machines are back"):
        subject.undrain(host, virsh(libvirt), Order())
    assert libvirt.active == ["a"]


def test_saved_memory_that_is_gone_is_said(host: Host) -> None:
    libvirt = Libvirt(["a"])
    subject.drain(host, virsh(libvirt), Order())
    libvirt.saved.clear()
    back = subject.undrain(host, virsh(libvirt), Order())
    assert back.result is True
    assert "a booted anew" in back.comment


def test_a_guest_that_ignores_its_shutdown(host: Host) -> None:
    libvirt = Libvirt(["a", "b"], deaf={"b"})
    with pytest.raises(
        LivepatchError, match="not back: b .it was told to end, runs still and may yet end"
    ) as caught:
        subject.drain(host, virsh(libvirt), Order(Means.SHUTDOWN, timeout=20))
    assert caught.value.kind is Kind.STALLED
    assert sorted(libvirt.active) == ["a", "b"], "a was started again"
    assert subject.undrain(host, virsh(libvirt), Order()).result is False
    libvirt.end("b")  # slow, not deaf
    assert subject.undrain(host, virsh(libvirt), Order()).result is True
    assert (sorted(libvirt.active), read_drained(host)) == (["a", "b"], None)
    libvirt.deaf.clear()
    assert subject.drain(host, virsh(libvirt), Order(Means.SHUTDOWN)).result is True
    assert (libvirt.active, libvirt.saved) == ([], [])
    back = subject.undrain(host, virsh(libvirt), Order()).document()
    assert [one["clock"] for one in back["drained"]["guests"]] == ["", ""], "they booted: nothing to set"


def test_a_shutdown_that_was_ignored_for_an_hour_is_over(host: Host) -> None:
    libvirt = Libvirt(["a"], deaf={"a"})
    with pytest.raises(LivepatchError):
        subject.drain(host, virsh(libvirt), Order(Means.SHUTDOWN, timeout=20))
    later = replace(host, now=lambda: NOW + 3601)
    assert subject.undrain(later, virsh(libvirt), Order()).result is True
    assert read_drained(host) is None


def test_evacuation(host: Host) -> None:
    libvirt = Libvirt(["a", "b"])
    with pytest.raises(LivepatchError, match="No command to evacuate"):
        subject.drain(host, virsh(libvirt), Order(Means.COMMAND))
    with pytest.raises(LivepatchError, match="left a, b running here .no other host"):
        subject.drain(host, virsh(libvirt), Order(Means.COMMAND, command=("nothing",)))
    assert read_drained(host) is None, "none left"
    order = Order(Means.COMMAND, command=("move",), back=("move", "a", "b"))
    assert subject.drain(host, virsh(libvirt), order).result is True
    assert libvirt.active == []
    assert ("1200 s", "move") in libvirt.calls, "600 for each"
    assert subject.undrain(host, virsh(libvirt), order).result is True
    assert (libvirt.active, read_drained(host)) == (["a", "b"], None)


def test_what_the_command_did_not_bring_back_is_not_back(host: Host) -> None:
    libvirt = Libvirt(["a", "b"])
    order = Order(Means.COMMAND, command=("move",), back=("move", "b"))
    subject.drain(host, virsh(libvirt), order)
    for back, why in (
        (("nothing",), "no other host"),
        ((), "none is configured"),
        (("move", "b"), "status 0"),
    ):
        done = subject.undrain(host, virsh(libvirt), replace(order, back=back))
        assert (done.result, done.kind) == (False, Kind.HEALTH)
        assert f"The command to bring them back: {why}" in done.comment
    assert "Not back: a (it does not run here)" in done.comment
    assert stages(host) == {"a": Stage.AWAY, "b": Stage.BACK}
    assert not [verb for verb, _ in libvirt.calls if verb == "start"], "it may run on another host"


def test_a_command_that_was_killed_may_still_move_them(host: Host) -> None:
    libvirt = Libvirt(["a", "b"])
    order = Order(Means.COMMAND, command=("hangs", "b"), back=("move", "a", "b"))
    with pytest.raises(LivepatchError, match="left b running here"):
        subject.drain(host, virsh(libvirt), order)
    assert stages(host) == {"a": Stage.AWAY, "b": Stage.LEAVING}
    assert "may yet end" in subject.undrain(host, virsh(libvirt), order).comment


def test_libvirt_that_dies_under_the_command(host: Host) -> None:
    libvirt = Libvirt(["a", "b"])

    def run(command: Sequence[str], seconds: float) -> Said | None:
        said = libvirt.run(command, seconds)
        libvirt.dead = command[0] == "move"
        return said

    order = Order(Means.COMMAND, command=("move", "b"))
    with pytest.raises(LivepatchError, match="which of a, b left is not known: virsh list failed"):
        subject.drain(host, Virsh("test:///", run), order)
    assert stages(host) == dict.fromkeys("ab", Stage.LEAVING)


def test_a_clock_that_cannot_be_set_is_said(host: Host) -> None:
    libvirt = Libvirt(["a", "b"], refuses={("domtime", "b")}, agentless={"a"})
    subject.drain(host, virsh(libvirt), Order())
    back = subject.undrain(host, virsh(libvirt), Order())
    assert back.result is True
    assert "The clock of a, b could not be set" in back.comment


@settings(max_examples=60, deadline=None)  # every step is made durable
@given(
    machines=st.lists(st.sampled_from("abcd"), unique=True),
    refuses=st.sets(
        st.tuples(st.sampled_from(["managedsave", "start", "domtime", "resume"]), st.sampled_from("abcd"))
    ),
    slow=st.sets(st.sampled_from("abcd")),
    stubborn=st.sets(st.sampled_from("abcd")),
    dies=st.none() | st.tuples(st.sampled_from(["managedsave", "start"]), st.sampled_from("abcd")),
)
def test_every_machine_runs_or_is_known_to_be_away(
    tmp_path_factory: pytest.TempPathFactory,
    machines: list[str],
    refuses: set[tuple[str, str]],
    slow: set[str],
    stubborn: set[str],
    dies: tuple[str, str] | None,
) -> None:
    """Whatever fails, and whenever the process dies: each machine runs, or the record has it; and once
    nothing fails, undrain brings all, those too whose save libvirtd ended when nobody waited any more."""
    host = host_at(tmp_path_factory.mktemp("host"))
    libvirt = Libvirt(list(machines), refuses=refuses, slow=slow, stubborn=stubborn)

    def die() -> None:
        raise KeyboardInterrupt

    if dies:
        libvirt.then[dies] = die

    def accounted() -> None:
        drained = read_drained(host)
        known = {one.name for one in drained.guests} if drained else set()
        assert set(machines) <= set(libvirt.active) | known
        assert set(libvirt.active) | set(libvirt.saved) == set(machines), "none was lost"

    for act in (subject.drain, subject.drain, subject.undrain):
        try:
            act(host, virsh(libvirt), Order())
        except (LivepatchError, KeyboardInterrupt):
            pass
        for name in sorted(libvirt.saving):
            libvirt.end(name, saved=True)
        accounted()
    libvirt.refuses, libvirt.then = set(), {}
    assert subject.undrain(host, virsh(libvirt), Order()).result is True
    assert sorted(libvirt.active) == sorted(machines)


def test_parsers() -> None:
    assert names_in("a b\n\n c\n") == ("a b", "c")
    assert time_in("Time: 1795522357\n\n") == 1795522357
    assert time_in("no") is None
    assert agent_in(AGENT) is True
    assert agent_in(AGENT.replace("'connected'", "'disconnected'")) is False
    assert agent_in("<domain/>") is None
    assert agent_in("<domain") is None
    assert saving_in("Job type:         Unbounded   \nOperation:        Save        \n") is True
    assert saving_in("Job type:         Unbounded   \nOperation:        Backup      \n") is False
    assert saving_in("Job type:         None        \n") is False


def test_a_save_from_before_that_is_still_under_way(host: Host) -> None:
    """It has paused the guest: a drain that comes after the one that died must not take that for its owner's
    wish."""
    libvirt = Libvirt(["a"], slow={"a"})

    def die() -> None:
        raise KeyboardInterrupt

    libvirt.then["managedsave", "a"] = die
    with pytest.raises(KeyboardInterrupt):
        subject.drain(host, virsh(libvirt), Order())
    assert libvirt.saving == {"a"}
    libvirt.then["domjobabort", "a"] = lambda: libvirt.paused.add("a")
    with pytest.raises(LivepatchError, match="every virtual machine runs"):
        subject.drain(host, virsh(libvirt), Order())
    assert (libvirt.saving, libvirt.paused) == (set(), set())


def test_a_guest_that_stands_still_is_not_back(host: Host) -> None:
    libvirt = Libvirt(["a"])
    subject.drain(host, virsh(libvirt), Order())
    libvirt.then["start", "a"] = lambda: libvirt.paused.add("a")
    back = subject.undrain(host, virsh(libvirt), Order())
    assert (back.result, "a (it is here and stands still" in back.comment) == (False, True)


def test_no_virsh(host: Host) -> None:
    with pytest.raises(LivepatchError) as caught:
        subject.drain(host, Virsh("test:///", lambda command, seconds: None), Order())
    assert caught.value.kind is Kind.DEPENDENCY
