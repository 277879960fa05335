from __future__ import annotations

import gzip
import hashlib

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.modulefile.model import Function, KlpSymbol, Maker, PatchedObject, State
from livepatch_core.modulefile.read import payload, read_module, read_with_payload
from livepatch_core.words import Kind
from tests.unit.modulefile.images import DATA, NAMES, header_at, image, replaced, section_at, stored

RELEASES = {"6.1": "6.1.0-56-amd64", "6.12": "6.12.107+deb12-amd64"}
FULL = (
    PatchedObject(
        "vmlinux",
        (Function("cmdline_proc_show", 0), Function("notifier_call.isra.0", 3)),
        ("pre_patch", "post_unpatch"),
    ),
    PatchedObject("xfs", (Function("xfs_fs_statfs", 1),)),
    PatchedObject("nf_tables", (), ("post_patch", "pre_unpatch")),
)


@pytest.mark.parametrize("kernel", RELEASES)
def test_smallest_module(kernel: str) -> None:
    module = read_module(stored(f"lp_one-{kernel}"))
    assert (module.name, module.livepatch, module.maker) == ("lp_one", True, Maker.HAND)
    assert (module.release, module.machine) == (RELEASES[kernel], "x86_64")
    assert module.vermagic.startswith(RELEASES[kernel] + " SMP ")
    assert module.objects == (PatchedObject("vmlinux", (Function("cmdline_proc_show", 0),)),)
    assert (module.replace, module.states, module.shadow, module.klp_symbols) == (True, (), False, ())
    assert (module.built_for, module.built_for_release, module.signature) == ({}, None, None)
    assert module.build_id is not None
    assert len(module.build_id) == 40
    assert set(module.imports) >= {"klp_enable_patch", "__fentry__"}
    assert set(module.versions) - {"module_layout"} == set(module.imports)
    assert dict(module.modinfo)["license"] == "GPL"


@pytest.mark.parametrize("kernel", RELEASES)
def test_everything_the_tables_can_say(kernel: str) -> None:
    module = read_module(stored(f"lp_full-{kernel}"))
    assert module.objects == FULL
    assert module.states == (State(11, 2), State(0x100000001, 1))
    assert (module.replace, module.shadow, module.maker) == (False, True, Maker.OURS)
    assert module.klp_symbols == (
        KlpSymbol("nf_tables", "nf_tables", "nft_gc.part.0", 2),
        KlpSymbol("vmlinux", "vmlinux", "nr_files", 0),
        KlpSymbol("vmlinux", "vmlinux", "seq_show.isra.0", 1),
        KlpSymbol("xfs", "xfs", "xfs_globals", 1),
    )
    assert not any(name.startswith(".klp") for name in module.imports)
    assert module.built_for == {
        "vmlinux": "00112233445566778899aabbccddeeff00112233",
        "xfs": "ffeeddccbbaa99887766554433221100ffeeddcc",
    }
    assert module.built_for_release == "6.1.0-56-amd64"


def test_stand_in_for_kpatch() -> None:
    module = read_module(stored("standin_kpatch"))
    assert (module.name, module.maker, module.replace) == ("livepatch_standin", Maker.KPATCH, None)
    assert module.objects == (
        PatchedObject("vmlinux", (Function("cmdline_proc_show", 1), Function("meminfo_proc_show", 0))),
        PatchedObject("xfs", (Function("xfs_fs_statfs", 2),), ("pre_patch",)),
    )


def test_stand_in_for_klp_build() -> None:
    module = read_module(stored("standin_klp_build"))
    assert (module.name, module.maker, module.replace) == ("livepatch_cmdline", Maker.KLP_BUILD, None)
    assert module.depends == ("xfs", "libcrc32c")
    assert module.objects == (
        PatchedObject("vmlinux", (Function("cmdline_proc_show", 0), Function("meminfo_proc_show", 2))),
        PatchedObject("xfs", (Function("xfs_fs_statfs", 1),), ("post_unpatch",)),
    )


