"""The publisher's signature over one catalog entry (Ed25519), made on the master, checked on the host.

Signed is everything the entry says but the signature, as text, together with release, kernel build and level
number: an entry cannot be moved to another level or kernel, nor its status be changed, by whoever serves the
file. An old entry can be served again; what that cannot do is outrank an approval, which names the digest.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import stat
from pathlib import Path
from typing import Any

import yaml
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from livepatch_core.catalog.document import parse_document
from livepatch_core.catalog.model import PackageLevel
from livepatch_core.catalog.rewrite import drop, get, node_of, put, texts
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind

FIELD = "signature"
FORM = "livepatch-entry-1"  # a signature is for one purpose: the signed text begins with its name


def check_entry(data: bytes, build_id: str, level: int, public_key: str) -> None:
    """Check the entry of one level in ``catalog.yaml`` (its bytes) against the publisher's key.

    public_key: PEM text, or the key's 32 bytes in base64, from the *minion's* configuration. Raises
    LivepatchError (signature) when the entry is not there, not signed, or not by this key. Pure.
    """
    node = parse_document(data, "catalog.yaml").node
    entry = get(get(get(get(node, "builds"), build_id), "levels"), level)
    _check(node, entry, build_id, level, public_key)


def check_package(data: bytes, build_id: str, wanted: PackageLevel, public_key: str) -> None:
    """The same for the entry that gives a package its level. Pure."""
    node = parse_document(data, "catalog.yaml").node
    listed = get(get(get(node, "builds"), build_id), "packages")
    entries = listed.value if isinstance(listed, yaml.SequenceNode) else []
    entry = next((one for one in entries if is_of_package(one, wanted.package, wanted.version)), None)
    _check(node, entry, build_id, wanted.number, public_key)


def is_of_package(entry: yaml.Node, package: str, version: str) -> bool:
    """Whether the entry is the one of that package in that version."""
    wanted = {"package": package, "version": version}
    said = texts(entry)
    return isinstance(said, dict) and {key: said.get(key) for key in wanted} == wanted


def _check(node: yaml.Node, entry: yaml.Node | None, build_id: str, level: int, public_key: str) -> None:
    key, release = parse_public_key(public_key), get(node, "release")
    if not isinstance(entry, yaml.MappingNode) or not isinstance(release, yaml.ScalarNode):
        raise _refused(f"The catalog has no level {level} for kernel build {build_id}")
    check_node(entry, str(release.value), build_id, level, key)


def check_node(
    entry: yaml.MappingNode, release: str, build_id: str, level: int, key: Ed25519PublicKey
) -> None:
    """``check_entry`` for an entry at hand."""
    value = texts(get(entry, FIELD) or node_of(None))
    if not isinstance(value, dict) or not isinstance(value.get("ed25519"), str):
        raise _refused(f"Level {level} of kernel build {build_id} is not signed by its publisher")
    try:
        signature = base64.b64decode(value["ed25519"], validate=True)
        key.verify(signature, _signed(entry, release, build_id, level))
    except (InvalidSignature, binascii.Error, ValueError) as problem:
        raise _refused(
            f"The publisher's signature of level {level} of kernel build {build_id} is wrong: the entry was "
            f"changed after it was signed, or signed by another key (it names {value.get('key')})"
        ) from problem


def sign(entry: yaml.MappingNode, release: str, build_id: str, level: int, key: Ed25519PrivateKey) -> None:
    """Put the signature into the entry, in place of one that is there."""
    drop(entry, FIELD)
    signature = base64.b64encode(key.sign(_signed(entry, release, build_id, level))).decode()
    put(entry, FIELD, node_of({"key": key_name(key.public_key()), "ed25519": signature}))


def key_name(key: Ed25519PublicKey) -> str:
    """What an entry calls the key it was signed with; for people."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def parse_public_key(text: str) -> Ed25519PublicKey:
    """Raises LivepatchError (argument)."""
    try:
        if "-----BEGIN" in text:
            key: Any = serialization.load_pem_public_key(text.encode())
        else:
            key = Ed25519PublicKey.from_public_bytes(base64.b64decode(text.strip(), validate=True))
    except (ValueError, binascii.Error, UnsupportedAlgorithm) as problem:
        raise _bad_key("The publisher's public key", str(problem)) from problem
    if not isinstance(key, Ed25519PublicKey):
        raise _bad_key("The publisher's public key", "it is not an Ed25519 key")
    return key


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """The publisher's key; raises LivepatchError (argument) also where others can read the file."""
    try:
        shared = stat.S_IMODE(path.stat().st_mode) & 0o077
        key: Any = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as problem:
        raise _bad_key(f"The publisher's key {path}", str(problem)) from problem
    if shared:
        raise _bad_key(f"The publisher's key {path}", "others than its owner may read or write it")
    if not isinstance(key, Ed25519PrivateKey):
        raise _bad_key(f"The publisher's key {path}", "it is not an Ed25519 key")
    return key


def _signed(entry: yaml.MappingNode, release: str, build_id: str, level: int) -> bytes:
    content = {key: value for key, value in texts(entry).items() if key != FIELD}
    return json.dumps([FORM, release, build_id, level, content], sort_keys=True).encode()


def _refused(text: str) -> LivepatchError:
    return LivepatchError(
        Kind.SIGNATURE,
        f"{text}; nothing was changed.",
        remedy="Find out who wrote the catalog; publish the level again with the publisher's key.",
        why=text,
    )


def _bad_key(what: str, why: str) -> LivepatchError:
    return LivepatchError(
        Kind.ARGUMENT,
        f"{what} cannot be used: {why}; nothing was changed.",
        remedy="Make one with: openssl genpkey -algorithm ed25519 (chmod 600).",
        why=why,
    )
