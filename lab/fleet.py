"""Several minions at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lab import minion, systemd
from lab.kernels import Kernel
from lab.machine import PLAIN, Machine
from lab.master import Master
from lab.minion import Minion


class Fleet:
    """Guests with minions, by name; closes all of them."""

    def __init__(self, master: Master, members: Mapping[str, Minion]) -> None:
        self.master = master
        self.members = dict(members)

    def __getitem__(self, name: str) -> Minion:
        return self.members[name]

    def call(self, function: str, *arguments: Any, **keywords: Any) -> dict[str, Any]:
        """Runs an execution function on all members."""
        return self.master.cmd(sorted(self.members), function, *arguments, tgt_type="list", **keywords)

    def close(self) -> None:
        for member in self.members.values():
            member.close()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def names(count: int, prefix: str = "guest") -> list[str]:
    return [f"{prefix}{number}" for number in range(1, count + 1)]


def start(
    master: Master,
    kernels: Sequence[Kernel],
    count: int,
    machine: Machine = PLAIN,
    config: Mapping[str, Any] | None = None,
    prefix: str = "guest",
) -> Fleet:
    """`count` minions at the same time, the kernels dealt out in turn (10-17 s for four on two cores). All
    or none.
    """
    wanted = {name: kernels[index % len(kernels)] for index, name in enumerate(names(count, prefix))}
    return start_named(master, wanted, machine=machine, config=config)


def start_named(
    master: Master,
    wanted: Mapping[str, Kernel],
    booting: Collection[str] = (),
    machine: Machine = PLAIN,
    config: Mapping[str, Any] | None = None,
    without_systemd: Mapping[str, Any] | None = None,
) -> Fleet:
    """These minions with these kernels, at the same time; those in `booting` are guests with systemd and a
    disk (`Minion.guest` is a `SystemdGuest`), which take a minute. All or none. `without_systemd` is the
    configuration of the others, where it is not the same.
    """

    def start_one(name: str) -> Minion:
        if name in booting:
            return _booting(master, wanted[name], name, config)
        return minion.start(master, wanted[name], name, machine, without_systemd or config)

    with ThreadPoolExecutor(max_workers=len(wanted)) as pool:
        futures = {name: pool.submit(start_one, name) for name in wanted}
    failed = [error for future in futures.values() if (error := future.exception()) is not None]
    if failed:
        for future in futures.values():
            if future.exception() is None:
                future.result().close()
        raise failed[0]
    return Fleet(master, {name: future.result() for name, future in futures.items()})


def _booting(master: Master, kernel: Kernel, name: str, config: Mapping[str, Any] | None) -> Minion:
    guest = systemd.start(kernel, name)
    try:
        guest.install_minion(master, name, config)
    except BaseException:
        guest.close()
        raise
    return Minion(guest, name, master)
