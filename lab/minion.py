"""A guest with a real Salt minion that answers a real master; ready in a few seconds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import salt

from lab import snapshot
from lab.errors import GuestHung
from lab.guest import Guest
from lab.kernels import Kernel
from lab.machine import PLAIN, Machine
from lab.master import COMMAND_SECONDS, GUEST_VIEW, Master

CONFIG = "/etc/salt/minion"
ZYGOTE = "/opt/lab/zygote.py"
ZYGOTE_GO = "/run/lab/zygote-go"
ZYGOTE_SECONDS = 180.0
START_SECONDS = 120.0
# What only costs time in a guest: graphics cards, mines, host names that no resolver knows.
TUNING: dict[str, Any] = {
    "enable_fqdns_grains": False,
    "enable_gpu_grains": False,
    "mine_enabled": False,
    "acceptance_wait_time": 1,
    "recon_default": 100,
    "random_reauth_delay": 1,
    "log_level_logfile": "info",
}

# What runs of states of this project and of its formula call, by file name below salt/.
NEEDED = {
    "modules": {
        "beacons", "cmdmod", "config", "cp", "data", "debian_service", "environ", "event", "extfs", "file",
        "grains", "hashutil", "match", "mine", "path", "pillar", "saltutil", "state", "sysmod",
        "systemd_service", "test",
    },
    "states": {"cmd", "file", "saltutil", "service", "test"},
}  # fmt: skip


def lean() -> dict[str, Any]:
    """Configuration of a minion that runs states: it has only the modules above, and syncs when it is told.

    A run of states makes Salt 3008 load all modules it can find (salt/loader/context.py, ``__eq__`` of a
    loader iterates over it), and before it asks the master for the hash of every file to sync: minutes,
    emulated.
    """
    salt_folder = Path(salt.__file__).parent
    disabled = {
        f"disable_{kind}": sorted(
            path.stem for path in (salt_folder / kind).iterdir() if path.stem not in {*needed, "__init__"}
        )
        for kind, needed in NEEDED.items()
    }
    return {**disabled, "autoload_dynamic_modules": False}


def minion_settings(master: Master, identity: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "master": GUEST_VIEW,
        "master_port": master.ret_port,
        "publish_port": master.publish_port,
        "id": identity,
        **TUNING,
        **config,
    }


@dataclasses.dataclass
class Minion:
    """A guest, the name of the minion in it, and its master."""

    guest: Guest
    id: str
    master: Master

    def call(self, function: str, *arguments: Any, timeout: int = COMMAND_SECONDS, **keywords: Any) -> Any:
        """Runs an execution function through the master and gives what the minion returned; GuestHung when
        it does not answer.
        """
        self.guest.check_alive()
        returned = self.master.cmd(
            [self.id], function, *arguments, timeout=timeout, tgt_type="list", **keywords
        )
        if self.id not in returned:
            self.guest.ping()  # says what happened to the guest, if something did
            raise GuestHung(
                self.id,
                f"the minion did not answer {function} in {timeout} s:\n{self.log[-2000:]}",
                self.guest.console,
            )
        return returned[self.id]

    @property
    def log(self) -> str:
        """The minion's own log."""
        return self.guest.exec("cat /var/log/salt/minion /var/log/salt/zygote 2>/dev/null").text

    def close(self) -> None:
        self.guest.close()
        self.master.forget(self.id)

    def __enter__(self) -> Minion:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _prepare(guest: Guest) -> None:
    """Starts the minion that waits: the program goes to the background when it has everything imported."""
    guest.put(CONFIG, json.dumps(TUNING) + "\n")
    guest.exec(["/usr/bin/python3", "-sE", ZYGOTE], timeout=ZYGOTE_SECONDS, check=True)


def start(
    master: Master,
    kernel: Kernel,
    identity: str,
    machine: Machine = PLAIN,
    config: Mapping[str, Any] | None = None,
    bring: Callable[[Guest], None] = lambda guest: None,
) -> Minion:
    """A new guest whose minion is connected and accepted. `config` goes over the lab's minion settings;
    `bring` puts into the guest what is to be there when its minion starts.
    """
    with master.events() as events:
        guest = snapshot.restore(
            identity, kernel, machine, f"minion {json.dumps(TUNING, sort_keys=True)}", _prepare
        )
        minion = Minion(guest, identity, master)
        try:
            guest.exec(["hostname", identity], check=True)
            bring(guest)
            guest.put(CONFIG, json.dumps(minion_settings(master, identity, config or {})))
            guest.put(ZYGOTE_GO, "go")
            events.wait(f"salt/minion/{identity}/start", START_SECONDS)
        except TimeoutError:
            log = minion.log
            minion.close()
            raise GuestHung(
                identity, f"its minion did not start in {START_SECONDS:.0f} s:\n{log[-3000:]}", guest.console
            ) from None
        except BaseException:
            minion.close()
            raise
    return minion
