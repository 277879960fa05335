"""How long a guest is away: a live patch, a kexec and a full boot of the same guest, side by side.

    python -m benchmarks.pause [--kernel ROLE] [--rounds N]

A program in the guest reads /proc/meminfo (whose function the live patch replaces) every few milliseconds and
sends what its clock says over TCP to this process, outside. benchmarks/README.md says what the figures are.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.spread import spread, table
from lab import kernels, systemd
from lab.kernels import Kernel
from tests.kernel.bootable import Bootable
from tests.kernel.livepatches import build
from tests.kernel.patchable import Patchable

LIBRARY = Path(__file__).resolve().parents[1] / "_utils"
PERIOD = 0.005  # seconds between two reads in the guest
SETTLE = 3.0  # seconds before and after each act that belong to its window
BACK_SECONDS = 900.0
MESSAGE = struct.Struct(">d")
TICKER = """
import socket, struct, time
while True:
    try:
        with socket.create_connection(("10.0.2.2", {port}), 5) as peer:
            while True:
                with open("/proc/meminfo", "rb") as stream:
                    stream.read()
                peer.sendall(struct.pack(">d", time.monotonic()))
                time.sleep({period})
    except OSError:
        time.sleep(0.05)
"""
UNIT = """[Unit]
After=lab-network.service
[Service]
ExecStart=/usr/bin/python3 /root/ticker.py
[Install]
WantedBy=multi-user.target
"""


@dataclass
class Listener:
    """What the guest sent: (seconds here, seconds of its monotonic clock), in the order of arrival."""

    ticks: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server.getsockname()[1])

    def _accept(self) -> None:
        while True:
            peer, _ = self.server.accept()
            threading.Thread(target=self._read, args=(peer,), daemon=True).start()

    def _read(self, peer: socket.socket) -> None:
        with peer, peer.makefile("rb") as stream:
            try:
                while len(message := stream.read(MESSAGE.size)) == MESSAGE.size:
                    self.ticks.append((time.monotonic(), MESSAGE.unpack(message)[0]))
            except OSError:
                return

    def wait(self, after: float) -> None:
        """Until a tick came later than that."""
        deadline = time.monotonic() + BACK_SECONDS
        while not self.ticks or self.ticks[-1][0] <= after:
            if time.monotonic() > deadline:
                raise TimeoutError("the guest does not tick")
            time.sleep(0.05)


@dataclass(frozen=True)
class Gaps:
    """The longest time without a tick, in seconds: as it arrived outside, and by the guest's own clock
    between two reads of one boot."""

    outside: float
    inside: float


def longest(ticks: list[tuple[float, float]]) -> Gaps:
    """Pure. A guest's clock that goes back is another boot's: what lies between no clock in it can tell."""
    pairs = list(zip(ticks, ticks[1:]))
    outside = max((later[0] - earlier[0] for earlier, later in pairs), default=0.0)
    inside = max((later[1] - earlier[1] for earlier, later in pairs if later[1] > earlier[1]), default=0.0)
    return Gaps(outside, inside)


def observe(listener: Listener, act: Callable[[], None]) -> Gaps:
    """The longest gaps around one act, from a little before to a little after."""
    time.sleep(SETTLE)
    began = time.monotonic() - SETTLE
    act()
    listener.wait(time.monotonic())
    time.sleep(SETTLE)
    return longest([tick for tick in list(listener.ticks) if tick[0] >= began])


def run(kernel: Kernel, rounds: int) -> dict[str, list[Gaps]]:
    listener = Listener()
    module = build(kernel)["lp_level_1"]
    found: dict[str, list[Gaps]] = {}
    with systemd.start(kernel, "pause") as guest:
        guest.put_tree(LIBRARY, "/root/lib")
        host, bootable = Patchable(guest), Bootable(guest, kernel)
        host.publish({1: module})
        guest.put("/root/ticker.py", TICKER.format(port=listener.port, period=PERIOD))
        guest.put("/etc/systemd/system/ticker.service", UNIT)
        guest.exec(["systemctl", "enable", "--now", "ticker.service"], timeout=120, check=True)
        listener.wait(time.monotonic())

        def apply() -> None:
            answer = host.to_level(1)
            assert answer["result"] is True, answer

        def kexec() -> None:
            with guest.leaving_by_kexec(BACK_SECONDS):
                answer = bootable.ask("boot", reason="a benchmark", delay=2)
                assert answer["result"] is True, answer

        def load() -> None:
            answer = bootable.ask("load", kernel=kernel.release)
            assert answer["result"] is True, answer

        acts: dict[str, Callable[[], None]] = {
            "nothing": lambda: time.sleep(SETTLE),
            "live patch": apply,
            "loading a kernel": load,
            "kexec": kexec,
            "full boot": lambda: guest.reboot(BACK_SECONDS),
        }
        for _ in range(rounds):
            for name, act in acts.items():
                gaps = observe(listener, act)
                found.setdefault(name, []).append(gaps)
                print(f"{name:18} outside {gaps.outside:8.3f} s, inside {gaps.inside:8.3f} s", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--kernel", default=kernels.Role.STABLE.value, help="the kernel's role in the lab")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="the figures for another program")
    arguments = parser.parse_args()
    found = run(kernels.kernel(arguments.kernel), max(arguments.rounds, 1))
    if arguments.json:
        print(json.dumps({name: [vars(one) for one in gaps] for name, gaps in found.items()}))
    outside = [(name, spread(one.outside for one in gaps)) for name, gaps in found.items()]
    inside = [(name, spread(one.inside for one in found[name])) for name in ("nothing", "live patch")]
    print(table("longest gap seen outside, ms", outside))
    print(table("longest gap between reads inside, ms", inside))
    seen = dict(outside)
    patch = seen["live patch"].median
    for name in ("kexec", "full boot"):
        print(f"{name}: {seen[name].median / patch:.0f} times as long away as a live patch (medians)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
