"""Why the builder did not build: a closed set of reasons, finer than the host's kinds, and its warnings.

docs/build-refusals.md has one paragraph for each word; a test holds the two lists equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind, Word


class Refusal(Word):
    """The one reason that a build ended without a module."""

    # the diff itself
    DIFF_SYNTAX = "diff-syntax"
    DOES_NOT_APPLY = "does-not-apply"
    NOTHING_CHANGED = "nothing-changed"
    UNSUPPORTED_FILE = "unsupported-file"  # assembler, vdso, Kconfig, Makefile, early boot code
    NEW_FILE = "new-file"
    # the file in this configuration
    NOT_BUILT = "not-built"
    INCLUDED_SOURCE = "included-source"
    FAN_OUT = "fan-out"
    # compiling
    ORIGINAL_COMPILE = "original-compile"
    PATCHED_COMPILE = "patched-compile"
    # what cannot be changed in a running kernel
    IMAGE_DIFFERS = "image-differs"
    INIT_CODE = "init-code"
    NOTRACE = "notrace"
    CALLBACK_GONE = "callback-gone"
    DATA_CHANGED = "data-changed"
    CONSTANT_CHANGED = "constant-changed"
    STATIC_AMBIGUOUS = "static-ambiguous"
    LAYOUT = "layout"
    NEW_EXPORT = "new-export"
    NEW_PARAMETER = "new-parameter"
    NEW_INITCALL = "new-initcall"
    NEW_TRACEPOINT = "new-tracepoint"
    NEW_REGISTRATION = "new-registration"
    MODULE_STATIC_KEY = "module-static-key"
    MODULE_ALTERNATIVE = "module-alternative"
    # names
    SYMBOL_UNRESOLVED = "symbol-unresolved"
    SYMBOL_AMBIGUOUS = "symbol-ambiguous"
    # what the extraction does not know
    SECTION_UNKNOWN = "section-unknown"
    RELOCATION_UNKNOWN = "relocation-unknown"
    HOOKS = "hooks"
    # the module
    MODPOST = "modpost"
    VERIFY = "verify"
    SIGNING = "signing"
    # the environment
    TOOLCHAIN = "toolchain"
    SOURCE = "source"
    KERNEL_IMAGE = "kernel-image"
    OBJECT_FORMAT = "object-format"
    ARGUMENT = "argument"


_KINDS = {
    Refusal.TOOLCHAIN: Kind.DEPENDENCY,
    Refusal.SOURCE: Kind.DEPENDENCY,
    Refusal.KERNEL_IMAGE: Kind.DEPENDENCY,
    Refusal.SIGNING: Kind.SIGNATURE,
    Refusal.IMAGE_DIFFERS: Kind.KERNEL_MISMATCH,
    Refusal.SYMBOL_UNRESOLVED: Kind.SYMBOL,
    Refusal.SYMBOL_AMBIGUOUS: Kind.SYMBOL,
    Refusal.OBJECT_FORMAT: Kind.MODULE_FORMAT,
    Refusal.ARGUMENT: Kind.ARGUMENT,
    Refusal.VERIFY: Kind.INTERNAL,
}


class Refused(LivepatchError):
    """The builder declined; nothing was written but the archive of what it looked at."""

    def __init__(
        self,
        refusal: Refusal,
        message: str,
        *,
        remedy: str = "",
        file: str = "",
        function: str = "",
        **evidence: Any,
    ) -> None:
        where = (
            f"{file}: {function}: "
            if file and function
            else f"{file or function}: "
            if file or function
            else ""
        )
        super().__init__(_KINDS.get(refusal, Kind.UNSUPPORTED), where + message, remedy=remedy, **evidence)
        self.refusal = refusal
        self.file = file
        self.function = function


class Notice(Word):
    """What a successful build did that its author should know."""

    HUNK_MOVED = "hunk-moved"
    TRACEPOINT_DROPPED = "tracepoint-dropped"
    DEBUG_SITE_DROPPED = "debug-site-dropped"
    STATIC_CALL_INDIRECT = "static-call-indirect"
    CALLER_PROMOTED = "caller-promoted"
    CONSTANT_PROMOTED = "constant-promoted"
    FUNCTION_GONE = "function-gone"
    OLD_CODE_ACCEPTED = "old-code-accepted"
    STATIC_LOST = "static-lost"
    DECLARATION_KEPT = "declaration-kept"
    LAYOUT_ACCEPTED = "layout-accepted"
    INIT_ACCEPTED = "init-accepted"
    INIT_PAST = "init-past"
    UNIT_UNCHANGED = "unit-unchanged"
    UNIT_NOT_BUILT = "unit-not-built"


@dataclass(frozen=True)
class Warning_:
    """One notice: which file and symbol it is about, in a sentence."""

    notice: Notice
    file: str
    subject: str
    text: str
