"""Loading a kernel for the next boot, and forgetting it again."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.host.checks.check import Check
from livepatch_core.host.context import Host
from livepatch_core.host.lock import exclusive
from livepatch_core.host.outcome import Outcome
from livepatch_core.kernel.attributes import read_flag
from livepatch_core.kexec import calls, checks, cmdline, facts, leave
from livepatch_core.kexec.explain import explain_load
from livepatch_core.kexec.installed import read_installed
from livepatch_core.kexec.record import Loaded, Notes, ours, read_notes, with_loaded, write_notes
from livepatch_core.words import CheckVerdict, Kind


@dataclass(frozen=True)
class Wish:
    """What shall be started. kernel: a release, or ``newest``. initrd: a path; "" for the kernel's own, None
    for none at all. image, cmdline: "" for the distribution's image and the running command line. loads: how
    many times it will be loaded, this one included, where the kernel counts that."""

    kernel: str = "newest"
    image: str = ""
    initrd: str | None = ""
    cmdline: str = ""
    override: tuple[str, ...] = ()
    test: bool = False
    loads: int = 1


@dataclass(frozen=True)
class Judged:
    """A kernel that was looked at: what is known, what is loaded of ours, and what the checks say."""

    ready: checks.Ready
    held: Loaded | None
    notes: Notes
    token: str
    checks: tuple[Check, ...]

    @property
    def same(self) -> bool:
        """Whether exactly this is loaded already."""
        held, files = self.held, self.ready.files
        return held is not None and (
            (held.release, held.sha256, held.initrd_sha256, cmdline.unmarked(held.cmdline))
            == (files.release, files.sha256, files.initrd_sha256, cmdline.unmarked(self.ready.cmdline))
        )


def load(host: Host, wish: Wish) -> Outcome:
    """Load a kernel; raises LivepatchError when it was refused, nothing has then changed."""
    with exclusive(host.settings.lock_file, "kexec load", test=wish.test):
        return load_held(host, wish)[0]


def load_held(host: Host, wish: Wish, anew: bool = False) -> tuple[Outcome, Notes]:
    """The same for who holds the lock; also gives what is loaded afterwards.

    anew: load it although our notes say that it is. The kernel tells only that some image is loaded: another
    program may have put its own there since.
    """
    judged = judge(host, wish)
    files = judged.ready.files
    if judged.same and not anew:
        done = Outcome(
            True, f"Kernel {files.release} is loaded already.", details=_details(judged, judged.held)
        )
        return done, judged.notes
    departure = judged.notes.departure
    if departure and leave.pending(host, departure, judged.ready.machine.boot_id):
        raise leave.under_way(departure)
    checks.refuse(judged.checks, f"Loading kernel {files.release}")
    changes = {"loaded": {"old": _shown(judged), "new": files.release}}
    if wish.test:
        text = f"Would load kernel {files.release}."
        return Outcome(None, text, changes=changes, details=_details(judged, None)), judged.notes
    notes = _load(host, judged)
    text = f"Kernel {files.release} is loaded; it starts with kexec.boot."
    return Outcome(True, text, changes=changes, details=_details(judged, notes.loaded)), notes


def preflight(host: Host, wish: Wish) -> dict[str, Any]:
    """Every check without loading: ``{"result", "release", "checks": [...]}``."""
    judged = judge(host, wish)
    return {
        "result": not any(check.refuses for check in judged.checks),
        "release": judged.ready.files.release,
        "checks": [check.document() for check in judged.checks],
    }


def unload(host: Host, test: bool = False) -> Outcome:
    """Forget the loaded image, whoever loaded it, and take back a pending order to start it."""
    with exclusive(host.settings.lock_file, "kexec unload", test=test):
        machine = facts.read_machine(host.roots)
        notes = read_notes(host)
        ordered = leave.pending(host, notes.departure, machine.boot_id)
        if machine.loaded is False and not ordered:
            return Outcome(True, "No image is loaded.")
        held = ours(notes, machine.boot_id, machine.loaded)
        changes = {"loaded": {"old": held.release if held else "an image of somebody else", "new": None}}
        if test:
            return Outcome(None, "Would unload the image.", changes=changes)
        try:
            if ordered:
                leave.cancel(host, notes.departure)
        finally:  # an order that could not be taken back shall at least find nothing to start
            _forget(host)
        back = " The order to start it was taken back." if ordered else ""
        return Outcome(True, f"No image is loaded any more.{back}", changes=changes)


def _forget(host: Host) -> None:
    try:
        calls.unload()
    except OSError as problem:
        raise _not_unloaded(problem) from problem
    write_notes(host, with_loaded(read_notes(host), None))


def judge(host: Host, wish: Wish) -> Judged:
    """Read everything and judge it. Raises LivepatchError (argument) where there is no such kernel."""
    machine = facts.read_machine(host.roots)
    notes = read_notes(host)
    kernel = facts.find(read_installed(host.roots), machine.release, wish.kernel)
    if wish.image:
        kernel = replace(kernel, image=_absolute("image", wish.image))
    if wish.initrd != "":
        kernel = replace(kernel, initrd=_absolute("initrd", wish.initrd) if wish.initrd else None)
    files = facts.read_files(host.roots, kernel, machine)
    token = uuid.uuid4().hex[:16]
    line = (
        cmdline.asked(wish.cmdline, token)
        if wish.cmdline
        else cmdline.following(machine.cmdline, str(files.image), token)
        if machine.cmdline
        else ""
    )
    held = ours(notes, machine.boot_id, machine.loaded)
    loaded_by = None if not machine.loaded else "us" if held else "other"
    ready = checks.Ready(machine, files, line, loaded_by, no_initrd=wish.initrd is None, loads=wish.loads)
    return Judged(ready, held, notes, token, checks.examine(ready, wish.override))


def _load(host: Host, judged: Judged) -> Notes:
    """The record names nothing while the kernel is being told: should this process die, the image counts as
    somebody else's, which refuses where a wrong name would mislead."""
    ready = judged.ready
    machine, files = ready.machine, ready.files
    if machine.boot_id is None:
        raise LivepatchError(
            Kind.UNSUPPORTED, "The kernel does not name its boot; nothing was changed.", remedy="Mount /proc."
        )
    nothing = with_loaded(judged.notes, None)
    try:
        with _opened(files.image) as image, _opened(files.initrd) as initrd:
            if image is None:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            _refuse_changed(files.image, image, files.sha256)
            _refuse_changed(files.initrd, initrd, files.initrd_sha256)
            write_notes(host, nothing)
            calls.load(image, initrd, ready.cmdline)
    except OSError as problem:
        write_notes(host, judged.notes)
        raise explain_load(problem, files.release, machine) from problem
    _crash_kernel_kept(host, machine)
    loaded = Loaded(
        machine.boot_id, files.release, str(files.image), files.sha256, str(files.initrd or ""),
        files.initrd_sha256, ready.cmdline, judged.token, host.timestamp(),
    )  # fmt: skip
    notes = with_loaded(nothing, loaded)
    write_notes(host, notes)
    return notes


