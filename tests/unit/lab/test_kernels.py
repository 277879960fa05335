from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import apt, kernels

# From `apt-cache pkgnames linux-image-` on Debian 12 in November 2026, shortened.
NAMES = [
    "linux-image-6.1.0-9-amd64",
    "linux-image-6.1.0-50-amd64-unsigned",
    "linux-image-6.1.0-55-amd64",
    "linux-image-6.1.0-56-amd64",
    "linux-image-6.1.0-56-amd64-dbg",
    "linux-image-6.1.0-56-cloud-amd64",
    "linux-image-6.1.0-57-rt-amd64",
    "linux-image-6.12.117+deb12-amd64",
    "linux-image-6.12.95+deb12-amd64",
    "linux-image-6.12.90+deb12.1-amd64",
    "linux-image-6.12.117+deb12-cloud-amd64",
    "linux-image-6.12-amd64",
    "linux-image-amd64",
    "linux-image-amd64-signed-template",
]
MADISON = """\
linux-image-6.1.0-56-amd64 |  6.1.192-2 | http://m.example/security bookworm-security/main amd64 Packages
linux-image-6.1.0-50-amd64 |  6.1.176-1 | http://mirror.example/debian bookworm/main amd64 Packages
linux-signed-amd64 | 6.1.176+1 | http://mirror.example/debian bookworm/main Sources
"""


@pytest.mark.parametrize(
    ("line", "flavour", "expected"),
    [
        ("6.1", "amd64", ["6.1.0-56-amd64", "6.1.0-55-amd64", "6.1.0-9-amd64"]),
        ("6.1", "cloud-amd64", ["6.1.0-56-cloud-amd64"]),
        ("6.12", "amd64", ["6.12.117+deb12-amd64", "6.12.95+deb12-amd64", "6.12.90+deb12.1-amd64"]),
    ],
)
def test_releases_of_a_line_newest_first(line: str, flavour: str, expected: list[str]) -> None:
    assert kernels.parse_images(NAMES, line, flavour) == expected


@given(st.integers(1, 999), st.integers(1, 999))
def test_releases_sort_by_number_not_by_spelling(one: int, other: int) -> None:
    first, second = (kernels.release_order(f"6.1.0-{abi}-amd64") for abi in (one, other))
    assert (first < second) == (one < other)


def test_madison_gives_binary_packages() -> None:
    found = apt.parse_madison(MADISON)
    assert [(row.package, row.version) for row in found] == [
        ("linux-image-6.1.0-56-amd64", "6.1.192-2"),
        ("linux-image-6.1.0-50-amd64", "6.1.176-1"),
    ]


def test_depends_gives_names_and_first_alternatives() -> None:
    text = "Package: x\nDepends: linux-kbuild-6.1 (>= 6.1.192-2), a | b, python3:any\n"
    assert apt.parse_depends(text) == ["linux-kbuild-6.1", "a", "python3"]


def test_only_settings_of_fetching_are_taken_over() -> None:
    dump = (
        'APT::Get::Assume-Yes "1";\nAcquire::http::Proxy "http://proxy:3128";\nAcquire::Languages:: "none";\n'
    )
    assert apt.parse_acquire_options(dump) == ['Acquire::http::Proxy "http://proxy:3128";']


def test_module_layout_crc() -> None:
    symvers = (
        "0x11111111\tother\tvmlinux\tEXPORT_SYMBOL\t\n0x9060323f\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n"
    )
    assert kernels.parse_module_layout(symvers) == "0x9060323f"


def test_a_resolution_survives_being_written_down() -> None:
    kernel = kernels.Kernel(kernels.Role.CLOUD, "6.1.0-56-cloud-amd64", "6.1.192-2", "0xa351f379")
    document = {
        "suites": {"bookworm": "00"},
        "kernels": [
            {
                "role": "6.1-cloud",
                "release": kernel.release,
                "version": kernel.version,
                "module_layout": "0xa351f379",
            }
        ],
    }
    assert kernels.parse_resolution(document) == kernels.Resolution({"bookworm": "00"}, (kernel,))


DEPENDENCIES = """\
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
kernel/fs/overlayfs/overlay.ko.xz:
"""


def test_modules_are_inserted_after_what_they_need() -> None:
    dependencies = kernels.parse_modules_dep(DEPENDENCIES)
    order = [
        kernels.module_name(path)
        for path in kernels.load_order(dependencies, ["virtio_blk", "overlay", "builtin"])
    ]
    assert order == ["virtio", "virtio_ring", "virtio_blk", "overlay"]
