"""A stand-in for the kernel's live patching: files under a tmp directory, and the calls that change them.

It is no kernel. It keeps the rules that the host side relies on (kernel/livepatch/core.c, seen on 6.1): one
transition at a time, ``enabled`` written during a transition turns it round, a cumulative patch takes the
others out, a disabled patch's directory goes and its module stays. Real kernels are in tests/kernel.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from livepatch_core.kernel import control, loading
from livepatch_core.kernel.roots import Roots
from livepatch_core.modulefile.model import Function, ModuleFile, PatchedObject

BUILD_ID = "aa" * 20
RELEASE = "6.1.0-56-amd64"
FUNCTION = "meminfo_proc_show"
DELAY = 3  # polls that a transition without a stall takes


def image_of(name: str) -> bytes:
    """The bytes that stand for the module of this name."""
    return f"the module {name}".encode()


def module(name: str, **changes: object) -> ModuleFile:
    """A cumulative livepatch of one function, made for the stand-in's kernel build."""
    values: dict[str, object] = {
        "name": name,
        "livepatch": True,
        "machine": "x86_64",
        "vermagic": f"{RELEASE} SMP preempt mod_unload modversions ",
        "release": RELEASE,
        "depends": (),
        "modinfo": (),
        "build_id": name.encode().hex().ljust(40, "0"),
        "built_for": {"vmlinux": BUILD_ID},
        "built_for_release": RELEASE,
        "objects": (PatchedObject("vmlinux", (Function(FUNCTION, 0),)),),
        "replace": True,
        "states": (),
        "klp_symbols": (),
        "imports": (),
        "versions": {},
        "shadow": False,
        "signature": None,
        "size": 4096,
        "sha256": hashlib.sha256(image_of(name)).hexdigest(),
        "compression": "none",
        "maker": None,
    }
    return ModuleFile(**{**values, **changes})  # type: ignore[arg-type]


@dataclass
class _Patch:
    module: ModuleFile
    enabled: bool = True
    transition: bool = True
    polls: int = 0