@contextmanager
def _opened(path: Path | None) -> Iterator[int | None]:
    if path is None:
        yield None
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse_changed(path: Path | None, descriptor: int | None, sha256: str) -> None:
    """What is loaded is what was judged: a package that is being installed may have replaced the file."""
    if descriptor is None:
        return
    with open(os.dup(descriptor), "rb") as file:
        found = hashlib.sha256(file.read()).hexdigest()
    if found != sha256:
        raise LivepatchError(
            Kind.BUSY,
            f"{path} changed while it was read; nothing was loaded.",
            remedy="Let the installation of packages end, then ask again.",
        )


def _crash_kernel_kept(host: Host, before: facts.Machine) -> None:
    after = read_flag(host.roots.sys / "kernel/kexec_crash_loaded")
    if before.crash_loaded and not after:
        raise LivepatchError(
            Kind.INTERNAL,
            "The kernel was loaded, but the crash kernel is gone: a crash of this host would leave no dump.",
            remedy="Load it again (systemctl restart kdump-tools or kdump).",
        )


def _absolute(name: str, value: str | None) -> Path:
    path = Path(value or "")
    if not path.is_absolute():
        raise LivepatchError(
            Kind.ARGUMENT,
            f"{name} is {value!r}, not an absolute path; nothing was changed.",
            remedy="Give one.",
        )
    return path


def _shown(judged: Judged) -> str | None:
    if judged.held:
        return judged.held.release
    return "an image of somebody else" if judged.ready.loaded_by else None


def _details(judged: Judged, loaded: Loaded | None) -> dict[str, Any]:
    files = judged.ready.files
    return {
        "kernel": {
            "release": files.release,
            "image": str(files.image),
            "sha256": files.sha256,
            "initrd": str(files.initrd) if files.initrd else None,
            "cmdline": loaded.cmdline if loaded else judged.ready.cmdline,
        },
        "checks": [check.document() for check in judged.checks if check.verdict is not CheckVerdict.PASS],
    }


def _not_unloaded(problem: OSError) -> LivepatchError:
    kind = Kind.PRIVILEGE if problem.errno == errno.EPERM else Kind.INTERNAL
    return LivepatchError(
        kind,
        f"The kernel did not forget the loaded image ({problem.strerror}); it is loaded still.",
        remedy="Run the minion or salt-call as root. Under kexec_load_disabled, or with no load left "
        "(kexec_load_limit_reboot), it stays until the next boot.",
    )
