"""The publisher's signature, checked on the host that has his key: before any change, after a block."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from livepatch_core.catalog.document import parse_document
from livepatch_core.catalog.rewrite import get
from livepatch_core.catalog.signature import sign
from livepatch_core.errors import LivepatchError
from livepatch_core.host import byhand, inquiry, persist, publisher
from livepatch_core.host.move import Wish
from livepatch_core.words import Kind
from tests.unit.host.fakekernel import BUILD_ID, RELEASE
from tests.unit.host.world import World

HIS, OTHER = Ed25519PrivateKey.from_private_bytes(b"p" * 32), Ed25519PrivateKey.from_private_bytes(b"o" * 32)


def pem(key: Ed25519PrivateKey) -> str:
    raw = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return raw.decode()


def raw(key: Ed25519PrivateKey) -> str:
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return base64.b64encode(public).decode()


def signed_by(key: Ed25519PrivateKey, *numbers: int) -> Callable[[bytes], bytes]:
    """What the publisher makes of a catalog: these levels signed."""

    def signed(data: bytes) -> bytes:
        node = parse_document(data, "catalog.yaml").node
        for number in numbers:
            entry = get(get(get(get(node, "builds"), BUILD_ID), "levels"), number)
            assert isinstance(entry, yaml.MappingNode)
            sign(entry, RELEASE, BUILD_ID, number, key)
        return yaml.serialize(node).encode()

    return signed


@pytest.fixture
def keyed(world: World) -> World:
    """A host that has the publisher's key; levels 1 and 2 are signed, 3 is not."""
    world.options["publisher_key"] = pem(HIS)
    world.sign = signed_by(HIS, 1, 2)
    return world


def refused_by_signature(world: World, level: int, said: str) -> None:
    for test in (True, False):
        outcome = world.apply(level, test=test)
        assert (outcome.result, outcome.kind, outcome.changes) == (False, Kind.SIGNATURE, {})
        assert said in outcome.comment
        assert outcome.comment.count("nothing was changed") == 1
        assert outcome.details["checks"][0]["name"] == "publisher"
    assert world.kernel.changed == []


def test_signed_levels_are_loaded(keyed: World) -> None:
    assert keyed.apply(1).result is True
    assert keyed.apply(2).result is True


def test_unsigned(keyed: World) -> None:
    refused_by_signature(keyed, 3, "is not signed by its publisher")


def test_signed_by_another(keyed: World) -> None:
    keyed.sign = signed_by(OTHER, 1)
    refused_by_signature(keyed, 1, "is wrong")


def test_changed_after_it_was_signed(keyed: World) -> None:
    keyed.sign = lambda data: signed_by(HIS, 1)(data).replace(b"status: released", b"status: testing", 1)
    refused_by_signature(keyed, 1, "was changed after it was signed")


def test_a_block_needs_no_signature(keyed: World) -> None:
    """Nor does it matter what is wrong with the one there is."""
    keyed.entries[3] = {"status": "blocked", "reason": "crashes"}
    outcome = keyed.apply(3)
    assert (outcome.result, outcome.kind) == (False, Kind.BLOCKED)


def test_without_a_key_nothing_is_asked(world: World) -> None:
    assert world.apply(3).result is True
    assert publisher.examine(world.host, b"", BUILD_ID, None) == ()  # type: ignore[arg-type]


def test_preflight_shows_it_by_name(keyed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for level, verdict in ((1, "pass"), (3, "fail")):
        document = inquiry.preflight_level(keyed.host, Wish(level=level, reason="preflight", test=True))
        assert (document["checks"][0]["name"], document["checks"][0]["verdict"]) == ("publisher", verdict)
        assert document["result"] is (verdict == "pass")
        assert document.get("kind") == (None if verdict == "pass" else "signature")


def test_what_is_kept_for_the_boot_is_signed_too(keyed: World) -> None:
    keyed.apply(1)
    keyed.sign = bytes
    with pytest.raises(LivepatchError, match="not signed") as caught:
        persist.persist(keyed.host)
    assert caught.value.kind is Kind.SIGNATURE


def test_an_unsigned_entry_names_no_level(keyed: World) -> None:
    """The record is lost: what runs is a level only if the publisher says so, not whoever serves the file."""
    keyed.apply(1)
    keyed.host.settings.record_file.unlink()
    keyed.host.settings.journal_file.unlink()
    keyed.sign = bytes
    assert keyed.apply(0).comment.startswith("No level is in force")
    keyed.sign = signed_by(HIS, 1)
    assert keyed.apply(0).changes["level"] == {"old": 1, "new": 0}


def test_the_key_in_each_form(tmp_path: Path) -> None:
    """Base64 may begin with a slash, and is no path for that."""
    path = tmp_path / "publisher.pem"
    path.write_text(pem(HIS))
    assert publisher.read_key(pem(HIS)) == publisher.read_key(str(path)) == pem(HIS)
    assert publisher.read_key(raw(HIS)) == raw(HIS)
    slash = base64.b64encode(b"\xff" * 32).decode()
    assert slash.startswith("/")
    assert publisher.read_key(slash) == slash


@pytest.mark.parametrize("key", ["", "no key", "/nowhere/publisher.pem", "/dev/null", "-----BEGIN x", "AAAA"])
def test_a_key_that_is_none(world: World, key: str) -> None:
    world.options["publisher_key"] = key or " "
    outcome = world.apply(1)
    assert (outcome.result, outcome.kind) == (False, Kind.ARGUMENT)
    assert "livepatch:publisher_key" in outcome.comment
    assert world.kernel.changed == []


# -- an approval that somebody made up (pillar= on a command line, approval= of a job) ----------------------


def test_a_forged_approval_cannot_change_what_a_level_is(world: World) -> None:
    """It can outrank, that is documented; the bytes are those of the catalog, or nothing is loaded."""
    forged = world.approval(10**6, 2)
    forged["builds"][BUILD_ID]["sha256"] = "0" * 64
    outcome = world.apply(approval=forged)
    assert (outcome.result, outcome.kind, world.kernel.changed) == (False, Kind.DIGEST, [])
    foreign = world.apply(approval=world.approval(10**6 + 1, 2, "ledger-2"))
    assert (foreign.kind, world.kernel.changed) == (Kind.FOREIGN_LEDGER, [])


def test_a_forged_rev_can_be_undone(world: World) -> None:
    """It outranks all that the ledger will write, until somebody goes to another ledger and back."""
    assert world.apply(approval=world.approval(10**9, 1)).result is True
    assert world.apply(approval=world.approval(12, 2)).kind is Kind.SUPERSEDED
    order = byhand.Order("a forged approval")
    byhand.adopt_ledger(world.host, "nobody", 0, order)
    byhand.adopt_ledger(world.host, "ledger-1", 12, order)
    assert world.apply(approval=world.approval(12, 2)).result is True


def test_a_forged_approval_of_an_unsigned_level(keyed: World) -> None:
    outcome = keyed.apply(approval=keyed.approval(10**6, 3))
    assert (outcome.result, outcome.kind, keyed.kernel.changed) == (False, Kind.SIGNATURE, [])
