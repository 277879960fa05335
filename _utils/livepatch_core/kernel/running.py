"""The running kernel in one value: identity, environment, patches and modules, read together."""

from __future__ import annotations

import os
from dataclasses import dataclass

from livepatch_core.kernel.environment import Environment, read_environment
from livepatch_core.kernel.identity import Identity, read_identity
from livepatch_core.kernel.modules import Module, read_modules
from livepatch_core.kernel.patches import Patch, read_patches
from livepatch_core.kernel.roots import Roots


@dataclass(frozen=True)
class Kernel:
    """root: whether this process may change it (effective user id 0)."""

    identity: Identity
    environment: Environment
    patches: tuple[Patch, ...]
    modules: dict[str, Module]
    root: bool


def read_kernel(roots: Roots) -> Kernel:
    return Kernel(
        read_identity(roots),
        read_environment(roots),
        read_patches(roots),
        read_modules(roots),
        os.geteuid() == 0,
    )