@dataclass
class FakeKernel:
    """stalls: (patch, enabled) directions that do not end by themselves. refuses: errno of init_module.
    takes_back: patches whose loading somebody else turns round. fades: for so many polls a patch out of force
    is still shown, at rest and not enabled (klp_free_patch_async leaves the directory to a work item).

    changed: what really happened, in order: ("load", name), or "disable", "reverse", "force" and the name.
    """

    directory: Path
    modules: dict[str, ModuleFile] = field(default_factory=dict)
    patches: dict[str, _Patch] = field(default_factory=dict)
    images: dict[bytes, ModuleFile] = field(default_factory=dict)
    stalls: set[tuple[str, bool]] = field(default_factory=set)
    takes_back: set[str] = field(default_factory=set)
    refuses: int = 0
    fades: int = 0
    changed: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 1_000_000.0

    def __post_init__(self) -> None:
        self.roots = Roots.under(self.directory)
        self.boot("boot-1")

    # -- what a host is given ------------------------------------------------------------------------

    def clock(self) -> float:
        return self.seconds

    def pause(self, seconds: float) -> None:
        self.seconds += seconds
        self.tick()

    def make(self, file: ModuleFile) -> bytes:
        """The bytes of ``file``; reading them, and loading them, gives it back."""
        data = image_of(file.name)
        self.images[data] = file
        return data

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the stand-in behind the three system calls and two sysfs files that change a kernel."""
        monkeypatch.setattr(loading, "init_module", self.init_module)
        monkeypatch.setattr(loading, "delete_module", self.delete_module)
        monkeypatch.setattr(control, "write_enabled", self.write_enabled)
        monkeypatch.setattr(control, "write_force", self.write_force)

    # -- what the kernel does -------------------------------------------------------------------------

    def boot(self, boot_id: str) -> None:
        """A fresh start: nothing is loaded."""
        self.modules.clear()
        self.patches.clear()
        for path, text in _files(boot_id).items():
            self._write(path, text)
        self._write("sys/kernel/notes", _note(BUILD_ID))
        self._write("sys/kernel/livepatch/", "")
        self._show()

    def init_module(self, image: bytes, params: str = "") -> None:
        del params
        file = self.images[image]
        if self.refuses:
            raise OSError(self.refuses, os.strerror(self.refuses))
        if file.name in self.modules:
            raise OSError(errno.EEXIST, "exists")
        if any(patch.transition for patch in self.patches.values()):
            raise OSError(errno.EBUSY, "transition")
        self.modules[file.name] = file
        self.patches[file.name] = _Patch(file)
        self.changed.append(("load", file.name))
        self._show()

    def write_enabled(self, roots: Roots, patch: str, value: bool) -> None:
        del roots
        found = self._patch(patch)
        if found.enabled == value:
            raise OSError(errno.EINVAL, "same value")
        others = [one for one in self.patches.values() if one.transition and one is not found]
        if others:
            raise OSError(errno.EBUSY, "transition")
        self.changed.append(("reverse" if found.transition else "disable", patch))
        found.enabled, found.transition, found.polls = value, True, 0
        self._show()

    def write_force(self, roots: Roots, patch: str) -> None:
        del roots
        found = self._patch(patch)
        if not found.transition:
            raise OSError(errno.EINVAL, "not in transition")
        self.changed.append(("force", patch))
        self.stalls.discard((patch, found.enabled))
        found.polls = 0

    def delete_module(self, name: str) -> None:
        if name not in self.modules:
            raise OSError(errno.ENOENT, "not loaded")
        if name in self.patches:
            raise OSError(errno.EAGAIN, "in use")
        del self.modules[name]
        self._show()

    def tick(self) -> None:
        """One look of the kernel at its transition."""
        for name, patch in list(self.patches.items()):
            if name in self.takes_back and patch.transition and patch.enabled:
                patch.enabled, patch.polls = False, 0
                self._show()
            if not patch.transition and not patch.enabled:
                self._fade(name, patch)
                continue
            if not patch.transition or (name, patch.enabled) in self.stalls:
                continue
            patch.polls += 1
            if patch.polls >= DELAY:
                self._end(name, patch)
                self._show()

    def settle(self) -> None:
        """Time passes while nobody watches: what can end has ended."""
        for _ in range(DELAY):
            self.tick()

    def _end(self, name: str, patch: _Patch) -> None:
        patch.transition = False
        gone = [name]
        if patch.enabled:
            gone = [one for one in self.patches if one != name] if patch.module.replace else []
        for one in gone:
            self.patches[one].enabled, self.patches[one].polls = False, 0
            self._fade(one, self.patches[one])

    def _fade(self, name: str, patch: _Patch) -> None:
        patch.polls += 1
        if patch.polls > self.fades:
            del self.patches[name]
            self._show()

    def _patch(self, name: str) -> _Patch:
        if name not in self.patches:
            raise OSError(errno.ENOENT, "no such patch")
        return self.patches[name]

    # -- what it shows ---------------------------------------------------------------------------------

    def _show(self) -> None:
        """Bring the files to the state. Nobody reads meanwhile: the stand-in runs in the reader's thread."""
        lines = (f"{name} 16384 {int(name in self.patches)} - Live 0x0 (OEK)\n" for name in self.modules)
        files: dict[str, str | bytes] = {"proc/modules": "".join(lines)}
        for name, file in self.modules.items():
            files[f"sys/module/{name}/initstate"] = "live\n"
            files[f"sys/module/{name}/refcnt"] = f"{int(name in self.patches)}\n"
            files[f"sys/module/{name}/notes/.note.gnu.build-id"] = _note(file.build_id or "")
        for name, patch in self.patches.items():
            files.update(_patch_files(f"sys/kernel/livepatch/{name}", patch))
        for owner in ("kernel/livepatch", "module"):
            for shown in (self.directory / "sys" / owner).iterdir():
                prefix = f"sys/{owner}/{shown.name}/"
                if shown.name != "module" and not any(path.startswith(prefix) for path in files):
                    shutil.rmtree(shown)
        for path, content in files.items():
            self._write(path, content)

    def _write(self, path: str, content: str | bytes) -> None:
        target = self.directory / path
        if path.endswith("/"):
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)


def _patch_files(below: str, patch: _Patch) -> dict[str, str | bytes]:
    """A path that ends in a slash is a directory: how sysfs shows a function."""
    files: dict[str, str | bytes] = {
        f"{below}/enabled": f"{int(patch.enabled)}\n",
        f"{below}/transition": f"{int(patch.transition)}\n",
    }
    for target in patch.module.objects:
        files[f"{below}/{target.name}/patched"] = "1\n"
        files.update({f"{below}/{target.name}/{one.name},{one.sympos or 1}/": "" for one in target.functions})
    return files


def _note(build_id: str) -> bytes:
    data = bytes.fromhex(build_id)
    return struct.pack("=III", 4, len(data), 3) + b"GNU\0" + data


def _files(boot_id: str) -> dict[str, str]:
    return {
        "proc/sys/kernel/osrelease": RELEASE,
        "proc/sys/kernel/version": "#1 SMP stand-in",
        "proc/sys/kernel/arch": "x86_64",
        "proc/sys/kernel/random/boot_id": boot_id,
        "proc/sys/kernel/ftrace_enabled": "1",
        "proc/sys/kernel/modules_disabled": "0",
        "proc/sys/kernel/panic": "10",
        "proc/sys/kernel/tainted": "0",
        "proc/loadavg": "0.0 0.0 0.0 1/100 4000",
        "proc/modules": "",
        "proc/keys": "",
        "proc/kallsyms": f"0000000000000000 t {FUNCTION}\n",
        "sys/module/module/parameters/sig_enforce": "N",
        "sys/kernel/security/lockdown": "[none] integrity confidentiality",
        "sys/kernel/tracing/tracing_on": "1",
        "sys/kernel/tracing/enabled_functions": "",
        "sys/kernel/debug/kprobes/list": "",
        "sys/devices/system/cpu/online": "0-1",
        f"lib/modules/{RELEASE}/modules.dep": "",
    }
