"""What a kernel's image file says about itself: its release, who signed it, whether kexec can take it.

x86: the boot protocol's header (Documentation/arch/x86/boot.rst) and around it, as every distribution builds
kernels with an EFI stub, a PE file (Microsoft's PE format; its certificate table holds an Authenticode
signature).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from livepatch_core.errors import LivepatchError
from livepatch_core.modulefile.model import Signature
from livepatch_core.modulefile.signature import parse_pkcs7

# Offsets in the setup header, boot.rst.
_BOOT_FLAG, _MAGIC, _VERSION, _KERNEL_VERSION = 0x1FE, 0x202, 0x206, 0x20E
_SETUP_SECTS, _LOADFLAGS, _XLOADFLAGS, _CMDLINE_SIZE, _INIT_SIZE = 0x1F1, 0x211, 0x236, 0x238, 0x260
_HEADER_END = 0x264
_FILE_LOADABLE = 0x3  # xloadflags: a 64-bit entry point, and it can be loaded above 4 GiB
_PE_OPTIONAL_64 = 0x20B
_CERTIFICATES = 112 + 4 * 8  # in the PE32+ optional header: the fifth data directory
_UNIFIED = b".linux"  # the section in which a unified image carries the kernel


@dataclass(frozen=True)
class Image:
    """A kernel's image. size: bytes of the file. needs: bytes it unpacks itself into. cmdline_limit: the
    longest command line in bytes, without the final NUL.

    problem: why the kernel will not take it, "" if nothing speaks against it. signed: whether there is a
    signature, None where that is not looked into; signature: what could be read of it. unified: kernel,
    initrd and command line in one file.
    """

    size: int
    release: str = ""
    needs: int = 0
    cmdline_limit: int = 0
    signed: bool | None = False
    signature: Signature | None = None
    unified: bool = False
    problem: str = ""


def parse(data: bytes, machine: str = "x86_64") -> Image:
    """Never raises: what is wrong with the file stands in ``problem``. Images for other machines than x86
    are not looked into: the kernel is the judge then."""
    if machine != "x86_64":
        return Image(len(data), signed=None)
    sections, certificate = _portable_executable(data)
    signature = _signature(certificate)
    if _UNIFIED in sections:
        return Image(
            len(data),
            signed=bool(certificate),
            signature=signature,
            unified=True,
            problem="it is a unified image (kernel, initrd, command line in one), which kexec cannot take",
        )
    if len(data) < _HEADER_END or data[_MAGIC : _MAGIC + 4] != b"HdrS" or _u16(data, _BOOT_FLAG) != 0xAA55:
        return Image(len(data), problem="it is no x86 kernel image (bzImage)")
    problem = ""
    # kexec-bzimage64.c, bzImage64_probe(): 2.12, loaded high, 64-bit and above 4 GiB
    if _u16(data, _VERSION) < 0x20C or not data[_LOADFLAGS] & 1:
        problem = "its boot protocol is too old for kexec"
    elif _u16(data, _XLOADFLAGS) & _FILE_LOADABLE != _FILE_LOADABLE:
        problem = "it is not a relocatable 64-bit kernel, which kexec asks for"
    return Image(
        len(data),
        release=_release(data),
        needs=_u32(data, _INIT_SIZE),
        cmdline_limit=_u32(data, _CMDLINE_SIZE),
        signed=bool(certificate),
        signature=signature,
        problem=problem,
    )


def _release(data: bytes) -> str:
    """The first word of the version text, which the header points to (relative to 0x200)."""
    start = _u16(data, _KERNEL_VERSION)
    if not start or start >= 0x200 * (data[_SETUP_SECTS] or 4):
        return ""
    text = data[start + 0x200 : start + 0x200 + 256].split(b"\0")[0]
    return text.split(b" ")[0].decode("ascii", "replace")


def _portable_executable(data: bytes) -> tuple[tuple[bytes, ...], bytes]:
    """Names of the sections, and the first certificate's content (empty: not signed)."""
    try:
        if data[:2] != b"MZ":
            return (), b""
        head = _u32(data, 0x3C)
        if data[head : head + 4] != b"PE\0\0":
            return (), b""
        count, optional_size = _u16(data, head + 6), _u16(data, head + 20)
        optional = head + 24
        table = optional + optional_size
        names = [data[at : at + 8].rstrip(b"\0") for at in range(table, table + 40 * count, 40)]
        return tuple(names), _certificate(data, optional)
    except struct.error:
        return (), b""


def _certificate(data: bytes, optional: int) -> bytes:
    if _u16(data, optional) != _PE_OPTIONAL_64:
        return b""
    start, size = struct.unpack_from("<II", data, optional + _CERTIFICATES)
    if not start or size <= 8 or start + size > len(data):
        return b""
    length = _u32(data, start)  # WIN_CERTIFICATE: length, revision and type, content
    return data[start + 8 : start + min(length, size)]


def _signature(certificate: bytes) -> Signature | None:
    if not certificate:
        return None
    try:
        return parse_pkcs7(certificate)
    except LivepatchError:
        return None


def _u16(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<H", data, at)[0])


def _u32(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])
