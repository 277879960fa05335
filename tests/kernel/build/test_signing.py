"""Signing with the kernel's own tool: what is signed verifies, and nothing else does."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import kernels
from lab.kernels import Kernel
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.signing import check_signature, sign, split_signature
from livepatch_core.build.target import Target

CONTENT = b"\x7fELF" + bytes(500)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """Makes a key and its certificate."""

    def make(name: str) -> tuple[Path, Path]:
        place = tmp_path_factory.mktemp(name)
        request = f"openssl req -new -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name}"
        command = f"{request} -keyout key.pem -out cert.pem"
        subprocess.run(command.split(), cwd=place, check=True, capture_output=True)
        return place / "key.pem", place / "cert.pem"

    return make


def test_signed_module_verifies_with_its_certificate_only(
    pair: Callable[[str], tuple[Path, Path]], target_of: Callable[[Kernel], Target], tmp_path: Path
) -> None:
    key, certificate = pair("own")
    signed = sign(CONTENT, target_of(kernels.kernel("6.1")), key, certificate)
    assert split_signature(signed)[0] == CONTENT
    check_signature(signed, certificate, tmp_path)
    damaged = b"\x7fELG" + signed[4:]
    for module, trusted in ((signed, pair("other")[1]), (damaged, certificate), (CONTENT, certificate)):
        with pytest.raises(Refused) as caught:
            check_signature(module, trusted, tmp_path)
        assert caught.value.refusal is Refusal.SIGNING


def test_missing_key_is_refused_by_name(target_of: Callable[[Kernel], Target], tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        sign(CONTENT, target_of(kernels.kernel("6.1")), tmp_path / "none.pem", tmp_path / "none.pem")
    assert "none.pem does not exist" in str(caught.value)
