"""Was this module file made for this kernel, and will the kernel take it?"""

from __future__ import annotations

from livepatch_core.host.checks.check import Check, Question
from livepatch_core.host.facts import VMLINUX, Facts, TargetModule
from livepatch_core.modulefile.model import Function, ModuleFile
from livepatch_core.words import Kind

LIVEPATCH = Question("livepatch", Kind.NOT_LIVEPATCH)
IDENTITY = Question("identity", Kind.MODULE_FORMAT)
KERNEL_BUILD = Question("kernel-build", Kind.KERNEL_MISMATCH)
TARGET_BUILD = Question("target-build", Kind.KERNEL_MISMATCH)
VERMAGIC = Question("vermagic", Kind.KERNEL_MISMATCH)
SYMBOLS = Question("symbols", Kind.SYMBOL)
DEPENDENCIES = Question("dependencies", Kind.DEPENDENCY)
SIGNATURE, LOCKDOWN = Question("signature", Kind.SIGNATURE), Question("signature", Kind.LOCKDOWN)


def examine(module: ModuleFile, facts: Facts, require_signature: bool) -> list[Check]:
    return [
        _livepatch(module),
        _identity(module),
        _kernel_build(module, facts),
        _vermagic(module, facts),
        *(_target_build(module, target) for _, target in sorted(facts.targets.items())),
        *_symbols(module, facts),
        _dependencies(module, facts),
        _signature(module, facts, require_signature),
    ]


def _livepatch(module: ModuleFile) -> Check:
    if not module.livepatch:
        return LIVEPATCH.failed(
            f"module {module.name} is not marked as a livepatch (modinfo livepatch=Y)",
            "Publish the module that the builder made.",
        )
    if not any(one.functions for one in module.objects):
        return LIVEPATCH.undecided(
            f"what module {module.name} patches could not be read from it",
            "Rebuild it with a builder whose tables are known.",
        )
    objects = ", ".join(f"{one.name} ({', '.join(f.name for f in one.functions)})" for one in module.objects)
    return LIVEPATCH.passed(f"patches {objects}")


def _identity(module: ModuleFile) -> Check:
    """What is loaded is told from another of its name by build-id alone: the kernel shows no digest."""
    if module.build_id is None:
        return IDENTITY.failed(
            f"module {module.name} carries no build-id, so what is loaded could not be told from another of "
            "its name",
            "Link it with --build-id, as the kernel's own build does.",
        )
    return IDENTITY.passed(f"build-id {module.build_id}")


def _kernel_build(module: ModuleFile, facts: Facts) -> Check:
    """The kernel does not ask this: a module of one build loads into another whose symbol CRCs agree."""
    running, recorded = facts.kernel.identity, module.built_for.get(VMLINUX)
    if running.build_id is None:
        return KERNEL_BUILD.undecided(
            "the build-id of the running kernel could not be read", "See /sys/kernel/notes."
        )
    if recorded is None:
        return KERNEL_BUILD.undecided(
            f"module {module.name} does not record the kernel build it was proven against",
            "Build it with livepatch_build, or override the check kernel-build by name if you know its "
            "origin.",
        )
    if recorded != running.build_id:
        return KERNEL_BUILD.failed(
            f"module {module.name} was proven against kernel build {recorded} "
            f"({module.built_for_release or module.release}), but {running.build_id} ({running.release}) "
            "is running",
            "Build and publish the level for this kernel build.",
        )
    return KERNEL_BUILD.passed(f"proven against this kernel build, {recorded}")


def _vermagic(module: ModuleFile, facts: Facts) -> Check:
    """With symbol versions the kernel compares only the flags; the release is left to us."""
    release, flags = facts.kernel.identity.release, " ".join(module.vermagic.split()[1:])
    if module.release != release:
        return VERMAGIC.failed(
            f"module {module.name} is for release {module.release}, but {release} is running",
            "Publish the module under the release it was built for.",
        )
    if facts.kernel_flags is None:
        return VERMAGIC.unread("no module of the running kernel is installed to compare flags with")
    if flags != facts.kernel_flags:
        return VERMAGIC.failed(
            f"module {module.name} was built with flags '{flags}', the kernel's modules with "
            f"'{facts.kernel_flags}'",
            "Build it with the configuration of the running kernel.",
        )
    return VERMAGIC.passed(f"release {release}, the same flags")


