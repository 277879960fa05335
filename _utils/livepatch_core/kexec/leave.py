"""Leaving for the loaded kernel: a moment from now, so that whoever asked still gets an answer.

With systemd as PID 1 by its own way (``systemctl kexec``: services are stopped, file systems unmounted, then
its shutdown program starts the loaded kernel), from a transient timer. Without it, by a process of its own
that syncs and makes the system call; nothing is stopped then.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from livepatch_core.errors import LivepatchError
from livepatch_core.host import armed, programs
from livepatch_core.host.context import Host
from livepatch_core.host.programs import Said
from livepatch_core.host.settings import Settings
from livepatch_core.kexec import calls
from livepatch_core.kexec.record import Departure, Notes, read_notes, write_notes
from livepatch_core.words import Kind, Word

UNIT = "livepatch-kexec"
NOT_LOADED = 5  # systemctl's exit status for a unit that systemd does not (any more) know
# By default newer systemd turns a reboot into a kexec of whatever is loaded, or into one of user space alone
# (systemctl(1), reboot).
WHOLE = ("SYSTEMCTL_SKIP_AUTO_KEXEC=1", "SYSTEMCTL_SKIP_AUTO_SOFT_REBOOT=1")
# After this long an order that did not end this boot has failed: stopping a host's services is bounded by
# systemd at 90 s each (DefaultTimeoutStopSec), most of them at once.
PATIENCE = 900.0


class How(Word):
    SYSTEMD = "systemd"
    DIRECT = "direct"


def go(host: Host, departure: Departure, delay: float) -> None:
    """Have it start in ``delay`` seconds. Raises LivepatchError (internal) when nobody will."""
    if departure.how == How.SYSTEMD:
        by_systemd(UNIT, delay, "kexec", "Start the loaded kernel (livepatch)")
    else:
        _by_process(host, departure, delay)


def pending(host: Host, departure: Departure | None, boot_id: str | None) -> bool:
    """Whether an order to leave this boot is still to be carried out, or under way."""
    if departure is None or departure.boot_id != boot_id:
        return False
    return host.clock() < departure.due + PATIENCE


def under_way(departure: Departure) -> LivepatchError:
    """What is said to whoever wants another kernel meanwhile."""
    return LivepatchError(
        Kind.BUSY,
        f"Kernel {departure.to} was ordered to start at {departure.at}; nothing was changed.",
        remedy="Wait for it, or take it back: kexec.unload.",
        ordered=departure.to,
    )


def cancel(host: Host, departure: Departure | None) -> None:
    """Take an order back; a process that is waiting finds its order gone. Raises LivepatchError when systemd
    cannot be told."""
    if departure is not None and departure.how == How.SYSTEMD:
        take_back(UNIT)
    write_notes(host, Notes(read_notes(host).loaded, None))


def by_systemd(unit: str, delay: float, verb: str, description: str) -> None:
    """Have ``systemctl VERB`` called in ``delay`` seconds. Raises LivepatchError (internal); ``stands`` in
    its evidence tells that systemd may do it nevertheless."""
    command = [
        "systemd-run", "--quiet", "--collect", f"--unit={unit}", f"--on-active={delay:g}s",
        "--timer-property=AccuracySec=100ms", f"--description={description}",
        *(f"--setenv={one}" for one in WHOLE), "systemctl", verb,
    ]  # fmt: skip
    try:
        done = programs.run(command)
    except LivepatchError:  # it gave no answer in time, and may have made the timer
        take_back(unit)
        raise
    if done is None or done.status:
        raise LivepatchError(
            Kind.INTERNAL,
            f"Systemd could not be told to {verb} ({_why(done)}); this kernel runs on.",
            remedy="Look at systemctl status and journalctl -b on the host; it can be ordered again.",
        )


def take_back(unit: str) -> None:
    """Take back what ``by_systemd`` ordered; a timer that is gone, because it elapsed or was stopped before,
    has nothing left to do. Raises LivepatchError (internal)."""
    try:
        done = programs.run(["systemctl", "stop", f"{unit}.timer"])
    except LivepatchError as problem:
        raise _stands(unit, problem.message.rstrip(".")) from problem
    if done is None or done.status not in (0, NOT_LOADED):
        raise _stands(unit, _why(done))


def _stands(unit: str, why: str) -> LivepatchError:
    return LivepatchError(
        Kind.INTERNAL,
        f"The order could not be taken back from systemd ({why}); it may still be carried out.",
        remedy=f"Stop it on the host: systemctl stop {unit}.timer",
        stands=True,
    )


def _why(done: Said | None) -> str:
    return "it is not there" if done is None else done.complaint


def _by_process(host: Host, departure: Departure, delay: float) -> None:
    library = str(Path(__file__).resolve().parents[2])
    code = "import sys; sys.path[:0] = sys.argv[1:2]; from livepatch_core.kexec.leave import main; main()"
    arguments = [library, str(host.settings.state_dir), departure.token, str(delay)]
    try:
        subprocess.Popen(
            [sys.executable, "-B", "-c", code, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # the minion may be stopped meanwhile
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
    except OSError as problem:
        raise LivepatchError(
            Kind.INTERNAL, f"No process could be started ({problem.strerror}); this kernel runs on."
        ) from problem


def main() -> None:
    """The process's own program; arguments: library, state directory, token, seconds."""
    host = Host(Settings(state_dir=Path(sys.argv[2])), lambda name: None)
    time.sleep(float(sys.argv[4]))
    departure = read_notes(host).departure
    if departure is None or departure.token != sys.argv[3]:
        return  # taken back
    armed.disarm(host)  # what happens from here on is not the level's doing
    os.sync()
    calls.leave()
