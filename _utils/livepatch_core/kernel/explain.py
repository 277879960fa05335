"""Turn what the kernel answered into one word and one sentence.

The errno and what was read beforehand decide; the kernel's log lines are evidence: they tell apart what
shares an errno, and a line is only believed under an errno that it goes with. So `'X': unpatching
complete`, which the kernel prints when it cleans up after a refusal, is never taken for success.
Texts: kernel/module/main.c, kernel/module/{signing,version}.c, kernel/livepatch/{core,patch}.c,
security/lockdown/lockdown.c, of 5.10 to 6.12.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass

from livepatch_core.kernel.kmsg import Record
from livepatch_core.words import Kind

_QUOTED_MAX = 5
_WORTH_QUOTING = re.compile(
    r"livepatch|module|symbol|parameter|version magic|lockdown|Loading of|ELF|relocation|ftrace|ima:",
    re.IGNORECASE,
)
# Every first load of a foreign module logs two or three such lines, which explain nothing.
_NOT_WORTH_QUOTING = re.compile(r"taint")
_REFUSED = "the kernel refused the module and runs what it ran before (a taint flag may have been set)"
_REPORT = "see the kernel's log (dmesg), and report both"


@dataclass(frozen=True)
class _Rule:
    """What a log line means under these errnos (none: any); ``sentence`` takes the groups of the pattern."""

    errnos: tuple[int, ...]
    pattern: re.Pattern[str]
    kind: Kind
    sentence: str


def _rule(errnos: tuple[int, ...], pattern: str, kind: Kind, sentence: str) -> _Rule:
    return _Rule(errnos, re.compile(pattern), kind, sentence)


# Tried in this order on all lines, since the line that says most is not always the first.
_LOAD_RULES = (
    _rule(
        (),
        r"patch '(?P<patch>[^']+)' failed for module '(?P<module>[^']+)', refusing to load module",
        Kind.CONFLICT,
        "The patch {patch}, which is in force, patches {module} too and does not fit it, so the kernel does "
        "not let "
        "{module} in; go to a level that fits, or disable {patch}, and load it again",
    ),
    _rule(
        (),
        r"pre-patch callback failed for object '(?P<object>[^']+)'",
        Kind.STATE,
        "The patch's own check before patching {object} (its pre_patch callback) refused this system; "
        "its maker's notes say what it asks for",
    ),
    _rule(
        (errno.EINVAL, errno.ERANGE, errno.ENOSPC),
        r"(?:invalid for parameter `|too large for parameter `|parameter ')(?P<parameter>[^']+)'",
        Kind.ARGUMENT,
        "The value given for the module parameter {parameter} is not one it takes; correct it",
    ),
    _rule(
        (errno.EBUSY, errno.ENODEV, errno.EINVAL),
        r"failed to register ftrace handler for function '(?P<function>[^']+)' \((?P<code>-\d+)\)",
        Kind.CONFLICT,
        "Something else already redirects the function {function} (ftrace answered {code}): a kprobe with a "
        "post handler, "
        "another live-patching tool or a tracer; find it in tracefs' enabled_functions and the list of "
        "kprobes, and remove it",
    ),
    _rule(
        (errno.EBUSY, errno.ENODEV, errno.EINVAL),
        r"failed to find location for function '(?P<function>[^']+)'",
        Kind.SYMBOL,
        "The function {function} has no ftrace entry (notrace, or compiled without one), so it cannot be "
        "live-patched; "
        "patch its callers instead",
    ),
    _rule(
        (errno.EINVAL,),
        r"livepatch: symbol '(?P<symbol>[^']+)' not found in symbol table",
        Kind.SYMBOL,
        "The running kernel has no symbol {symbol}: the module was made for another build; take the one for "
        "this build",
    ),
    _rule(
        (errno.EINVAL,),
        r"unresolvable ambiguity for symbol '(?P<symbol>[^']+)'",
        Kind.SYMBOL,
        "The symbol {symbol} exists more than once and the module does not say which (sympos 0); "
        "rebuild the module with the position of the one it means",
    ),
    _rule(
        (errno.EINVAL,),
        r"symbol position (?P<position>\d+) for symbol '(?P<symbol>[^']+)'",
        Kind.SYMBOL,
        "The module means the symbol {symbol} number {position}, and the running kernel has not so many of "
        "them: "
        "the module was made for another build; take the one for this build",
    ),
    _rule(
        (errno.EINVAL,),
        r"Livepatch patch \((?P<name>[^)]*)\) is not compatible with the already installed livepatches",
        Kind.STATE,
        "A patch in force has changed system states that the new one does not carry, or carries in a lower "
        "version; "
        "disable the patches in force first, or load a level that carries them",
    ),
    _rule(
        (errno.EINVAL,),
        r"is not marked as a livepatch module",
        Kind.NOT_LIVEPATCH,
        "The module asks to patch but is not marked as a livepatch (modinfo livepatch=Y); its build is "
        "wrong: rebuild it",
    ),
    _rule(
        (errno.ENOEXEC, errno.EINVAL),
        r"livepatch support is disabled",
        Kind.UNSUPPORTED,
        "This kernel was built without live patching (CONFIG_LIVEPATCH); only a reboot into another kernel "
        "helps",
    ),
    _rule(
        (errno.ENOEXEC,),
        r"version magic '(?P<module>[^']*)' should be '(?P<kernel>[^']*)'",
        Kind.KERNEL_MISMATCH,
        "The module was built for a kernel of the kind '{module}', and this one is '{kernel}'; take the "
        "module for this build",
    ),
    _rule(
        (errno.ENOEXEC, errno.EINVAL),
        r"(?:disagrees about version of symbol|no symbol version for) (?P<symbol>\S+)",
        Kind.KERNEL_MISMATCH,
        "The module was built against another kernel: the symbol {symbol} has another version there; take "
        "the module for this build",
    ),
    _rule(
        (errno.ENOEXEC,),
        r"this_module section size must match",
        Kind.KERNEL_MISMATCH,
        "The module was built for a kernel with another struct module; take the module for this build",
    ),
    _rule(
        (errno.ENOENT, errno.EINVAL),
        r"Unknown symbol (?P<symbol>\S+) \(err (?P<code>-\d+)\)",
        Kind.DEPENDENCY,
        "The module needs the symbol {symbol}, which neither the kernel nor a loaded module offers to it; "
        "load the module that exports it first (modinfo's depends names it)",
    ),
    _rule(
        (errno.EPERM,),
        r"Lockdown: .*module",
        Kind.LOCKDOWN,
        "The kernel is locked down and takes only modules signed with a key it trusts; "
        "sign the module with such a key and enrol it",
    ),
    _rule(
        (errno.EACCES, errno.EPERM),
        r"impossible to appraise a module without a file descriptor",
        Kind.SIGNATURE,
        "The integrity policy (IMA) of this host judges modules by file and takes none from memory; "
        "let the kernel enforce module signatures instead (module.sig_enforce=1), which satisfies the policy",
    ),
    _rule(
        (errno.EKEYREJECTED, errno.ENOKEY, errno.ENOPKG, errno.EBADMSG),
        r"Loading of (?P<what>.+) is rejected",
        Kind.SIGNATURE,
        "The kernel enforces module signatures and rejected this one ({what}); sign it with a key the kernel "
        "trusts",
    ),
    _rule(
        (errno.ENOEXEC,),
        r"Invalid (?:ELF|module)|section header|Unknown rela relocation|Invalid relocation",
        Kind.MODULE_FORMAT,
        "The module file is damaged: the kernel cannot read it; fetch it again and compare its digest",
    ),
)

_SIGNATURE_SENTENCE = (
    "The kernel does not accept the module's signature; sign it with a key the kernel trusts"
)
# What an errno says when no line of the log says more (dmesg may be empty, or silenced by lockdown).
_LOAD_DEFAULTS = {
    errno.EBUSY: (
        Kind.BUSY,
        "Another transition or another load of a module of this name began meanwhile; wait until it has "
        "ended and try again",
    ),
    errno.EEXIST: (
        Kind.CONFLICT,
        "A module of this name is loaded already, perhaps one left over from a replaced or disabled patch; "
        "compare its build-id, and remove it (rmmod) if it is not in force",
    ),
    errno.EPERM: (
        Kind.PRIVILEGE,
        "Loading modules is not permitted: it needs root (CAP_SYS_MODULE), and kernel.modules_disabled must "
        "be 0; "
        "check both, and whether the kernel is locked down",
    ),
    errno.EACCES: (
        Kind.PRIVILEGE,
        "A security module of this host forbids loading modules; its log says which rule",
    ),
    errno.EKEYREJECTED: (Kind.SIGNATURE, _SIGNATURE_SENTENCE),
    errno.ENOKEY: (Kind.SIGNATURE, _SIGNATURE_SENTENCE),
    errno.ENOPKG: (Kind.SIGNATURE, _SIGNATURE_SENTENCE),
    errno.EBADMSG: (Kind.SIGNATURE, _SIGNATURE_SENTENCE),
    errno.ENOEXEC: (
        Kind.MODULE_FORMAT,
        "The kernel cannot use this file as a module: damaged, or made for another machine; compare its "
        "digest",
    ),
    errno.ENOENT: (
        Kind.DEPENDENCY,
        "The module needs a symbol that neither the kernel nor a loaded module offers; load the module that "
        "exports it first (modinfo's depends names it)",
    ),
    errno.ENOSYS: (
        Kind.UNSUPPORTED,
        "This kernel cannot load modules, or cannot live-patch on this machine; only a reboot into another "
        "kernel helps",
    ),
    errno.EOPNOTSUPP: (
        Kind.UNSUPPORTED,
        "This kernel cannot live-patch on this machine; only a reboot into another kernel helps",
    ),
}


def explain_load(
    error: OSError,
    records: Sequence[Record],
    *,
    transition: str | None,
    already_loaded: bool,
    ftrace_enabled: bool | None = None,
    lockdown: str | None = None,
) -> tuple[Kind, str]:
    """Why ``loading.init_module`` failed.

    records: the log since before the call (may be empty); transition: the patch that was in transition
    before it; already_loaded: a module of that name was; ftrace_enabled, lockdown ("none", "integrity",
    "confidentiality"): as the environment was read, None when it could not be.
    """
    code = error.errno or 0
    seen = _from_preflight(code, transition, already_loaded, ftrace_enabled)
    kind, sentence = seen or _from_log(code, records) or _from_errno(code, lockdown)
    return kind, _sentence(f"{sentence}; {_REFUSED}", error, records)


def _from_preflight(
    code: int, transition: str | None, already_loaded: bool, ftrace_enabled: bool | None
) -> tuple[Kind, str] | None:
    """EBUSY has four causes; three of them are known before the load."""
    if code == errno.EBUSY and transition is not None:
        return (
            Kind.BUSY,
            f"The patch {transition} is in transition, and the kernel takes one at a time; "
            "wait until it has ended or reverse it, then try again",
        )
    if code == errno.EBUSY and already_loaded:
        return (
            Kind.BUSY,
            "A module of this name is just being loaded or removed; wait until that has ended and try again",
        )
    if code in (errno.EBUSY, errno.ENODEV) and ftrace_enabled is False:
        return (
            Kind.FTRACE,
            "kernel.ftrace_enabled is 0, and live patching works through ftrace; set it to 1 and try again",
        )
    return None


def _from_log(code: int, records: Sequence[Record]) -> tuple[Kind, str] | None:
    for rule in _LOAD_RULES:
        if rule.errnos and code not in rule.errnos:
            continue
        for record in records:
            match = rule.pattern.search(record.text)
            if match is not None:
                return rule.kind, rule.sentence.format(**match.groupdict())
    return None


def _from_errno(code: int, lockdown: str | None) -> tuple[Kind, str]:
    if code == errno.EPERM and lockdown in ("integrity", "confidentiality"):
        return (
            Kind.LOCKDOWN,
            f"The kernel is locked down ({lockdown}) and takes only modules signed with a key it trusts; "
            "sign the module with such a key and enrol it",
        )
    return _LOAD_DEFAULTS.get(
        code,
        (
            Kind.INTERNAL,
            f"The kernel, or the module's own init function, gave up for a reason not known here; {_REPORT}",
        ),
    )


def explain_disable(
    error: OSError, records: Sequence[Record], *, patch: str, transition: str | None, value: bool = False
) -> tuple[Kind, str]:
    """Why writing ``value`` to ``enabled`` of ``patch`` failed (``control.write_enabled``); transition: the
    patch in transition before the write. The kernel has changed nothing in any of these cases."""
    verb = "enabled" if value else "disabled"
    holder = transition if transition is not None else "another one"
    answers = {
        errno.EBUSY: (
            Kind.BUSY,
            f"The patch {patch} was not {verb}: {holder} is in transition, and the kernel takes one at a "
            "time; "
            "wait until it has ended or reverse it, then try again",
        ),
        errno.EINVAL: (
            Kind.DRIFT,
            f"The kernel does not let {patch} be {verb} now: it is so already, or was disabled for good "
            "(load it anew "
            "after removing its module), or its maker's policy forbids it; read its state again before "
            "trying more",
        ),
        **_gone(patch, f"was not {verb}"),
        **_not_permitted(patch, f"was not {verb}"),
    }
    return _answer(answers, error, records, f"The patch {patch} was not {verb}")


def explain_force(
    error: OSError, records: Sequence[Record], *, patch: str, transition: str | None
) -> tuple[Kind, str]:
    """Why writing to ``force`` of ``patch`` failed (``control.write_force``): nothing was forced."""
    running = f"{transition} is" if transition is not None else "none is"
    answers = {
        errno.EINVAL: (
            Kind.ARGUMENT,
            f"Nothing was forced: only the patch in transition can be, and that is not {patch} ({running}); "
            "read the state again",
        ),
        **_gone(patch, "was not forced"),
        **_not_permitted(patch, "was not forced"),
    }
    return _answer(answers, error, records, f"The transition of {patch} was not forced")


def _gone(patch: str, what: str) -> dict[int, tuple[Kind, str]]:
    answer = (
        Kind.DRIFT,
        f"The patch {patch} {what}: the kernel does not list it any more, so it was disabled or replaced "
        "meanwhile; "
        "read the state again",
    )
    return {errno.ENOENT: answer, errno.ENODEV: answer}


def _not_permitted(name: str, what: str) -> dict[int, tuple[Kind, str]]:
    answer = (Kind.PRIVILEGE, f"{name} {what}: it needs root, in the host's own namespaces; run it so")
    return {errno.EPERM: answer, errno.EACCES: answer, errno.EROFS: answer}


def _answer(
    answers: dict[int, tuple[Kind, str]], error: OSError, records: Sequence[Record], otherwise: str
) -> tuple[Kind, str]:
    kind, sentence = answers.get(
        error.errno or 0, (Kind.INTERNAL, f"{otherwise} for a reason not known here; {_REPORT}")
    )
    return kind, _sentence(sentence, error, records)


def _sentence(sentence: str, error: OSError, records: Sequence[Record]) -> str:
    """With the errno's name, and what the kernel logged."""
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    lines = [
        record.text.rstrip(".")
        for record in records
        if _WORTH_QUOTING.search(record.text) and not _NOT_WORTH_QUOTING.search(record.text)
    ]
    logged = f" The kernel logged: {' | '.join(lines[-_QUOTED_MAX:])}." if lines else ""
    return f"{sentence} ({name}).{logged}"
