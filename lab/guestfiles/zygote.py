"""A Salt minion that has done everything but start: waits, all it needs imported, until the host tells it
who it is.

A snapshot of this saves every guest the 20 s that importing Salt and reading its loaders costs an emulated
processor.
"""

from __future__ import annotations

import gc
import json
import os
import sys

GO = "/run/lab/zygote-go"
WARM_CONFIG = "/run/lab/zygote"
LOG = "/var/log/salt/zygote"

sys.path.insert(0, "/opt/salt/lib")


def warm_up() -> None:
    """Loads what a starting minion loads, from a throw-away configuration, so that every import is done."""
    import salt.cli.daemons
    import salt.config
    import salt.crypt
    import salt.loader
    import salt.minion
    import salt.scripts
    import salt.transport.zeromq

    os.makedirs(WARM_CONFIG, exist_ok=True)
    with open("/etc/salt/minion", encoding="utf-8") as stream:
        settings = json.load(stream)
    with open(f"{WARM_CONFIG}/minion", "w", encoding="utf-8") as stream:
        json.dump({**settings, "root_dir": WARM_CONFIG, "id": "zygote"}, stream)
    opts = salt.config.minion_config(f"{WARM_CONFIG}/minion")
    opts["grains"] = salt.loader.grains(opts)
    utils = salt.loader.utils(opts)
    functions = salt.loader.minion_mods(opts, utils=utils)
    for name in ("test.ping", "cp.get_file", "cmd.run", "saltutil.sync_all", "state.apply", "kmod.lsmod"):
        functions[name]


def main() -> None:
    """Warms up, then goes to the background: who started this knows from its exit status that it is ready."""
    warm_up()
    gc.collect()
    gc.freeze()
    os.mkfifo(GO)
    if os.fork():
        os._exit(0)
    os.setsid()
    detach()
    with open(GO, encoding="utf-8") as gate:  # blocks until the host has written the configuration
        gate.read()
    import salt.scripts

    sys.argv = ["salt-minion", "--disable-keepalive"]
    salt.scripts.salt_minion()


def detach() -> None:
    os.makedirs(os.path.dirname(LOG), exist_ok=True)
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (1, 2):
        os.dup2(log, standard)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)


if __name__ == "__main__":
    main()
