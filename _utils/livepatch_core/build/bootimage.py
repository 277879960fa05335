"""The kernel inside a bzImage: the ELF file that the boot loader's image unpacks to, whole and unrelocated.

Documentation/arch/x86/boot.rst gives the header fields. What is unpacked is vmlinux after ``objcopy -S``:
every allocated section at its link address, no symbol table (kallsyms.py finds the names).
"""

from __future__ import annotations

import gzip
import lzma
import struct
import subprocess
import zlib

from livepatch_core.build.refusals import Refusal, Refused

IMAGE_LIMIT = 512 << 20  # bytes; Debian's largest so far unpacks to 66 MB


def _unreadable(why: str) -> Refused:
    return Refused(
        Refusal.KERNEL_IMAGE,
        f"The kernel image cannot be unpacked: {why}.",
        remedy="Give the vmlinuz of the target kernel, or its uncompressed vmlinux.",
    )


def payload(image: bytes) -> bytes:
    """The compressed kernel inside a bzImage."""
    if len(image) < 0x260 or image[0x202:0x206] < b"\x08\x02" or image[0x1FE:0x200] != b"\x55\xaa":
        raise _unreadable("it is not a bzImage with boot protocol 2.08 or newer")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    if start + length > len(image):
        raise _unreadable("its payload reaches past the end of the file")
    return image[start : start + length]


def _tool(command: list[str], data: bytes) -> bytes:
    """The standard library has neither zstd (before Python 3.14) nor lz4, so their tools do it."""
    try:
        done = subprocess.run(command, input=data, capture_output=True, check=False)
    except FileNotFoundError:
        raise _unreadable(
            f"it is compressed with {command[0]} and the {command[0]} tool is not installed"
        ) from None
    if done.returncode:
        raise _unreadable(f"{command[0]}: " + done.stderr.decode("utf-8", "replace").strip())
    return done.stdout


def decompress(data: bytes) -> bytes:
    """The kernel's ELF file from its payload; the last four bytes of a payload are its size, not data."""
    try:
        if data[:6] == b"\xfd7zXZ\0":
            out = lzma.LZMADecompressor(memlimit=IMAGE_LIMIT).decompress(data, IMAGE_LIMIT)
        elif data[:2] == b"\x1f\x8b":
            out = zlib.decompressobj(31).decompress(data, IMAGE_LIMIT)
        elif data[:4] == b"\x28\xb5\x2f\xfd":
            out = _tool(["zstd", "-dcq", "-M512MB"], data[:-4])
        elif data[:4] == b"\x02\x21\x4c\x18":
            out = _tool(["lz4", "-dcq"], data[:-4])
        else:
            raise _unreadable("its compression is not xz, gzip, zstd or lz4")
    except (lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise _unreadable(str(error)) from None
    return out


def kernel_elf(image: bytes) -> bytes:
    """vmlinux from a bzImage; an ELF file is returned as it is."""
    if image[:4] == b"\x7fELF":
        return image
    out = decompress(payload(image))
    if out[:4] != b"\x7fELF":
        raise _unreadable("what it unpacks to is not an ELF file")
    return out
