"""Loaded modules, and the files behind them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.kernel.modules import (
    Module,
    file_in,
    is_loaded,
    module_build_id,
    module_file,
    parse_modules,
    read_modules,
)
from livepatch_core.kernel.roots import Roots
from tests.unit.kernel.captured import data, plant_line
from tests.unit.kernel.test_notes import note

PROC_MODULES = """\
lp_cmdline_a 16384 1 - Live 0xffffffffc0a3e000 (OEK)
virtio_net 77824 0 - Live 0x0000000000000000
net_failover 24576 1 virtio_net, Live 0x0000000000000000
leaving 16384 -1 - Unloading 0x0000000000000000 (OE-)
arriving 16384 1 - Loading 0x0000000000000000 (P+)
pinned 16384 - - Live 0x0000000000000000
"""


def module(name: str, state: str = "live", taint: str = "") -> Module:
    return Module(name, state, taint)


def test_all_shapes_of_a_line() -> None:
    assert parse_modules(PROC_MODULES) == {
        each.name: each
        for each in (
            module("lp_cmdline_a", taint="OEK"),
            module("virtio_net"),
            module("net_failover"),
            module("leaving", "going", "OE"),
            module("arriving", "coming", "P"),
            module("pinned"),
        )
    }


def test_a_running_kernel_with_a_patch_in_force_and_two_that_it_replaced() -> None:
    found = parse_modules(data("modules-6.1"))
    assert [found[name] for name in ("lp_r", "lp_a", "kpm")] == [
        module("lp_r", taint="OEK"),
        module("lp_a", taint="OEK"),
        module("kpm", taint="OE"),
    ]
    assert len(found) == data("modules-6.1").count("\n")


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert isinstance(parse_modules(text), dict)


def test_a_kernel_without_modules_has_none(tmp_path: Path) -> None:
    assert read_modules(Roots.under(tmp_path)) == {}


def test_one_module_as_sysfs_shows_it(tmp_path: Path) -> None:
    roots = Roots.under(tmp_path)
    for line in ("initstate = live", "refcnt = 2", "srcversion = 0A1B2C", "taint = OE", "coresize = 16384"):
        plant_line(f"sys/module/lp_one/{line}", tmp_path)
    (roots.sys / "module/lp_one/notes").mkdir()
    (roots.sys / "module/lp_one/notes/.note.gnu.build-id").write_bytes(note(3, b"GNU\0", b"\xab" * 20))
    assert module_build_id(roots, "lp-one") == "ab" * 20
    assert is_loaded(roots, "lp-one")


def test_built_in_code_with_parameters_is_not_a_loaded_module(tmp_path: Path) -> None:
    plant_line("sys/module/printk/parameters/time = Y", tmp_path)
    roots = Roots.under(tmp_path)
    assert not is_loaded(roots, "printk")
    assert module_build_id(roots, "printk") is None


DEP = """\
kernel/fs/nfs/nfs.ko: kernel/net/sunrpc/sunrpc.ko kernel/fs/nfs_common/grace.ko
kernel/fs/nfs/nfsv4.ko.xz: kernel/fs/nfs/nfs.ko
updates/dkms/xt_TCPMSS.ko.zst:
kernel/net/netfilter/xt-odd_name.ko:
kernel/lib/odd.koala:
top.ko.gz:
"""


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("nfs", "kernel/fs/nfs/nfs.ko"),
        ("nfsv4", "kernel/fs/nfs/nfsv4.ko.xz"),
        ("xt_TCPMSS", "updates/dkms/xt_TCPMSS.ko.zst"),
        ("xt-TCPMSS", "updates/dkms/xt_TCPMSS.ko.zst"),
        ("xt_odd_name", "kernel/net/netfilter/xt-odd_name.ko"),
        ("xt_odd-name", "kernel/net/netfilter/xt-odd_name.ko"),
        ("top", "top.ko.gz"),
        ("grace", None),  # named as a dependency only
        ("odd", None),
        ("v4", None),
        ("nf", None),
        (".*", None),
        ("", None),
    ],
)
def test_the_file_that_modprobe_would_pick(name: str, path: str | None) -> None:
    assert file_in(DEP, name) == path


FILE_NAMES = st.from_regex(r"[a-z0-9_\-]{1,12}", fullmatch=True)


@given(st.lists(FILE_NAMES, unique_by=lambda name: name.replace("-", "_"), min_size=1))
def test_every_listed_module_is_found_under_both_spellings(names: list[str]) -> None:
    listing = "".join(f"kernel/a-b/{name}.ko.xz: kernel/other.ko\n" for name in names)
    for name in names:
        for spelling in (name, name.replace("-", "_"), name.replace("_", "-")):
            assert file_in(listing, spelling) == f"kernel/a-b/{name}.ko.xz"


def test_the_file_of_a_module_and_of_what_is_built_in(tmp_path: Path) -> None:
    roots = Roots.under(tmp_path)
    directory = roots.lib_modules / "6.1.0-56-amd64"
    directory.mkdir(parents=True)
    (directory / "modules.dep").write_text(DEP)
    assert module_file(roots, "6.1.0-56-amd64", "nfs") == directory / "kernel/fs/nfs/nfs.ko"
    assert module_file(roots, "6.1.0-56-amd64", "ext4") is None


def test_without_modules_dep_nothing_is_known(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        module_file(Roots.under(tmp_path), "6.1.0-56-amd64", "nfs")
