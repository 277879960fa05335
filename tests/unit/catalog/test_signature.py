from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from livepatch_core.catalog.settings import Master
from livepatch_core.catalog.signature import check_entry, parse_public_key
from livepatch_core.catalog.standing import block, promote, unblock
from livepatch_core.catalog.verify import verify
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind
from tests.unit.catalog.modules import BUILD, BY, OTHER_BUILD, RELEASE, master_in, published

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = base64.b64encode(
    KEY.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
).decode()
PEM = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@pytest.fixture
def master(tmp_path: Path) -> Master:
    path = tmp_path / "key.pem"
    path.write_bytes(KEY.private_bytes(*PEM))
    path.chmod(0o600)
    master = master_in(tmp_path, sign_key=path)
    published(master, 1)
    promote(master, 1, None, None, BY)
    return master


def served(master: Master) -> bytes:
    return (master.served / RELEASE / "catalog.yaml").read_bytes()


def refused(data: bytes, build_id: str = BUILD, level: int = 1, key: str = PUBLIC) -> LivepatchError:
    with pytest.raises(LivepatchError) as caught:
        check_entry(data, build_id, level, key)
    return caught.value


def test_signed_entry(master: Master) -> None:
    check_entry(served(master), BUILD, 1, PUBLIC)
    pem = KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    check_entry(served(master), BUILD, 1, pem.decode())
    assert verify(master) == (1, [])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"status: released", b"status: testing"),
        (b"release: 6.1.0-56-amd64", b"release: 6.1.0-57-amd64"),
        (BUILD.encode(), OTHER_BUILD.encode()),
        (b"1:\n", b"2:\n"),
        (b"replace: true", b"replace: yes"),
        (b"who: alice", b"who: mallory"),
        (b"fixes:", b"extra: 1\n        fixes:"),
    ],
)
def test_changed_entry(master: Master, old: bytes, new: bytes) -> None:
    data = served(master)
    assert old in data
    changed = data.replace(old, new)
    build = OTHER_BUILD if new == OTHER_BUILD.encode() else BUILD
    assert refused(changed, build, 2 if new.startswith(b"2") else 1).kind is Kind.SIGNATURE


def test_other_or_no_signature(master: Master) -> None:
    other = base64.b64encode(bytes(32)).decode()
    assert "wrong" in refused(served(master), key=other).message
    unsigned = served(master).replace(b"signature:", b"signatura:")
    assert "not signed" in refused(unsigned).message
    assert "no level 7" in refused(served(master), level=7).message
    garbled = served(master).replace(b"ed25519: ", b"ed25519: '!'  # ")
    assert refused(garbled).kind is Kind.SIGNATURE


@pytest.mark.parametrize("text", ["", "abc", "-----BEGIN PUBLIC KEY-----\nx\n"])
def test_bad_public_key(text: str) -> None:
    with pytest.raises(LivepatchError) as caught:
        parse_public_key(text)
    assert caught.value.kind is Kind.ARGUMENT


def test_key_of_another_kind() -> None:
    pem = (
        generate_private_key(SECP256R1())
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(LivepatchError, match="not an Ed25519 key"):
        parse_public_key(pem.decode())


def test_private_key_that_others_can_read(master: Master) -> None:
    assert master.sign_key is not None
    master.sign_key.chmod(0o644)
    with pytest.raises(LivepatchError, match="others than its owner"):
        published(master, 2)


def test_without_the_key_a_signed_level_is_blocked_but_not_released(master: Master, tmp_path: Path) -> None:
    """A block may not wait for a key that lies in a safe; an unblock has to."""
    keyless = master_in(tmp_path)
    block(keyless, 1, None, None, BY)
    assert b"status: blocked" in served(master)
    unblock(master, 1, None, None, BY)
    check_entry(served(master), BUILD, 1, PUBLIC)
    published(master, 2)
    before = served(master)
    with pytest.raises(LivepatchError) as caught:
        promote(keyless, 2, None, None, BY)
    assert caught.value.kind is Kind.SIGNATURE
    assert served(master) == before


def test_notice_of_a_withheld_level_is_signed_too(master: Master) -> None:
    published(master, 2)
    block(master, 2, None, None, BY)
    check_entry(served(master), BUILD, 2, PUBLIC)
