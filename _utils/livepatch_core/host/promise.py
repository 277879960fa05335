"""What a module promises when it is loaded: recorded, and compared with the kernel ever after."""

from __future__ import annotations

from livepatch_core.catalog.model import Level, PackageLevel
from livepatch_core.host.context import Host
from livepatch_core.host.record import Loaded
from livepatch_core.kernel.modules import is_loaded, module_build_id
from livepatch_core.kernel.symbols import VMLINUX
from livepatch_core.modulefile.model import ModuleFile


def promise(
    host: Host, module: ModuleFile, boot_id: str, level: Level | PackageLevel | None, package: str = ""
) -> Loaded:
    """The record's entry for ``module``, loaded in this boot; ``level`` None when it is loaded by hand.

    A position of 0 ("the name is unique") is what sysfs shows as 1.
    """
    functions = tuple(
        (one.name, function.name, function.sympos or 1)
        for one in module.objects
        for function in one.functions
    )
    return Loaded(
        name=module.name,
        level=level.number if level else None,
        sha256=module.sha256,
        build_id=module.build_id,
        boot_id=boot_id,
        at=host.timestamp(),
        functions=functions,
        replace=bool(module.replace),
        callbacks=any(one.callbacks for one in module.objects),
        shadow=module.shadow,
        states=tuple((state.id, state.version) for state in module.states),
        fixes=tuple(fix.cve for fix in level.fixes if fix.cve) if level else (),
        package=package,
        built_for=_built_for(host, module),
    )


def _built_for(host: Host, module: ModuleFile) -> tuple[tuple[str, str], ...]:
    """The build that each module it patches has to be. Of one for which the file records none it is the one
    that is loaded now; of one that is loaded and carries none, nothing can be said. Only an override lets
    either pass."""
    builds = ((one.name, _build_of(host, module, one.name)) for one in module.objects)
    return tuple((name, build) for name, build in builds if name != VMLINUX and build is not None)


def _build_of(host: Host, module: ModuleFile, target: str) -> str | None:
    loaded = module_build_id(host.roots, target)
    if loaded is None and is_loaded(host.roots, target):
        return None
    return module.built_for.get(target) or loaded
