"""A function called without pause while it is patched and reverted: nobody fails, nobody goes back."""

from __future__ import annotations

import json

from lab.machine import Machine

READERS = 3
READ = """
import json, os, sys
changes, reads, failed = [], 0, 0
while not os.path.exists("/run/readers-stop"):
    for _ in range(200):
        try:
            with open("/proc/lab_busy", "rb", buffering=0) as file:
                said = file.read().decode().strip()
        except OSError:
            failed += 1
            continue
        reads += 1
        if said not in ("old", "new"):
            failed += 1
        elif changes[-1:] != [said]:
            changes.append(said)
            open(f"/run/reader-{os.getpid()}", "w").write(said)
print(json.dumps({"changes": changes, "reads": reads, "failed": failed}))
"""


def test_readers_see_old_then_new_and_never_old_again(start, modules):
    host = start(Machine(smp=2))
    host.guest.put("/root/lab_busy.ko", modules["lab_busy"].read_bytes())
    host.guest.exec("insmod /root/lab_busy.ko", check=True)
    host.publish({1: modules["lp_busy"]})
    readers = [host.guest.spawn_python(READ) for _ in range(READERS)]
    all_say(host, readers, "old")

    assert host.to_level(1)["result"] is True
    all_say(host, readers, "new")
    assert host.to_level(0)["result"] is True
    all_say(host, readers, "old")

    host.guest.put("/run/readers-stop", "")
    seen = [json.loads(reader.wait(60).stdout) for reader in readers]
    assert [one["changes"] for one in seen] == [["old", "new", "old"]] * READERS
    assert all(one["reads"] > 1000 for one in seen), seen
    assert sum(one["failed"] for one in seen) == 0


def all_say(host, readers, word) -> None:
    """Until every reader has read that word last: it reads without pause, so this ends within a moment."""
    files = " ".join(f"/run/reader-{reader.pid}" for reader in readers)
    script = (
        f"until [ $(cat {files} 2>/dev/null | grep -o {word} | wc -l) = {len(readers)} ]; do sleep 0.05; done"
    )
    host.guest.exec(script, timeout=60, check=True)
