"""The GNU build-id inside a blob of ELF notes (``/sys/kernel/notes``, ``/sys/module/M/notes/*``)."""

from __future__ import annotations

import struct

_GNU = b"GNU\0"
_BUILD_ID = 3  # NT_GNU_BUILD_ID, binutils include/elf/common.h
_HEADER = 12  # three 32-bit words: name size, descriptor size, type
# The linkers write 8 (xxhash), 16 (md5, uuid) or 20 (sha1) bytes; ld --build-id=0xHEX takes any length.
_LONGEST = 64


def build_id(notes: bytes) -> str | None:
    """The build-id as lower-case hex, or None if there is none or the notes are malformed. Never raises.

    Notes are in the byte order of the machine they come from. Both are tried: a size read in the wrong
    order is at least 2**24 and cannot fit, so a blob is never understood in two ways.
    """
    return _find(notes, "<") or _find(notes, ">")


def _find(notes: bytes, order: str) -> str | None:
    offset = 0
    while offset + _HEADER <= len(notes):
        name_size, size, kind = struct.unpack_from(order + "III", notes, offset)
        name = offset + _HEADER
        descriptor = name + _aligned(name_size)
        if descriptor + size > len(notes):
            return None
        if kind == _BUILD_ID and notes[name : name + name_size] == _GNU and 0 < size <= _LONGEST:
            return notes[descriptor : descriptor + size].hex()
        offset = descriptor + _aligned(size)
    return None


def _aligned(size: int) -> int:
    # The kernel collects its notes at 4-byte alignment on every architecture
    # (include/asm-generic/vmlinux.lds.h, NOTES).
    return (size + 3) & ~3
