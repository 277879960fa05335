"""The guest in which the corpus's modules are loaded: the lab's, with the programs that corpus_workload/ uses
in its image.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from lab import cache, image, kernels, snapshot, wheels
from lab.guest import Guest
from lab.kernels import Kernel
from lab.machine import Machine

PROGRAMS = (
    *(
        "acl",
        "apparmor",
        "attr",
        "bluez",
        "bpftool",
        "bridge-utils",
        "btrfs-progs",
        "cifs-utils",
        "conntrack",
    ),
    *("cryptsetup-bin", "dmsetup", "dosfstools", "e2fsprogs", "erofs-utils", "ethtool", "exfatprogs"),
    *("f2fs-tools", "fio", "genisoimage", "gfs2-utils", "iperf3", "ipset", "iptables", "iputils-ping"),
    *("ipvsadm", "iw", "jfsutils", "keyutils", "ksmbd-tools", "lksctp-tools", "lvm2", "mdadm", "nbd-client"),
    *("nbd-server", "nfs-common", "nfs-kernel-server", "nftables", "nilfs-tools", "ocfs2-tools"),
    *("openvswitch-switch", "quota", "rdma-core", "reiserfsprogs", "rpcbind", "socat", "squashfs-tools"),
    *("stress-ng", "tcpdump", "thin-provisioning-tools", "udftools", "util-linux", "wireguard-tools"),
    "xfsprogs",
)
WORKLOAD = Path(__file__).resolve().parent / "corpus_workload"
# The workload fills the default log (128 KiB) several times.
MACHINE = Machine(memory=1536, cmdline=("log_buf_len=16M",))


def root_image() -> Path:
    """The image, made once (a minute, 430 MB)."""
    suites = kernels.resolved().suites
    salt = wheels.build(suites)
    inputs = {
        "packages": (*image.PACKAGES, *PROGRAMS),
        "suites": {name: digest for name, digest in suites.items() if "backports" not in name},
        "layout": "corpus 1",
    }
    return (
        cache.artefact("image", inputs, lambda into: _build(salt, into), "image for the corpus") / "root.sqfs"
    )


def _build(salt: Path, into: Path) -> None:
    overlay = into / "overlay"
    image.install_salt(salt, overlay)
    image.debootstrap(into, overlay, (*image.PACKAGES, *PROGRAMS))
    with (into / "root.tar").open("rb") as archive:
        image._pack(archive.read(), into / "root.sqfs")
    (into / "root.tar").unlink()


def start(kernel: Kernel) -> Guest:
    """Boot it (10 s); the workload lies in /root/workload."""
    parts = dataclasses.replace(snapshot.parts(kernel), image=root_image())
    guest = snapshot.boot("corpus", kernel, MACHINE, parts)
    guest.put_tree(WORKLOAD, "/root/workload")
    return guest
