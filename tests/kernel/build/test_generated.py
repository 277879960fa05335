"""Files that need headers which only a program of the kernel's own source can write."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab import kernels
from lab.kernels import Kernel, Role
from livepatch_core.build.builder import Built
from livepatch_core.build.target import Target
from tests.kernel.build.edits import diff

PLACE = "\tad.u.dentry = dentry->d_sb->s_root;\n"


@pytest.mark.parametrize("role", [Role.STABLE, Role.BACKPORT])
def test_selinux(make: Callable[..., Built], target_of: Callable[[Kernel], Target], role: Role) -> None:
    edit = diff(
        target_of(kernels.kernel(role)).source,
        {"security/selinux/hooks.c": [(PLACE, PLACE + "\tcond_resched();\n")]},
    )
    built = make("selinux", [edit], role=role)
    assert [f.old_name for unit in built.units for f in unit.functions] == ["selinux_sb_statfs"]
