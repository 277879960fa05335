"""Whether the kernel has the key that a module was signed with.

The names in ``/proc/keys`` cannot tell: a signature names its key by serial number and issuer, the list by
subject key id. So the kernel is asked, with the look-up that it does for a module itself.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import re
from collections.abc import Callable

from livepatch_core.kernel.roots import Roots

# security/keys/proc.c, proc_keys_show(): serial flags usage expiry permissions uid gid type description;
# keyring_describe() ends a keyring's with ": <number of keys>" or ": empty".
_KEYRING = re.compile(
    r"^(?P<serial>[0-9a-f]{8}) \S+ +\d+ +\S+ [0-9a-f]{8} +-?\d+ +-?\d+ keyring +(?P<name>.*): (?:\d+|empty)$",
    re.MULTILINE,
)

# mod_verify_sig() asks for the secondary keyring, into which the kernel links the builtin one
# (certs/system_keyring.c).
_TRUSTED = (".builtin_trusted_keys", ".secondary_trusted_keys")
# The machine owner's keys count only where the kernel links .machine into the secondary keyring, and are then
# found through that. The firmware's db: distributions patch the kernel to accept it, mainline does not.
_PERHAPS = (".machine", ".platform")

_KEYCTL_SEARCH = 10  # include/uapi/linux/keyctl.h
_KEYCTL = {"x86_64": 250, "ppc64le": 271, "s390x": 280}
_KEYCTL_GENERIC = 219  # include/uapi/asm-generic/unistd.h: aarch64, riscv64, loongarch64
# No key has it: an identifier is made of a serial number and a name, or of a hash.
_NOBODY = "00"


def parse_keyrings(text: str) -> dict[str, int]:
    """Name -> serial of the system keyrings in ``/proc/keys`` that can matter for a module."""
    rings = {found["name"]: int(found["serial"], 16) for found in _KEYRING.finditer(text)}
    return {name: serial for name, serial in rings.items() if name in _TRUSTED + _PERHAPS}


def finds(
    roots: Roots, identifier: str, search: Callable[[int, str], bool | None] | None = None
) -> bool | None:
    """Whether the kernel finds the key that made a signature.

    identifier: lower-case hex of what the kernel looks for: for a signature that names issuer and serial
    number the INTEGER's content followed by the content of the issuer's Name (asymmetric_key_generate_id),
    else the subject key identifier. search: answers for one keyring, by default the running kernel's. True:
    a keyring for modules has it, by itself or through one linked into it. False: none has it, nor has the
    firmware's. None: cannot be asked, or only the firmware's keyring has it (whether that counts is the
    distribution's choice). Finding the key does not verify the signature.
    """
    ask = search or search_keyring
    try:
        rings = parse_keyrings((roots.proc / "keys").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    answers = {name: ask(serial, identifier) for name, serial in rings.items()}
    if any(answers.get(name) for name in _TRUSTED):
        return True
    complete = _TRUSTED[0] in answers and all(answer is False for answer in answers.values())
    return False if complete else None


def search_keyring(keyring: int, identifier: str) -> bool | None:
    """Whether a running kernel's keyring, or one linked into it, has the key; None if it may not be searched.

    The system's keys may be found but not used by root, so that a hit is EACCES and a miss is ENOKEY;
    EACCES is also the answer for a keyring that may not be searched at all, which a search for nobody's key
    tells apart.
    """
    found = _search(keyring, identifier)
    if found in (0, errno.EACCES) and _search(keyring, _NOBODY) == errno.ENOKEY:
        return True
    return False if found == errno.ENOKEY else None


def _search(keyring: int, identifier: str) -> int:
    """0 or the errno. ``ex:`` asks for an exact match of any of a key's ids (asymmetric_type.c)."""
    wanted = f"ex:{identifier}".encode()
    value, error = _keyctl(_KEYCTL_SEARCH, ctypes.c_long(keyring), b"asymmetric", wanted, ctypes.c_long(0))
    return error if value < 0 else 0


def _keyctl(operation: int, *arguments: object) -> tuple[int, int]:
    """What keyctl(2) returned, and errno; libc has no wrapper for it."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = _KEYCTL.get(platform.machine(), _KEYCTL_GENERIC)
    value: int = libc.syscall(ctypes.c_long(number), ctypes.c_long(operation), *arguments)
    return value, ctypes.get_errno()
