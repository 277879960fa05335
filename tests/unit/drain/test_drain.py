"""All virtual machines leave or none does: over a libvirt that can be told to fail anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livepatch_core.drain import drain as subject
from livepatch_core.drain.drain import Order
from livepatch_core.drain.record import Means, read_drained
from livepatch_core.drain.virsh import Virsh, agent_in, names_in, time_in
from livepatch_core.errors import LivepatchError
from livepatch_core.host.context import Host
from livepatch_core.host.programs import Said
from livepatch_core.host.settings import Settings
from livepatch_core.words import Kind

AGENT = "<domain><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></domain>"
NOW = 1_000_000.0


@dataclass
class Libvirt:
    """What runs, what is saved; refuses: (verb, machine) that fail; deaf: machines that ignore a shutdown."""

    active: list[str] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    refuses: set[tuple[str, str]] = field(default_factory=set)
    deaf: set[str] = field(default_factory=set)
    agentless: set[str] = field(default_factory=set)
    calls: list[tuple[str, str]] = field(default_factory=list)

    def run(self, command: Sequence[str], seconds: float) -> Said | None:
        if command[0] != "virsh":
            return self.evacuate(command)
        assert list(command[:4]) == ["virsh", "--quiet", "--connect", "test:///"]
        verb, *rest = command[4:]
        if verb == "list":
            return Said(0, "\n".join(self.saved if "--with-managed-save" in rest else self.active) + "\n\n")
        name = rest[rest.index("--domain") + 1]
        self.calls.append((verb, name))
        if (verb, name) in self.refuses:
            return Said(1, "", f"error: {verb} of {name} does not work")
        return Said(0, self.perform(verb, name, rest))

    def perform(self, verb: str, name: str, rest: Sequence[str]) -> str:
        if verb == "managedsave" or (verb == "shutdown" and name not in self.deaf):
            self.active.remove(name)
            if verb == "managedsave":
                self.saved.append(name)
        if verb == "start":
            self.active.append(name)
            self.saved = [one for one in self.saved if one != name]
        if verb == "dumpxml":
            return "<domain/>" if name in self.agentless else AGENT
        return f"Time: {int(NOW)}\n" if verb == "domtime" and "--now" not in rest else ""

    def evacuate(self, command: Sequence[str]) -> Said | None:
        if command == ("nothing",):
            return Said(3, "", "no other host")
        self.active = list(command[1:])
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
    assert read_drained(host) is None


def test_what_does_not_come_back_is_named_and_kept(host: Host) -> None:
    libvirt = Libvirt(["a", "b"], refuses={("managedsave", "b"), ("start", "a")})
    with pytest.raises(LivepatchError, match=r"not running: a \(virsh start failed"):
        subject.drain(host, virsh(libvirt), Order())
    assert libvirt.saved == ["a"]
    libvirt.refuses.clear()
    assert subject.undrain(host, virsh(libvirt), Order()).result is True
    assert sorted(libvirt.active) == ["a", "b"]


def test_a_guest_that_ignores_its_shutdown(host: Host) -> None:
    libvirt = Libvirt(["a", "b"], deaf={"b"})
    with pytest.raises(LivepatchError) as caught:
        subject.drain(host, virsh(libvirt), Order(Means.SHUTDOWN, timeout=20))
    assert caught.value.kind is Kind.STALLED
    assert sorted(libvirt.active) == ["a", "b"], "a was started again"
    libvirt.deaf.clear()
    assert subject.drain(host, virsh(libvirt), Order(Means.SHUTDOWN)).result is True
    assert (libvirt.active, libvirt.saved) == ([], [])
    back = subject.undrain(host, virsh(libvirt), Order()).document()
    assert [one["clock"] for one in back["drained"]["guests"]] == ["", ""], "they booted: nothing to set"


def test_evacuation(host: Host) -> None:
    libvirt = Libvirt(["a", "b"])
    with pytest.raises(LivepatchError, match="No command to evacuate"):
        subject.drain(host, virsh(libvirt), Order(Means.COMMAND))
    with pytest.raises(LivepatchError, match="left a, b running here .no other host"):
        subject.drain(host, virsh(libvirt), Order(Means.COMMAND, command=("nothing",)))
    order = Order(Means.COMMAND, command=("move",), back=("move", "a", "b"))
    assert subject.drain(host, virsh(libvirt), order).result is True
    assert libvirt.active == []
    assert subject.undrain(host, virsh(libvirt), order).result is True
    assert libvirt.active == ["a", "b"]


def test_a_clock_that_cannot_be_set_is_said(host: Host) -> None:
    libvirt = Libvirt(["a", "b"], refuses={("domtime", "b")}, agentless={"a"})
    subject.drain(host, virsh(libvirt), Order())
    back = subject.undrain(host, virsh(libvirt), Order())
    assert back.result is True
    assert "The clock of a, b could not be set" in back.comment


@settings(max_examples=60, deadline=None)  # every step is made durable
@given(
    machines=st.lists(st.sampled_from("abcd"), unique=True),
    refuses=st.sets(st.tuples(st.sampled_from(["managedsave", "start", "domtime"]), st.sampled_from("abcd"))),
)
def test_every_machine_runs_or_is_known_to_be_away(
    tmp_path_factory: pytest.TempPathFactory, machines: list[str], refuses: set[tuple[str, str]]
) -> None:
    """Whatever fails: each machine runs, or the record has it; and once nothing fails, undrain brings all."""
    host = host_at(tmp_path_factory.mktemp("host"))
    libvirt = Libvirt(list(machines), refuses=refuses)

    def accounted() -> None:
        drained = read_drained(host)
        known = {one.name for one in drained.guests} if drained else set()
        assert set(machines) <= set(libvirt.active) | known
        assert set(libvirt.active) | set(libvirt.saved) == set(machines), "none was lost"

    for act in (subject.drain, subject.drain, subject.undrain):
        try:
            act(host, virsh(libvirt), Order())
        except LivepatchError:
            pass
        accounted()
    libvirt.refuses = set()
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


def test_no_virsh(host: Host) -> None:
    with pytest.raises(LivepatchError) as caught:
        subject.drain(host, Virsh("test:///", lambda command, seconds: None), Order())
    assert caught.value.kind is Kind.DEPENDENCY
