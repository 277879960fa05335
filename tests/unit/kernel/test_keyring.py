"""Whether the kernel has the key of a signature: its keyrings, and what their answers mean."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.kernel import keyring
from livepatch_core.kernel.keyring import finds, parse_keyrings, search_keyring
from livepatch_core.kernel.roots import Roots
from tests.unit.kernel.captured import data

KEYS = """\
0a48a1fe I--Q---     1 perm 1f3f0000     0 65534 keyring   _uid_ses.0: 1
0f1c6d32 I------     1 perm 1f030000     0     0 asymmetri Debian CA: 6ccece7e: X509.rsa 6ccece7e []
1d7b1f40 I------     1 perm 1f030000     0     0 asymmetri Firmware: db: 00ff: X509.rsa 000000ff []
2db9b614 I------     1 perm 1f0b0000     0     0 keyring   .builtin_trusted_keys: 1
3daf0760 I------     1 perm 1f0f0000     0     0 keyring   .secondary_trusted_keys: 1
37d1c589 I------     1 perm 0f0b0000     0     0 keyring   .platform: 1
3a1b5f01 I--Q---     1   3d 3f010000  1000  1000 user      krb_ccache:primary
"""


def plant(tmp_path: Path, text: str) -> None:
    (tmp_path / "proc").mkdir(exist_ok=True)
    (tmp_path / "proc/keys").write_text(text)


def test_only_the_system_keyrings_that_matter() -> None:
    assert parse_keyrings(KEYS) == {
        ".builtin_trusted_keys": 0x2DB9B614,
        ".secondary_trusted_keys": 0x3DAF0760,
        ".platform": 0x37D1C589,
    }


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_the_keyrings_of_a_stock_kernel(kernel: str) -> None:
    assert {".builtin_trusted_keys", ".platform"} <= set(parse_keyrings(data(f"keys-{kernel}")))


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    parse_keyrings(text)


RINGS = {0x2DB9B614: "builtin", 0x3DAF0760: "secondary", 0x37D1C589: "platform"}


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ({"builtin": True, "secondary": True, "platform": False}, True),
        ({"builtin": None, "secondary": True, "platform": None}, True),
        ({"builtin": False, "secondary": False, "platform": False}, False),
        ({"builtin": False, "secondary": False, "platform": True}, None),
        ({"builtin": False, "secondary": False, "platform": None}, None),
        ({"builtin": None, "secondary": False, "platform": False}, None),
    ],
)
def test_whether_the_kernel_finds_the_key_of_a_signature(
    tmp_path: Path, answers: dict[str, bool | None], verdict: bool | None
) -> None:
    plant(tmp_path, KEYS)
    asked: set[str] = set()

    def search(ring: int, identifier: str) -> bool | None:
        asked.add(identifier)
        return answers[RINGS[ring]]

    assert finds(Roots.under(tmp_path), "66f54e15", search) is verdict
    assert asked == {"66f54e15"}


def test_the_machine_owners_keys_count_only_through_the_secondary_keyring(tmp_path: Path) -> None:
    keys = KEYS.replace(".platform", ".machine")
    plant(tmp_path, keys)
    answers = {0x2DB9B614: False, 0x3DAF0760: False, 0x37D1C589: True}
    assert finds(Roots.under(tmp_path), "66f54e15", lambda ring, _identifier: answers[ring]) is None
    answers[0x3DAF0760] = True
    assert finds(Roots.under(tmp_path), "66f54e15", lambda ring, _identifier: answers[ring]) is True


def test_nothing_is_found_or_missed_where_no_keyring_is_visible(tmp_path: Path) -> None:
    assert finds(Roots.under(tmp_path), "66f54e15", lambda _ring, _identifier: False) is None
    plant(tmp_path, KEYS.replace(".builtin_trusted_keys", ".hidden"))
    assert finds(Roots.under(tmp_path), "66f54e15", lambda _ring, _identifier: False) is None


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ({"ex:66f54e15": errno.EACCES, "ex:00": errno.ENOKEY}, True),  # there, but not for root to use
        ({"ex:66f54e15": 0, "ex:00": errno.ENOKEY}, True),
        ({"ex:66f54e15": errno.ENOKEY, "ex:00": errno.ENOKEY}, False),
        ({"ex:66f54e15": errno.EACCES, "ex:00": errno.EACCES}, None),  # the keyring itself is closed
        ({"ex:66f54e15": errno.ENOSYS, "ex:00": errno.ENOSYS}, None),
        ({"ex:66f54e15": errno.EKEYEXPIRED, "ex:00": errno.ENOKEY}, None),
    ],
)
def test_what_the_answers_of_keyctl_mean(
    monkeypatch: pytest.MonkeyPatch, errors: dict[str, int], verdict: bool | None
) -> None:
    def answer(
        _operation: int, _keyring: object, kind: bytes, wanted: bytes, _into: object
    ) -> tuple[int, int]:
        assert kind == b"asymmetric"
        error = errors[wanted.decode()]
        return (-1, error) if error else (4711, 0)

    monkeypatch.setattr(keyring, "_keyctl", answer)
    assert search_keyring(1, "66f54e15") is verdict
