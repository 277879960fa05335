"""libvirt, by its own program: few verbs, names in, names out.

By ``virsh`` and not by libvirt's Python binding: that belongs to the distribution's Python, and Salt brings
one of its own.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

from livepatch_core.errors import LivepatchError
from livepatch_core.host.programs import Run, Said, run
from livepatch_core.words import Kind

URI = "qemu:///system"
QUESTION_SECONDS = 60.0
AGENT_SECONDS = 30.0
AGENT = "org.qemu.guest_agent.0"
_SAVING = re.compile(r"^Operation:\s+Save\s*$", re.MULTILINE)
_TIME = re.compile(r"^Time: (\d+)$", re.MULTILINE)


def names_in(text: str) -> tuple[str, ...]:
    """The machines that ``virsh list --name`` prints, one a line; a name may have blanks in it. Pure."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def time_in(text: str) -> int | None:
    """Seconds since the epoch that ``virsh domtime`` prints. Pure."""
    found = _TIME.search(text)
    return int(found.group(1)) if found else None


def saving_in(text: str) -> bool:
    """Whether the job that ``virsh domjobinfo`` prints is a save; a machine may have none, or one of others,
    a backup or a migration. Pure."""
    return _SAVING.search(text) is not None


def agent_in(xml: str) -> bool | None:
    """Whether the guest's agent is connected, from a machine's description; None where it has no channel for
    one, or the description cannot be read. Pure."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    targets = [one for one in root.iter("target") if one.get("name") == AGENT]
    return targets[0].get("state") == "connected" if targets else None


@dataclass(frozen=True)
class Virsh:
    """One libvirt. Every verb raises LivepatchError (dependency, health) with virsh's own complaint."""

    uri: str = URI
    run: Run = run

    def active(self) -> tuple[str, ...]:
        """What runs or is paused."""
        return names_in(self._ask("list", "--name").out)

    def running(self) -> tuple[str, ...]:
        """What runs and is not paused."""
        return names_in(self._ask("list", "--state-running", "--name").out)

    def transient(self) -> tuple[str, ...]:
        """What runs and has no definition: once it ends libvirt does not know it any more."""
        return names_in(self._ask("list", "--transient", "--name").out)

    def saved(self) -> tuple[str, ...]:
        """What has its memory saved."""
        return names_in(self._ask("list", "--all", "--with-managed-save", "--name").out)

    def save(self, name: str, seconds: float) -> None:
        """Save memory and state to disk and end the machine; when it fails libvirt lets it run on. It goes
        on in libvirt when nobody waits for it any more."""
        self._act(seconds, "managedsave", "--domain", name)

    def saving(self, name: str) -> bool:
        """Whether its memory is being saved at this moment."""
        try:
            return saving_in(self._ask("domjobinfo", "--domain", name).out)
        except LivepatchError:
            if name in self.active():
                raise
            return False  # libvirt does not answer this for what does not run

    def abort(self, name: str) -> None:
        """Abort the job under way; it has ended only later. Fails where there is none."""
        self._act(QUESTION_SECONDS, "domjobabort", "--domain", name)

    def resume(self, name: str) -> None:
        """Let a paused machine run."""
        self._act(QUESTION_SECONDS, "resume", "--domain", name)

    def shut_down(self, name: str) -> None:
        """Ask the guest to shut itself down; returns at once."""
        self._act(QUESTION_SECONDS, "shutdown", "--domain", name)

    def start(self, name: str, seconds: float) -> None:
        """Start a machine, from its saved memory if there is any."""
        self._act(seconds, "start", "--domain", name)

    def agent(self, name: str) -> bool | None:
        """Whether the guest's agent is connected; None where it has none."""
        return agent_in(self._ask("dumpxml", "--domain", name).out)

    def set_clock(self, name: str) -> None:
        """Give the guest the host's time; its agent does it."""
        self._act(AGENT_SECONDS, "domtime", "--domain", name, "--now")

    def clock(self, name: str) -> int | None:
        """The guest's time, by its agent."""
        return time_in(self._act(AGENT_SECONDS, "domtime", "--domain", name).out)

    def _ask(self, *words: str) -> Said:
        return self._act(QUESTION_SECONDS, *words)

    def _act(self, seconds: float, *words: str) -> Said:
        said = self.run(["virsh", "--quiet", "--connect", self.uri, *words], seconds)
        if said is None:
            raise LivepatchError(
                Kind.DEPENDENCY, "virsh is not installed on this host.", remedy="Install it."
            )
        if said.status != 0:
            raise LivepatchError(Kind.HEALTH, f"virsh {words[0]} failed: {said.complaint}", virsh=list(words))
        return said
