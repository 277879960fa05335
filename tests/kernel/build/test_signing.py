"""Signing with the kernel's own tool: what is signed verifies and loads where signatures are enforced, and
nothing else does.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import firmware, kernels
from lab.fixtures import watched
from lab.kernels import Kernel
from lab.machine import Machine
from livepatch_core.build.builder import Built
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.signing import check_signature, sign, split_signature
from livepatch_core.build.target import Target
from tests.kernel import LIBRARY
from tests.kernel.patchable import Patchable

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "patches" / "meminfo-1.patch"
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


@pytest.fixture
def enforcing() -> Iterator[Patchable]:
    """A guest that its firmware started with Secure Boot on, and that enforces signatures."""
    machine = Machine(cmdline=("module.sig_enforce=1",))
    with firmware.start(kernels.kernel("6.1"), machine) as guest, watched(guest):
        guest.put_tree(LIBRARY, "/root/lib")
        yield Patchable(guest)


def test_key_of_the_firmware_under_secure_boot(
    make: Callable[..., Built],
    target_of: Callable[[Kernel], Target],
    pair: Callable[[str], tuple[Path, Path]],
    enforcing: Patchable,
    tmp_path: Path,
) -> None:
    host, target = enforcing, target_of(kernels.kernel("6.1"))
    assert "Secure boot enabled" in host.guest.dmesg()
    assert "[integrity]" in host.guest.exec("cat /sys/kernel/security/lockdown").text
    module = make("livepatch_1", [EXAMPLE.read_text(encoding="utf-8")], level=1).module or b""
    trusted = firmware.files()
    variants = {
        "unsigned": module,
        "foreign": sign(module, target, *pair("foreign")),
        "trusted": sign(module, target, trusted.key, trusted.certificate),
    }
    paths = {}
    for word, data in variants.items():
        paths[word] = tmp_path / word / "livepatch_1.ko"
        paths[word].parent.mkdir()
        paths[word].write_bytes(data)

    for word, why in (("unsigned", "not signed"), ("foreign", "does not have")):
        host.publish({1: paths[word]})
        done = host.to_level(1)
        assert (done["result"], done["kind"], done["changes"]) == (False, "signature", {}), done
        assert why in done["comment"], done
        # The kernel itself agrees.
        assert host.guest.exec(f"insmod /srv/livepatch/{host.release}/livepatch_1.ko").rc, word
    assert host.patches() == []

    host.publish({1: paths["trusted"]})
    done = host.to_level(1)
    assert done["result"] is True, done
    assert host.status()["verdict"] == "patched"
    assert "LivepatchLevel:        1" in host.guest.exec("cat /proc/meminfo").text
    assert host.ask("revert", reason="a test")["result"] is True
    assert host.patches() == []
