"""May this kernel be loaded and started? Every question has a name and an answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from livepatch_core.errors import LivepatchError
from livepatch_core.host.checks.check import Check, Question, named
from livepatch_core.kexec.facts import Files, Machine
from livepatch_core.words import CheckVerdict, Kind

ROOT = Question("root", Kind.PRIVILEGE)
SUPPORT = Question("kexec-support", Kind.UNSUPPORTED)
DISABLED = Question("kexec-disabled", Kind.FORBIDDEN)
LOADED = Question("image-loaded", Kind.CONFLICT)
CRASH = Question("crash-kernel", Kind.CONFLICT)
IMAGE = Question("image", Kind.UNSUPPORTED)
UNREADABLE = Question("image", Kind.DEPENDENCY)
RELEASE = Question("image-release", Kind.KERNEL_MISMATCH)
INITRD = Question("initrd", Kind.DEPENDENCY)
MODULES = Question("modules", Kind.DEPENDENCY)
LOCKDOWN, SIGNATURE = Question("signature", Kind.LOCKDOWN), Question("signature", Kind.SIGNATURE)
CMDLINE = Question("command-line", Kind.ARGUMENT)
MEMORY = Question("memory", Kind.HEALTH)
LIVEPATCH = Question("livepatch-support", Kind.UNSUPPORTED)
TOOL = Question("shutdown-tool", Kind.DEPENDENCY)

OVERRIDABLE = frozenset({LOADED.name, INITRD.name, MODULES.name, LIVEPATCH.name, MEMORY.name})

# kernel/kexec_file.c reads both files into memory, copies them into pages of their own, then frees the first.
COPIES = 2
MARGIN = 32 * 1024 * 1024  # page tables, purgatory, and what else asks for memory meanwhile


@dataclass(frozen=True)
class Ready:
    """What is judged. loaded_by: ``us`` or ``other``; None when nothing is loaded. no_initrd: the operator
    said that this kernel needs none. loads: how many times it will be loaded."""

    machine: Machine
    files: Files
    cmdline: str
    loaded_by: str | None
    no_initrd: bool = False
    loads: int = 1


def examine(ready: Ready, overrides: Iterable[str] = ()) -> tuple[Check, ...]:
    """Raises LivepatchError (argument) for an override that does not exist."""
    allowed = named(overrides, OVERRIDABLE)
    answers = (
        _root, _support, _disabled, _loaded, _crash, _image, _release, _initrd, _modules, _signature,
        _cmdline, _memory, _livepatch, _tool,
    )  # fmt: skip
    checks = (answer(ready) for answer in answers)
    return tuple(_override(check) if check.name in allowed else check for check in checks)


def refuse(checks: Iterable[Check], what: str) -> None:
    """Raise LivepatchError for the first check that refuses; what did not pass is in the evidence."""
    checks = tuple(checks)
    for check in checks:
        if check.refuses:
            raise LivepatchError(
                check.kind,
                f"{what} was refused by the check {check.name}: {check.reason}; nothing was changed.",
                remedy=check.remedy,
                check=check.name,
                checks=[one.document() for one in checks if one.verdict is not CheckVerdict.PASS],
            )


def _override(check: Check) -> Check:
    if not check.refuses:
        return check
    return replace(check, verdict=CheckVerdict.WARN, reason=f"{check.reason} (overridden)", decides=False)


def _root(ready: Ready) -> Check:
    if ready.machine.root:
        return ROOT.passed("runs as root")
    return ROOT.failed("only root may load a kernel", "Run the minion or salt-call as root.")


def _support(ready: Ready) -> Check:
    if ready.machine.file_load is None:
        return SUPPORT.unread(
            "whether this kernel has kexec_file_load could not be asked; the kernel will judge"
        )
    if not ready.machine.file_load:
        return SUPPORT.failed(
            "the running kernel has no kexec_file_load (CONFIG_KEXEC_FILE)",
            "Boot by way of the firmware (method reboot); a kernel with CONFIG_KEXEC_FILE need not.",
        )
    return SUPPORT.passed("the running kernel has kexec_file_load")


def _disabled(ready: Ready) -> Check:
    if ready.machine.disabled:
        return DISABLED.failed(
            "kernel.kexec_load_disabled is 1, and stays so until the next boot",
            "Boot by way of the firmware (method reboot); look for who sets the sysctl.",
        )
    limit = ready.machine.limit
    if limit is not None and 0 <= limit < ready.loads:
        return DISABLED.failed(
            f"kernel.kexec_load_limit_reboot is {limit}: no more loads are left in this boot, and "
            f"{ready.loads} are needed",
            "Boot by way of the firmware (method reboot).",
        )
    if ready.machine.disabled is None:
        return DISABLED.unread("kernel.kexec_load_disabled could not be read; the kernel will judge")
    return DISABLED.passed("loading a kernel is not disabled")


def _loaded(ready: Ready) -> Check:
    if ready.machine.loaded is None:
        return LOADED.unread("/sys/kernel/kexec_loaded could not be read")
    if ready.loaded_by == "other":
        return LOADED.failed(
            "an image is loaded already, and not by this project: what it is the kernel does not tell",
            "See who uses kexec on this host; override the check image-loaded to replace it.",
        )
    if ready.loaded_by == "us":
        return LOADED.passed("the image that is loaded is ours, and is replaced")
    return LOADED.passed("no image is loaded")


def _crash(ready: Ready) -> Check:
    if ready.machine.crash_loaded:
        return CRASH.passed("a crash kernel is loaded; it is left alone, and lives until this kernel ends")
    return CRASH.passed("no crash kernel is loaded")


def _image(ready: Ready) -> Check:
    files = ready.files
    if files.error:
        return UNREADABLE.failed(files.error, "Reinstall the kernel's package.")
    if files.described.unified:
        return IMAGE.failed(
            f"{files.image}: {files.described.problem}",
            "Install the kernel's plain image (vmlinuz) and initrd beside it, or use the method reboot.",
        )
    if files.described.problem:
        return IMAGE.failed(f"{files.image}: {files.described.problem}", "Reinstall the kernel's package.")
    return IMAGE.passed(f"{files.image} can be loaded by kexec")


def _release(ready: Ready) -> Check:
    said = ready.files.described.release
    if not said:
        return RELEASE.unread(f"{ready.files.image} does not say which release it is")
    if said != ready.files.release:
        return RELEASE.failed(
            f"{ready.files.image} is a kernel {said}, not {ready.files.release}",
            "Reinstall the kernel's package.",
        )
    return RELEASE.passed(f"the image is a kernel {said}")


def _initrd(ready: Ready) -> Check:
    files = ready.files
    if files.initrd is not None:
        return INITRD.passed(f"its initrd is {files.initrd}")
    if ready.no_initrd:
        return INITRD.warned("started without an initrd, as asked")
    return INITRD.failed(
        f"kernel {files.release} has no initrd: it may not find its root",
        "Make one (update-initramfs -c or dracut), or say initrd=False for a kernel that needs none.",
    )


def _modules(ready: Ready) -> Check:
    if ready.files.modules:
        return MODULES.passed("its modules are installed")
    return MODULES.failed(
        f"there is no directory of modules for {ready.files.release}", "Install the kernel's whole package."
    )


def _signature(ready: Ready) -> Check:
    machine, described = ready.machine, ready.files.described
    locked = machine.lockdown not in (None, "none")
    question = LOCKDOWN if locked else SIGNATURE
    demand = (
        f"lockdown={machine.lockdown}" if locked else "CONFIG_KEXEC_SIG_FORCE" if machine.sig_force else ""
    )
    remedy = "Start a kernel that this one trusts, or boot by way of the firmware (method reboot)."
    if not demand:
        if machine.lockdown is None or machine.sig_force is None:
            return question.unread("whether this kernel asks for signed images could not be read")
        return question.passed("nothing here asks for a signed image")
    if described.signed is None:
        return question.unread(
            f"images for {machine.machine} are not looked into, and {demand} asks for a signed one; the "
            "kernel will judge"
        )
    if not described.signed:
        return question.failed(f"the image is not signed, and {demand} asks for it", remedy)
    signer = described.signature.signer if described.signature else "a signature that could not be read"
    if ready.files.trusted is False:
        return question.failed(
            f"the image is signed by {signer}, a key that this kernel does not have, and {demand} asks "
            "for one it has",
            remedy,
        )
    if ready.files.trusted:
        return question.passed(f"signed by {signer}, a key that this kernel has")
    return question.unread(f"signed by {signer}, and {demand} asks for a key it has; the kernel will judge")


def _cmdline(ready: Ready) -> Check:
    size, limit = len(ready.cmdline.encode()), ready.files.described.cmdline_limit
    if "\0" in ready.cmdline or "\n" in ready.cmdline:
        return CMDLINE.failed("the command line has a line end or a NUL in it", "Give one line.")
    if not ready.cmdline.strip():
        return CMDLINE.failed("the running command line could not be read", "Give one: cmdline=...")
    if limit and size > limit:
        return CMDLINE.failed(
            f"the command line has {size} bytes, the kernel takes {limit}", "Give a shorter one: cmdline=..."
        )
    return CMDLINE.passed(f"the command line has {size} bytes")


def _memory(ready: Ready) -> Check:
    available, files = ready.machine.available, ready.files
    needed = COPIES * (files.described.size + files.initrd_size) + MARGIN
    text = f"{_mib(needed)} MiB are needed to load it"
    if available is None:
        return MEMORY.unread(f"{text}; how much is available could not be read")
    if available < needed:
        return MEMORY.failed(
            f"{text}, {_mib(available)} MiB are available", "Free memory on this host first."
        )
    return MEMORY.passed(f"{text}, {_mib(available)} MiB are available")


def _livepatch(ready: Ready) -> Check:
    release = ready.files.release
    if ready.files.livepatch is None:
        return LIVEPATCH.warned(
            f"the configuration of {release} is not here: it may have no livepatch support"
        )
    if not ready.files.livepatch:
        return LIVEPATCH.failed(
            f"{release} was built without livepatch support: its next fix would mean booting again",
            "Choose another kernel, or override the check livepatch-support.",
        )
    return LIVEPATCH.passed(f"{release} supports livepatch")


def _tool(ready: Ready) -> Check:
    if not ready.machine.systemd:
        return TOOL.passed("PID 1 is not systemd: the kernel is started directly")
    if not ready.machine.tool:
        return TOOL.warned(
            "/sbin/kexec is not installed: an old systemd then boots by way of the firmware",
            "Install kexec-tools.",
        )
    return TOOL.passed("systemd stops services and file systems, then starts the kernel")


def _mib(size: int) -> int:
    return -(-size // 2**20)
