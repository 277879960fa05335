"""How often a name occurs in an object of the running kernel, from ``/proc/kallsyms``.

The names are readable whatever ``kptr_restrict`` says; only the addresses are hidden then.
"""

from __future__ import annotations

import os

from livepatch_core.kernel.roots import Roots

VMLINUX = "vmlinux"


class Kallsyms:
    """The text of ``/proc/kallsyms``: lines ``address type name``, for modules followed by a tab and
    ``[module]``.

    It has 100,000 lines and more, so it is only ever searched as one piece of bytes: a name costs 3 ms on an
    emulated CPU, where splitting the text once costs 60.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        # All of vmlinux comes before the first module (kernel/kallsyms.c, update_iter).
        self._modules = data.rfind(b"\n", 0, max(data.find(b"\t"), 0)) + 1

    def positions(self, object: str, name: str) -> int:
        """How many symbols of this name the object has; livepatch's positions are 1 to this, in file order.

        0 also when the object is a module that is not loaded. All types count, as they do for the kernel.
        """
        if object == VMLINUX:
            return self._data.count(f" {name}\n".encode())
        return self._data.count(f" {name}\t[{object}]\n".encode(), self._modules)


def read_kallsyms(roots: Roots) -> Kallsyms:
    """Raises OSError if there is no such file (CONFIG_KALLSYMS off: then livepatch is off too)."""
    # A seq_file hands out one page a read at most, whatever is asked for. Joining pages once costs a
    # hundredth of the reading; one growing buffer costs a third of it in moves and page faults.
    page = os.sysconf("SC_PAGE_SIZE")
    descriptor = os.open(roots.proc / "kallsyms", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return Kallsyms(b"".join(iter(lambda: os.read(descriptor, page), b"")))
    finally:
        os.close(descriptor)
