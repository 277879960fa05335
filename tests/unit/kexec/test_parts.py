"""The pure parts: command lines, images, names in /boot, fixes, and how an order ended."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.errors import LivepatchError
from livepatch_core.kernel.roots import Roots
from livepatch_core.kexec import cmdline, fixes, image, installed, status
from livepatch_core.kexec.facts import available_bytes
from livepatch_core.kexec.leave import PATIENCE
from livepatch_core.kexec.record import Departure
from livepatch_core.kexec.status import Ended

WORDS = st.lists(st.from_regex(r"\A[a-z_.]{1,9}(=[a-z0-9,]{0,5})?\Z"), max_size=8)


@given(WORDS, st.text("0123456789abcdef", min_size=16, max_size=16))
def test_command_line_of_the_next_kernel(words: list[str], token: str) -> None:
    running = " ".join(words)
    once = cmdline.following(running, "/boot/v", token)
    assert cmdline.token_in(once) == token
    again = cmdline.following(once, "/boot/w", "f" * 16)
    assert cmdline.token_in(again) == "f" * 16
    assert again.count(cmdline.MARK) == 1 and again.count("BOOT_IMAGE=") == 1
    kept = [word for word in words if not word.startswith((f"{cmdline.MARK}=", "BOOT_IMAGE="))]
    assert cmdline.unmarked(again).split()[1:] == kept


def test_command_line_that_was_given() -> None:
    given_line = f"a  b {cmdline.MARK}=old"
    assert cmdline.asked(given_line, "new") == f"a  b {cmdline.MARK}=new"
    assert cmdline.token_in("quiet") is None
    assert cmdline.token_in(None) is None
    assert cmdline.token_in(f"{cmdline.MARK}=") is None


def handmade(**changes: int) -> bytearray:
    """A file with the fields that are looked at, as boot.rst places them."""
    data = bytearray(0x1000)
    fields = {"boot_flag": (0x1FE, 0xAA55), "version": (0x206, 0x20F), "kernel_version": (0x20E, 0x100)}
    fields.update(xloadflags=(0x236, 0x7F))
    for name, (at, value) in fields.items():
        struct.pack_into("<H", data, at, changes.get(name, value))
    data[0x202:0x206] = b"HdrS"
    data[0x1F1], data[0x211] = 4, changes.get("loadflags", 1)
    struct.pack_into("<I", data, 0x238, 2047)
    struct.pack_into("<I", data, 0x260, 0x2000000)
    text = b"6.1.0-57-amd64 (debian-kernel@lists.debian.org) #1 SMP\0"
    data[0x300 : 0x300 + len(text)] = text
    return data


def test_image() -> None:
    seen = image.parse(bytes(handmade()))
    assert (seen.release, seen.needs, seen.cmdline_limit, seen.problem) == (
        "6.1.0-57-amd64",
        0x2000000,
        2047,
        "",
    )
    assert not seen.signed


@pytest.mark.parametrize(
    "changes", [{"boot_flag": 0}, {"version": 0x20B}, {"xloadflags": 1}, {"loadflags": 0}]
)
def test_image_that_kexec_cannot_take(changes: dict[str, int]) -> None:
    assert image.parse(bytes(handmade(**changes))).problem


def test_image_of_another_machine_is_left_to_the_kernel() -> None:
    assert image.parse(b"whatever", "aarch64") == image.Image(8, signed=None)


def test_flavours_are_not_mixed() -> None:
    plain = "5.14.0-503.el9.x86_64"
    kernels = [
        installed.Installed(release, Path("/v"), Path("/i"), True, True)
        for release in (f"{plain}+debug", f"{plain}+rt", plain)
    ]
    for running in (plain, f"{plain}+rt", f"{plain}+debug"):
        chosen = installed.choose(kernels, running, "newest")
        assert chosen is not None and chosen.release == running


@given(st.binary(max_size=4096), st.booleans())
def test_hostile_files(noise: bytes, framed: bool) -> None:
    """Whatever the bytes, an answer; with a frame of magic numbers around them too."""
    data = bytearray(noise.ljust(0x400, b"\0"))
    if framed:
        data[:2], data[0x202:0x206] = b"MZ", b"HdrS"
        head = struct.unpack_from("<I", data, 0x3C)[0] % 0x300
        struct.pack_into("<I", data, 0x3C, head)
        data[head : head + 4] = b"PE\0\0"
    assert image.parse(bytes(data)).size == len(data)


def test_names_in_boot() -> None:
    names = ["vmlinuz-6.1.0-56-amd64", "vmlinuz-6.1.0-56-amd64.old", "initrd.img-6.1.0-56-amd64", "grub"]
    assert installed.named(names) == {"6.1.0-56-amd64": "vmlinuz-6.1.0-56-amd64"}


def test_installed_kernels(tmp_path: Path) -> None:
    roots = Roots.under(tmp_path)
    boot = tmp_path / "boot"
    boot.mkdir()
    for name in ("vmlinuz-6.1.0-9-amd64", "vmlinuz-6.1.0-56-amd64", "initrd.img-6.1.0-56-amd64"):
        (boot / name).write_text("")
    (boot / "vmlinuz-6.1.0-56-cloud-amd64").write_text("")
    (boot / "config-6.1.0-56-amd64").write_text("CONFIG_LIVEPATCH=y\nCONFIG_KEXEC_SIG_FORCE=y\n")
    for release in ("6.1.0-9-amd64", "6.1.0-56-amd64", "7.3.4+deb13-amd64", "6.0.0-1-amd64"):
        (tmp_path / "lib/modules" / release).mkdir(parents=True)
    (tmp_path / "lib/modules/7.3.4+deb13-amd64/vmlinuz").write_text("")
    kernels = installed.read_installed(roots)
    assert [(one.release, one.missing, one.livepatch) for one in kernels] == [
        ("7.3.4+deb13-amd64", ("initrd",), None),
        ("6.1.0-56-cloud-amd64", ("initrd", "modules"), None),
        ("6.1.0-56-amd64", (), True),
        ("6.1.0-9-amd64", ("initrd",), None),
    ]
    chosen = installed.choose(kernels, "6.1.0-9-amd64", "newest")
    assert chosen is not None and chosen.release == "6.1.0-56-amd64", "the newest that is complete"
    assert installed.choose(kernels, "6.1.0-9-cloud-amd64", "newest") is None
    assert installed.choose(kernels, "6.1.0-56-amd64", "newest") == chosen, "the one that runs"
    assert installed.choose(kernels, "6.1.0-58-amd64", "newest") is None, "it never goes back by itself"
    assert installed.choose(kernels, "6.1.0-58-amd64", "6.1.0-56-amd64") == chosen, "but where it is named"
    named = installed.choose(kernels, "x", "7.3.4+deb13-amd64")
    assert named is not None and named.image.parent.name == "7.3.4+deb13-amd64"
    config = installed.read_config(roots, "6.1.0-56-amd64")
    assert config is not None and installed.demands_signature(config)


def test_fixes() -> None:
    known = fixes.parse(
        b"schema: 1\nfixes:\n  CVE-2026-1: [6.1.0-57, 6.12.100+deb12]\n  CVE-2026-2: ['6.1.0-56']\n"
    )
    assert fixes.carried("6.1.0-57-amd64", known) == ["CVE-2026-1", "CVE-2026-2"]
    assert fixes.carried("6.1.0-56-cloud-amd64", known) == ["CVE-2026-2"]
    assert fixes.carried("6.12.117+deb12-amd64", known) == ["CVE-2026-1"]
    assert fixes.carried("6.12.95+deb12-amd64", known) == []
    assert fixes.carried("7.3.4+deb13-amd64", known) == [], "of other lines nothing is said"
    assert fixes.parse(None) == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "schema: 2",
        "schema: 1\nfixes: 3",
        "schema: 1\nfixes: {CVE-1: 6.1}",
        "schema: 1\nfixes: {a: [6.1]}",
        "[",
    ],
)
def test_fixes_that_cannot_be_understood(text: str) -> None:
    with pytest.raises(LivepatchError, match=r"kernels.yaml cannot be used"):
        fixes.parse(text.encode())


def test_memory() -> None:
    assert available_bytes("MemTotal: 9 kB\nMemAvailable:     530864 kB\n") == 530864 * 1024
    assert available_bytes("MemAvailable: much\n") is None
    assert available_bytes(None) is None


DEPARTURE = Departure("before", "6.1.0-56-amd64", "6.1.0-57-amd64", "tok", "systemd", "t", 5000.0, 100.0)


@pytest.mark.parametrize(
    ("boot_id", "running", "clock", "ended"),
    [
        ("before", "quiet", 99.0, Ended.ORDERED),
        ("before", "quiet", 100.0 + PATIENCE, Ended.STAYED),
        ("after", "quiet livepatch.kexec=tok", 130.0, Ended.KEXEC),
        ("after", "quiet livepatch.kexec=old", 130.0, Ended.OTHERWISE),
        ("after", "quiet", 130.0, Ended.OTHERWISE),
        ("after", None, 130.0, Ended.OTHERWISE),
    ],
)
def test_how_an_order_ended(boot_id: str, running: str | None, clock: float, ended: Ended) -> None:
    assert status.judge(DEPARTURE, boot_id, running, clock) is ended


def test_boot_time() -> None:
    assert status.boot_time("cpu 1 2\nbtime 1795521104\nprocesses 3") == 1795521104.0
    assert status.boot_time("cpu 1 2") is None