@pytest.mark.parametrize("kernel", RELEASES)
def test_ordinary_module(kernel: str) -> None:
    module = read_module(stored(f"plain-{kernel}"))
    assert (module.name, module.livepatch, module.maker) == ("plain", False, None)
    assert (module.objects, module.replace) == ((), None)


@pytest.mark.parametrize("kernel", RELEASES)
def test_signed_module(kernel: str) -> None:
    signed, unsigned = read_module(stored(f"lp_one-{kernel}-signed")), read_module(stored(f"lp_one-{kernel}"))
    assert signed.signature is not None
    assert signed.signature.signer == "Example module signing key"
    assert signed.signature.key_id == "f1e2d3c4b5a69788"
    assert (signed.signature.hash, signed.signature.id_type) == ("sha512", "PKCS#7")
    assert (signed.objects, signed.build_id) == (unsigned.objects, unsigned.build_id)


@pytest.mark.parametrize("name", NAMES)
def test_digest_is_of_the_bytes_as_stored(name: str) -> None:
    for data, compression in (
        (stored(name), "xz"),
        (image(name), "none"),
        (gzip.compress(image(name)), "gz"),
    ):
        module, loaded = read_with_payload(data)
        assert (module.sha256, module.size) == (hashlib.sha256(data).hexdigest(), len(data))
        assert module.compression == compression
        assert loaded == payload(data) == image(name)


def test_zstd() -> None:
    data = (DATA / "lp_one-6.1.ko.zst").read_bytes()
    module, loaded = read_with_payload(data)
    assert (module.compression, loaded) == ("zst", image("lp_one-6.1"))


def refused(data: bytes) -> str:
    with pytest.raises(LivepatchError) as caught:
        read_module(data)
    assert caught.value.kind is Kind.MODULE_FORMAT
    assert caught.value.remedy
    return caught.value.message


ONE = image("lp_one-6.1")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not an ELF object"),
        (b"#!/bin/sh\n" * 20, "not an ELF object"),
        (ONE[:63], "truncated"),
        (ONE[: len(ONE) // 2], "truncated"),
        (replaced(ONE, 4, b"\x01"), "64-bit relocatable"),
        (replaced(ONE, 16, b"\x02\x00"), "64-bit relocatable"),
        (replaced(ONE, 18, b"\x28\x00"), "EM_ARM"),
        (replaced(ONE, ONE.index(b"vermagic="), b"vermagix="), "no vermagic"),
        (replaced(ONE, ONE.index(b"name=lp_one"), b"name=lp_two"), "two names, lp_one and lp_two"),
        (replaced(ONE, section_at(ONE, ".gnu.linkonce.this_module") + 24, bytes(56)), "no module name"),
        (replaced(ONE, header_at(ONE, ".modinfo"), bytes(4)), "no .modinfo"),
        (replaced(ONE, section_at(ONE, ".note.gnu.build-id") + 4, b"\xff"), "build-id note"),
    ],
)
def test_refusals(data: bytes, why: str) -> None:
    assert why in refused(data)


FULL_IMAGE = image("lp_full-6.1")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"built_for=vmlinux:0011", b"built_for=vmlinux:00xx"),
        (b"built_for=vmlinux:0011", b"built_for=vmlinux.0011"),
        (b"built_for=xfs:", b"built_for=:xfs"),
    ],
)
def test_a_damaged_record_of_builds_never_passes(old: bytes, new: bytes) -> None:
    damaged = replaced(FULL_IMAGE, FULL_IMAGE.index(old), new)
    assert "is not an object and a build-id" in refused(damaged)


def test_other_builds_recorded_for_one_object() -> None:
    damaged = FULL_IMAGE.replace(
        b"built_for=xfs:ffeeddccbbaa99887766554433221100ffeeddcc\0",
        b"built_for=vmlinux:ddccbbaa99887766554433221100ffeeddcc\0",
    )
    assert "two different builds of vmlinux" in refused(damaged)
