"""Files that need headers which only a build of the whole kernel finds, or writes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab import kernels
from lab.kernels import Kernel, Role
from livepatch_core.build.builder import Built
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.target import Target
from tests.kernel.build.edits import Edits, diff

DENTRY = "\tad.u.dentry = dentry->d_sb->s_root;\n"
SHIFT = "crc32_generic_shift(crc, len, CRC32C_POLY_LE)"
SIZE = "\tkey->n_sz = vlen;\n"
TMPFS = "\tif (IS_ENABLED(CONFIG_TMPFS) && is_tmpfs)\n"
FLUSH = "\tmlx5_esw_bridge_flush(br_offloads);\n"
EDITS: Edits = {
    # flask.h, which a program writes that is compiled from the source
    "security/selinux/hooks.c": [(DENTRY, DENTRY + "\tcond_resched();\n")],
    # rsapubkey.asn1.h, which the compiler for ASN.1 writes
    "crypto/rsa_helper.c": [(SIZE, "\tkey->n_sz = vlen ^ 1;\n")],
    # lib/devcom.h, in the directory above, as a Makefile there says
    "drivers/net/ethernet/mellanox/mlx5/core/esw/bridge.c": [(FLUSH, FLUSH + "\tcond_resched();\n")],
    # none, but its Makefile takes back -fdata-sections
    "init/do_mounts.c": [(TMPFS, TMPFS.replace("is_tmpfs)", "is_tmpfs && fc)"))],
}


@pytest.mark.parametrize("role", [Role.STABLE, Role.BACKPORT])
def test_headers(make: Callable[..., Built], target_of: Callable[[Kernel], Target], role: Role) -> None:
    built = make("headers", [diff(target_of(kernels.kernel(role)).source, EDITS)], role=role)
    assert {f.old_name for unit in built.units for f in unit.functions} == {
        "selinux_sb_statfs",
        "rsa_get_n",
        "mlx5_esw_bridge_cleanup",
        "rootfs_init_fs_context",
    }


@pytest.mark.parametrize("role", [Role.STABLE, Role.BACKPORT])
def test_a_table_whose_program_reads_the_configuration(
    make: Callable[..., Built], target_of: Callable[[Kernel], Target], role: Role
) -> None:
    """lib/ is not traceable: that this is what is said shows that the file compiles, with crc32table.h."""
    edit = diff(target_of(kernels.kernel(role)).source, {"lib/crc32.c": [(SHIFT, f"{SHIFT} + !len")]})
    with pytest.raises(Refused) as refused:
        make("table", [edit], role=role)
    assert refused.value.refusal is Refusal.NOTRACE


def test_trace_events_read_the_same_header_in_both_trees(
    make: Callable[..., Built], target_of: Callable[[Kernel], Target]
) -> None:
    """Their headers are read once more as system headers, whose paths gcc shortens where it can: in the
    patched tree, which is made of links, it cannot. The path is in the code, in what is said of
    field-spanning writes.
    """
    edit = ('#include "trace.h"\n', '#include "trace.h"\nextern int lp_declared;\n')
    with pytest.raises(Refused) as refused:
        make("twice", [diff(target_of(kernels.kernel(Role.STABLE)).source, {"fs/nfsd/trace.c": [edit]})])
    assert refused.value.refusal is Refusal.NOTHING_CHANGED
