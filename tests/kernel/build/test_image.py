"""The stock kernels' own images, read anew: what the builder keeps of them hides no defect here."""

from __future__ import annotations

import pytest

from lab import kernels
from lab.kernels import Role
from livepatch_core.build.bootimage import kernel_elf
from livepatch_core.build.image import kernel_image


@pytest.mark.parametrize("role", [Role.STABLE, Role.CLOUD, Role.BACKPORT])
def test_symbols_and_code(role: Role) -> None:
    image = kernel_image(kernel_elf(kernels.files(kernels.kernel(role)).vmlinuz.read_bytes()))
    assert len(image.symbols) > 80_000
    (place,) = image.addresses("meminfo_proc_show")
    assert image.names_at(place) == ["meminfo_proc_show"]
    # The call of ftrace, which every traced function begins with (behind endbr64 where the kernel has it).
    assert b"\xe8" in (image.read(place, 1), image.read(place + 4, 1))
