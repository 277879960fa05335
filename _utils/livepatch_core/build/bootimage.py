"""The kernel inside a bzImage: the ELF file that the boot loader's image unpacks to, whole and unrelocated.

Documentation/arch/x86/boot.rst gives the header fields. What is unpacked is vmlinux after ``objcopy -S``:
every allocated section at its link address, no symbol table (kallsyms.py finds the names).
"""

from __future__ import annotations

import lzma
import struct
import subprocess
import tempfile
import zlib

from livepatch_core.build.refusals import Refusal, Refused

IMAGE_LIMIT = 256 << 20  # bytes; Debian's largest so far unpacks to 66 MB


def _unreadable(why: str) -> Refused:
    return Refused(
        Refusal.KERNEL_IMAGE,
        f"The kernel image cannot be unpacked: {why}.",
        remedy="Give the vmlinuz of the target kernel, or its uncompressed vmlinux.",
    )


def payload(image: bytes) -> bytes:
    """The compressed kernel inside a bzImage."""
    if len(image) < 0x260 or image[0x202:0x206] != b"HdrS" or image[0x206:0x208][::-1] < b"\x02\x08":
        raise _unreadable("it is not a bzImage with boot protocol 2.08 or newer")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    if start + length > len(image):
        raise _unreadable("its payload reaches past the end of the file")
    return image[start : start + length]


def _tool(command: list[str], data: bytes) -> bytes:
    """The standard library has neither zstd (before Python 3.14) nor lz4, so their tools do it."""
    with tempfile.TemporaryFile() as packed, tempfile.TemporaryFile() as errors:
        packed.write(data)
        packed.seek(0)
        try:
            tool = subprocess.Popen(command, stdin=packed, stdout=subprocess.PIPE, stderr=errors)
        except FileNotFoundError:
            raise _unreadable(
                f"it is compressed with {command[0]} and the {command[0]} tool is not installed"
            ) from None
        with tool:
            assert tool.stdout is not None
            out = tool.stdout.read(IMAGE_LIMIT + 1)
            if len(out) > IMAGE_LIMIT:
                tool.kill()
                raise _too_large()
        errors.seek(0)
        if tool.returncode:
            said = errors.read(1000).decode("utf-8", "replace").strip()
            raise _unreadable(f"{command[0]}: {said}")
    return out


def _too_large() -> Refused:
    return _unreadable(f"it has more than {IMAGE_LIMIT >> 20} MiB once unpacked")


def _xz(data: bytes) -> tuple[bytes, bool]:
    decoder = lzma.LZMADecompressor(memlimit=IMAGE_LIMIT)
    return decoder.decompress(data, IMAGE_LIMIT + 1), decoder.eof


def _gzip(data: bytes) -> tuple[bytes, bool]:
    decoder = zlib.decompressobj(31)
    return decoder.decompress(data, IMAGE_LIMIT + 1), decoder.eof


def decompress(data: bytes) -> bytes:
    """The kernel's ELF file from its payload; the last four bytes of a payload are its size, not data."""
    try:
        if data[:6] == b"\xfd7zXZ\0":
            out, whole = _xz(data)
        elif data[:2] == b"\x1f\x8b":
            out, whole = _gzip(data)
        elif data[:4] == b"\x28\xb5\x2f\xfd":
            out, whole = _tool(["zstd", "-dcq", "-M512MB"], data[:-4]), True
        elif data[:4] == b"\x02\x21\x4c\x18":
            out, whole = _tool(["lz4", "-dcq"], data[:-4]), True
        else:
            raise _unreadable("its compression is not xz, gzip, zstd or lz4")
    except (lzma.LZMAError, zlib.error) as error:
        raise _unreadable(str(error)) from None
    if len(out) > IMAGE_LIMIT:
        raise _too_large()
    if not whole:
        raise _unreadable("it is cut short")
    return out


def kernel_elf(image: bytes) -> bytes:
    """vmlinux from a bzImage; an ELF file is returned as it is."""
    if image[:4] == b"\x7fELF":
        return image
    out = decompress(payload(image))
    if out[:4] != b"\x7fELF":
        raise _unreadable("what it unpacks to is not an ELF file")
    return out
