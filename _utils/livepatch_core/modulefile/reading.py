"""From the bytes of a module file, compressed or not, to the ELF image inside."""

from __future__ import annotations

import importlib
import lzma
import zlib
from typing import Any

from livepatch_core.modulefile.refusal import refusal

# The largest modules known (amdgpu with debug information) have about 100 MB.
LIMIT = 256 * 1024 * 1024
# xz -9 needs 65 MiB to decompress (xz(1)); a hostile header may ask for gigabytes.
XZ_MEMORY = 256 * 1024 * 1024
MAGIC = {b"\xfd7zXZ\x00": "xz", b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst"}


def compression_of(data: bytes) -> str:
    """``none``, ``xz``, ``gz`` or ``zst``, by magic number, whatever the file is called."""
    return next((name for magic, name in MAGIC.items() if data.startswith(magic)), "none")


def decompress(data: bytes) -> tuple[bytes, str]:
    """The image and how it was stored. Raises LivepatchError(MODULE_FORMAT) for damaged or oversized data."""
    compression = compression_of(data)
    if compression == "xz":
        image = _xz(data)
    elif compression == "gz":
        image = _gz(data)
    elif compression == "zst":
        image = _zst(data)
    else:
        image = data
    if len(image) > LIMIT:
        raise refusal(f"it has more than {LIMIT // 1024 // 1024} MiB once decompressed")
    return image, compression


def _xz(data: bytes) -> bytes:
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
    try:
        image = decoder.decompress(data, LIMIT + 1)
    except lzma.LZMAError as error:
        raise refusal(f"its xz data are damaged ({error})") from error
    return _whole("xz", image, decoder.eof, decoder.unused_data)


def _gz(data: bytes) -> bytes:
    decoder = zlib.decompressobj(wbits=31)  # 16 + 15: a gzip header, the largest window
    try:
        image = decoder.decompress(data, LIMIT + 1)
    except zlib.error as error:
        raise refusal(f"its gzip data are damaged ({error})") from error
    return _whole("gzip", image, decoder.eof, decoder.unused_data)


def _zst(data: bytes) -> bytes:
    library = _zst_library()
    try:
        read = _zstandard if library.__name__ == "zstandard" else _zstd
        image, ended, rest = read(library, data)
    except library.ZstdError as error:
        raise refusal(f"its zstd data are damaged ({error})") from error
    return _whole("zstd", image, ended, rest)


def _zst_library() -> Any:
    """Python 3.14's own library, the package that backports it, or the one that Debian has."""
    for library in ("compression.zstd", "backports.zstd", "zstandard"):
        try:
            return importlib.import_module(library)
        except ImportError:
            continue
    raise refusal(
        "it is compressed with zstd, which this Python cannot read",
        remedy="Install the package zstandard into Salt's Python, or store the module as .ko or .ko.xz.",
    )


def _zstd(library: Any, data: bytes) -> tuple[bytes, bool, bytes]:
    decoder = library.ZstdDecompressor()
    return decoder.decompress(data, LIMIT + 1), decoder.eof, decoder.unused_data


def _zstandard(library: Any, data: bytes) -> tuple[bytes, bool, bytes]:
    # This package has no bound on what one call gives. A zstd block is at least 4 bytes and gives at most
    # 128 KiB (RFC 8878 3.1.1.2), so 1 KiB of input at a time gives at most 32 MiB.
    decoder = library.ZstdDecompressor().decompressobj()
    parts, size, at = [], 0, 0
    while at < len(data) and not decoder.eof and size <= LIMIT:
        parts.append(decoder.decompress(data[at : at + 1024]))
        size += len(parts[-1])
        at += 1024
    return b"".join(parts), decoder.eof, decoder.unused_data + data[at:]


def _whole(name: str, image: bytes, ended: bool, rest: bytes) -> bytes:
    if len(image) > LIMIT:
        return image
    if not ended:
        raise refusal(f"its {name} data are truncated")
    if rest.strip(b"\0"):  # zero bytes are stream padding
        raise refusal(f"something follows its {name} data")
    return image
