"""Reading the small files of sysfs and procfs, where a file may be missing, hidden or gone.

``None`` always means "the kernel did not say": there is no such file on this kernel, it vanished
between being listed and being read (ENODEV: kernfs removed it while it was open), or it may not be
read by this process. A reader that has to tell these apart does so by looking again, not by errno.
"""

from __future__ import annotations

import os
from pathlib import Path

# Every attribute read here is far below one page; sysfs itself never returns more than one.
_ATTRIBUTE_LIMIT = 65536


def read_bytes(path: str | Path) -> bytes | None:
    """The first read of a file as it is. One open, one read, one close: sysfs values are made by the first
    read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return os.read(descriptor, _ATTRIBUTE_LIMIT)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def read_text(path: str | Path) -> str | None:
    """The file's text without the surrounding white space."""
    data = read_bytes(path)
    return None if data is None else data.decode("utf-8", "replace").strip()


def read_int(path: str | Path) -> int | None:
    """A decimal number; None also for anything that is not one."""
    text = read_text(path)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        return None


# kstrtobool's output forms: sysfs attributes print 0/1, module parameters Y/N (kernel/params.c,
# param_get_bool).
_FLAGS = {"0": False, "1": True, "N": False, "Y": True}


def read_flag(path: str | Path) -> bool | None:
    """A boolean attribute; None for a value that is neither."""
    text = read_text(path)
    return None if text is None else _FLAGS.get(text)
