from __future__ import annotations

import datetime
import struct
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.errors import LivepatchError
from livepatch_core.modulefile.model import Signature
from livepatch_core.modulefile.signature import MAGIC, parse_pkcs7, read_signature, values
from livepatch_core.words import Kind

KEY = ec.generate_private_key(ec.SECP256R1())
OPTIONS = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary]
# As kernel modules are signed, and with what other tools may add.
EXTRA = [
    [pkcs7.PKCS7Options.NoCerts, pkcs7.PKCS7Options.NoAttributes],
    [pkcs7.PKCS7Options.NoCerts],
    [pkcs7.PKCS7Options.NoAttributes],
    [],
]
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=16)


def certificate(serial: int, attributes: list[x509.NameAttribute]) -> x509.Certificate:
    name = x509.Name(attributes)
    start = datetime.datetime(2026, 1, 1)
    builder = x509.CertificateBuilder(
        name, name, KEY.public_key(), serial, start, start + datetime.timedelta(1)
    )
    return builder.sign(KEY, hashes.SHA256())


def signed_data(
    found: x509.Certificate, digest: hashes.HashAlgorithm, options: list[pkcs7.PKCS7Options]
) -> bytes:
    builder = pkcs7.PKCS7SignatureBuilder().set_data(b"module").add_signer(found, KEY, digest)
    return builder.sign(Encoding.DER, [*OPTIONS, *options])


def appended(signature: bytes, id_type: int = 2) -> bytes:
    return b"module" + signature + struct.pack(">5B3xI", 0, 0, id_type, 0, 0, len(signature)) + MAGIC


@given(
    serial=st.integers(1, 2**159 - 1),
    name=NAMES,
    digest=st.sampled_from([hashes.SHA256(), hashes.SHA384(), hashes.SHA512()]),
    options=st.sampled_from(EXTRA),
)
def test_signer_serial_and_hash(
    serial: int, name: str, digest: hashes.HashAlgorithm, options: list[pkcs7.PKCS7Options]
) -> None:
    """Against signatures made by ``cryptography``, with and without certificates and attributes."""
    attributes = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
        x509.NameAttribute(NameOID.COMMON_NAME, name),
    ]
    signature = signed_data(certificate(serial, attributes), digest, options)
    key_id = f"{serial:x}"
    expected = Signature(name, key_id.zfill(len(key_id) + len(key_id) % 2), digest.name, "PKCS#7")
    assert replace(read_signature(appended(signature)), identifier="") == expected


def test_what_the_kernel_looks_the_key_up_by() -> None:
    """The serial number's bytes as they stand, then those inside the issuer's name."""
    found = certificate(0x80, [x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    issuer = found.issuer.public_bytes()
    signature = parse_pkcs7(signed_data(found, hashes.SHA256(), []))
    assert issuer[0] == 0x30
    assert signature.identifier == "0080" + issuer[2:].hex()


def test_issuer_without_a_common_name() -> None:
    found = certificate(7, [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example")])
    signature = parse_pkcs7(signed_data(found, hashes.SHA256(), []))
    assert (signature.signer, signature.key_id) == ("", "07")


def der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    assert len(body) < 128
    return bytes([tag, len(body)]) + body


SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
DATA = bytes.fromhex("06092a864886f70d010701")


def by_key_identifier(digest: bytes) -> bytes:
    """What scripts/sign-file -k makes: the signer by subject key identifier."""
    signer = der(0x30, b"\x02\x01\x03", der(0x80, b"\xab\xcd"), der(0x30, digest))
    signed = der(0x30, b"\x02\x01\x03", der(0x31), der(0x30, DATA), der(0x31, signer))
    return der(0x30, SIGNED_DATA, der(0xA0, signed))


def test_signer_by_key_identifier() -> None:
    signature = parse_pkcs7(by_key_identifier(bytes.fromhex("0609608648016503040201")))
    assert signature == Signature("", "abcd", "sha256", "PKCS#7", "abcd")


def test_hash_that_has_no_name_here() -> None:
    assert parse_pkcs7(by_key_identifier(bytes.fromhex("06032a0304"))).hash == "1.2.3.4"


@pytest.mark.parametrize(("id_type", "name"), [(0, "PGP"), (1, "X.509"), (9, "type 9")])
def test_signatures_of_other_kinds(id_type: int, name: str) -> None:
    assert read_signature(appended(b"signature", id_type)) == Signature("", "", "", name)


def test_no_signature() -> None:
    assert read_signature(b"\x7fELF" * 100) is None


REAL = signed_data(certificate(7, [x509.NameAttribute(NameOID.COMMON_NAME, "k")]), hashes.SHA256(), [])


def refused(data: bytes) -> None:
    with pytest.raises(LivepatchError) as caught:
        read_signature(data)
    assert caught.value.kind is Kind.MODULE_FORMAT


@pytest.mark.parametrize("size", [0, 7, 2**32 - 1])
def test_sizes_that_do_not_fit(size: int) -> None:
    refused(b"module" + struct.pack(">5B3xI", 0, 0, 2, 0, 0, size) + MAGIC)


def test_trailer_that_does_not_fit() -> None:
    refused(b"x" + MAGIC)


def test_truncated_anywhere() -> None:
    for length in range(len(REAL)):
        refused(appended(REAL[:length]))


def read_or_refuse(data: bytes) -> None:
    kind = Kind.MODULE_FORMAT
    try:
        read_signature(data)
    except LivepatchError as error:
        kind = error.kind
    assert kind is Kind.MODULE_FORMAT


@given(st.binary(min_size=1))
def test_any_bytes_give_a_signature_or_a_refusal(data: bytes) -> None:
    read_or_refuse(appended(data))


@given(st.lists(st.tuples(st.integers(0, len(REAL) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_one_gives_a_signature_or_a_refusal(damage: list[tuple[int, int]]) -> None:
    data = bytearray(REAL)
    for at, byte in damage:
        data[at] = byte
    read_or_refuse(appended(bytes(data)))


@given(st.lists(st.tuples(st.integers(0, 0x1E), st.binary(max_size=300)), max_size=5))
def test_values_are_those_written(written: list[tuple[int, bytes]]) -> None:
    def length(size: int) -> bytes:
        return bytes([size]) if size < 128 else b"\x82" + struct.pack(">H", size)

    data = b"".join(bytes([tag]) + length(len(body)) + body for tag, body in written)
    assert list(values(data)) == written