def _target_build(module: ModuleFile, target: TargetModule) -> Check:
    recorded, name = module.built_for.get(target.name), target.name
    where = f"module {name}, which is loaded," if target.loaded else f"module {name} in {target.file}"
    if target.file is None and not target.loaded:
        return TARGET_BUILD.warned(f"module {name} is neither loaded nor installed; the patch waits for it")
    if target.error:
        return TARGET_BUILD.undecided(f"{where} could not be read: {target.error}", "See the file.")
    if recorded is None:
        return TARGET_BUILD.undecided(
            f"module {module.name} does not record the build of {name} it was proven against",
            "Build it with livepatch_build, or override the check target-build by name if you know its "
            "origin.",
        )
    if target.build_id is None:
        return TARGET_BUILD.undecided(f"{where} carries no build-id", "Rebuild that module with one.")
    if target.build_id != recorded:
        return TARGET_BUILD.failed(
            f"{where} is build {target.build_id}, but {module.name} was proven against {recorded}",
            "Build the level against the module that this host uses (from DKMS, or upgraded on disk?).",
        )
    return TARGET_BUILD.passed(f"{where} is the build it was proven against")


def _symbols(module: ModuleFile, facts: Facts) -> list[Check]:
    asked = [(one.name, function) for one in module.objects for function in one.functions]
    answers = [_symbol(obj, function, facts) for obj, function in asked if obj not in facts.proven]
    wrong = [answer for answer in answers if answer is not None]
    counted = (
        f"{len(answers)} counted now, {len(asked) - len(answers)} verified in this very build by the builder"
    )
    return wrong or [
        SYMBOLS.passed(f"all {len(asked)} functions are where the module expects them ({counted})")
    ]


def _symbol(obj: str, function: Function, facts: Facts) -> Check | None:
    """None: it is where it is expected, or its module is not installed and nothing can be said."""
    target, count = facts.targets.get(obj), facts.positions.get((obj, function.name))
    late = target is not None and not target.loaded
    if count is None:
        if target is not None and late and target.file is None:
            return None
        return SYMBOLS.undecided(
            f"function {function.name} of {obj} could not be looked up", "See the module's file."
        )
    found = (
        f"function {function.name} exists {count} times in {obj}"
        if count
        else f"{obj} has no function {function.name}"
    )
    then = f"the kernel would refuse to load {obj} later" if late else "the kernel would refuse the patch"
    if count == 0:
        return SYMBOLS.failed(f"{found}: {then}", "Build the level for this kernel.")
    if function.sympos == 0 and count > 1:
        return SYMBOLS.failed(
            f"{found}, and the module names no position: {then}", "Build it with the position."
        )
    if function.sympos > count:
        return SYMBOLS.failed(f"{found}, not {function.sympos}: {then}", "Build the level for this kernel.")
    return None


def _dependencies(module: ModuleFile, facts: Facts) -> Check:
    missing = [name for name in module.depends if name.replace("-", "_") not in facts.kernel.modules]
    if missing:
        names = " ".join(missing)
        return DEPENDENCIES.failed(
            f"module {module.name} needs {names}, not loaded on this host",
            f"Load it first: modprobe {names}.",
        )
    return DEPENDENCIES.passed("every module it needs is loaded")


def _signature(module: ModuleFile, facts: Facts, required: bool) -> Check:
    environment, signature = facts.kernel.environment, module.signature
    locked = environment.lockdown not in (None, "none")
    question = LOCKDOWN if locked and not environment.sig_enforce else SIGNATURE
    demand = (
        "module.sig_enforce=1"
        if environment.sig_enforce
        else f"lockdown={environment.lockdown}"
        if locked
        else ""
    )
    demand = demand or ("livepatch:require_signature" if required else "")
    remedy = "Sign the module with a key that this kernel trusts."
    if signature is None:
        if demand:
            return question.failed(f"module {module.name} is not signed, and {demand} asks for it", remedy)
        if environment.sig_enforce is None or environment.lockdown is None:
            return question.unread("not signed; whether this kernel asks for that could not be read")
        return question.warned("not signed; nothing here asks for a signature, the kernel is tainted (E)")
    said = f"signed by {signature.signer or signature.key_id}"
    if facts.trusted is True:
        return question.passed(f"{said}, a key that this kernel trusts")
    if facts.trusted is False:
        return (
            question.failed(
                f"{said}, a key that this kernel does not have, and {demand} asks for one it has", remedy
            )
            if demand
            else question.warned(f"{said}, a key that this kernel does not have")
        )
    unknown = f"{said}; whether this kernel trusts that key cannot be seen"
    return (
        question.undecided(unknown, remedy)
        if required
        else question.unread(f"{unknown}, the kernel will judge")
    )
