"""Hand a module to the kernel, take it out again: the two system calls, nothing around them.

Why ``init_module(2)`` and not ``finit_module(2)``: the caller has digested and read one buffer, and
exactly that buffer must be what the kernel copies. ``finit_module`` reads a file a second time, and a
writer in place wins between the check and the load; a sealed memfd reopened read-only closes that gap
too, but needs an executable-memfd policy that allows it (``vm.memfd_noexec``, 6.3 and newer), a mounted
/proc and one more copy of the image, and buys nothing: integrity policies that demand a file (IMA
appraisal of modules) want its signature in an extended attribute, which a memfd has not either.
An appended signature is checked in both ways alike (kernel/module/signing.c, called from load_module).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from dataclasses import dataclass

from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind


@dataclass(frozen=True)
class _Numbers:
    init_module: int
    delete_module: int


# arch/*/entry/syscalls/*.tbl and include/uapi/asm-generic/unistd.h; these numbers are kernel ABI. The C
# library has no documented wrapper for either call, hence syscall(2).
_NUMBERS = {
    "x86_64": _Numbers(175, 176),
    "aarch64": _Numbers(105, 106),
    "ppc64le": _Numbers(128, 129),
    "s390x": _Numbers(128, 129),
}

_libc = ctypes.CDLL(None, use_errno=True)


def _numbers(machine: str, is_64bit: bool) -> _Numbers:
    """The numbers for ``machine`` (as in ``uname -m``); a 32-bit process would mean other calls by them."""
    if machine not in _NUMBERS or not is_64bit:
        raise LivepatchError(
            Kind.UNSUPPORTED,
            f"Loading modules from a {64 if is_64bit else 32}-bit process on {machine} is not known to this "
            "library; "
            "nothing was changed.",
            remedy=f"Run it with a 64-bit Python on one of {', '.join(sorted(_NUMBERS))}.",
        )
    return _NUMBERS[machine]


def _call(number: int, what: str, *arguments: object) -> None:
    """syscall(2); ctypes drops the interpreter lock meanwhile, so other threads keep answering."""
    ctypes.set_errno(0)
    if _libc.syscall(ctypes.c_long(number), *arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)


def init_module(image: bytes, params: str = "") -> None:
    """Load the (decompressed) module ``image`` with the module parameters ``params``.

    The kernel copies straight out of ``image``, which is immutable: what was checked is what is loaded.
    Return means that the module's init function succeeded: for a livepatch the transition has *started*.
    Raises OSError with the kernel's errno (``explain.explain_load`` turns it into a sentence), with EINTR
    when a signal ended the wait for another load of the same name: nothing was loaded then.
    """
    if "\0" in params:
        raise LivepatchError(Kind.ARGUMENT, "A module parameter holds a NUL character; nothing was loaded.")
    numbers = _numbers(platform.machine(), sys.maxsize > 2**32)
    _call(
        numbers.init_module,
        "init_module",
        ctypes.c_char_p(image),
        ctypes.c_ulong(len(image)),
        ctypes.c_char_p(params.encode()),
    )


def delete_module(name: str) -> None:
    """Remove the module ``name``; never waits for its users (O_NONBLOCK), never forces.

    Raises OSError: EAGAIN while something holds a reference, EBUSY while the module is being loaded or
    removed or has no exit function, ENOENT when it is not loaded.
    """
    if "\0" in name:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    numbers = _numbers(platform.machine(), sys.maxsize > 2**32)
    _call(
        numbers.delete_module,
        name,
        ctypes.c_char_p(os.fsencode(name)),
        ctypes.c_uint(os.O_NONBLOCK),
    )
