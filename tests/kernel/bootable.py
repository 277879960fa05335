"""A guest with kernels in its /boot, as packages leave them, and the verbs of the kexec library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lab import snapshot
from lab.guest import Guest
from lab.kernels import Kernel

DRIVER = Path(__file__).resolve().parent / "kexec_driver.py"


class Bootable:
    def __init__(self, guest: Guest, *kernels: Kernel) -> None:
        self.guest = guest
        for kernel in kernels:
            self.install(kernel)

    def install(self, kernel: Kernel, initrd: bool = True, config: bool = True) -> None:
        """Its modules are the guest's to have (lab.systemd.start, others)."""
        parts = snapshot.parts(kernel)
        release = kernel.release
        self.guest.put(f"/boot/vmlinuz-{release}", parts.files.vmlinuz.read_bytes())
        if initrd:
            self.guest.put(f"/boot/initrd.img-{release}", parts.initrd.read_bytes())
        if config:
            self.guest.put(f"/boot/config-{release}", parts.files.config.read_bytes())

    def ask(self, verb: str, **arguments: Any) -> Any:
        ended = self.guest.python(DRIVER.read_text(), verb, json.dumps(arguments), timeout=300)
        return json.loads(ended.stdout)

    def refused(self, verb: str, **arguments: Any) -> tuple[str, str]:
        """Kind and comment; nothing is loaded by a refused act that was not loaded before."""
        before = self.loaded()
        answer = self.ask(verb, **arguments)
        assert (answer["result"], self.loaded()) == (False, before), answer
        return answer["kind"], answer["comment"]

    def loaded(self) -> bool:
        return self.guest.get("/sys/kernel/kexec_loaded").strip() == b"1"
