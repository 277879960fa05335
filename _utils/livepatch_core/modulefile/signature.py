"""The signature appended to a module: who signed and how. Trust is the kernel's to judge.

Layout (include/linux/module_signature.h): the signature, ``struct module_signature`` {u8 algo, hash,
id_type, signer_len, key_id_len, pad[3]; be32 sig_len}, the magic string. For id_type 2 the signature is
PKCS#7 (CMS) SignedData without certificates; ``cryptography`` offers no way to read a signer from it, so
this walks the DER: bounded by the data, no recursion.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from livepatch_core.modulefile.model import Signature
from livepatch_core.modulefile.refusal import refusal

MAGIC = b"~Module signature appended~\n"
TRAILER = struct.Struct(">5B3xI")
ID_TYPES = {0: "PGP", 1: "X.509", 2: "PKCS#7"}
SIGNED_DATA = "1.2.840.113549.1.7.2"
COMMON_NAME = "2.5.4.3"
HASHES = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.8": "sha3-256",
    "2.16.840.1.101.3.4.2.9": "sha3-384",
    "2.16.840.1.101.3.4.2.10": "sha3-512",
}
# DER tags
INTEGER, OID, SEQUENCE, SET = 0x02, 0x06, 0x30, 0x31
CONTEXT_0, CONTEXT_1, KEY_IDENTIFIER = 0xA0, 0xA1, 0x80
BMP_STRING, UNIVERSAL_STRING = 0x1E, 0x1C

Value = tuple[int, bytes]  # tag, contents


def read_signature(image: bytes) -> Signature | None:
    """The appended signature; None where there is none. Raises LivepatchError(MODULE_FORMAT) for a damaged
    one.
    """
    if not image.endswith(MAGIC):
        return None
    end = len(image) - len(MAGIC) - TRAILER.size
    if end < 0:
        raise refusal("its appended signature is damaged")
    _, _, id_type, _, _, size = TRAILER.unpack_from(image, end)
    if not 0 < size <= end:
        raise refusal("its appended signature is damaged")
    kind = ID_TYPES.get(id_type, f"type {id_type}")
    if kind != "PKCS#7":
        return Signature("", "", "", kind)
    return parse_pkcs7(image[end - size : end])


def parse_pkcs7(data: bytes) -> Signature:
    """The first signer of a SignedData."""
    content = _children(_take(values(data), SEQUENCE))
    if _oid(_take(content, OID)) != SIGNED_DATA:
        raise refusal("its appended signature is not PKCS#7 signed data")
    signed = _children(_take(_children(_take(content, CONTEXT_0)), SEQUENCE))
    for tag in (INTEGER, SET, SEQUENCE):  # version, digest algorithms, the (detached) content
        _take(signed, tag)
    infos = next((value for value in signed if value[0] not in (CONTEXT_0, CONTEXT_1)), None)
    if infos is None or infos[0] != SET:
        raise refusal("its appended signature names no signer")
    signer = _children(_take(_children(infos), SEQUENCE))
    _take(signer, INTEGER)
    name, key_id, identifier = _signer(next(signer, (0, b"")))
    digest = _oid(_take(_children(_take(signer, SEQUENCE)), OID))
    return Signature(name, key_id, HASHES.get(digest, digest), ID_TYPES[2], identifier)


def _signer(identifier: Value) -> tuple[str, str, str]:
    """Name, key id, and what the kernel looks the key up by: issuer and serial number, or subject key id."""
    if identifier[0] == KEY_IDENTIFIER:
        return "", identifier[1].hex(), identifier[1].hex()
    if identifier[0] != SEQUENCE:
        raise refusal("its appended signature names no signer")
    fields = _children(identifier)
    issuer, serial = _take(fields, SEQUENCE), _take(fields, INTEGER)
    # asymmetric_key_generate_id(): the serial number's bytes as they stand, then those of the issuer's name.
    return _common_name(issuer), serial[1].lstrip(b"\0").hex(), (serial[1] + issuer[1]).hex()


def _common_name(issuer: Value) -> str:
    for part in _children(issuer):
        for attribute in _children(part):
            fields = _children(attribute)
            if _oid(_take(fields, OID)) == COMMON_NAME:
                return _string(next(fields, (0, b"")))
    return ""


def _string(value: Value) -> str:
    encoding = {BMP_STRING: "utf-16-be", UNIVERSAL_STRING: "utf-32-be"}.get(value[0], "utf-8")
    return value[1].decode(encoding, "backslashreplace" if encoding == "utf-8" else "replace")


def values(data: bytes) -> Iterator[Value]:
    """The DER values that follow one another in ``data``."""
    at = 0
    while at < len(data):
        start, size = _length(data, at)
        if start + size > len(data):
            raise refusal("its appended signature is damaged")
        yield data[at], data[start : start + size]
        at = start + size


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Where the contents of the value at ``at`` begin, and how long they are."""
    if data[at] & 0x1F == 0x1F or at + 1 >= len(data):
        raise refusal("its appended signature is damaged")
    size = data[at + 1]
    if size < 0x80:
        return at + 2, size
    width = size & 0x7F
    if not 0 < width <= 4 or at + 2 + width > len(data):
        raise refusal("its appended signature is damaged")
    return at + 2 + width, int.from_bytes(data[at + 2 : at + 2 + width], "big")


def _children(value: Value) -> Iterator[Value]:
    return values(value[1])


def _take(found: Iterator[Value], tag: int) -> Value:
    value = next(found, None)
    if value is None or value[0] != tag:
        raise refusal("its appended signature is damaged")
    return value


def _oid(value: Value) -> str:
    """An object identifier in dots (X.690 8.19); its length is bounded, as each arc is a number of any
    size.
    """
    data = value[1]
    if not 0 < len(data) <= 64 or data[-1] & 0x80:
        raise refusal("its appended signature is damaged")
    arcs, number = [], 0
    for byte in data:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            arcs.append(number)
            number = 0
    head = min(arcs[0] // 40, 2)
    return ".".join(str(arc) for arc in (head, arcs[0] - 40 * head, *arcs[1:]))
