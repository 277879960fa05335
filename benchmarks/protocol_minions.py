"""Minions that are only a protocol: keys, one subscription for all, an answer to each job. In one process.

    python benchmarks/protocol_minions.py MASTER_CONFIG DIRECTORY COUNT

Prints ``ready`` when all are known to the master, and runs until its standard input ends. Each answers as a
minion with this extension would that had nothing to do: no process is forked, no module loaded, no kernel
touched, and all share one key and one connection for what they hear. So they show what master and runner
cost, and nothing of what hosts cost.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import salt.channel.client
import salt.config
import salt.crypt

BUILD = "00112233445566778899aabbccddeeff00112233"
RELEASE = "6.1.0-56-amd64"
DOMAINS = 10


class Host:
    """What one minion remembers."""

    def __init__(self, number: int) -> None:
        self.name = f"fake{number:04}"
        self.domain = f"rack{number % DOMAINS}"
        self.level, self.rev, self.ledger_id = 1, 0, ""
        self.channel: Any = None

    def answer(self, function: str, given: dict[str, Any]) -> Any:
        if function == "livepatch.brief":
            return self.look(given)
        if function == "livepatch.stage":
            return {"result": True, "comment": "Staged.", "look": self.look({})}
        if function == "livepatch.apply":
            return self.apply(given["approval"])
        return function == "test.ping"

    def look(self, given: dict[str, Any]) -> dict[str, Any]:
        values = {"failure_domain": self.domain, "role": "hypervisor"}
        return {
            "verdict": "patched" if self.level else "unpatched",
            "comment": "only a protocol",
            "flags": [],
            "level": self.level,
            "boot_id": f"boot of {self.name}",
            "drift": [],
            "warded": [],
            "release": RELEASE,
            "build_id": BUILD,
            "ledger_id": self.ledger_id,
            "rev": self.rev,
            "last": {},
            "version": "0.1.0",
            "health": {"verdict": "pass", "findings": []},
            "grains": {name: values.get(name) for name in given.get("grains", ())},
        }

    def apply(self, approval: dict[str, Any]) -> dict[str, Any]:
        old, self.level = self.level, approval["builds"][BUILD]["level"]
        self.rev, self.ledger_id = approval["rev"], approval["ledger_id"]
        changes = {"level": {"old": old, "new": self.level}} if old != self.level else {}
        return {"result": True, "comment": "Done.", "changes": changes}


async def bring_up(hosts: list[Host], master: dict[str, Any], directory: Path) -> Any:
    """Every host's request channel, authenticated; the leader's subscription."""
    first: dict[str, Any] = {}
    for host in hosts:
        opts = options(host.name, master, directory)
        if first:  # a key for each would only cost time: 0.3 s a piece
            shutil.copytree(first["pki_dir"], opts["pki_dir"], dirs_exist_ok=True)
        host.channel = salt.channel.client.AsyncReqChannel.factory(opts)
        await host.channel.connect()
        await host.channel.auth.authenticate()
        first = first or opts
    heard = salt.channel.client.AsyncPubChannel.factory(first)
    await heard.connect()
    return heard


def options(name: str, master: dict[str, Any], directory: Path) -> dict[str, Any]:
    place = directory / name
    (place / "pki").mkdir(parents=True)
    opts = salt.config.minion_config(None)
    opts.update(
        id=name,
        root_dir=str(place),
        pki_dir=str(place / "pki"),
        cachedir=str(place),
        sock_dir=str(place),
        master="127.0.0.1",
        master_ip="127.0.0.1",
        master_port=master["ret_port"],
        publish_port=master["publish_port"],
        master_uri=f"tcp://127.0.0.1:{master['ret_port']}",
        auth_timeout=60,
    )
    opts["__role"] = "minion"
    return opts


async def serve(hosts: list[Host], heard: Any) -> None:
    by_name, tasks = {host.name: host for host in hosts}, set()

    async def take(payload: Any) -> None:
        load = payload["load"]
        wanted = load["tgt"] if isinstance(load["tgt"], list) else list(by_name)
        for name in wanted:
            if name in by_name:
                task = asyncio.ensure_future(respond(by_name[name], load))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    heard.on_recv(take)
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)


async def respond(host: Host, load: dict[str, Any]) -> None:
    keywords = [dict(one) for one in load.get("arg", ()) if isinstance(one, dict) and one.get("__kwarg__")]
    given = keywords[-1] if keywords else {}
    answer = {} if load["fun"] == "saltutil.find_job" else host.answer(load["fun"], given)
    await host.channel.send(
        {
            "cmd": "_return",
            "id": host.name,
            "jid": load["jid"],
            "fun": load["fun"],
            "fun_args": load.get("arg", []),
            "return": answer,
            "retcode": 0,
            "success": True,
        },
        timeout=120,
    )


async def main() -> None:
    master = salt.config.master_config(sys.argv[1])
    hosts = [Host(number) for number in range(int(sys.argv[3]))]
    await serve(hosts, await bring_up(hosts, master, Path(sys.argv[2])))
    os._exit(0)  # what Salt's channels still want to close would only print


if __name__ == "__main__":
    asyncio.run(main())
