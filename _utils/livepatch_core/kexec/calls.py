"""The system calls: look, load, unload, leave. Nothing around them.

``kexec_file_load`` and never ``kexec_load``: the kernel itself reads and judges the image, which is the only
way that works under lockdown; a kernel that lacks it is refused with a remedy, not helped around.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys

# arch/*/entry/syscalls/*.tbl, arch/*/kernel/syscalls/*.tbl, include/uapi/asm-generic/unistd.h
_FILE_LOAD = {"x86_64": 320, "aarch64": 294, "riscv64": 294, "ppc64le": 382, "s390x": 381}
_UNLOAD, _NO_INITRD = 0x1, 0x4  # include/uapi/linux/kexec.h, KEXEC_FILE_*
_REBOOT_KEXEC = 0x45584543  # include/uapi/linux/reboot.h, LINUX_REBOOT_CMD_KEXEC
_NO_SUCH_FLAG = 0x4000_0000

_libc = ctypes.CDLL(None, use_errno=True)


def load(image: int, initrd: int | None, cmdline: str) -> None:
    """Load what the two file descriptors hold; whatever was loaded for the next boot is replaced, the crash
    kernel is not touched. Raises OSError with the kernel's errno: what was loaded before is then still so."""
    line = cmdline.encode() + b"\0"
    flags = 0 if initrd is not None else _NO_INITRD
    _call(image, -1 if initrd is None else initrd, line, flags)


def unload() -> None:
    """Forget the loaded image; also when there is none. Raises OSError."""
    _call(-1, -1, None, _UNLOAD)


def available() -> bool | None:
    """Whether this kernel has kexec_file_load; None when it does not let this process ask. Asked with a flag
    that does not exist: permission is looked at first, then flags (kernel/kexec_file.c)."""
    try:
        _call(-1, -1, None, _NO_SUCH_FLAG)
    except OSError as problem:
        return {errno.EINVAL: True, errno.ENOSYS: False}.get(problem.errno or 0)
    return True


def leave() -> None:
    """Start the loaded kernel now; nothing is stopped or unmounted, so call sync before. Returns only by
    OSError (EINVAL: nothing is loaded)."""
    ctypes.set_errno(0)
    _libc.reboot(ctypes.c_int(_REBOOT_KEXEC))
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), "reboot(LINUX_REBOOT_CMD_KEXEC)")


def _call(image: int, initrd: int, line: bytes | None, flags: int) -> None:
    number = _FILE_LOAD.get(platform.machine())
    if number is None or sys.maxsize <= 2**32:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), "kexec_file_load")
    ctypes.set_errno(0)
    result = _libc.syscall(
        ctypes.c_long(number),
        ctypes.c_int(image),
        ctypes.c_int(initrd),
        ctypes.c_ulong(len(line or b"")),
        ctypes.c_char_p(line),
        ctypes.c_ulong(flags),
    )
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "kexec_file_load")
